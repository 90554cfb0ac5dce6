//! Values that change in the course of a run.

use super::value::Value;

/// A value that holds from a step on, counted from 1, until the next one does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stage {
    /// The first step.
    pub from: usize,
    /// The value.
    pub value: usize,
}

impl Value for Stage {
    fn expected() -> String {
        "a pair [from step, value], such as [1000, 4]".into()
    }

    fn read(value: &toml::Value) -> Result<Self, String> {
        let pair = value.as_array().map(Vec::as_slice);
        match pair {
            Some([from, value]) => Ok(Self {
                from: Value::read(from)?,
                value: Value::read(value)?,
            }),
            _ => Err(format!("expected {}, found {value}", Self::expected())),
        }
    }

    fn schema() -> serde_json::Value {
        serde_json::json!({
            "type": "array", "items": usize::schema(), "minItems": 2, "maxItems": 2
        })
    }

    fn write(&self) -> Option<toml::Value> {
        let pair = [self.from.write(), self.value.write()];
        Some(toml::Value::Array(pair.into_iter().flatten().collect()))
    }
}

/// The value at `step`: that of the last stage that has begun, `first` before all.
pub fn value_at(stages: &[Stage], first: usize, step: usize) -> usize {
    let begun = stages.iter().rev().find(|stage| stage.from <= step);
    begun.map_or(first, |stage| stage.value)
}

/// The largest value that a run meets.
pub fn largest(stages: &[Stage], first: usize) -> usize {
    let all = stages.iter().map(|stage| stage.value);
    // From step 1 on, the first value never holds.
    let first = (value_at(stages, first, 1) == first).then_some(first);
    all.chain(first).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_stage_that_has_begun_holds() {
        let stages = [(3, 7), (10, 9)].map(|(from, value)| Stage { from, value });
        let values = [1, 2, 3, 9, 10, 11].map(|step| value_at(&stages, 5, step));
        assert_eq!(values, [5, 5, 7, 7, 9, 9]);
        assert_eq!(value_at(&[], 5, 1), 5);
        assert_eq!(largest(&stages, 5), 9);
        assert_eq!(largest(&stages, 12), 12);
        let short = [Stage { from: 1, value: 2 }];
        assert_eq!(largest(&short, 12), 2);
        assert_eq!(largest(&[], 12), 12);
    }

    #[test]
    fn a_pair_survives_its_text() {
        let text = "[[1, 512], [1000, 4096]]";
        let value: toml::Table = toml::from_str(&format!("x = {text}")).unwrap();
        let stages = <Vec<Stage> as Value>::read(&value["x"]).unwrap();
        assert_eq!(
            stages[1],
            Stage {
                from: 1000,
                value: 4096
            }
        );
        assert_eq!(stages.write().unwrap().to_string(), text);
        for (wrong, found) in [
            ("[5]", "found 5"),
            ("[[5]]", "found [5]"),
            ("[[1, -2]]", "found -2"),
        ] {
            let value: toml::Table = toml::from_str(&format!("x = {wrong}")).unwrap();
            let error = <Vec<Stage> as Value>::read(&value["x"]).unwrap_err();
            assert!(error.contains(found), "{error}");
        }
    }
}
