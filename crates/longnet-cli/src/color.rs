//! Whether to use colour: `--color`, then `NO_COLOR`, then whether a terminal shows it.

use clap::{ColorChoice, ValueEnum};
use std::ffi::OsString;
use std::io::IsTerminal;
use std::sync::OnceLock;

static CHOICE: OnceLock<ColorChoice> = OnceLock::new();

/// Takes the choice from the arguments before they are parsed, since errors of parsing have colours, too.
pub fn choose(arguments: impl IntoIterator<Item = OsString>) -> ColorChoice {
    let mut arguments = arguments.into_iter().skip(1);
    let mut choice = ColorChoice::Auto;
    while let Some(argument) = arguments.next() {
        let Some(argument) = argument.to_str() else {
            continue;
        };
        let value = match argument.strip_prefix("--color") {
            Some("") => arguments.next().and_then(|next| next.into_string().ok()),
            Some(rest) => rest.strip_prefix('=').map(str::to_string),
            None if argument == "--" => break,
            None => continue,
        };
        // A wrong value is said by the parser.
        if let Some(Ok(chosen)) = value.map(|value| ColorChoice::from_str(&value, false)) {
            choice = chosen;
        }
    }
    *CHOICE.get_or_init(|| choice)
}

/// `text` in bold and this ANSI colour, if standard error shows colours.
pub fn on_stderr(text: &str, color: u8) -> String {
    let unset = |name: &str| std::env::var_os(name).is_none_or(|value| value.is_empty());
    let colored = match CHOICE.get() {
        Some(ColorChoice::Always) => true,
        Some(ColorChoice::Never) => false,
        _ => {
            let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
            unset("NO_COLOR") && !dumb && std::io::stderr().is_terminal()
        }
    };
    match colored {
        true => format!("\x1b[1;{color}m{text}\x1b[0m"),
        false => text.into(),
    }
}

/// ANSI's red and yellow.
pub const RED: u8 = 31;
pub const YELLOW: u8 = 33;
