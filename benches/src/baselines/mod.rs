//! Who takes part.

#[cfg(feature = "cuda")]
mod batch;
#[cfg(feature = "cuda")]
mod cuda;
mod flex;
mod gemm;
mod op;
mod ours;
mod pytorch;
mod tensors;
mod trainer;

#[cfg(feature = "cuda")]
pub use cuda::{BurnCuda, OursCuda};
pub use flex::Flex;
pub use gemm::Gemm;
pub use op::Op;
pub use ours::{Ours, OursDecode};
pub use pytorch::{Attention, Python, Start, Trainer};
pub use trainer::{Losses, OursTrainer};
