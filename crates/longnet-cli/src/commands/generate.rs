//! `longnet generate`.

use super::checkpoint;
use crate::args::GenerateArgs;
use crate::exit::Failure;
use crate::out::{out, out_bytes, warn};
use longnet_train::backend;
use longnet_train::config::quoted;
use longnet_train::generate::{continue_prompt, prompt};
use longnet_train::memory::settle;
use std::fs::File;
use std::io::{Read, stdin};
use std::path::Path;

pub fn run(mut args: GenerateArgs) -> Result<(), Failure> {
    let device = backend::device(&args.backend.backend)?;
    let flags = flags(&args);
    args.model.set.set.extend(flags);
    let checkpoint = checkpoint(&args.model)?;
    let config = &checkpoint.config.config;
    let text = match &args.prompt_file {
        Some(path) => read(path)?,
        None => config.generate.prompt.clone().into_bytes(),
    };
    let lm = checkpoint.weights(config.language_model().init(&device))?;
    // The file of the weights is not needed any more.
    settle();
    for change in checkpoint.attention_changes() {
        warn(&change);
    }
    let tokenizer = checkpoint.tokenizer()?;
    let tokens = prompt(&*tokenizer, &text);
    let context = config.data.context;
    if tokens.len() > context {
        warn(&format!(
            "the prompt has {} tokens, and the model reads the last data.context = {context} of them",
            tokens.len()
        ));
    }
    let mut settings = config.generate.clone();
    for sample in 1..=args.num {
        if args.num > 1 {
            let end = if sample > 1 { "\n" } else { "" };
            out(&format!(
                "{end}=== {sample} of {}, seed {}\n",
                args.num, settings.seed
            ))?;
        }
        out_bytes(&text)?;
        continue_prompt(&lm, &*tokenizer, &tokens, &settings, out_bytes)?;
        out("\n")?;
        settings.seed = settings.seed.wrapping_add(1);
    }
    Ok(())
}

/// The flags as `--set` assignments.
fn flags(args: &GenerateArgs) -> Vec<String> {
    let number = |name: &str, value: Option<f64>| {
        // As TOML writes what Rust would write as NaN.
        value.map(|value| format!("generate.{name}={value:e}").to_lowercase())
    };
    let count =
        |name: &str, value: Option<usize>| value.map(|value| format!("generate.{name}={value}"));
    let stop: Vec<String> = args.stop.iter().map(|stop| quoted(stop)).collect();
    let prompt = args.prompt.as_ref();
    let flags = [
        prompt.map(|prompt| format!("generate.prompt={}", quoted(prompt))),
        count("tokens", args.tokens),
        number("temperature", args.temperature),
        count("top_k", args.top_k),
        number("top_p", args.top_p),
        number("min_p", args.min_p),
        number("repetition_penalty", args.repetition_penalty),
        count("repetition_window", args.repetition_window),
        (!stop.is_empty()).then(|| format!("generate.stop=[{}]", stop.join(", "))),
        count("seed", args.seed),
    ];
    flags.into_iter().flatten().collect()
}

/// All of a file, or of standard input where it is "-".
fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    let mut text = Vec::new();
    let read = match path.as_os_str() == "-" {
        true => stdin().lock().read_to_end(&mut text),
        false => File::open(path).and_then(|mut file| file.read_to_end(&mut text)),
    };
    match read {
        Ok(_) => Ok(text),
        Err(reason) => Err(Failure::File {
            flag: "--prompt-file",
            path: path.into(),
            reason,
        }),
    }
}
