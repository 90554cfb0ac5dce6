//! The header of a token shard and the manifest of a folder of them, of arbitrary bytes: errors, never a panic.
#![no_main]

use libfuzzer_sys::fuzz_target;
use longnet_train::data::shard::{HEADER, Manifest, ShardHeader};
use sha2::{Digest, Sha256};

fuzz_target!(|bytes: &[u8]| {
    let _ = Manifest::parse(bytes);
    check(bytes);
    // With a checksum that is right, so that what stands behind it is reached.
    if let Some((header, _)) = bytes.split_first_chunk::<HEADER>() {
        let mut header = *header;
        let sum = Sha256::digest(&header[..HEADER - 32]);
        header[HEADER - 32..].copy_from_slice(&sum);
        check(&header);
    }
});

/// What is accepted is consistent: no later arithmetic on it may overflow.
fn check(bytes: &[u8]) {
    if let Ok(header) = ShardHeader::parse(bytes) {
        assert!(header.file_bytes() >= HEADER as u64);
        assert!(header.largest < header.vocab || header.tokens == 0);
        assert!(header.documents <= header.tokens.max(1), "{header:?}");
    }
}
