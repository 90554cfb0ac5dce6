//! Who takes part.

mod fallback;
mod flex;
mod gemm;
mod ours;
mod pytorch;
mod tensors;
mod trainer;

pub use fallback::Fallback;
pub use flex::Flex;
pub use gemm::Gemm;
pub use ours::{Ours, OursDecode};
pub use pytorch::{Attention, Python, Start, Trainer};
pub use trainer::{Losses, OursTrainer};
