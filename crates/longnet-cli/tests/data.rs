//! Shards and tokenizers with the built program, from text to a model that speaks.

mod place;

use place::Place;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

/// The files of a folder.
fn contents(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let files = entries.map(|path| {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        (name, fs::read(&path).unwrap())
    });
    files.collect()
}

/// Records of words.
fn records(count: usize, seed: usize) -> String {
    let word = |i: usize| ["all", "is", "well", "that", "ends", "naïvely"][i * i % 6];
    let record = |i: usize| {
        let words: Vec<&str> = (0..20 + i % 30).map(|w| word(w * seed + i)).collect();
        format!("{{\"id\": {i}, \"body\": \"{}.\"}}\n", words.join(" "))
    };
    (0..count).map(record).collect()
}

#[test]
fn from_records_to_shards_to_a_model_that_speaks() {
    let place = Place::new();
    for file in 0..3 {
        fs::write(place.path(&format!("{file}.jsonl")), records(300, file + 1)).unwrap();
    }
    let field = ["--set", "data.field=body"];
    let learn = |out: &str| {
        let args = [
            "tokenizer",
            "train",
            "*.jsonl",
            "--vocab",
            "265",
            "--out",
            out,
        ];
        place.good(&[&args[..], &field[..]].concat())
    };
    let said = learn("tokenizer.json");
    assert!(said.contains("tokenizer.json: 265 tokens"), "{said}");
    learn("again.json");
    let (first, again) = (place.path("tokenizer.json"), place.path("again.json"));
    assert_eq!(fs::read(first).unwrap(), fs::read(again).unwrap());
    let taken = [
        "tokenizer",
        "train",
        "*.jsonl",
        "--vocab",
        "265",
        "--out",
        "again.json",
    ];
    let error = place.bad(1, &taken);
    assert!(error.starts_with("error: again.json exists"), "{error}");

    let prepare = [
        "data",
        "prepare",
        "*.jsonl",
        "--out",
        "shards",
        "--set",
        "data.field=body",
        "--set",
        "data.tokenizer=tokenizer.json",
    ];
    let said = place.good(&prepare);
    assert!(
        said.contains("3 in shards: 3 made, 0 there already"),
        "{said}"
    );
    assert!(said.contains("in 900 documents"), "{said}");
    let said = place.good(&prepare);
    assert!(
        said.contains("3 in shards: 0 made, 3 there already"),
        "{said}"
    );
    let said = place.good(&["data", "check", "shards"]);
    assert!(said.starts_with("shards: 3 shards with "), "{said}");

    let train = [
        "train",
        "tiny.toml",
        "--set",
        "data.paths=shards",
        "--set",
        "data.tokenizer=shards/tokenizer.json",
        "--set",
        "data.documents=masked",
        "--set",
        "train.steps=30",
    ];
    let said = place.good(&train);
    assert!(said.contains("bits/byte"), "{said}");
    let shown = fs::read_to_string(place.path("runs/tiny/config.toml")).unwrap();
    assert!(shown.contains("vocab = 265"), "{shown}");
    let said = place.good(&["generate", "--run", "runs/tiny", "--prompt", "all is"]);
    assert!(said.starts_with("all is"), "{said}");
    let wrong = ["train", "tiny.toml", "--set", "data.paths=shards"];
    let error = place.bad(2, &wrong);
    assert!(
        error.contains("which is another one; take the one that it was made with"),
        "{error}"
    );
    let small = [&train[..], &["--set", "model.vocab=264"]].concat();
    let error = place.bad(2, &small);
    assert!(
        error.contains("model.vocab = 264 has no room for them"),
        "{error}"
    );
    // A checkpoint has a copy of its tokenizer.
    fs::remove_file(place.path("tokenizer.json")).unwrap();
    fs::remove_file(place.path("shards/tokenizer.json")).unwrap();
    let again = place.good(&["generate", "--run", "runs/tiny", "--prompt", "all is"]);
    assert_eq!(again, said);
    let said = place.good(&["eval", "--run", "runs/tiny", "--set", "eval.lengths=[64]"]);
    assert!(said.contains("validation"), "{said}");
    let more = |steps: &'static str, how: &'static str| {
        [&train[..], &["--set", steps, "--resume", how]].concat()
    };
    let said = place.good(&more("train.steps=33", "auto"));
    assert!(said.contains("step-000033"), "{said}");
    let said = place.good(&more("train.steps=34", "runs/tiny/step-000033"));
    assert!(said.contains("step-000034"), "{said}");
    // Begun anew, a run needs the file; the error names a copy.
    let error = place.bad(2, &more("train.steps=35", "never"));
    assert!(
        error.contains("shards/tokenizer.json: No such file")
            && error.contains("step-000034/tokenizer.json is a copy from an earlier run"),
        "{error}"
    );
    // Another file of that name is not the run's tokenizer.
    fs::write(place.path("shards/tokenizer.json"), "{}").unwrap();
    let said = place.good(&more("train.steps=35", "auto"));
    assert!(said.contains("step-000035"), "{said}");
    let other = [
        "generate",
        "--run",
        "runs/tiny",
        "--set",
        "data.tokenizer=tokenizer.json",
    ];
    let error = place.bad(1, &other);
    assert!(error.contains("tokenizer.json: No such file"), "{error}");
}

