//! `longnet config check`, `show` and `schema`.

use crate::args::{ConfigArgs, ConfigCommand};
use crate::exit::Failure;
use crate::out::out;
use longnet_train::config::{Config, ConfigErrors, Resolved};
use longnet_train::estimate::Estimate;

pub fn run(command: ConfigCommand) -> Result<(), Failure> {
    match command {
        ConfigCommand::Check(args) => check(&load(&args)?),
        ConfigCommand::Show(args) => out(&load(&args)?.to_string()),
        ConfigCommand::Schema => out(&format!("{:#}\n", Config::schema())),
    }
}

fn load(args: &ConfigArgs) -> Result<Resolved, ConfigErrors> {
    Resolved::load(Some(&args.config), &args.set.set)
}

fn check(resolved: &Resolved) -> Result<(), Failure> {
    let config = &resolved.config;
    let mut text = format!("ok\n{}\n", Estimate::of(config));
    for warning in config.language_model().warnings(config.data.context) {
        text += &format!("warning: {warning}\n");
    }
    out(&text)
}
