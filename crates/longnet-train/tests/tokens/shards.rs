//! Shards: made once, kept, checked, and refused when they are not what is asked for.

use super::{Place, gzip, lines, shown};
use longnet_train::config::sections::Data;
use longnet_train::data::shard::{MANIFEST, check_folder};
use longnet_train::data::{self, Made, Stream, TOKENIZER, Text, Tokens, Watch, prepare, tokenizer};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// A folder with text of all kinds and a tokenizer.
fn place() -> (Place, Data) {
    let place = Place::new();
    let file = place.tokenizer("tokenizer.json", &lines(500, 1), 300);
    place.write("text/a.txt", lines(700, 1));
    let json = |i| format!("{{\"text\": \"{}\"}}\n", lines(i % 5, i).replace('\n', " "));
    let json: String = (0..300).map(json).collect();
    place.write("text/b.jsonl", &json);
    place.write("text/c.jsonl.gz", gzip(json + "{\"text\": null}"));
    place.write("text/d.txt", "x");
    let data = Data {
        tokenizer: file.to_string_lossy().into(),
        ..place.data(&["text"])
    };
    (place, data)
}

fn made(place: &Place, data: &Data) -> Made {
    prepare(data, &place.path("shards"), &Watch::default()).unwrap()
}

fn failed(place: &Place, data: &Data) -> String {
    let result = prepare(data, &place.path("shards"), &Watch::default());
    shown(result.unwrap_err(), &place.path(""))
}

fn refused(place: &Place, data: &Data) -> String {
    shown(data::open(data).unwrap_err(), &place.path(""))
}

fn tokens(text: Text) -> (Vec<i32>, Vec<i32>, u64) {
    let stream = Stream::whole(text);
    let mut all = Vec::new();
    stream.read(0..stream.len(), &mut all).unwrap();
    let documents = stream.documents(0..stream.len()).unwrap();
    (all, documents.unwrap_or_default(), stream.bytes())
}

/// The files of a folder, but for those that are hidden.
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

#[test]
fn shards_hold_the_tokens_and_documents_of_the_text() {
    let (place, mut data) = place();
    data.documents = longnet_train::config::sections::Documents::Masked;
    let made = made(&place, &data);
    assert_eq!((made.made, made.kept, made.skipped), (4, 0, 1));
    let tokenizer = tokenizer::open(&data).unwrap();
    let (direct, documents, bytes) = tokens(data::open(&data).unwrap());
    let from_shards = Data {
        paths: vec!["shards".into()],
        ..data.clone()
    };
    let shards = tokens(data::open(&from_shards).unwrap());
    assert_eq!(shards, (direct.clone(), documents.clone(), bytes));
    assert_eq!(made.manifest.tokens, direct.len() as u64);
    assert_eq!(made.manifest.bytes, bytes);
    let ends = direct
        .iter()
        .filter(|&&t| Some(t) == tokenizer.end())
        .count();
    // Of 300 records, 60 are empty, and are no documents.
    assert_eq!(ends, 1 + 240 + 240 + 1);
    assert_eq!(made.manifest.documents, ends as u64);
    assert_eq!(*documents.last().unwrap() as usize, ends - 1);
    for pair in direct.windows(2).zip(documents.windows(2)) {
        let (tokens, documents) = pair;
        assert_eq!(
            documents[1] - documents[0],
            i32::from(Some(tokens[0]) == tokenizer.end())
        );
    }
    // The text itself comes back.
    let text = fs::read(place.path("text/a.txt")).unwrap();
    assert!(tokenizer.decode(&direct).starts_with(&text));
    let checked = check_folder(&place.path("shards")).unwrap();
    assert_eq!((checked.shards, checked.tokens), (4, direct.len() as u64));
    let windows = data::Windows::new(
        std::sync::Arc::new(Stream::whole(data::open(&from_shards).unwrap())),
        64,
        "training text",
    );
    let place = windows.unwrap().tokens().place(direct.len() as u64 / 2);
    assert!(place.starts_with("shards/b-jsonl-"), "{place}");
    assert!(place.contains(".tokens from token "), "{place}");
}

