//! What a run learns from: mixtures, documents, files that change meanwhile.

use super::{Place, lines, shown};
use longnet_train::config::sections::{Data, Documents};
use longnet_train::data::{
    self, Cursor, DataError, Fingerprint, Mixture, Random, Split, Tokens, Windows,
};
use longnet_train::loader::{Batch, Feed, IGNORED};
use std::fs;
use std::sync::Arc;

fn starts(batch: &Batch) -> Vec<(usize, u64)> {
    batch.windows.iter().map(|w| (w.source, w.start)).collect()
}

fn split(data: &Data) -> Split {
    data::load(data).unwrap()
}

/// Three sources of different lengths.
fn mixed(place: &Place) -> Data {
    for (name, count) in [("a", 400), ("b", 90), ("c", 30)] {
        place.write(&format!("{name}/1.txt"), lines(count, 1));
        place.write(&format!("{name}/2.txt"), lines(count / 2, 2));
    }
    Data {
        weights: vec![5.0, 3.0, 2.0],
        ..place.data(&["a", "b", "c"])
    }
}

#[test]
fn many_passes_learn_each_token() {
    let place = Place::new();
    place.write("a.txt", lines(60, 1));
    let split = split(&place.data(&["a.txt"]));
    let len = split.train.len() as usize;
    for context in [7, 20, 64, len / 2, len * 2 / 3, len - 1] {
        let windows =
            Windows::new(Arc::new(split.train.clone()), context, "training text").unwrap();
        let mut learned = vec![false; len];
        for epoch in 0..4000 {
            for start in windows.shuffled(7, epoch).starts() {
                learned[start as usize..][..context + 1].fill(true);
            }
        }
        let missing = learned.iter().filter(|learned| !**learned).count();
        assert_eq!(missing, 0, "of {len} tokens with a context of {context}");
    }
}

#[test]
fn batches_know_the_bytes_of_what_they_predict() {
    let place = Place::new();
    let file = place.tokenizer("tokenizer.json", &lines(500, 1), 300);
    place.write("a/1.txt", lines(200, 1));
    place.write("b/1.txt", "qzx".repeat(1000));
    for documents in [Documents::Continuous, Documents::Masked] {
        let data = Data {
            tokenizer: file.to_string_lossy().into(),
            weights: vec![1.0, 1.0],
            documents,
            ..place.data(&["a", "b"])
        };
        let split = split(&data);
        let mut feed = Feed::new(&split, 1, Cursor::default());
        let batch = feed.next(2, 32).unwrap();
        let one = |source: usize| {
            let of = |w: &&longnet_train::data::Window| w.source == source;
            let windows = batch.windows.iter().filter(of).cloned().collect();
            Batch { windows }.bytes_per_token()
        };
        // Words of the one are tokens, the other has letters only.
        assert!(one(0) > 2.0, "{}", one(0));
        assert!((0.9..1.1).contains(&one(1)), "{}", one(1));
        let mean = (one(0) + one(1)) / 2.0;
        assert!((batch.bytes_per_token() - mean).abs() < 1e-9);
    }
}

#[test]
fn the_order_of_one_text_follows_from_the_seed() {
    let place = Place::new();
    place.write("a.txt", lines(900, 1));
    let split = split(&place.data(&["a.txt"]));
    let windows = Windows::new(Arc::new(split.train.clone()), 64, "training text").unwrap();
    let pass = |epoch: u64| {
        let mut random = Random::new(Random::new(7).next() ^ epoch);
        let slack = split.train.len() - 1 - windows.per_epoch() * 64;
        let phase = random.below(slack + 1);
        let mut starts: Vec<u64> = (0..windows.per_epoch()).map(|w| phase + w * 64).collect();
        random.shuffle(&mut starts);
        starts
    };
    let expected: Vec<u64> = [pass(0), pass(1), pass(2)].concat();
    let mut feed = Feed::new(&split, 7, Cursor::default());
    for start in expected {
        assert_eq!(starts(&feed.next(1, 64).unwrap()), [(0, start)]);
    }
    assert_eq!(feed.cursor().epoch, 2);
    assert_eq!(feed.cursor().taken, windows.per_epoch());
}

