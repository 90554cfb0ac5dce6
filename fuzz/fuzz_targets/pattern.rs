//! A pattern of blocks as arbitrary text: an error or a pattern, never a panic; a pattern prints as text that
//! means the same, and builds its mask or says why not.
#![no_main]

use libfuzzer_sys::fuzz_target;
use longnet_pattern::{BlockGrid, BlockPattern};

fuzz_target!(|text: &str| {
    let Ok(pattern) = text.parse::<BlockPattern>() else {
        return;
    };
    let shown = pattern.to_string();
    let again: BlockPattern = shown.parse().expect("what is shown can be read");
    assert!(again == pattern, "{shown}");
    for heads in [1, 4] {
        let _ = pattern.head_groups(heads, BlockGrid::square(300, 16), true);
    }
});