#[test]
fn bytes_in_shards_are_split_as_bytes_in_text() {
    let (place, data) = place();
    let data = Data {
        tokenizer: "byte".into(),
        paths: vec!["text/a.txt".into()],
        ..data
    };
    made(&place, &data);
    let shards = Data {
        paths: vec!["shards".into()],
        ..data.clone()
    };
    let read = |stream: &Stream| {
        let mut all = Vec::new();
        stream.read(0..stream.len(), &mut all).unwrap();
        all
    };
    // Not which blocks, since the names differ, but how they are cut.
    let (text, shards) = (data::load(&data).unwrap(), data::load(&shards).unwrap());
    assert_eq!(text.train.len(), shards.train.len());
    assert_eq!(text.valid.bytes(), shards.valid.bytes());
    let mut all = [read(&shards.train), read(&shards.valid)].concat();
    let mut expected: Vec<i32> = lines(700, 1).bytes().map(i32::from).collect();
    all.sort_unstable();
    expected.sort_unstable();
    assert_eq!(all, expected);
}

#[test]
fn what_is_whole_is_kept_and_what_is_not_is_made_again() {
    let (place, data) = place();
    made(&place, &data);
    let folder = place.path("shards");
    let first = contents(&folder);
    let mut names: Vec<&String> = first.keys().collect();
    names.sort();
    assert_eq!(names.len(), 6, "{names:?}");
    assert!(first.contains_key(MANIFEST) && first.contains_key(TOKENIZER));
    let again = made(&place, &data);
    assert_eq!((again.made, again.kept), (0, 4));
    assert_eq!(contents(&folder), first);

    // As a kill leaves it: no manifest, one shard missing, one cut off, one half written beside it.
    let shards: Vec<_> = names.iter().filter(|n| n.ends_with(".tokens")).collect();
    fs::remove_file(folder.join(MANIFEST)).unwrap();
    fs::remove_file(folder.join(shards[0])).unwrap();
    fs::write(folder.join(shards[1]), &first[*shards[1]][..300]).unwrap();
    fs::write(folder.join(format!(".{}.tmp", shards[2])), "half").unwrap();
    let error = refused(
        &place,
        &Data {
            paths: vec!["shards".into()],
            ..data.clone()
        },
    );
    assert!(error.starts_with("shards has no shards.json"), "{error}");
    let again = made(&place, &data);
    assert_eq!((again.made, again.kept), (2, 2));
    assert_eq!(contents(&folder), first);

    // A changed file, another tokenizer.
    place.write("text/d.txt", "xy");
    assert_eq!(made(&place, &data).made, 1);
    assert_ne!(contents(&folder), first);
    let other = place.tokenizer("other.json", &lines(500, 2), 290);
    let data = Data {
        tokenizer: other.to_string_lossy().into(),
        ..data
    };
    assert_eq!(made(&place, &data).made, 4);
    check_folder(&folder).unwrap();
}

#[test]
fn a_file_that_fails_leaves_the_others_finished_and_the_folder_unfinished() {
    let (place, data) = place();
    place.write("text/b.jsonl", "{\"text\": \"a\"}\nnonsense\n");
    let error = failed(&place, &data);
    assert_eq!(
        error,
        "text/b.jsonl: line 2 is not JSON: expected ident at line 1 column 2"
    );
    let files = contents(&place.path("shards"));
    assert!(!files.contains_key(MANIFEST), "{:?}", files.keys());
    assert!(
        files.keys().all(|name| !name.ends_with(".tmp")),
        "{:?}",
        files.keys()
    );
    place.write("text/b.jsonl", "{\"text\": \"a\"}\n");
    made(&place, &data);
    check_folder(&place.path("shards")).unwrap();
    fs::remove_dir_all(place.path("text")).unwrap();
    place.write("text/a.jsonl", "{\"text\": null}\n");
    assert!(failed(&place, &data).starts_with("no text: the 1 files of data.paths"));
    let weighed = Data {
        weights: vec![1.0],
        ..data.clone()
    };
    assert!(failed(&place, &weighed).starts_with("data.weights: "));
    let lock = fs::File::create(place.path("shards/.lock")).unwrap();
    lock.lock().unwrap();
    assert!(failed(&place, &data).starts_with("another 'longnet data prepare' is at work in "));
}