#[test]
fn a_mixture_has_its_shares_at_any_time_and_goes_on_from_any_cursor() {
    let place = Place::new();
    let split = split(&mixed(&place));
    let feed = |from| Feed::new(&split, 3, from);
    let mut whole = feed(Cursor::default());
    let mut batches = Vec::new();
    let mut counts = [0.0; 3];
    for step in 0..400 {
        // The context grows and the batch with it.
        let (batch, context) = if step < 150 { (3, 32) } else { (2, 48) };
        let before = whole.cursor();
        let got = whole.next(batch, context).unwrap();
        if step == 150 {
            counts = [0.0; 3];
        }
        for window in &got.windows {
            counts[window.source] += 1.0;
        }
        let sum: f64 = counts.iter().sum();
        for (count, share) in counts.iter().zip([0.5, 0.3, 0.2]) {
            assert!((count - sum * share).abs() < 3.0, "{counts:?}");
        }
        batches.push((before, batch, context, starts(&got)));
    }
    for at in [0, 1, 77, 149, 150, 151, 399] {
        let mut later = feed(batches[at].0);
        for (before, batch, context, expected) in &batches[at..] {
            assert_eq!(later.cursor(), *before);
            assert_eq!(starts(&later.next(*batch, *context).unwrap()), *expected);
        }
    }
    // Each pass over a source takes each window once, and passes differ.
    let of_b: Vec<u64> = batches[..150]
        .iter()
        .flat_map(|b| b.3.iter().filter(|w| w.0 == 1).map(|w| w.1))
        .collect();
    let windows = Windows::new(Arc::new(split.sources[1].0.clone()), 32, "training text").unwrap();
    let per_pass = windows.per_epoch() as usize;
    assert!(of_b.len() > 2 * per_pass, "{} of {per_pass}", of_b.len());
    let mut first = of_b[..per_pass].to_vec();
    assert_ne!(first, of_b[per_pass..2 * per_pass]);
    first.sort_unstable();
    first.dedup();
    assert_eq!(first.len(), per_pass);
    let other = Feed::new(&split, 4, Cursor::default()).next(3, 32).unwrap();
    assert_ne!(starts(&other), batches[0].3);
    let place = whole.places(&whole_batch(&split));
    assert!(place[0].starts_with("a/"), "{place:?}");
}

fn whole_batch(split: &Split) -> Batch {
    Feed::new(split, 3, Cursor::default()).next(1, 32).unwrap()
}

#[test]
fn sources_are_held_out_each_for_itself_and_share_no_file() {
    let place = Place::new();
    let data = mixed(&place);
    let split = split(&data);
    let total = |source: usize| split.sources[source].0.len();
    assert_eq!(total(0) + total(1) + total(2), split.train.len());
    for (name, (stream, weight)) in ["a", "b", "c"].iter().zip(&split.sources) {
        assert!(*weight >= 2.0);
        let bytes: u64 = ["1", "2"]
            .map(|file| {
                place
                    .path(&format!("{name}/{file}.txt"))
                    .metadata()
                    .unwrap()
                    .len()
            })
            .iter()
            .sum();
        let learned = stream.len() as f64 / bytes as f64;
        assert!((0.90..0.955).contains(&learned), "{name}: {learned}");
    }
    let twice = Data {
        paths: vec!["a".into(), "b".into(), "a/1.txt".into()],
        ..data
    };
    let error = data::open(&twice).unwrap_err().to_string();
    assert_eq!(
        error,
        "data.paths: a/1.txt is in 'a' and in 'a/1.txt', which data.weights mixes; each file must be in one of them"
    );
    let shares = Mixture::from(&split);
    assert_eq!((shares.share(0), shares.len()), (0.5, 3));
}

