//! Documents out of files.

use super::{Place, gzip, lines, shown, zstd};
use longnet_train::data::files::Found;
use longnet_train::data::read::{At, pieces};
use longnet_train::data::{DataError, files};
use parquet::basic::{Compression, Encoding};
use parquet::data_type::{ByteArray, ByteArrayType, Int64Type};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The documents of the file `name`, and how many records had none.
fn documents(place: &Place, name: &str, field: &str) -> Result<(Vec<String>, u64), String> {
    let found = Found {
        name: name.into(),
        path: place.path(name),
    };
    let (mut documents, mut open) = (Vec::new(), Vec::new());
    let read = AtomicU64::new(0);
    let skipped = pieces(&found, field, &read, &mut |piece| {
        open.extend_from_slice(piece.text);
        if piece.last {
            let whole = std::mem::take(&mut open);
            documents.push(String::from_utf8(whole).unwrap());
        }
        Ok(())
    });
    let skipped = skipped.map_err(|e: DataError| shown(e, &place.path("")))?;
    assert!(open.is_empty());
    let size = place.path(name).metadata().unwrap().len();
    assert_eq!(read.into_inner(), size, "bytes counted of {name}");
    Ok((documents, skipped))
}

/// A table of ids and texts, `None` for null.
fn table(place: &Place, name: &str, texts: &[Option<&str>], dictionary: bool) {
    let schema = "message table { required int64 id; optional binary body (UTF8); \
                  repeated binary tags (UTF8); optional group meta { optional binary title (UTF8); } }";
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let properties = WriterProperties::builder()
        .set_dictionary_enabled(dictionary)
        .set_encoding(Encoding::PLAIN)
        .set_compression(Compression::ZSTD(Default::default()))
        .build();
    let file = std::fs::File::create(place.path(name)).unwrap();
    let mut writer = SerializedFileWriter::new(file, schema, Arc::new(properties)).unwrap();
    for group in texts.chunks(700) {
        let mut columns = writer.next_row_group().unwrap();
        let levels: Vec<i16> = group.iter().map(|t| i16::from(t.is_some())).collect();
        let values: Vec<ByteArray> = group.iter().flatten().map(|t| (*t).into()).collect();
        let zeros = vec![0; group.len()];
        let ids: Vec<i64> = (0..group.len() as i64).collect();
        let mut column = columns.next_column().unwrap().unwrap();
        column
            .typed::<Int64Type>()
            .write_batch(&ids, None, None)
            .unwrap();
        column.close().unwrap();
        let mut column = columns.next_column().unwrap().unwrap();
        let typed = column.typed::<ByteArrayType>();
        typed.write_batch(&values, Some(&levels), None).unwrap();
        column.close().unwrap();
        for _ in 0..2 {
            let mut column = columns.next_column().unwrap().unwrap();
            let typed = column.typed::<ByteArrayType>();
            typed.write_batch(&[], Some(&zeros), Some(&zeros)).unwrap();
            column.close().unwrap();
        }
        columns.close().unwrap();
    }
    writer.close().unwrap();
}

#[test]
fn the_same_documents_come_out_of_every_format() {
    let place = Place::new();
    let texts: Vec<String> = (0..2000)
        .map(|i| format!("text {} of ü\n{i}", i % 7))
        .collect();
    let json = |i: usize| serde_json::json!({"id": i, "body": texts[i]}).to_string();
    let jsonl: String = (0..texts.len()).map(|i| json(i) + "\r\n").collect();
    place.write("a.jsonl", format!("\u{feff}{jsonl}\n\n"));
    place.write("a.ndjson.gz", gzip(jsonl.trim_end()));
    // Two frames, one after the other.
    let (one, two) = jsonl.split_at(jsonl.len() / 2);
    place.write("a.jsonl.zst", [zstd(one), zstd(two)].concat());
    let some: Vec<Option<&str>> = texts.iter().map(|t| Some(t.as_str())).collect();
    table(&place, "plain.parquet", &some, false);
    table(&place, "dictionary.parquet", &some, true);
    for name in [
        "a.jsonl",
        "a.ndjson.gz",
        "a.jsonl.zst",
        "plain.parquet",
        "dictionary.parquet",
    ] {
        let (found, skipped) = documents(&place, name, "body").unwrap();
        assert!(found == texts, "{name}: {} documents", found.len());
        assert_eq!(skipped, 0);
    }
    for name in ["a.txt", "a.md"] {
        place.write(name, &jsonl);
        assert_eq!(documents(&place, name, "body").unwrap().0, [jsonl.as_str()]);
    }
    place.write("b.txt.gz", gzip(&jsonl));
    assert_eq!(
        documents(&place, "b.txt.gz", "x").unwrap().0,
        [jsonl.as_str()]
    );
}

#[test]
fn a_long_text_comes_in_pieces_that_are_the_text() {
    let place = Place::new();
    let text = lines(600_000, 3);
    assert!(text.len() > 9 << 20);
    place.write("long.txt", &text);
    let found = Found {
        name: "long.txt".into(),
        path: place.path("long.txt"),
    };
    let (mut all, mut places) = (Vec::new(), Vec::new());
    pieces(&found, "", &AtomicU64::new(0), &mut |piece| {
        assert_eq!(piece.at, At::Byte(all.len() as u64));
        all.extend_from_slice(piece.text);
        places.push(piece.last);
        Ok(())
    })
    .unwrap();
    assert_eq!(all, text.as_bytes());
    assert!(places.len() > 2);
    assert_eq!(places.iter().filter(|last| **last).count(), 1);
    assert!(places[places.len() - 1]);
}

