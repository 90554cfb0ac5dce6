//! Checkpoints come back as they were, or say what is wrong.

use burn::nn::{Linear, LinearConfig};
use burn::tensor::{Device, Tensor};
use longnet_train::checkpoint::{self, Checkpoint, Contents, Optimizer, Resume, State};
use longnet_train::config::Resolved;
use longnet_train::config::sections::Train;
use longnet_train::data::Cursor;
use longnet_train::optim::optimizer;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const CURSOR: Cursor = Cursor {
    epoch: 2,
    taken: 7,
    context: 64,
};

fn linear(width: usize) -> Linear {
    LinearConfig::new(3, width).init(&Device::default().autodiff())
}

fn saved(run: &Path, step: usize, model: &Linear) -> PathBuf {
    let state = State {
        step,
        cursor: CURSOR,
        ..State::default()
    };
    saved_with(run, state, model, 3)
}

fn saved_with(run: &Path, state: State, model: &Linear, keep: usize) -> PathBuf {
    let sets = ["data.paths=a.txt".into(), format!("train.keep={keep}")];
    let config = Resolved::load(None, &sets).unwrap();
    let mut optimizer = optimizer(&Train::default(), model);
    let grads = model.weight.val().sum().backward();
    let grads = burn::optim::GradientsParams::from_grads(grads, model);
    optimizer.step(1e-3, model.clone(), grads);
    fs::create_dir_all(run).unwrap();
    let contents = Contents {
        tokenizer: None,
        config: &config,
        model,
        averaged: None,
        optimizer: Optimizer::Own(&optimizer),
        state,
    };
    checkpoint::save(run, contents, false).unwrap().folder
}

fn weights(model: &Linear) -> Tensor<2> {
    model.weight.val().inner()
}

#[test]
fn the_latest_checkpoint_comes_back_bit_for_bit() {
    let root = tempfile::tempdir().unwrap();
    let run = root.path().join("run");
    let model = linear(4);
    saved(&run, 1, &linear(4));
    let folder = saved(&run, 2, &model);
    let checkpoint = Checkpoint::latest(&run, &["train.steps=900".into()]).unwrap();
    assert_eq!(checkpoint.folder(), folder);
    assert_eq!(checkpoint.config.config.data.paths, ["a.txt"]);
    assert_eq!(checkpoint.config.config.train.steps, 900);
    let loaded = checkpoint.weights(linear(4)).unwrap();
    weights(&loaded)
        .into_data()
        .assert_eq(&weights(&model).into_data(), true);
    let state = checkpoint.state().unwrap();
    assert_eq!((state.step, state.cursor), (2, CURSOR));
    assert_eq!(state.parameters["weight"], model.weight.id.val());
    let drafts = fs::read_dir(&run).unwrap().filter(|entry| {
        let name = entry.as_ref().unwrap().file_name();
        name.to_string_lossy().ends_with(".tmp")
    });
    assert_eq!(drafts.count(), 0);
}

#[test]
fn what_is_missing_is_named() {
    let root = tempfile::tempdir().unwrap();
    let run = root.path().join("run");
    let error = |run: &Path| Checkpoint::latest(run, &[]).unwrap_err().to_string();
    assert!(
        error(&run).starts_with("there is no run at /"),
        "{}",
        error(&run)
    );
    fs::create_dir(&run).unwrap();
    assert!(
        error(&run).contains("run holds no finished checkpoint"),
        "{}",
        error(&run)
    );
    let folder = saved(&run, 5, &linear(4));
    fs::remove_file(folder.join("model.safetensors")).unwrap();
    assert!(
        error(&run).contains("step-000005 has no model.safetensors"),
        "{}",
        error(&run)
    );
}

#[test]
fn weights_cut_short_at_any_length_are_an_error() {
    let root = tempfile::tempdir().unwrap();
    let folder = saved(root.path(), 5, &linear(4));
    let file = folder.join("model.safetensors");
    let whole = fs::read(&file).unwrap();
    for keep in [0, 4, 8, 40, whole.len() - 1] {
        fs::write(&file, &whole[..keep]).unwrap();
        let checkpoint = Checkpoint::open(&folder, &[]).unwrap();
        let error = checkpoint.weights(linear(4)).unwrap_err().to_string();
        assert!(error.starts_with("cannot read /"), "{keep}: {error}");
        assert!(error.contains("model.safetensors: "), "{keep}: {error}");
    }
}

#[test]
fn weights_of_another_size_are_an_error() {
    let root = tempfile::tempdir().unwrap();
    let folder = saved(root.path(), 5, &linear(4));
    let checkpoint = Checkpoint::open(&folder, &[]).unwrap();
    let error = checkpoint.weights(linear(5)).unwrap_err().to_string();
    assert!(error.contains("do not fit the config"), "{error}");
    assert!(error.contains("weight"), "{error}");
}

