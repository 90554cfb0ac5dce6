//! Attention over a sequence that is sharded over the ranks of a ring: who holds which positions, which keys each
//! rank needs of each other, and what sending them costs.

mod exchange;
mod layout;
mod schedule;

pub use exchange::{Exchange, SeenRows};
pub use layout::{Layout, Shards};
pub use schedule::{Hop, Part, RingSchedule, RingTraffic};
