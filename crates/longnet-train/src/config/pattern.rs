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
                Ok(pattern) => return as_text(pattern),
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

/// The pattern of a table, if the text that runs and checkpoints keep of it can be read again.
fn as_text(pattern: BlockPattern) -> Result<BlockPattern, String> {
    match pattern.to_string().parse::<BlockPattern>() {
        Ok(_) => Ok(pattern),
        Err(error) => Err(format!("the table cannot be kept as text: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(table: &str) -> Result<BlockPattern, String> {
        let table: toml::Table = toml::from_str(table).unwrap();
        BlockPattern::read(&table["pattern"])
    }

    #[test]
    fn a_table_whose_text_would_be_too_long_is_refused_with_the_limit() {
        let pairs = |count: usize| {
            let pairs: Vec<_> = (0..count).map(|i| format!("[{i}, 0]")).collect();
            format!("pattern = {{ blocks = [{}] }}", pairs.join(", "))
        };
        let short = read(&pairs(1000)).unwrap();
        let text = short.write().unwrap();
        assert_eq!(BlockPattern::read(&text).unwrap(), short);
        let error = read(&pairs(10_000)).unwrap_err();
        assert!(error.contains("at most 65536"), "{error}");
    }

    #[test]
    fn a_target_of_minus_zero_survives_its_text() {
        let pattern = read("pattern = { density = { of = \"all\", target = -0.0 } }").unwrap();
        let text = pattern.write().unwrap();
        assert_eq!(BlockPattern::read(&text).unwrap(), pattern);
    }
}
