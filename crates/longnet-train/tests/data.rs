//! Which files are taken, how they are split, and how windows are cut.

use burn::data::dataloader::DataLoader;
use longnet_train::config::sections::Data;
use longnet_train::data::{self, Cursor, Split, Text, Tokens, Windows, files};
use longnet_train::loader::{Batch, Feed, Loader};
use std::fs;
use std::path::Path;
use std::sync::Arc;

fn write(root: &Path, name: &str, bytes: impl AsRef<[u8]>) {
    let path = root.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

fn data(root: &Path, paths: &[&str]) -> Data {
    Data {
        paths: paths.iter().map(|p| p.to_string()).collect(),
        root: root.to_string_lossy().into(),
        ..Data::default()
    }
}

fn names(data: &Data) -> Vec<String> {
    let found = files::find(data).unwrap();
    found.into_iter().map(|f| f.name).collect()
}

fn tree() -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for name in [
        "b.txt",
        "a.rs",
        "src/z.rs",
        "src/deep/y.rs",
        "src/notes.md",
        "src/.hidden.rs",
        ".git/config.rs",
        "src/target/built.rs",
    ] {
        write(root.path(), name, name);
    }
    write(root.path(), "src/binary.rs", b"ab\0cd");
    write(root.path(), "src/empty.rs", b"");
    root
}

#[test]
fn folders_are_walked_sorted_without_hidden_built_binary_and_empty_files() {
    let root = tree();
    let all = names(&data(root.path(), &["."]));
    assert_eq!(
        all,
        ["a.rs", "b.txt", "src/deep/y.rs", "src/notes.md", "src/z.rs"]
    );
    let rust = Data {
        extensions: vec!["rs".into()],
        exclude: vec!["src/deep/*".into()],
        ..data(root.path(), &["src", "src/z.rs", "a.rs"])
    };
    assert_eq!(names(&rust), ["a.rs", "src/z.rs"]);
}

#[test]
fn globs_match_below_the_root_and_named_files_are_taken_as_they_are() {
    let root = tree();
    assert_eq!(
        names(&data(root.path(), &["**/*.rs"])),
        ["a.rs", "src/deep/y.rs", "src/z.rs"]
    );
    assert_eq!(names(&data(root.path(), &["*.rs"])), ["a.rs"]);
    assert_eq!(names(&data(root.path(), &["src/d*"])), ["src/deep/y.rs"]);
    let named = Data {
        extensions: vec!["txt".into()],
        ..data(root.path(), &["src/.hidden.rs", "src/binary.rs"])
    };
    assert_eq!(names(&named), ["src/.hidden.rs", "src/binary.rs"]);
}

#[test]
fn paths_that_lead_nowhere_are_named() {
    let root = tree();
    let error = |paths: &[&str]| {
        files::find(&data(root.path(), paths))
            .unwrap_err()
            .to_string()
    };
    let missing = error(&["a.rs", "nope.txt"]);
    assert!(
        missing.starts_with("data.paths: 'nope.txt' does not exist in /"),
        "{missing}"
    );
    let unmatched = error(&["*.py"]);
    assert!(
        unmatched.starts_with("data.paths: no file matches the glob '*.py' in /"),
        "{unmatched}"
    );
    assert_eq!(
        error(&["src/empty.rs"]),
        "no text: data.paths name 1 files, of which 0 have another ending than data.extensions or are in data.exclude, 0 are binary and 1 are empty"
    );
}

#[test]
#[cfg(unix)]
fn a_file_of_several_names_is_taken_once_and_links_lead_nowhere() {
    use std::os::unix::fs::symlink;
    let root = tree();
    let below = |name: &str| root.path().join(name);
    symlink(below("a.rs"), below("src/link.rs")).unwrap();
    symlink(below("nowhere"), below("src/dead.rs")).unwrap();
    // Loops: each level of links would double the paths.
    symlink(below("src"), below("src/deep/up")).unwrap();
    symlink(below("src"), below("src/deep/again")).unwrap();
    let pipe = below("src/pipe.rs");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(made.unwrap().success());
    let absolute = below("src");
    let paths = [
        "src",
        "./src",
        "**/*.rs",
        "a.rs",
        absolute.to_str().unwrap(),
    ];
    let rust = Data {
        extensions: vec![".rs".into()],
        ..data(root.path(), &paths)
    };
    assert_eq!(names(&rust), ["a.rs", "src/deep/y.rs", "src/z.rs"]);
    assert_eq!(
        names(&data(root.path(), &["src/*/*.rs"])),
        ["src/deep/y.rs"]
    );

    let error = files::find(&data(root.path(), &["src/pipe.rs"])).unwrap_err();
    let error = error.to_string();
    assert!(
        error.ends_with("src/pipe.rs is neither a file nor a folder; leave it out"),
        "{error}"
    );
}

