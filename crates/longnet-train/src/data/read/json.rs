//! Lines of JSON, a document each.

use super::{At, Each, Piece};
use crate::data::{DataError, files::Found};
use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;
use std::fmt;
use std::io::{BufRead, BufReader, Read};

/// The longest line: more is no document but a file that is not JSONL.
const LONGEST: u64 = 1 << 30;

pub(super) fn pieces(
    found: &Found,
    field: &str,
    input: &mut dyn Read,
    each: &mut Each<'_>,
) -> Result<u64, DataError> {
    let mut input = BufReader::with_capacity(1 << 20, input);
    let mut line = Vec::new();
    let (mut number, mut skipped) = (0, 0);
    loop {
        line.clear();
        number += 1;
        let record = |message: String| DataError::Record {
            path: found.path.clone(),
            at: At::Line(number),
            message,
        };
        let read = input
            .by_ref()
            .take(LONGEST + 1)
            .read_until(b'\n', &mut line);
        // Of packed files, what comes before the end or damage is whole: the line says where.
        let read = read.map_err(|e| record(format!("cannot be read: {e}")))?;
        if read == 0 {
            return Ok(skipped);
        }
        if line.len() as u64 > LONGEST {
            return Err(record(format!(
                "is longer than {LONGEST} bytes; a file named .jsonl holds one JSON object a line"
            )));
        }
        let mut json = line.as_slice();
        if number == 1 {
            json = json.strip_prefix(b"\xef\xbb\xbf").unwrap_or(json);
        }
        if json.trim_ascii().is_empty() {
            continue;
        }
        match text(json, field).map_err(record)? {
            Some(text) => each(Piece {
                text: text.as_bytes(),
                last: true,
                at: At::Line(number),
            })?,
            None => skipped += 1,
        }
    }
}

/// The string in `field` of the object `json`, `None` for null.
pub fn text(json: &[u8], field: &str) -> Result<Option<String>, String> {
    let mut reader = serde_json::Deserializer::from_slice(json);
    let found = Field(field)
        .deserialize(&mut reader)
        .and_then(|found| reader.end().map(|()| found));
    match found {
        Ok(Held::Text(text)) => Ok(Some(text)),
        Ok(Held::Null) => Ok(None),
        // Only a bad line is read as a whole, to say what is wrong with it.
        _ => Err(complaint(json, field)),
    }
}

fn complaint(json: &[u8], field: &str) -> String {
    let value = match serde_json::from_slice::<Value>(json) {
        Ok(value) => value,
        Err(error) => return format!("is not JSON: {error}"),
    };
    let Value::Object(fields) = value else {
        return format!(
            "expected a JSON object with a field '{field}', found {}",
            kind(&value)
        );
    };
    match fields.get(field) {
        Some(value) => format!(
            "the field '{field}' is {}, not a string; data.field names the field with the text",
            kind(value)
        ),
        None => {
            let mut names: Vec<&str> = fields.keys().map(String::as_str).collect();
            names.truncate(20);
            format!(
                "has no field '{field}' but {}; data.field names the field with the text",
                match names.is_empty() {
                    true => "no field at all".into(),
                    false => format!("'{}'", names.join("', '")),
                }
            )
        }
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// What stands in the field.
enum Held {
    Text(String),
    Null,
    Nothing,
}

/// Reads one field of an object and passes over the others. Of several of the same name the last
/// counts, as in other readers.
struct Field<'a>(&'a str);

impl<'de> DeserializeSeed<'de> for Field<'_> {
    type Value = Held;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Held, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Field<'_> {
    type Value = Held;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Held, A::Error> {
        let mut found = Held::Nothing;
        while let Some(key) = map.next_key::<String>()? {
            match key == self.0 {
                true => {
                    found = match map.next_value::<Value>()? {
                        Value::String(text) => Held::Text(text),
                        Value::Null => Held::Null,
                        _ => return Err(A::Error::custom("not a string")),
                    }
                }
                false => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::text;

    #[test]
    fn a_field_is_read_or_said_to_be_missing_or_of_another_kind() {
        let read = |json: &str| text(json.as_bytes(), "text");
        assert_eq!(
            read(r#"{"id": [1, {"text": 2}], "text": "a\u00e9\n"}"#),
            Ok(Some("aé\n".into()))
        );
        assert_eq!(read("{\"text\": \"a\"}\r\n"), Ok(Some("a".into())));
        assert_eq!(read(r#"{"text": "a", "text": "b"}"#), Ok(Some("b".into())));
        assert_eq!(read(r#"{"text": null}"#), Ok(None));
        for (json, expected) in [
            (
                "{",
                "is not JSON: EOF while parsing an object at line 1 column 1",
            ),
            (
                r#"{"text": "a"} x"#,
                "is not JSON: trailing characters at line 1 column 15",
            ),
            (
                "[1]",
                "expected a JSON object with a field 'text', found a list",
            ),
            (
                r#"{"text": 3}"#,
                "the field 'text' is a number, not a string; data.field names the field with the text",
            ),
            (
                r#"{"body": "x", "id": 1}"#,
                "has no field 'text' but 'body', 'id'; data.field names the field with the text",
            ),
            (
                "{}",
                "has no field 'text' but no field at all; data.field names the field with the text",
            ),
        ] {
            assert_eq!(read(json), Err(expected.into()), "{json}");
        }
        let broken = text(b"{\"text\": \"a\xff\"}", "text").unwrap_err();
        assert!(
            broken.starts_with("is not JSON: invalid unicode"),
            "{broken}"
        );
        let surrogate = read(r#"{"text": "\ud800"}"#).unwrap_err();
        assert!(surrogate.starts_with("is not JSON: "), "{surrogate}");
    }
}