#[test]
fn a_mixture_of_other_groups_is_another_text() {
    let place = Place::new();
    for name in ["a/1.txt", "b/1.txt", "b/2.txt"] {
        place.write(name, lines(90, 1));
    }
    let hash = |paths: &[&str]| {
        let data = Data {
            weights: vec![1.0; paths.len()],
            ..place.data(paths)
        };
        Fingerprint::of(&data::open(&data).unwrap()).hash
    };
    assert_ne!(hash(&["a", "b"]), hash(&["[ab]/1.txt", "b/2.txt"]));
    assert_eq!(hash(&["a", "b"]), hash(&["a/1.txt", "b"]));
}

#[test]
fn documents_that_are_kept_apart_predict_nothing_of_each_other() {
    let place = Place::new();
    let texts = ["abc", "d", "efgh", "", "ij"];
    let json = |text: &&str| serde_json::json!({ "text": text }).to_string() + "\n";
    place.write(
        "a.jsonl",
        texts.iter().map(json).collect::<String>().repeat(40),
    );
    let data = Data {
        documents: Documents::Masked,
        valid_block: 10,
        ..place.data(&["a.jsonl"])
    };
    let check = |data: &Data, predicted: f64| {
        let split = split(data);
        let windows = Windows::new(Arc::new(split.train.clone()), 25, "training text").unwrap();
        let (mut targets, mut all) = (0, 0);
        for start in windows.starts() {
            let batch = Batch {
                windows: vec![windows.at(start).unwrap()],
            };
            assert_eq!(batch.ignored(), Some(IGNORED.into()));
            let window = &batch.windows[0];
            let documents = window.documents.as_ref().unwrap();
            assert_eq!((documents.len(), documents[0]), (window.tokens.len(), 0));
            let (_, tensor) = batch.tensors(&Default::default());
            let tensor: Vec<i64> = tensor.into_data().iter().collect();
            for i in 0..tensor.len() {
                let same = documents[i] == documents[i + 1];
                assert_eq!(
                    tensor[i],
                    i64::from(if same { window.tokens[i + 1] } else { IGNORED })
                );
                // The texts are rows of the alphabet, and each begins where another ended.
                let follows = window.tokens[i + 1] == window.tokens[i] + 1;
                let starts = b"adei".contains(&(window.tokens[i + 1] as u8));
                assert_eq!(
                    same,
                    (follows && !starts) || window.tokens[i + 1] == 0,
                    "at {i}"
                );
            }
            targets += batch.targets();
            all += tensor.len();
        }
        let share = targets as f64 / all as f64;
        assert!((share - predicted).abs() < 0.03, "{share} for {predicted}");
    };
    // Of 10 tokens in 4 documents, all but the first of each.
    check(&data, 0.6);
    // The end of a document is predicted from it.
    let ended = Data {
        end_token: "\u{0}".into(),
        ..data.clone()
    };
    check(&ended, 10.0 / 14.0);
    let continuous = Data {
        documents: Documents::Continuous,
        ..data
    };
    let batch = whole_batch(&split(&continuous));
    assert_eq!((batch.ignored(), batch.targets()), (None, 32));
}

#[test]
fn a_file_that_is_cut_off_is_an_error_and_one_that_is_deleted_is_not() {
    let place = Place::new();
    let text = lines(60_000, 1);
    let path = place.write("a.txt", &text);
    let split = split(&place.data(&["a.txt"]));
    let mut feed = Feed::new(&split, 1, Cursor::default());
    feed.next(2, 64).unwrap();
    let file = fs::File::options().write(true).open(&path).unwrap();
    fs::remove_file(&path).unwrap();
    feed.next(2, 64).unwrap();
    file.set_len(5).unwrap();
    let error = feed.next(2, 64).unwrap_err();
    assert!(matches!(error, DataError::Shrunk { now: 5, .. }), "{error}");
    let error = shown(error, &place.path(""));
    let expected = format!(
        "a.txt has 5 bytes now, and had {} when it was opened",
        text.len()
    );
    assert!(error.starts_with(&expected), "{error}");
    assert!(split.valid.entropy().is_err());
    let windows = Windows::new(Arc::new(split.valid), 64, "validation text").unwrap();
    let loader = longnet_train::loader::Loader::in_order(windows, 1, 0);
    use burn::data::dataloader::DataLoader;
    assert!(loader.iter().next().unwrap().is_err());
}