#[test]
#[cfg(unix)]
fn what_may_not_be_read_is_not_called_missing() {
    use std::os::unix::fs::PermissionsExt;
    let root = tree();
    let folder = root.path().join("src/deep");
    let mode = |mode| fs::set_permissions(&folder, fs::Permissions::from_mode(mode)).unwrap();
    mode(0o000);
    // Permissions do not stop root.
    let enforced = fs::metadata(folder.join("y.rs")).is_err();
    let found = files::find(&data(root.path(), &["src/deep/y.rs"]));
    mode(0o755);
    match found {
        Err(error) => assert!(error.to_string().contains("ermission"), "{error}"),
        Ok(_) if !enforced => println!("skipped: permissions do not stop this user"),
        Ok(_) => panic!("a file in a closed folder was found"),
    }
}

#[test]
fn endings_in_another_case_are_hinted_at() {
    let root = tree();
    let upper = Data {
        extensions: vec!["RS".into()],
        ..data(root.path(), &["src"])
    };
    let error = files::find(&upper).unwrap_err().to_string();
    assert!(
        error.ends_with("; endings that differ in upper and lower case are different"),
        "{error}"
    );
}

fn bytes(stream: &impl Tokens) -> Vec<i32> {
    let mut all = Vec::new();
    stream.read(0..stream.len(), &mut all).unwrap();
    all
}

fn split(root: &Path, fraction: f64, block: usize) -> Split {
    let text = Text::open(&files::find(&data(root, &["."])).unwrap()).unwrap();
    data::split(text, fraction, block).unwrap()
}

#[test]
fn a_split_is_the_same_every_time_and_loses_and_shares_no_byte() {
    let root = tempfile::tempdir().unwrap();
    for file in 0..20 {
        let text: Vec<u8> = (0..1000 + 37 * file).map(|i| (i % 251) as u8 + 1).collect();
        write(root.path(), &format!("{file}.txt"), text);
    }
    let first = split(root.path(), 0.1, 100);
    let second = split(root.path(), 0.1, 100);
    assert_eq!(first.valid.pieces(), second.valid.pieces());
    assert_eq!(first.train.pieces(), second.train.pieces());

    let mut owner: Vec<Vec<u8>> = (0..20)
        .map(|f| vec![0; first.train.text().part(f).len() as usize])
        .collect();
    for (mark, stream) in [(1, &first.train), (2, &first.valid)] {
        for piece in stream.pieces() {
            for byte in piece.tokens.clone() {
                let byte = byte as usize;
                assert_eq!(owner[piece.file][byte], 0, "byte in two pieces");
                owner[piece.file][byte] = mark;
            }
        }
    }
    assert!(
        owner.iter().flatten().all(|&mark| mark > 0),
        "byte in no piece"
    );
    let total = first.train.len() + first.valid.len();
    let share = first.valid.len() as f64 / total as f64;
    assert!((0.1..0.11).contains(&share), "{share}");
    let held: std::collections::BTreeSet<_> = first.valid.pieces().iter().map(|p| p.file).collect();
    assert!(
        held.len() > 8,
        "validation text from {} of 20 files",
        held.len()
    );
}

#[test]
fn one_short_file_is_split_too_and_one_byte_is_an_error() {
    let root = tempfile::tempdir().unwrap();
    write(root.path(), "a.txt", "x".repeat(1000));
    let parts = split(root.path(), 0.05, 65536);
    assert_eq!((parts.train.len(), parts.valid.len()), (950, 50));
    write(root.path(), "a.txt", "x");
    let text = Text::open(&files::find(&data(root.path(), &["."])).unwrap()).unwrap();
    let error = data::split(text, 0.05, 65536).unwrap_err();
    assert_eq!(
        error.to_string(),
        "a.txt: 1 tokens of text cannot be split into training and validation text; add text to data.paths"
    );
}

fn windows(root: &Path, context: usize) -> Windows {
    Windows::new(
        Arc::new(split(root, 0.5, 7).train),
        context,
        "training text",
    )
    .unwrap()
}

#[test]
fn windows_in_order_predict_each_token_but_the_first_once() {
    let root = tempfile::tempdir().unwrap();
    write(root.path(), "a.txt", (1..=200).collect::<Vec<u8>>());
    let windows = windows(root.path(), 16);
    let all = bytes(&split(root.path(), 0.5, 7).train);
    let in_order: Vec<_> = windows
        .starts()
        .iter()
        .map(|&s| windows.at(s).unwrap())
        .collect();
    let targets: Vec<i32> = in_order
        .iter()
        .flat_map(|w| w.tokens[1..].to_vec())
        .collect();
    assert_eq!(targets, all[1..]);
    for window in in_order {
        assert_eq!(window.tokens[0], all[window.start as usize]);
    }
}

