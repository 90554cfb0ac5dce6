//! What of a growing text can be shown.

/// Takes the bytes of a text as they come and gives back those that are certain: no stop string can
/// still begin among them, and no character of UTF-8 is cut in two.
#[derive(Clone, Debug)]
pub struct Outlet {
    stops: Vec<Vec<u8>>,
    held: Vec<u8>,
}

/// Whether a text goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// It does.
    Open,
    /// A stop string has ended it.
    Stopped,
}

impl Outlet {
    /// An outlet that ends at the first of `stops` to be complete, which is not let out. Empty ones
    /// are ignored.
    pub fn new<S: AsRef<[u8]>>(stops: &[S]) -> Self {
        let stops = stops.iter().map(|stop| stop.as_ref().to_vec());
        Self {
            stops: stops.filter(|stop| !stop.is_empty()).collect(),
            held: Vec::new(),
        }
    }

    /// Takes `bytes`, and appends to `out` what has become certain. What follows a stop string is
    /// dropped.
    pub fn push(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Flow {
        // Byte by byte, so that where a text stops does not depend on how it was cut into tokens.
        for &byte in bytes {
            self.held.push(byte);
            let complete = self.stops.iter().filter(|s| self.held.ends_with(s));
            if let Some(longest) = complete.map(Vec::len).max() {
                out.extend_from_slice(&self.held[..self.held.len() - longest]);
                self.held.clear();
                return Flow::Stopped;
            }
        }
        let mut certain = self.held.len() - self.beginning();
        certain -= unfinished(&self.held[..certain]);
        out.extend(self.held.drain(..certain));
        Flow::Open
    }

    /// The rest, at the end of the text.
    pub fn finish(self) -> Vec<u8> {
        self.held
    }

    /// Length of the longest end of what is held that begins a stop string.
    fn beginning(&self) -> usize {
        let longest = self.stops.iter().map(|s| s.len() - 1).max().unwrap_or(0);
        let begins = |n: &usize| {
            let end = &self.held[self.held.len() - n..];
            self.stops.iter().any(|stop| stop.starts_with(end))
        };
        let lengths = 1..=longest.min(self.held.len());
        lengths.rev().find(begins).unwrap_or(0)
    }
}

/// Bytes at the end of `bytes` that begin a character of UTF-8 and do not finish it.
fn unfinished(bytes: &[u8]) -> usize {
    let tail = &bytes[bytes.len().saturating_sub(3)..];
    (0..tail.len())
        .map(|from| &tail[from..])
        .find(|end| match std::str::from_utf8(end) {
            // No error length: the bytes are good as far as they go.
            Err(error) => error.valid_up_to() == 0 && error.error_len().is_none(),
            Ok(_) => false,
        })
        .map_or(0, <[u8]>::len)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What comes out after each of `parts`, whether it stopped, and the rest.
    fn flow(stops: &[&str], parts: &[&[u8]]) -> (Vec<String>, bool) {
        let mut outlet = Outlet::new(stops);
        let mut shown = Vec::new();
        for part in parts {
            let mut out = Vec::new();
            let flow = outlet.push(part, &mut out);
            shown.push(String::from_utf8_lossy(&out).into_owned());
            if flow == Flow::Stopped {
                assert!(outlet.finish().is_empty());
                return (shown, true);
            }
        }
        shown.push(String::from_utf8_lossy(&outlet.finish()).into_owned());
        (shown, false)
    }

    fn strings(parts: &[&str]) -> Vec<String> {
        parts.iter().map(|part| part.to_string()).collect()
    }

    #[test]
    fn a_stop_string_that_spans_tokens_is_never_shown() {
        let (shown, stopped) = flow(&["END"], &[b"a E", b"N", b"D of it"]);
        assert_eq!((shown, stopped), (strings(&["a ", "", ""]), true));
        let (shown, stopped) = flow(&["END"], &[b"a E", b"N", b"G"]);
        assert_eq!((shown, stopped), (strings(&["a ", "", "ENG", ""]), false));
        let (shown, stopped) = flow(&["END"], &[b"the EN"]);
        assert_eq!((shown, stopped), (strings(&["the ", "EN"]), false));
        let (shown, stopped) = flow(&["aab"], &[b"aaa", b"ab"]);
        assert_eq!((shown, stopped), (strings(&["a", "a"]), true));
    }

    #[test]
    fn the_first_stop_string_to_be_complete_ends_the_text() {
        assert_eq!(flow(&["xyz", "y"], &[b"wxyz"]), (strings(&["wx"]), true));
        assert_eq!(flow(&["y", "xy"], &[b"wxyz"]), (strings(&["w"]), true));
        assert_eq!(flow(&[""], &[b"w"]), (strings(&["w", ""]), false));
        assert_eq!(flow(&["\n\n"], &[b"\n\n"]), (strings(&[""]), true));
    }

    #[test]
    fn characters_are_shown_whole_and_what_is_none_at_once() {
        let (euro, face) = ("€".as_bytes(), "😀".as_bytes());
        let parts = [&euro[..1], &euro[1..2], &euro[2..], &face[..3], &face[3..]];
        let (shown, _) = flow(&[], &parts);
        assert_eq!(shown, strings(&["", "", "€", "", "😀", ""]));
        let mut out = Vec::new();
        let mut outlet = Outlet::new::<&str>(&[]);
        outlet.push(b"\xff\x80a\xe2\x82", &mut out);
        assert_eq!(out, b"\xff\x80a");
        outlet.push(b"x", &mut out);
        assert_eq!(out, b"\xff\x80a\xe2\x82x");
        outlet.push(b"\xc3", &mut out);
        assert_eq!(outlet.finish(), b"\xc3");
    }

    #[test]
    fn nothing_is_lost_or_shown_twice_however_the_text_is_cut() {
        let text = "aXbXYaXYZ-€-XYXY€Z.".as_bytes();
        for stops in [&["XYZ"][..], &["XY€Z", "never"], &["€-X"], &["never"]] {
            let find = |stop: &&str| text.windows(stop.len()).position(|w| w == stop.as_bytes());
            let end = stops.iter().filter_map(find).min().unwrap_or(text.len());
            for size in 1..=text.len() {
                let mut outlet = Outlet::new(stops);
                let mut out = Vec::new();
                let open = text
                    .chunks(size)
                    .all(|part| outlet.push(part, &mut out) == Flow::Open);
                assert_eq!(open, end == text.len());
                out.extend(outlet.finish());
                assert_eq!(out, &text[..end], "{stops:?} in parts of {size}");
            }
        }
    }
}