#[test]
fn nulls_are_passed_over_and_counted_and_small_files_are_read() {
    let place = Place::new();
    let texts: Vec<Option<&str>> = (0..1000).map(|i| (i % 3 > 0).then_some("x")).collect();
    table(&place, "a.parquet", &texts, true);
    let (found, skipped) = documents(&place, "a.parquet", "body").unwrap();
    assert_eq!((found.len(), skipped), (666, 334));
    assert_eq!(
        documents(&place, "a.parquet", "meta.title").unwrap(),
        (vec![], 1000)
    );
    place.write(
        "a.jsonl",
        "{\"text\": null}\n{\"text\": \"\"}\n{\"text\": \"b\"}",
    );
    let expected = (vec!["".to_string(), "b".into()], 1);
    assert_eq!(documents(&place, "a.jsonl", "text").unwrap(), expected);
    place.write("empty.jsonl", "");
    assert_eq!(
        documents(&place, "empty.jsonl", "text").unwrap(),
        (vec![], 0)
    );
    place.write("one.txt", "x");
    assert_eq!(documents(&place, "one.txt", "").unwrap().0, ["x"]);
}

#[test]
fn what_cannot_be_read_names_file_place_and_remedy() {
    let place = Place::new();
    table(&place, "a.parquet", &[Some("x")], true);
    let error = |name: &str, field: &str| documents(&place, name, field).unwrap_err();
    assert_eq!(
        error("a.parquet", "text"),
        "a.parquet has no column 'text'; its columns of strings are 'body', 'meta.title'; data.field names the column with the text"
    );
    assert_eq!(
        error("a.parquet", "id"),
        "a.parquet the column 'id' is of type INT64, not strings; its columns of strings are 'body', 'meta.title'; data.field names the column with the text"
    );
    assert!(error("a.parquet", "tags").contains("holds lists"));
    place.write("no.parquet", "PAR1 this is none PAR1");
    let message = error("no.parquet", "body");
    assert!(
        message.starts_with("cannot read no.parquet: Parquet: "),
        "{message}"
    );
    let whole = std::fs::read(place.path("a.parquet")).unwrap();
    for cut in [0, 3, 20, whole.len() / 2, whole.len() - 1] {
        place.write("cut.parquet", &whole[..cut]);
        let message = error("cut.parquet", "body");
        assert!(
            message.starts_with("cannot read cut.parquet: "),
            "{message}"
        );
    }

    place.write("a.jsonl", "{\"text\": \"a\"}\n\n{\"txt\": 1}\n");
    assert_eq!(
        error("a.jsonl", "text"),
        "a.jsonl: line 3 has no field 'text' but 'txt'; data.field names the field with the text"
    );
    // Text that is cut off in the middle of its packing.
    let lines: String = (0..20_000)
        .map(|i| format!("{{\"text\": \"{}\"}}\n", i * i))
        .collect();
    for (name, packed) in [("a.jsonl.gz", gzip(&lines)), ("a.jsonl.zst", zstd(&lines))] {
        assert!(packed.len() > 10_000);
        for cut in [10, packed.len() / 2, packed.len() - 3] {
            place.write(name, &packed[..cut]);
            let message = error(name, "text");
            assert!(message.starts_with(&format!("{name}: line ")), "{message}");
            assert!(message.contains("cannot be read: "), "{message}");
        }
        place.write(name, "{\"text\": \"not packed at all\"}\n");
        assert!(error(name, "text").contains("cannot be read: "));
    }
    place.write("b.txt.zst", &zstd(&lines)[..5000]);
    let message = error("b.txt.zst", "");
    assert!(message.starts_with("cannot read b.txt.zst: "), "{message}");
}

#[test]
fn text_that_was_packed_with_a_long_window_is_read() {
    use std::io::Write;
    let place = Place::new();
    let mut packer = ::zstd::Encoder::new(Vec::new(), 1).unwrap();
    packer.window_log(28).unwrap();
    packer.write_all(b"abc").unwrap();
    packer.flush().unwrap();
    place.write("a.txt.zst", packer.finish().unwrap());
    let found = documents(&place, "a.txt.zst", "text").unwrap();
    assert_eq!(found, (vec!["abc".to_string()], 0));
}

#[test]
fn the_first_error_of_the_taker_ends_the_reading() {
    let place = Place::new();
    place.write("a.jsonl", "{\"text\": \"a\"}\n".repeat(100));
    let found = &files::find(&place.data(&["a.jsonl"])).unwrap()[0];
    let taken = AtomicU64::new(0);
    let result = pieces(found, "text", &AtomicU64::new(0), &mut |_| match taken
        .fetch_add(1, Ordering::Relaxed)
    {
        9 => Err(DataError::OneSource),
        _ => Ok(()),
    });
    assert!(matches!(result, Err(DataError::OneSource)));
    assert_eq!(taken.into_inner(), 10);
}

#[test]
fn packed_text_and_tables_are_found_in_folders_by_their_endings() {
    let place = Place::new();
    for name in [
        "d/a.jsonl.gz",
        "d/b.tar.gz",
        "d/c.parquet",
        "d/e.jsonl",
        "d/f.txt.zst",
    ] {
        place.write(name, b"\x00\x01binary");
    }
    let names = |extensions: &[&str]| -> Vec<String> {
        let mut data = place.data(&["d"]);
        data.extensions = extensions.iter().map(|e| e.to_string()).collect();
        let found = files::find(&data).unwrap();
        found.into_iter().map(|f| f.name).collect()
    };
    assert_eq!(names(&[]), ["d/a.jsonl.gz", "d/c.parquet", "d/f.txt.zst"]);
    assert_eq!(names(&["jsonl"]), ["d/a.jsonl.gz"]);
    assert_eq!(
        names(&[".jsonl.gz", "parquet"]),
        ["d/a.jsonl.gz", "d/c.parquet"]
    );
}