#[test]
fn a_file_that_fails_leaves_a_finished_folder_finished() {
    let (place, data) = place();
    made(&place, &data);
    let folder = place.path("shards");
    let first = contents(&folder);
    place.write("text/b.jsonl", "nonsense\n");
    assert!(failed(&place, &data).starts_with("text/b.jsonl: line 1 is not JSON"));
    fs::remove_file(folder.join(".lock")).unwrap();
    assert!(contents(&folder) == first);
    check_folder(&folder).unwrap();
}

#[test]
fn a_folder_within_the_text_is_no_text() {
    let (place, data) = place();
    let folder = place.path("text/shards");
    let prepare = |data: &Data| prepare(data, &folder, &Watch::default());
    assert_eq!(prepare(&data).unwrap().made, 4);
    let first = contents(&folder);
    assert_eq!(prepare(&data).unwrap().kept, 4);
    let glob = Data {
        paths: vec!["text/**/*".into()],
        ..data.clone()
    };
    assert_eq!(prepare(&glob).unwrap().kept, 4);
    for path in ["text/shards", "text/shards/*"] {
        let error = prepare(&Data {
            paths: vec![path.into()],
            ..data.clone()
        });
        let error = error.unwrap_err().to_string();
        assert!(
            error.starts_with("data.paths: ") || error.contains("shards.json"),
            "{error}"
        );
        assert!(contents(&folder) == first);
    }
    let error = refused(
        &place,
        &Data {
            paths: vec!["text/shards/*".into()],
            extensions: vec![],
            ..data.clone()
        },
    );
    assert!(error.contains("name the folder instead"), "{error}");
    // Elsewhere, shards are no text either.
    let shards = Data {
        paths: vec!["text/shards".into()],
        ..data
    };
    assert!(failed(&place, &shards).contains("it holds tokens already"));
    assert!(!place.path("shards").exists());
}

#[test]
fn a_tokenizer_is_replaced_if_it_is_ours() {
    let (place, data) = place();
    place.write("shards/tokenizer.json", "mine");
    place.write("shards/.notes.tmp", "mine");
    assert!(failed(&place, &data).starts_with("shards/tokenizer.json is there already"));
    assert_eq!(contents(&place.path("shards")).len(), 2);
    fs::remove_file(place.path("shards/tokenizer.json")).unwrap();
    assert!(made(&place, &data).tokenizer.is_some());
    assert!(place.path("shards/.notes.tmp").exists());
    let bytes = Data {
        tokenizer: "byte".into(),
        ..data
    };
    assert!(made(&place, &bytes).tokenizer.is_none());
    assert!(!place.path("shards/tokenizer.json").exists());
    check_folder(&place.path("shards")).unwrap();
}

#[cfg(unix)]
#[test]
fn names_that_are_no_text_have_shards_of_their_own() {
    use std::os::unix::ffi::OsStrExt;
    let place = Place::new();
    fs::create_dir(place.path("text")).unwrap();
    for byte in [0xfe, 0xff] {
        let name = [byte, b'.', b't', b'x', b't'];
        let path = place.path("text").join(std::ffi::OsStr::from_bytes(&name));
        fs::write(path, lines(10, byte.into())).unwrap();
    }
    let data = place.data(&["text"]);
    assert_eq!(made(&place, &data).made, 2);
    assert_eq!(made(&place, &data).kept, 2);
    assert_eq!(check_folder(&place.path("shards")).unwrap().shards, 2);
}

