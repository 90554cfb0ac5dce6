//! `longnet eval`.

use super::{checkpoint, report};
use crate::args::EvalArgs;
use crate::exit::Failure;
use crate::out::out;
use longnet_train::backend;
use longnet_train::data::{self, Tokens, Windows};
use longnet_train::entropy::Entropy;
use longnet_train::evaluate::evaluate;
use std::sync::Arc;

pub fn run(args: EvalArgs) -> Result<(), Failure> {
    let device = backend::device(&args.backend.backend)?;
    let checkpoint = checkpoint(&args.model)?;
    let config = &checkpoint.config.config;
    let lm = checkpoint.weights(config.language_model().init(&device))?;
    let valid = data::load(&config.data)?.valid;
    let entropy = Entropy::of(valid.slices(0..valid.len()));
    let windows = Windows::new(Arc::new(valid), config.data.context, "validation")?;
    let evaluation = evaluate(&lm, &windows, config.train.batch);
    out(&format!("checkpoint  {}\n", checkpoint.folder().display()))?;
    out(&report::evaluation(&evaluation, &entropy))
}
