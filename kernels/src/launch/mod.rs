//! From a problem to launches: [`Plan`] picks a routine and its tile sizes or says why not,
//! [`forward`] and [`backward`] launch it.

mod backward;
mod forward;
mod plan;
mod problem;
mod tensors;

pub use backward::{Backward, backward};
pub use forward::{Forward, forward};
pub use plan::{Pass, Plan, Tiles, WIDEST};
pub use problem::{Declined, Problem};
