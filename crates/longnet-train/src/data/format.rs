//! What a file holds, by its name.

/// How the text of a file is written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One document.
    Text,
    /// A JSON object a line, one document each.
    JsonLines,
    /// A table, a document a row.
    Parquet,
    /// Tokens, made by `longnet data prepare`.
    Shard,
}

/// How the bytes of a file are packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// gzip.
    Gzip,
    /// Zstandard.
    Zstd,
}

/// The ending of shards.
pub const SHARD: &str = "tokens";

impl Format {
    /// What a file of this name holds. What has no ending of a known format is text as it is, so only
    /// `.txt` and `.jsonl` (`.ndjson`) are looked for in what `.gz` and `.zst` pack.
    pub fn of(name: &str) -> (Self, Compression) {
        let (stem, compression) = unpacked(name);
        let ending = stem.rsplit_once('.').map_or("", |(_, ending)| ending);
        match (ending.to_ascii_lowercase().as_str(), compression) {
            ("jsonl" | "ndjson", _) => (Self::JsonLines, compression),
            ("txt", _) => (Self::Text, compression),
            ("parquet", Compression::None) => (Self::Parquet, compression),
            (SHARD, Compression::None) => (Self::Shard, compression),
            _ => (Self::Text, Compression::None),
        }
    }

    /// Whether a file of this name is taken although its bytes are not text.
    pub fn is_binary(name: &str) -> bool {
        let (format, compression) = Self::of(name);
        compression != Compression::None || matches!(format, Self::Parquet | Self::Shard)
    }

    /// The endings of `name`, any of which may be listed to take it: `jsonl.gz`, `gz` and `jsonl`.
    pub fn endings(name: &str) -> Vec<&str> {
        fn last(name: &str) -> &str {
            name.rsplit_once('.').map_or("", |(_, ending)| ending)
        }
        let stem = match Self::of(name).1 {
            Compression::None => return vec![last(name)],
            _ => unpacked(name).0,
        };
        let inner = last(stem);
        vec![last(name), inner, &name[stem.len() - inner.len()..]]
    }
}

/// `name` without the ending of its compression.
fn unpacked(name: &str) -> (&str, Compression) {
    match name.rsplit_once('.') {
        Some((stem, end)) if end.eq_ignore_ascii_case("gz") => (stem, Compression::Gzip),
        Some((stem, end)) if end.eq_ignore_ascii_case("zst") => (stem, Compression::Zstd),
        _ => (name, Compression::None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endings_tell_formats_and_unknown_ones_are_text() {
        use Compression::{Gzip, None, Zstd};
        for (name, format) in [
            ("a.jsonl", (Format::JsonLines, None)),
            ("a.b/c.NDJSON.gz", (Format::JsonLines, Gzip)),
            ("a.jsonl.zst", (Format::JsonLines, Zstd)),
            ("a.txt.gz", (Format::Text, Gzip)),
            ("a.parquet", (Format::Parquet, None)),
            ("a.tokens", (Format::Shard, None)),
            ("a.tar.gz", (Format::Text, None)),
            ("a.parquet.gz", (Format::Text, None)),
            ("a.json", (Format::Text, None)),
            ("jsonl", (Format::Text, None)),
            ("", (Format::Text, None)),
        ] {
            assert_eq!(Format::of(name), format, "{name}");
        }
        assert_eq!(Format::endings("a.jsonl.gz"), ["gz", "jsonl", "jsonl.gz"]);
        assert_eq!(Format::endings("a.tar.gz"), ["gz"]);
        assert_eq!(Format::endings("a"), [""]);
    }
}
