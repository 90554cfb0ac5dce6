//! A manifest and a state of arbitrary bytes: errors, never a panic; and what is accepted survives a round trip.
#![no_main]

use libfuzzer_sys::fuzz_target;
use longnet_train::checkpoint::{Manifest, State};
use longnet_train::progress::first_lines;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(manifest) = Manifest::parse(bytes) {
        let again = Manifest::parse(manifest.to_json().as_bytes()).expect("it was written here");
        assert_eq!(manifest, again);
        for name in manifest.files.keys() {
            assert!(
                !name.contains('/') && name != "..",
                "{name} leads out of the folder"
            );
        }
    }
    let _ = State::parse(bytes);
    // The log of a run that goes on: a part of it, cut at the end of a line.
    let kept = first_lines(bytes, 100);
    assert!(bytes.starts_with(kept) && (kept.is_empty() || kept.ends_with(b"\n")));
});
