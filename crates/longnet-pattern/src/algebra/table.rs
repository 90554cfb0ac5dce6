//! A pattern as text or table in a file.

use super::BlockPattern;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;

impl Serialize for BlockPattern {
    /// As a table; the text is [`to_string`](ToString::to_string).
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // Of the derive, for the remote type.
        BlockPattern::serialize(self, serializer)
    }
}

impl<'de> Deserialize<'de> for BlockPattern {
    /// From a table or a text.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TextOrTable)
    }
}

struct TextOrTable;

impl<'de> Visitor<'de> for TextOrTable {
    type Value = BlockPattern;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a pattern: text such as \"window(1024) | global(128)\", or a table such as { window = 1024 }")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<BlockPattern, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<BlockPattern, A::Error> {
        BlockPattern::deserialize(MapAccessDeserializer::new(map))
    }
}
