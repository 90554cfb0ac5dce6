//! Patterns of blocks in a config: as text, or as a table.

use super::value::Value;
use burn_longnet::pattern::BlockPattern;

impl Value for BlockPattern {
    fn expected() -> String {
        "a pattern of blocks, such as \"window(1024) | global(128)\", or its table".into()
    }

    fn read(value: &toml::Value) -> Result<Self, String> {
        let reason = match value {
            toml::Value::String(text) => match text.parse() {
                Ok(pattern) => return Ok(pattern),
                Err(error) => error.to_string(),
            },
            other => match other.clone().try_into() {
                Ok(pattern) => return Ok(pattern),
                Err(error) => format!(
                    "{}; expected {}",
                    error.to_string().trim_end().replace('\n', " "),
                    Self::expected()
                ),
            },
        };
        Err(reason)
    }

    fn schema() -> serde_json::Value {
        // A list is one of heads.
        serde_json::json!({"anyOf": [
            {"type": "string"}, {"type": "object"}, {"type": "array"}
        ]})
    }

    /// As text, which says all that the table does.
    fn write(&self) -> Option<toml::Value> {
        Some(toml::Value::String(self.to_string()))
    }
}
