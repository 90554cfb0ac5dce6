//! `longnet eval`.

use super::{checkpoint, report};
use crate::args::EvalArgs;
use crate::exit::Failure;
use crate::out::{out, warn};
use longnet_train::backend;
use longnet_train::checkpoint::Checkpoint;
use longnet_train::config::sections::Data;
use longnet_train::data::{self, Fingerprint, Stream, Windows};
use longnet_train::evaluate::evaluate;
use std::sync::Arc;

pub fn run(args: EvalArgs) -> Result<(), Failure> {
    let device = backend::device(&args.backend.backend)?;
    let checkpoint = checkpoint(&args.model)?;
    let config = &checkpoint.config.config;
    let blame = |error| Failure::of(&checkpoint.config, error);
    let lm = checkpoint.weights(config.language_model().init(&device))?;
    let (label, text) = text(&checkpoint)?;
    out(&format!(
        "checkpoint  {}\ntext        {} of {} files in {}\n",
        checkpoint.folder().display(),
        report::size(&text),
        text.text().len(),
        config.data.root,
    ))?;
    for change in checkpoint.attention_changes() {
        out(&format!("changed     {change}\n"))?;
    }
    text.text().fits(config.model.vocab).map_err(blame)?;
    let entropy = text.entropy().map_err(blame)?;
    let windows = Windows::new(Arc::new(text), config.data.context, label).map_err(blame)?;
    let evaluation = evaluate(&lm, &windows, config.train.batch);
    out(&report::evaluation(label, &evaluation, &entropy))
}

/// What to measure, and what to call it: the text that was held out, or all of another text.
fn text(checkpoint: &Checkpoint) -> Result<(&'static str, Stream), Failure> {
    let blame = |error| Failure::of(&checkpoint.config, error);
    let (now, then) = (&checkpoint.config.config.data, &checkpoint.trained.data);
    let text = data::open(now).map_err(blame)?;
    let (found, learned) = (Fingerprint::of(&text), checkpoint.state()?.text);
    let same = found == learned;
    if !same && now.paths != then.paths {
        return Ok(("given", Stream::whole(text)));
    }
    let cut = |data: &Data| (data.valid_fraction, data.valid_block);
    if !same {
        warn(&format!(
            "the text is not the one that the run learned from ({learned} then, {found} now): the part that is measured may hold text that was learned, and the numbers may be too good"
        ));
    } else if cut(now) != cut(then) {
        warn(
            "data.valid_fraction or data.valid_block is not that of the run: the part that is measured holds text that was learned, and the numbers are too good",
        );
    }
    let split = data::split(text, now.valid_fraction, now.valid_block).map_err(blame)?;
    Ok(("validation", split.valid))
}
