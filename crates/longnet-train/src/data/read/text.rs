//! A file that is one document.

use super::{At, Each, Piece};
use crate::data::{DataError, cut, files::Found};
use std::io::Read;

/// Bytes that are in memory at once.
const BUFFER: usize = 4 << 20;

pub(super) fn pieces(
    found: &Found,
    mut input: &mut dyn Read,
    each: &mut Each<'_>,
) -> Result<(), DataError> {
    let mut text = Vec::new();
    let mut at = 0;
    loop {
        let want = (BUFFER - text.len()) as u64;
        let read = (&mut input).take(want).read_to_end(&mut text);
        let ended = read.map_err(|e| DataError::read(&found.path, e))? < want as usize;
        let end = match ended {
            true => text.len(),
            false => cut::end_before(&text),
        };
        if end > 0 || ended {
            each(Piece {
                text: &text[..end],
                last: ended,
                at: At::Byte(at),
            })?;
        }
        if ended {
            return Ok(());
        }
        at += end as u64;
        text.drain(..end);
    }
}
