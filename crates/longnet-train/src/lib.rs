//! Data, configuration and training of LongNet language models.
//!
//! | module | concept |
//! |---|---|
//! | [`config`] | sections, their origins, what is wrong with them |
//! | [`data`], [`loader`] | files, the split, windows, batches |
//! | [`trainer`] | a run on burn-train |
//! | [`checkpoint`] | folders that are whole or not there |
//! | [`evaluate`], [`entropy`] | a model beside what text gives away by itself |
//! | [`generate`] | text from a model |

pub mod backend;
pub mod checkpoint;
pub mod config;
pub mod data;
pub mod entropy;
pub mod estimate;
pub mod evaluate;
pub mod generate;
pub mod loader;
pub mod machine;
pub mod memory;
pub mod metrics;
pub mod optim;
pub mod peak;
pub mod picture;
pub mod plan;
pub mod plot;
pub mod progress;
pub mod schedule;
pub mod trainer;
