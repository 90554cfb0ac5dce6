//! Long texts in parts, for tokenizers.
//!
//! A tokenizer that merges nothing across words gives the same tokens for the parts as for the whole
//! if no part ends within a word or a run of white space. A part ends after a line feed between two
//! words where there is one, else after white space, else at the end of a character.

/// Bytes of a part, about: more would only cost memory.
const PART: usize = 256 * 1024;

/// `text` in parts of bounded length, in order.
pub fn parts(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let end = match rest.len() {
            n if n <= PART => n,
            _ => end_before(&rest[..PART]),
        };
        let (part, after) = rest.split_at(end);
        rest = after;
        Some(part)
    })
}

/// Where to cut at the latest: above 0, and at most the length of `text`, after which text goes on.
pub fn end_before(text: &[u8]) -> usize {
    // The last quarter is enough to look at: lines are seldom longer.
    let from = (text.len() - text.len() / 4).max(2).min(text.len());
    let white = |i: usize| text[i].is_ascii_whitespace();
    // The carriage return before a line feed is a part of it.
    let before = |i: usize| {
        if text[i - 2] == b'\r' {
            i.max(3) - 3
        } else {
            i - 2
        }
    };
    let between_words = |&i: &usize| text[i - 1] == b'\n' && !white(i) && !white(before(i));
    let after_white = |&i: &usize| white(i - 1) && !white(i);
    let starts_character = |&i: &usize| text[i] & 0xc0 != 0x80;
    let mut candidates = (from..text.len()).rev();
    candidates
        .clone()
        .find(between_words)
        .or_else(|| candidates.clone().find(after_white))
        .or_else(|| candidates.find(starts_character))
        .unwrap_or(text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_the_text_and_end_between_words_or_at_least_between_characters() {
        let lines = "many words of a line\n\n  and more\n".repeat(40_000);
        let windows = "many words of a line\r\n\r\n  and more\r\nlast\r\n".repeat(40_000);
        let crab = "🦀".repeat(200_000);
        let words = "word ".repeat(200_000);
        for (text, end) in [
            (&lines, "\n"),
            (&windows, "\r\n"),
            (&crab, "🦀"),
            (&words, " "),
        ] {
            let all: Vec<&[u8]> = parts(text.as_bytes()).collect();
            assert!(all.len() > 2);
            assert_eq!(all.concat(), text.as_bytes());
            for part in &all[..all.len() - 1] {
                let part = std::str::from_utf8(part).unwrap();
                assert!(part.len() <= PART && part.ends_with(end));
            }
        }
        let zeros = vec![0x80; 3 * PART];
        assert_eq!(parts(&zeros).count(), 3);
        assert_eq!(parts(b"").count(), 0);
        assert_eq!(parts(b"a").collect::<Vec<_>>(), [b"a"]);
    }

    #[test]
    fn every_short_text_can_be_cut() {
        for text in [
            &b"a"[..],
            b"\n",
            b"\n\n",
            b"ab",
            b"a\nb",
            b"\x80",
            b"\x80\x80\x80",
        ] {
            let end = end_before(text);
            assert!((1..=text.len()).contains(&end), "{text:?}: {end}");
        }
    }
}
