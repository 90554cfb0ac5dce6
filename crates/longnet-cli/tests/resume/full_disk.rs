//! A disk that fills up: a clear error, and the checkpoint before still loads.
#![cfg(target_os = "linux")]

use crate::place::Place;
use std::process::Command;

/// Runs in a namespace of its own, where anybody may mount a small disk.
const SCRIPT: &str = r#"
mkdir runs
mount -t tmpfs -o size=400k tmpfs runs || exit 77
train() { "$LONGNET" train tiny.toml --set train.keep=99 --set train.checkpoint_every=1 --set generate.tokens=1 "$@"; }
train
echo "exit $?"
ls -A runs/tiny
"$LONGNET" generate --run runs/tiny --tokens 4 >/dev/null && echo "generates"
mount -o remount,size=4m runs
train --resume auto && echo "goes on"
cmp runs/tiny/step-000012/model.safetensors whole/tiny/step-000012/model.safetensors && echo "same"
"#;

#[test]
fn a_full_disk_is_an_error_and_the_run_goes_on_when_there_is_room() {
    let place = Place::new();
    place.good(&[
        "train",
        "tiny.toml",
        "--set",
        "train.checkpoint_every=1",
        "--set",
        "train.run_dir=whole/tiny",
    ]);
    let output = Command::new("unshare")
        .current_dir(place.path("."))
        .args(["--user", "--map-root-user", "--mount", "sh", "-c", SCRIPT])
        .env("LONGNET", env!("CARGO_BIN_EXE_longnet"))
        .output();
    let may_skip = !std::env::var("LONGNET_REQUIRE").is_ok_and(|all| all.contains("tmpfs"));
    let output = match output {
        Ok(output)
            if may_skip
                && (output.status.code() == Some(77)
                    || output.stderr.starts_with(b"unshare: ")) =>
        {
            return println!("skipped: no tmpfs can be mounted here");
        }
        Err(error) if may_skip => return println!("skipped: unshare: {error}"),
        output => output.unwrap(),
    };
    let shown = String::from_utf8_lossy(&output.stdout);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(shown.contains("\nexit 1\n"), "{shown}{error}");
    assert!(
        error.contains("No space left on device")
            && error.contains("the checkpoints before it are untouched"),
        "{error}"
    );
    let (_, after) = shown.split_once("\nexit 1\n").unwrap();
    assert!(
        after.contains("latest\n") && !after.contains(".step-"),
        "{after}"
    );
    for expected in ["\ngenerates\n", "\ngoes on\n", "\nsame\n"] {
        assert!(
            shown.contains(expected),
            "no {expected:?} in {shown}{error}"
        );
    }
}
