//! Tokenizers from files, and those that are learned.

use super::{Place, lines, shown};
use longnet_train::data::tokenizer::{END_OF_TEXT, FileTokenizer, open, open_in, train};
use longnet_train::data::{
    ByteTokenizer, Decoder, Stream, TOKENIZER, Tokenizer, Tokens, Watch, files,
};
use std::fs;

const TEXT: &str = "naïve café, 東京 and 🦀🦀: a\tb\r\n  c\u{200d}d <|endoftext|> \u{0} é\n\n\n";

fn learned(vocab: usize) -> FileTokenizer {
    let place = Place::new();
    place.write("a.txt", lines(3000, 1));
    place.write("b.jsonl", "{\"text\": \"twice twice twice\"}\n".repeat(50));
    let found = files::find(&place.data(&["a.txt", "b.jsonl"])).unwrap();
    let trained = train(&found, "text", vocab, &Watch::default()).unwrap();
    assert_eq!(trained.documents, 51);
    assert_eq!(trained.bytes, lines(3000, 1).len() as u64 + 50 * 17);
    trained.tokenizer
}

/// What a decoder gives out for each token, and at the end.
fn streamed(tokenizer: &dyn Tokenizer, tokens: &[i32]) -> Vec<Vec<u8>> {
    let mut decoder = Decoder::new(tokenizer);
    let mut parts: Vec<Vec<u8>> = tokens.iter().map(|&t| decoder.push(t)).collect();
    parts.push(decoder.finish());
    parts
}

#[test]
fn a_learned_tokenizer_is_the_same_every_time_and_gives_back_any_text() {
    let tokenizer = learned(400);
    assert_eq!(tokenizer.file(), learned(400).file());
    assert_eq!(tokenizer.vocab(), 400);
    let text = lines(200, 2);
    let tokens = tokenizer.try_encode(text.as_bytes()).unwrap();
    assert!(tokens.len() * 4 < text.len() * 3, "{} tokens", tokens.len());
    let every: String = ('\0'..'\u{3000}').collect();
    for text in [TEXT, &text, &every, "", "x"] {
        let tokens = tokenizer.try_encode(text.as_bytes()).unwrap();
        assert!(tokens.iter().all(|&t| (0..400).contains(&t)));
        assert_eq!(tokenizer.decode(&tokens), text.as_bytes());
        assert_eq!(streamed(&tokenizer, &tokens).concat(), text.as_bytes());
    }
    // Any bytes can be said, though not read.
    let bytes: Vec<i32> = (0..400).collect();
    let said = tokenizer.decode(&bytes);
    assert!((0..=255).all(|byte| said.contains(&byte)));
    // What ends documents is never text, in or out.
    let end = tokenizer.end().unwrap();
    let tokens = tokenizer.try_encode(END_OF_TEXT.as_bytes()).unwrap();
    assert!(!tokens.contains(&end));
    assert_eq!(tokenizer.decode(&[tokens[0], end, tokens[1]]), b"<|");
}

#[test]
fn a_decoder_breaks_no_character() {
    for tokenizer in [&learned(300) as &dyn Tokenizer, &ByteTokenizer] {
        let tokens = tokenizer.try_encode(TEXT.as_bytes()).unwrap();
        let parts = streamed(tokenizer, &tokens);
        assert!(
            parts.iter().any(|part| part.is_empty()),
            "no character in parts"
        );
        for part in &parts {
            std::str::from_utf8(part).unwrap();
        }
        let cut = tokens.len() - 3;
        assert_eq!(
            streamed(tokenizer, &tokens[..cut]).concat(),
            tokenizer.decode(&tokens[..cut])
        );
    }
    // Bytes that never become a character come out with the first that follows.
    let parts = streamed(&ByteTokenizer, &[0xe6, 0x9d, 0x41, 0xff, 0x42]);
    assert_eq!(parts, [&b""[..], b"", b"\xe6\x9dA", b"\xff", b"B", b""]);
}

