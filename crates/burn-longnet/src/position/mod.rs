//! Position encodings that act on queries and keys: rotary and xPos.
//!
//! Both multiply pairs of channels with complex numbers that depend on the position alone. Angles
//! are computed on the host in f64, so that a position in the millions is as exact as the first.

mod encoding;
mod rotary;
mod table;
mod xpos;

pub use encoding::{AttentionPosition, PositionTables};
pub use rotary::Rotary;
pub use table::RotationTable;
pub use xpos::{Centre, XPos, XPosError};
