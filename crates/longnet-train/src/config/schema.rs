//! The config as JSON Schema, by which editors complete and check it.

use super::Config;
use super::check::{LEAST, LIMITS};
use serde_json::{Map, Value, json};

impl Config {
    /// A schema (draft 2020-12) of config files, made of the sections' own names, documentation, types,
    /// defaults and limits. It knows values one by one; 'longnet config check' also knows which of them
    /// go together.
    pub fn schema() -> Value {
        let mut properties = Map::new();
        for section in Self::default().sections() {
            let mut fields = Map::new();
            for field in section.fields() {
                let key = format!("{}.{}", section.key(), field.name);
                let mut schema = (field.schema)();
                let limit = LIMITS.iter().find(|(limited, _)| *limited == key);
                if let (Some((_, most)), Some(schema)) = (limit, schema.as_object_mut()) {
                    schema.insert("maximum".into(), (*most).into());
                }
                let least = LEAST.iter().find(|(limited, _)| *limited == key);
                if let (Some((_, least)), Some(schema)) = (least, schema.as_object_mut()) {
                    schema.insert("minimum".into(), (*least).into());
                }
                let described = schema.as_object_mut().expect("schemas are objects");
                described.insert("description".into(), field.doc.trim().into());
                if let Some(default) = section.get(field.name) {
                    let default = serde_json::to_value(default).expect("fields are plain data");
                    described.insert("default".into(), default);
                }
                fields.insert(field.name.into(), schema);
            }
            let body = json!({
                "type": "object",
                "description": section.doc().trim(),
                "additionalProperties": false,
                "properties": fields,
            });
            properties.insert(section.key().into(), body);
        }
        json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "title": "longnet config",
            "description": "What longnet train, plan and config read. configs/quickstart.toml explains every field.",
            "type": "object",
            "additionalProperties": false,
            "properties": properties,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `value` breaks of `schema`, as far as config schemas go.
    fn faults(schema: &Value, value: &Value, at: &str) -> Vec<String> {
        let mut faults = Vec::new();
        let mut fail = |what: &str| faults.push(format!("{at}: {what}: {value}"));
        if let Some(any) = schema.get("anyOf").and_then(Value::as_array)
            && !any
                .iter()
                .any(|one| self::faults(one, value, at).is_empty())
        {
            fail("no form fits");
        }
        if let Some(choices) = schema.get("enum").and_then(Value::as_array)
            && !choices.contains(value)
        {
            fail("no choice");
        }
        let right = match schema.get("type").and_then(Value::as_str) {
            Some("object") => value.is_object(),
            Some("array") => value.is_array(),
            Some("integer") => value.is_i64() || value.is_u64(),
            Some("number") => value.is_number(),
            Some("string") => value.is_string(),
            Some("boolean") => value.is_boolean(),
            Some(other) => panic!("{at}: type {other}"),
            None => true,
        };
        if !right {
            fail("wrong type");
        }
        let number = value.as_f64();
        for (limit, over) in [("minimum", -1.0), ("maximum", 1.0)] {
            let bound = schema.get(limit).and_then(Value::as_f64);
            if let (Some(bound), Some(number)) = (bound, number)
                && (number - bound) * over > 0.0
            {
                fail(limit);
            }
        }
        if let (Some(fields), Some(schemas)) = (value.as_object(), schema.get("properties")) {
            for (name, field) in fields {
                match schemas.get(name) {
                    Some(schema) => {
                        faults.extend(self::faults(schema, field, &format!("{at}.{name}")));
                    }
                    None => faults.push(format!("{at}.{name}: unknown")),
                }
            }
        }
        if let (Some(items), Some(schema)) = (value.as_array(), schema.get("items")) {
            faults.extend(items.iter().flat_map(|item| self::faults(schema, item, at)));
        }
        faults
    }

    #[test]
    fn every_field_is_in_the_schema_with_its_default() {
        let schema = Config::schema();
        for section in Config::default().sections() {
            for field in section.fields() {
                let found = &schema["properties"][section.key()]["properties"][field.name];
                let key = format!("{}.{}", section.key(), field.name);
                assert!(!found["description"].as_str().unwrap().is_empty(), "{key}");
                let typed = ["type", "enum", "anyOf"]
                    .iter()
                    .any(|k| found.get(k).is_some());
                assert!(typed, "{key} has no type: {found}");
                match section.get(field.name) {
                    Some(default) => {
                        let default = serde_json::to_value(default).unwrap();
                        assert_eq!(found["default"], default, "{key}");
                        assert_eq!(faults(found, &default, &key), [""; 0]);
                    }
                    None => assert!(found.get("default").is_none(), "{key}"),
                }
            }
        }
    }

    #[test]
    fn the_configs_meet_the_schema_and_mistakes_do_not() {
        let schema = Config::schema();
        let read = |text: &str| -> Value {
            let table: toml::Table = toml::from_str(text).unwrap();
            serde_json::to_value(table).unwrap()
        };
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../configs");
        let mut configs = 0;
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let value = read(&std::fs::read_to_string(&path).unwrap());
            assert_eq!(
                faults(&schema, &value, "config"),
                [""; 0],
                "{}",
                path.display()
            );
            configs += 1;
        }
        assert!(configs > 3);
        for (wrong, expected) in [
            ("[modle]", "config.modle: unknown"),
            ("[model]\nlayrs = 1", "config.model.layrs: unknown"),
            ("[model]\nlayers = -1", "minimum"),
            ("[model]\nlayers = 1000000000", "maximum"),
            ("[model]\nlayers = 0", "minimum"),
            ("[data]\ncontext = 1", "minimum"),
            ("[train]\nbatch_schedule = [1000, 4]", "wrong type"),
            ("[model]\nlayers = \"4\"", "wrong type"),
            ("[train]\ndecay = \"cosin\"", "no choice"),
            ("[data]\npaths = [1]", "no form fits"),
            ("[model]\nrecompute = \"yes\"", "no form fits"),
        ] {
            let faults = faults(&schema, &read(wrong), "config").join("\n");
            assert!(faults.contains(expected), "{wrong}: {faults}");
        }
    }

    #[test]
    fn every_lower_limit_is_that_of_a_field() {
        let schema = Config::schema();
        for (key, least) in LEAST {
            let (section, field) = key.split_once('.').unwrap();
            let found = &schema["properties"][section]["properties"][field];
            assert_eq!(found["type"], "integer", "{key}");
            assert_eq!(found["minimum"], *least, "{key}");
        }
    }
}