#[test]
fn damage_is_found_when_a_shard_is_opened_or_checked() {
    let (place, data) = place();
    made(&place, &data);
    let data = Data {
        paths: vec!["shards".into()],
        ..data
    };
    let folder = place.path("shards");
    let name = contents(&folder)
        .into_keys()
        .find(|n| n.starts_with("b-jsonl"))
        .unwrap();
    let path = folder.join(&name);
    let good = fs::read(&path).unwrap();
    let open = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        refused(&place, &data)
    };
    for cut in [1, 8, 255, 256, 257, good.len() / 2, good.len() - 1] {
        let error = open(&good[..cut]);
        assert!(
            error.starts_with(&format!("cannot use shards/{name}: it ")),
            "{error}"
        );
        assert!(error.contains("cut off"), "{error}");
    }
    let longer = [&good[..], b"x"].concat();
    assert!(open(&longer).contains("its header says"), "longer");
    let changed = |at: usize| {
        let mut bytes = good.clone();
        bytes[at] ^= 0x10;
        bytes
    };
    for at in [0, 9, 20, 64, 100, 130, 170, 230] {
        open(&changed(at));
    }
    for at in [256, 300, good.len() / 2, good.len() - 1] {
        fs::write(&path, changed(at)).unwrap();
        let error = shown(check_folder(&folder).unwrap_err(), &place.path(""));
        assert!(
            error.contains(&format!("{name}: its contents do not have")),
            "{error}"
        );
    }
    // A token that is in no vocabulary is not learned, though the contents are not checked before.
    let mut bytes = good.clone();
    bytes[256 + 2 * 100..][..2].copy_from_slice(&[0xff, 0xff]);
    fs::write(&path, &bytes).unwrap();
    let stream = Stream::whole(data::open(&data).unwrap());
    let error = stream.read(0..stream.len(), &mut Vec::new()).unwrap_err();
    let error = shown(error, &place.path(""));
    assert!(
        error.contains(&format!("{name}: token 100 is 65535, and the tokenizer ")),
        "{error}"
    );
    // Any index at all does no more harm than that.
    for fill in [0x00, 0x01, 0x80, 0xff] {
        let mut bytes = good.clone();
        let index = bytes.len() - 16 * 100;
        bytes[index..].fill(fill);
        fs::write(&path, &bytes).unwrap();
        let masked = Data {
            documents: longnet_train::config::sections::Documents::Masked,
            ..data.clone()
        };
        let split = data::load(&masked).unwrap();
        let documents = split
            .train
            .documents(0..split.train.len())
            .unwrap()
            .unwrap();
        assert_eq!(documents.len() as u64, split.train.len());
        split.train.place(split.train.len() / 2);
    }
    fs::write(&path, &good).unwrap();
    let other = fs::read_dir(&folder).unwrap().map(|e| e.unwrap().path());
    let other = other
        .filter(|p| p.to_string_lossy().contains("a-txt"))
        .collect::<Vec<_>>();
    fs::copy(&other[0], &path).unwrap();
    let error = shown(check_folder(&folder).unwrap_err(), &place.path(""));
    assert!(
        error.contains("it is not the shard that shards.json lists"),
        "{error}"
    );
    fs::remove_file(&path).unwrap();
    assert!(refused(&place, &data).starts_with(&format!("cannot read shards/{name}: ")));
}

#[test]
fn shards_of_another_tokenizer_are_refused_with_the_right_one_named() {
    let (place, data) = place();
    made(&place, &data);
    let shards = Data {
        paths: vec!["shards".into()],
        ..data.clone()
    };
    let other = place.tokenizer("other.json", &lines(500, 2), 300);
    let error = refused(
        &place,
        &Data {
            tokenizer: other.to_string_lossy().into(),
            ..shards.clone()
        },
    );
    assert!(error.contains("it was made with the tokenizer tokenizer.json, and data.tokenizer is other.json, which is another one"), "{error}");
    assert!(
        error.contains("(data.tokenizer = \"shards/tokenizer.json\")"),
        "{error}"
    );
    let error = refused(
        &place,
        &Data {
            tokenizer: "byte".into(),
            ..shards.clone()
        },
    );
    assert!(error.contains("and data.tokenizer is byte"), "{error}");
    // The same tokenizer under another name is the same.
    let copy = Data {
        tokenizer: "shards/tokenizer.json".into(),
        ..shards.clone()
    };
    data::open(&copy).unwrap();
    let error = refused(
        &place,
        &Data {
            end_token: "t".into(),
            ..shards
        },
    );
    assert!(error.contains("its documents end with token "), "{error}");
    let mixed = Data {
        paths: vec!["shards".into()],
        tokenizer: "byte".into(),
        ..data
    };
    assert!(failed(&place, &mixed).starts_with("data.paths: shards is --out, too"));
}
