//! Data, configuration and training of LongNet language models.

pub mod backend;
pub mod config;
pub mod data;
pub mod entropy;
pub mod estimate;
pub mod metrics;
pub mod optim;
pub mod progress;
pub mod schedule;