/// A tokenizer whose tokens depend on each other: words joined by spaces, bytes joined to characters.
const WORDS: &str = r#"{
    "version": "1.0", "normalizer": null, "post_processor": null,
    "truncation": {"direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0},
    "padding": {"strategy": {"Fixed": 9}, "direction": "Right", "pad_to_multiple_of": null, "pad_id": 0, "pad_type_id": 0, "pad_token": "</s>"},
    "added_tokens": [{"id": 0, "content": "</s>", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true}],
    "pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": true},
    "decoder": {"type": "Sequence", "decoders": [
        {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
        {"type": "ByteFallback"}, {"type": "Fuse"},
        {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
    "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
        "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": true, "ignore_merges": false,
        "vocab": {"</s>": 0, "▁": 1, "a": 2, "b": 3, "▁a": 4, "<0xE2>": 5, "<0x82>": 6, "<0xAC>": 7, "<0xC3>": 8, "<0xA9>": 9},
        "merges": [["▁", "a"]]}
}"#;

#[test]
fn tokens_that_depend_on_each_other_are_decoded_as_a_whole() {
    let place = Place::new();
    place.write("words.json", WORDS);
    let data = |end: &str| longnet_train::config::sections::Data {
        tokenizer: "words.json".into(),
        end_token: end.into(),
        ..place.data(&[])
    };
    let tokenizer = open(&data("")).unwrap();
    assert_eq!((tokenizer.vocab(), tokenizer.end()), (10, Some(0)));
    // Neither cut off at 3 tokens nor filled up to 9, as its file says for single inputs.
    let text = "a b€ é aa ab €€ a";
    let tokens = tokenizer.try_encode(text.as_bytes()).unwrap();
    assert_eq!(tokens.len(), 21, "{tokens:?}");
    let long = tokenizer.try_encode(text.repeat(40).as_bytes()).unwrap();
    for tokens in [&tokens, &long] {
        assert_eq!(
            streamed(&*tokenizer, tokens).concat(),
            tokenizer.decode(tokens)
        );
    }
    assert_eq!(tokenizer.decode(&tokens), text.as_bytes());
    // Parts of a character that never comes are given out in the end.
    let broken = [4, 5, 6, 4, 5];
    assert_eq!(
        streamed(&*tokenizer, &broken).concat(),
        tokenizer.decode(&broken)
    );

    let error = open(&data("<eos>")).err().unwrap();
    assert_eq!(
        shown(error, &place.path("")),
        "data.end_token: '<eos>' is no token of the tokenizer words.json; '</s>' is one"
    );
    let bytes = longnet_train::config::sections::Data {
        end_token: "\u{0}".into(),
        ..place.data(&[])
    };
    assert_eq!(open(&bytes).unwrap().end(), Some(0));
}

#[test]
fn added_tokens_are_text_as_it_is() {
    let learned = learned(300);
    let mut file: serde_json::Value = serde_json::from_slice(learned.file().unwrap()).unwrap();
    let id = learned.vocab();
    file["added_tokens"]
        .as_array_mut()
        .unwrap()
        .push(serde_json::json!({
            "id": id, "content": "Füße", "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": false
        }));
    let tokenizer = FileTokenizer::parse("a", file.to_string().into(), None).unwrap();
    let text = "a Füße b".as_bytes();
    let tokens = tokenizer.encode(text);
    assert!(tokens.contains(&(id as i32)), "{tokens:?}");
    assert_eq!(tokenizer.decode(&tokens), text);
    assert_eq!(tokenizer.fixed(id as i32).unwrap(), "Füße".as_bytes());
}

#[test]
fn a_copy_in_the_folder_of_a_checkpoint_is_taken_first() {
    let place = Place::new();
    place.write("words.json", WORDS);
    place.write(
        &format!("checkpoint/{TOKENIZER}"),
        learned(300).file().unwrap(),
    );
    let data = longnet_train::config::sections::Data {
        tokenizer: "words.json".into(),
        ..place.data(&[])
    };
    assert_eq!(
        open_in(&place.path("checkpoint"), &data).unwrap().vocab(),
        300
    );
    assert_eq!(
        open_in(&place.path("elsewhere"), &data).unwrap().vocab(),
        10
    );
    fs::remove_file(place.path("words.json")).unwrap();
    assert_eq!(
        open_in(&place.path("checkpoint"), &data).unwrap().vocab(),
        300
    );
    let error = shown(open(&data).err().unwrap(), &place.path(""));
    assert!(
        error.starts_with("data.tokenizer: cannot read words.json: "),
        "{error}"
    );
    let bytes = place.data(&[]);
    assert_eq!(
        open_in(&place.path("checkpoint"), &bytes).unwrap().vocab(),
        256
    );
}

#[test]
fn what_is_no_tokenizer_is_refused() {
    let parse = |content: &str| FileTokenizer::parse("x.json", content.into(), None).err();
    // Of the last one the tokenizers crate only panics.
    let broken = r#"{"version":"1.0","decoder":{"type":"Fuse","x" 1}}"#;
    for content in [
        "",
        "{}",
        "[1]",
        "{\"model\": {}}",
        "\u{0}",
        &WORDS[..300],
        broken,
    ] {
        let error = parse(content).unwrap().to_string();
        assert!(error.starts_with("x.json is no tokenizer.json"), "{error}");
    }
    let far = WORDS.replace("\"<0xA9>\": 9", "\"<0xA9>\": 4294967295");
    let error = parse(&far).unwrap().to_string();
    assert!(
        error.starts_with("x.json: token id 4294967295 is too large"),
        "{error}"
    );
}

#[test]
fn text_that_is_not_utf8_names_its_file_and_byte() {
    let place = Place::new();
    let file = place.tokenizer("tokenizer.json", &lines(500, 1), 300);
    let mut text = lines(50_000, 1).into_bytes();
    text[612_345] = 0xff;
    place.write("a.txt", &text);
    let mut data = place.data(&["a.txt"]);
    let whole = longnet_train::data::open(&data).unwrap();
    assert_eq!(Stream::whole(whole).len(), text.len() as u64);
    data.tokenizer = file.to_string_lossy().into();
    let error = longnet_train::data::open(&data).unwrap_err();
    assert_eq!(
        shown(error, &place.path("")),
        "a.txt: byte 612345 (0xff) is not UTF-8, and the tokenizer tokenizer.json takes nothing else; convert the text, or use data.tokenizer = \"byte\""
    );
    let found = files::find(&data).unwrap();
    let error = train(&found, "text", 300, &Watch::default()).err().unwrap();
    let error = shown(error, &place.path(""));
    assert!(
        error.starts_with("a.txt: byte 612345 (0xff) is not UTF-8"),
        "{error}"
    );
}

#[test]
fn vocabularies_and_texts_that_are_too_small_are_errors() {
    let place = Place::new();
    place.write("a.jsonl", "{\"text\": null}\n");
    let found = files::find(&place.data(&["a.jsonl"])).unwrap();
    let error = |vocab| {
        train(&found, "text", vocab, &Watch::default())
            .err()
            .unwrap()
    };
    assert_eq!(
        error(300).to_string(),
        "cannot learn a tokenizer: the text is empty"
    );
    assert!(error(256).to_string().starts_with("--vocab 256: "));
    assert!(
        error(1 << 30)
            .to_string()
            .starts_with("--vocab 1073741824: ")
    );
}
