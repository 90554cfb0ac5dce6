//! Data, configuration and training of LongNet language models.

pub mod config;
pub mod data;
pub mod entropy;
pub mod estimate;
