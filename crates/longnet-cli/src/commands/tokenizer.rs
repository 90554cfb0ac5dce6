//! `longnet tokenizer train`.

use crate::args::{TokenizerCommand, TokenizerTrainArgs};
use crate::exit::Failure;
use crate::out::{out, warn};
use longnet_train::data::tokenizer::{END_OF_TEXT, reserve, train};
use longnet_train::data::{DataError, Tokenizer, Watch, files, with_progress};
use longnet_train::estimate::si;
use std::sync::atomic::Ordering;

pub fn run(command: TokenizerCommand) -> Result<(), Failure> {
    match command {
        TokenizerCommand::Train(args) => learn(args),
    }
}

fn learn(args: TokenizerTrainArgs) -> Result<(), Failure> {
    let TokenizerTrainArgs {
        input,
        out: path,
        vocab,
    } = args;
    // What a config names as its tokenizer need not be there yet: it may be the one that is made now.
    let config = super::input(input, &["data.tokenizer=byte", "data.end_token=\"\""])?;
    let blame = |error: DataError| Failure::of(&config, error);
    let data = &config.config.data;
    let found = files::find(data).map_err(blame)?;
    reserve(&path)?;
    let watch = Watch::default();
    for file in &found {
        let bytes = file.path.metadata().map_or(0, |metadata| metadata.len());
        watch.bytes.fetch_add(bytes, Ordering::Relaxed);
        watch.files.fetch_add(1, Ordering::Relaxed);
    }
    let trained = with_progress(&watch, || train(&found, &data.field, vocab, &watch));
    let trained = trained.map_err(blame)?;
    trained.save(&path)?;
    let tokens = trained.tokenizer.vocab();
    if tokens < vocab {
        warn(&format!(
            "the text has no more than {tokens} tokens worth making, of the {vocab} asked for"
        ));
    }
    out(&format!(
        "tokenizer   {}: {tokens} tokens, among them the 256 bytes and {END_OF_TEXT}\n\
         text        {} bytes in {} documents\n\
         \nNext:\n\x20   longnet data prepare FILES --out DIR --set data.tokenizer={}\n",
        path.display(),
        si(trained.bytes as f64),
        trained.documents,
        path.display()
    ))
}
