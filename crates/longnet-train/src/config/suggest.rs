//! "did you mean".

/// The candidate that `word` is most likely a misspelling of, if any is close enough.
pub(crate) fn closest<'a>(
    word: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let word = word.to_lowercase().replace('-', "_");
    let likeness = |c: &str| strsim::jaro_winkler(&word, &c.to_lowercase().replace('-', "_"));
    candidates
        .into_iter()
        .map(|c| (likeness(c), c))
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, c)| c)
}

#[cfg(test)]
mod tests {
    use super::closest;

    #[test]
    fn a_typo_finds_its_field_and_nonsense_finds_none() {
        let fields = ["layers", "heads", "kv_heads", "d_model"];
        assert_eq!(closest("layrs", fields), Some("layers"));
        assert_eq!(closest("KV-heads", fields), Some("kv_heads"));
        assert_eq!(closest("zzz", fields), None);
    }
}