#[test]
fn a_mixture_of_documents_trains_and_its_mistakes_are_told() {
    let place = Place::new();
    fs::write(place.path("a.jsonl"), records(200, 1)).unwrap();
    let train = |sets: &[&'static str]| {
        let mut args = vec![
            "train",
            "tiny.toml",
            "--set",
            "data.paths=[\"text\", \"a.jsonl\"]",
        ];
        args.extend(sets.iter().flat_map(|set| ["--set", set]));
        args
    };
    place.good(&train(&[
        "data.weights=[1, 2]",
        "data.field=body",
        "data.documents=masked",
    ]));
    for (sets, expected) in [
        (&["data.weights=[1]"][..], "1 weights for 2 paths"),
        (&["data.weights=[1, 0]"], "each must be above 0"),
        (
            &["data.weights=[1, inf]"],
            "each must be above 0 and finite",
        ),
        (&["data.field=\"\""], "must name a field"),
        (&["data.tokenizer=bytes"], "cannot read ./bytes: "),
        (
            &["data.end_token=ab"],
            "'ab' is no token of the tokenizer byte",
        ),
        (&["data.documents=mask"], "did you mean 'masked'?"),
        (&["model.vocab=100"], "must be 256 or more"),
    ] {
        let error = place.bad(2, &train(sets));
        assert!(error.contains(expected), "{error}");
    }
    for (body, expected) in [
        (
            "too short",
            "the training text of 'b.jsonl' in data.paths has 8 tokens, and one window takes data.context + 1 = 65",
        ),
        (
            "x",
            "b.jsonl: 1 tokens of text cannot be split into training and validation text",
        ),
    ] {
        let record = format!("{{\"body\": \"{body}\"}}\n");
        fs::write(place.path("b.jsonl"), record).unwrap();
        let mut args = train(&["data.weights=[1, 2]", "data.field=body"]);
        args[3] = "data.paths=[\"text\", \"b.jsonl\"]";
        let error = place.bad(2, &args);
        assert!(error.contains(expected), "{error}");
    }
    let error = place.bad(1, &train(&["data.weights=[1, 2]"]));
    assert!(
        error.contains("a.jsonl: line 1 has no field 'text' but 'body', 'id'"),
        "{error}"
    );
}

#[test]
fn what_was_killed_goes_on_and_ends_as_if_it_had_not_been() {
    let place = Place::new();
    let files = 6;
    for file in 0..files {
        fs::write(
            place.path(&format!("{file}.jsonl")),
            records(1500, file + 1),
        )
        .unwrap();
    }
    let tokenizer = [
        "tokenizer",
        "train",
        "0.jsonl",
        "--vocab",
        "290",
        "--out",
        "tokenizer.json",
        "--set",
        "data.field=body",
    ];
    place.good(&tokenizer);
    let prepare = |out: &'static str| {
        [
            "data",
            "prepare",
            "*.jsonl",
            "--out",
            out,
            "--set",
            "data.field=body",
            "--set",
            "data.tokenizer=tokenizer.json",
        ]
    };
    place.good(&prepare("whole"));
    let (mut kills, mut kept) = (0, 0);
    for wait in 1..40 {
        let mut child = Command::new(env!("CARGO_BIN_EXE_longnet"))
            .current_dir(place.path("."))
            .args(prepare("killed"))
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(20 * wait));
        if child.try_wait().unwrap().is_some() {
            break;
        }
        child.kill().unwrap();
        child.wait().unwrap();
        kills += 1;
        let folder = place.path("killed");
        if folder.is_dir() {
            let there = contents(&folder);
            assert!(
                !there.contains_key("shards.json"),
                "killed when it was finished"
            );
            kept = there
                .keys()
                .filter(|name| name.ends_with(".tokens") && !name.starts_with('.'))
                .count();
        }
    }
    let said = place.good(&prepare("killed"));
    println!("{kills} kills, {kept} shards after the last of them");
    assert!(kills > 2, "{said}");
    assert_eq!(
        contents(&place.path("killed")),
        contents(&place.path("whole"))
    );
}

#[test]
#[cfg(target_os = "linux")]
fn places_that_cannot_be_written_are_named() {
    let place = Place::new();
    // A folder that cannot be made, since a file has its name.
    fs::write(place.path("shards"), "").unwrap();
    let error = place.bad(1, &["data", "prepare", "text", "--out", "shards"]);
    assert!(error.starts_with("error: cannot write shards: "), "{error}");
    let error = place.bad(1, &["data", "prepare", "text", "--out", "/proc/shards"]);
    assert!(
        error.starts_with("error: cannot write /proc/shards: "),
        "{error}"
    );
    let error = place.bad(1, &["data", "check", "text"]);
    assert!(error.contains("text has no shards.json"), "{error}");
}
