//! Where the built program is run: a folder with a config of a tiny run and some text.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

pub const CONFIG: &str = r#"
[model]
d_model = 16
heads = 2
layers = 1
[attention]
segments = [16, 64]
dilations = [1, 4]
[data]
paths = ["text"]
context = 64
valid_fraction = 0.1
[train]
steps = 12
warmup = 2
batch = 2
eval_every = 6
eval_windows = 2
checkpoint_every = 5
keep = 9
lr = 1e-2
log_seconds = 0.001
[generate]
tokens = 20
"#;

/// A folder with a config and some text.
pub struct Place(tempfile::TempDir);

impl Place {
    pub fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        fs::create_dir(place.path("text")).unwrap();
        for file in 0..4 {
            let lines = (0..120).map(|line| format!("line {line} of file {file}: all is well\n"));
            fs::write(
                place.path(&format!("text/{file}.txt")),
                lines.collect::<String>(),
            )
            .unwrap();
        }
        fs::write(place.path("tiny.toml"), CONFIG).unwrap();
        place
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn run(&self, args: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_longnet"))
            .current_dir(self.0.path())
            .args(args)
            .output()
            .unwrap()
    }

    /// Standard output of a command that must succeed.
    pub fn good(&self, args: &[&str]) -> String {
        let output = self.run(args);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{args:?}: {errors}");
        String::from_utf8_lossy(&output.stdout).into()
    }

    /// Standard error of a command that must fail with `code`.
    pub fn bad(&self, code: i32, args: &[&str]) -> String {
        let output = self.run(args);
        let errors = String::from_utf8_lossy(&output.stderr).to_string();
        assert_eq!(output.status.code(), Some(code), "{args:?}: {errors}");
        assert!(output.stdout.is_empty(), "{args:?}");
        errors
    }
}
