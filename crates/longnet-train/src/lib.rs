//! Data, configuration and training of LongNet language models.

pub mod backend;
pub mod checkpoint;
pub mod config;
pub mod data;
pub mod entropy;
pub mod estimate;
pub mod loader;
pub mod metrics;
pub mod optim;
pub mod progress;
pub mod sampler;
pub mod schedule;
