//! A config file and an assignment of arbitrary bytes: errors, never a panic; and what is accepted prints as a
//! config with the same values.
#![no_main]

use libfuzzer_sys::fuzz_target;
use longnet_train::config::Resolved;
use std::path::Path;

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    // What follows the last line feed is an assignment, if it looks like one.
    let (file, set) = match text.rsplit_once('\n') {
        Some((file, set)) if set.contains('=') => (file, Some(set.to_string())),
        _ => (text, None),
    };
    let sets: Vec<String> = set.into_iter().collect();
    let name = Path::new("fuzz.toml");
    match Resolved::parse(file, name, &sets) {
        Err(errors) => assert!(!errors.to_string().is_empty(), "an error says nothing"),
        Ok(resolved) => {
            let shown = resolved.to_string();
            let again = Resolved::parse(&shown, name, &[]).expect("what is shown can be read");
            assert!(again.config == resolved.config, "{shown}");
        }
    }
});
