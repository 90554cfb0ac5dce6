//! `longnet data prepare` and `longnet data check`.

use crate::args::{DataCommand, PrepareArgs};
use crate::exit::Failure;
use crate::out::out;
use longnet_train::data::shard::check_folder;
use longnet_train::data::{self, Made, Watch, with_progress};
use longnet_train::estimate::si;
use std::path::{Path, PathBuf};

pub fn run(command: DataCommand) -> Result<(), Failure> {
    match command {
        DataCommand::Prepare(args) => prepare(args),
        DataCommand::Check { folders } => check(&folders),
    }
}

fn prepare(args: PrepareArgs) -> Result<(), Failure> {
    let config = super::input(args.input, &[])?;
    let watch = Watch::default();
    let made = with_progress(&watch, || {
        data::prepare(&config.config.data, &args.out, &watch)
    });
    out(&report(
        &made.map_err(|e| Failure::of(&config, e))?,
        &args.out,
    ))
}

fn report(made: &Made, folder: &Path) -> String {
    let manifest = &made.manifest;
    let mut text = format!(
        "shards      {} in {}: {} made, {} there already\n\
         tokens      {} in {} documents, {:.2} bytes of text a token\n\
         tokenizer   {}, {} tokens\n",
        manifest.shards.len(),
        folder.display(),
        made.made,
        made.kept,
        si(manifest.tokens as f64),
        manifest.documents,
        manifest.bytes as f64 / manifest.tokens as f64,
        manifest.tokenizer,
        manifest.vocab,
    );
    if made.skipped > 0 {
        text += &format!("skipped     {} records whose text is null\n", made.skipped);
    }
    // A config may have a data.root, from which relative paths would start.
    let absolute = |path: &Path| {
        let path = std::path::absolute(path).unwrap_or(path.into());
        path.display().to_string()
    };
    let tokenizer = made.tokenizer.as_deref().map_or(String::new(), |path| {
        format!(" --set data.tokenizer={}", absolute(path))
    });
    text + &format!(
        "\nNext:\n\x20   longnet train CONFIG --set data.paths={}{tokenizer}\n",
        absolute(folder)
    )
}

fn check(folders: &[PathBuf]) -> Result<(), Failure> {
    for folder in folders {
        let checked = check_folder(folder)?;
        out(&format!(
            "{}: {} shards with {} tokens in {} documents are as they were written\n",
            folder.display(),
            checked.shards,
            checked.tokens,
            checked.documents
        ))?;
    }
    Ok(())
}