#[test]
fn an_earlier_run_is_set_aside_and_nothing_is_lost() {
    let root = tempfile::tempdir().unwrap();
    let run = root.path().join("run");
    assert_eq!(checkpoint::set_aside(&run).unwrap(), None);
    for expected in ["run.1", "run.2"] {
        saved(&run, 1, &linear(4));
        let aside = checkpoint::set_aside(&run).unwrap().unwrap();
        assert_eq!(aside, root.path().join(expected));
        assert!(aside.join("step-000001").is_dir() && !run.exists());
    }
}

#[test]
fn what_was_just_written_stays_beside_later_ones_that_are_damaged() {
    let root = tempfile::tempdir().unwrap();
    for step in [8, 9, 10] {
        saved(root.path(), step, &linear(4));
    }
    // As after resuming from 5: what is later is not whole.
    for step in ["step-000008", "step-000009", "step-000010"] {
        fs::remove_file(root.path().join(step).join("manifest.json")).unwrap();
    }
    let folder = saved(root.path(), 6, &linear(4));
    assert!(folder.join("manifest.json").is_file());
    let latest = Checkpoint::latest(root.path(), &[]).unwrap();
    assert_eq!(latest.folder(), folder);
}

/// Where [`it_saves_again`] saves.
const RUN: &str = "LONGNET_TEST_RUN";

/// The process that the next test ends while it saves; nothing where that has not started it.
#[test]
fn it_saves_again() {
    if let Some(run) = std::env::var_os(RUN) {
        let state = State {
            step: 5,
            evaluated: 5,
            ..State::default()
        };
        saved_with(Path::new(&run), state, &linear(4), 1);
    }
}

#[test]
fn wherever_a_save_ends_the_only_checkpoint_or_the_new_one_is_there() {
    // With and without an exchange in one step.
    for with in ["LONGNET_NO_EXCHANGE", "LONGNET_EXCHANGE"] {
        let (mut was_new, mut put_back) = (false, 0);
        for parts in 1.. {
            let root = tempfile::tempdir().unwrap();
            let run = root.path();
            let only = |step| {
                let state = State {
                    step,
                    ..State::default()
                };
                saved_with(run, state, &linear(4), 1)
            };
            only(5);
            let child = Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "it_saves_again"])
                .env(RUN, run)
                .env(with, "1")
                .env("LONGNET_END_SAVE", parts.to_string())
                .output()
                .unwrap();
            let mut restored = 0;
            checkpoint::recover(run, |_| restored += 1).unwrap();
            let point = Resume::Auto.point(run, |skipped| panic!("{with} {parts}: {skipped}"));
            let point = point.unwrap().expect("a checkpoint");
            point.weights(linear(4)).unwrap();
            Checkpoint::latest(run, &[]).unwrap();
            let is_new = point.state.evaluated == 5;
            assert!(is_new || !was_new, "{with}: older after {parts} parts");
            was_new = is_new;
            // The next save leaves nothing else.
            let next = only(6);
            let folders = fs::read_dir(run)
                .unwrap()
                .map(|entry| entry.unwrap().path());
            let folders: Vec<_> = folders.filter(|path| path.is_dir()).collect();
            assert_eq!(folders, [next], "{with} {parts}");
            if child.status.success() {
                assert!(is_new && restored == 0);
                break;
            }
            put_back += restored;
            assert!(parts < 50, "{with}: it never ends by itself");
        }
        // Between two renames nothing is in its place.
        if with == "LONGNET_NO_EXCHANGE" {
            assert_eq!(put_back, 1);
        }
    }
}

#[test]
fn what_was_set_aside_comes_back_where_the_draft_is_not_whole() {
    let root = tempfile::tempdir().unwrap();
    let run = root.path();
    let place = saved(run, 5, &linear(4));
    let [aside, draft] = ["aside.tmp", "tmp"].map(|end| run.join(format!(".step-000005.{end}")));
    let recovered = || {
        let mut restored = Vec::new();
        checkpoint::recover(run, |folder| restored.push(folder.to_path_buf())).unwrap();
        restored
    };
    assert!(recovered().is_empty());
    for part in ["manifest.json", "state.json"] {
        fs::rename(&place, &aside).unwrap();
        let content = fs::read(aside.join(part)).unwrap();
        fs::create_dir_all(&draft).unwrap();
        fs::write(draft.join(part), content).unwrap();
        assert_eq!(recovered(), std::slice::from_ref(&place));
        Checkpoint::open(&place, &[]).unwrap();
        assert!(!aside.exists() && draft.exists());
    }
    // A draft alone, whole: of a first save that was cut off.
    fs::remove_dir_all(&draft).unwrap();
    fs::rename(&place, &draft).unwrap();
    assert_eq!(recovered(), std::slice::from_ref(&place));
    // What is in its place stays there.
    fs::create_dir(&aside).unwrap();
    assert!(recovered().is_empty());
    // Drafts that are nothing yet do not come back.
    fs::rename(&place, run.join("elsewhere")).unwrap();
    fs::remove_dir(&aside).unwrap();
    fs::create_dir(&draft).unwrap();
    assert!(recovered().is_empty());
}