#[test]
fn a_pass_takes_disjoint_whole_windows_in_an_order_set_by_seed_and_pass() {
    let root = tempfile::tempdir().unwrap();
    write(
        root.path(),
        "a.txt",
        (0..4000).map(|i| (i % 199) as u8 + 1).collect::<Vec<u8>>(),
    );
    let windows = windows(root.path(), 16);
    let pass = |seed, epoch| windows.shuffled(seed, epoch).starts().collect::<Vec<_>>();
    let order = pass(1, 0);
    assert_eq!(order, pass(1, 0));
    assert_ne!(order, pass(1, 1));
    assert_ne!(order, pass(2, 0));
    assert_eq!(order.len() as u64, windows.per_epoch());
    let mut sorted = order.clone();
    sorted.sort_unstable();
    assert_ne!(order, sorted);
    assert!(sorted.windows(2).all(|pair| pair[1] - pair[0] == 16));
    assert!(
        order
            .iter()
            .all(|&start| windows.at(start).unwrap().tokens.len() == 17)
    );
}

#[test]
fn text_shorter_than_a_window_is_an_error() {
    let root = tempfile::tempdir().unwrap();
    write(root.path(), "a.txt", "x".repeat(100));
    let stream = Arc::new(split(root.path(), 0.5, 100).valid);
    let error = Windows::new(stream, 50, "validation text").err().unwrap();
    assert_eq!(
        error.to_string(),
        "the validation text has 50 tokens, and one window takes data.context + 1 = 51; lower data.context or add text"
    );
}

fn batches(loader: &Loader, count: usize) -> Vec<Batch> {
    loader
        .iter()
        .take(count)
        .map(|batch| batch.unwrap())
        .collect()
}

#[test]
fn a_feed_goes_on_from_a_cursor_as_if_it_had_not_stopped() {
    let root = tempfile::tempdir().unwrap();
    write(
        root.path(),
        "a.txt",
        (0..400).map(|i| (i % 199) as u8 + 1).collect::<Vec<u8>>(),
    );
    let stream = Arc::new(split(root.path(), 0.5, 7).train);
    let per_pass = Windows::new(stream.clone(), 16, "training text")
        .unwrap()
        .per_epoch() as usize;
    // The context grows after a third of the run: a pass of its own begins there.
    let context = |step: usize| if step < per_pass { 16 } else { 32 };
    let run = |from: Cursor, steps: std::ops::Range<usize>| -> Vec<(Vec<u64>, Cursor)> {
        let mut feed = Feed::new(stream.clone(), 7, from);
        let mut next = |step| {
            let batch = feed.next(3, context(step)).unwrap();
            assert_eq!(batch.targets(), 3 * context(step));
            let starts = batch.windows.iter().map(|w| w.start).collect();
            (starts, feed.cursor())
        };
        steps.map(&mut next).collect()
    };
    let all = run(Cursor::default(), 0..3 * per_pass);
    for stop in [1, 4, per_pass - 1, per_pass, per_pass + 1, 2 * per_pass] {
        let later = run(all[stop - 1].1, stop..3 * per_pass);
        assert_eq!(later, all[stop..], "after {stop}");
    }
    let mut pass: Vec<u64> = all.iter().flat_map(|(starts, _)| starts.clone()).collect();
    pass.truncate(per_pass);
    pass.sort_unstable();
    pass.dedup();
    assert_eq!(pass.len(), per_pass, "a window twice in one pass");
}

#[test]
fn batches_in_order_have_one_length_each_and_can_be_limited() {
    let root = tempfile::tempdir().unwrap();
    write(
        root.path(),
        "a.txt",
        (0..400).map(|i| (i % 199) as u8 + 1).collect::<Vec<u8>>(),
    );
    let windows = windows(root.path(), 16);
    let all = batches(&Loader::in_order(windows.clone(), 2, 0), 1000);
    let targets: usize = all.iter().map(Batch::targets).sum();
    assert_eq!(targets as u64, windows.tokens().len() - 1);
    for batch in &all {
        assert!(
            batch
                .windows
                .iter()
                .all(|w| w.tokens.len() == batch.windows[0].tokens.len())
        );
    }
    let some = batches(&Loader::in_order(windows, 1, 3), 1000);
    assert_eq!(some.len(), 3);
}
