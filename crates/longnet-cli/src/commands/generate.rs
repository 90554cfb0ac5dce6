//! `longnet generate`.

use super::checkpoint;
use crate::args::GenerateArgs;
use crate::exit::Failure;
use crate::out::{out, out_bytes, warn};
use longnet_train::backend;
use longnet_train::config::quoted;
use longnet_train::data::tokenizer;
use longnet_train::generate::generate;

pub fn run(mut args: GenerateArgs) -> Result<(), Failure> {
    let device = backend::device(&args.backend.backend)?;
    let flags = [
        args.prompt
            .take()
            .map(|p| format!("generate.prompt={}", quoted(&p))),
        args.tokens.map(|n| format!("generate.tokens={n}")),
        args.temperature
            .map(|t| format!("generate.temperature={t:e}").to_lowercase()),
        args.top_k.map(|k| format!("generate.top_k={k}")),
        args.top_p.map(|p| format!("generate.top_p={p}")),
        args.seed.map(|s| format!("generate.seed={s}")),
    ];
    args.model.set.set.extend(flags.into_iter().flatten());
    let checkpoint = checkpoint(&args.model)?;
    let config = &checkpoint.config.config;
    let lm = checkpoint.weights(config.language_model().init(&device))?;
    for change in checkpoint.attention_changes() {
        warn(&change);
    }
    let tokenizer = tokenizer::open_in(checkpoint.folder(), &config.data)?;
    out(&config.generate.prompt)?;
    generate(&lm, &*tokenizer, config, out_bytes)?;
    out("\n")?;
    Ok(())
}
