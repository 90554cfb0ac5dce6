//! How the types of config fields are read from TOML and written back.

use super::suggest::closest;

/// A type that a config field can have.
pub(crate) trait Value: Sized {
    /// What errors say was expected, such as "a whole number".
    fn expected() -> String;

    /// Reads the value, or says what is wrong with it.
    fn read(value: &toml::Value) -> Result<Self, String>;

    /// The type as JSON Schema.
    fn schema() -> serde_json::Value;

    /// The value as TOML. `None` is an unset optional value.
    fn write(&self) -> Option<toml::Value>;
}

/// "expected a whole number, found the string "four"".
fn mismatch<T: Value>(found: &toml::Value) -> String {
    let found = match found {
        toml::Value::Table(_) => "a table".to_string(),
        toml::Value::Array(_) => format!("the list {found}"),
        toml::Value::String(_) => format!("the string {found}"),
        other => other.to_string(),
    };
    format!("expected {}, found {found}", T::expected())
}

impl Value for usize {
    fn expected() -> String {
        "a whole number, 0 or more".into()
    }

    fn read(value: &toml::Value) -> Result<Self, String> {
        let read = value.as_integer().and_then(|i| i.try_into().ok());
        read.ok_or_else(|| mismatch::<Self>(value))
    }

    fn schema() -> serde_json::Value {
        serde_json::json!({"type": "integer", "minimum": 0})
    }

    fn write(&self) -> Option<toml::Value> {
        Some(toml::Value::Integer(*self as i64))
    }
}

impl Value for f64 {
    fn expected() -> String {
        "a number".into()
    }

    fn read(value: &toml::Value) -> Result<Self, String> {
        let read = value
            .as_float()
            .or_else(|| value.as_integer().map(|i| i as f64));
        read.ok_or_else(|| mismatch::<Self>(value))
    }

    fn schema() -> serde_json::Value {
        serde_json::json!({"type": "number"})
    }

    fn write(&self) -> Option<toml::Value> {
        Some(toml::Value::Float(*self))
    }
}

impl Value for bool {
    fn expected() -> String {
        "true or false".into()
    }

    fn read(value: &toml::Value) -> Result<Self, String> {
        value.as_bool().ok_or_else(|| mismatch::<Self>(value))
    }

    fn schema() -> serde_json::Value {
        serde_json::json!({"type": "boolean"})
    }

    fn write(&self) -> Option<toml::Value> {
        Some(toml::Value::Boolean(*self))
    }
}

impl Value for String {
    fn expected() -> String {
        "a string".into()
    }

    fn read(value: &toml::Value) -> Result<Self, String> {
        let read = value.as_str().map(str::to_string);
        read.ok_or_else(|| mismatch::<Self>(value))
    }

    fn schema() -> serde_json::Value {
        serde_json::json!({"type": "string"})
    }

    fn write(&self) -> Option<toml::Value> {
        Some(toml::Value::String(self.clone()))
    }
}

/// A single value stands for a list of one.
impl<T: Value> Value for Vec<T> {
    fn expected() -> String {
        format!("a list, each entry {}", T::expected())
    }

    fn read(value: &toml::Value) -> Result<Self, String> {
        match value.as_array() {
            Some(entries) => entries.iter().map(T::read).collect(),
            None => T::read(value)
                .map(|one| vec![one])
                .map_err(|_| mismatch::<Self>(value)),
        }
    }

    fn schema() -> serde_json::Value {
        let one = T::schema();
        let list = serde_json::json!({"type": "array", "items": one});
        // A list is always read as the list of all.
        match one.get("type").is_some_and(|kind| kind == "array") {
            true => list,
            false => serde_json::json!({"anyOf": [list, one]}),
        }
    }

    fn write(&self) -> Option<toml::Value> {
        let entries = self.iter().filter_map(T::write).collect();
        Some(toml::Value::Array(entries))
    }
}

impl<T: Value> Value for Option<T> {
    fn expected() -> String {
        T::expected()
    }

    fn read(value: &toml::Value) -> Result<Self, String> {
        T::read(value).map(Some)
    }

    fn schema() -> serde_json::Value {
        T::schema()
    }

    fn write(&self) -> Option<toml::Value> {
        self.as_ref().and_then(T::write)
    }
}

/// Makes an enum a config value: one name a variant.
macro_rules! choices {
    ($Enum:ty { $($variant:ident = $name:literal),+ $(,)? }) => {
        impl $crate::config::value::Value for $Enum {
            fn expected() -> String {
                format!("one of {}", [$(concat!("'", $name, "'")),+].join(", "))
            }

            fn read(value: &toml::Value) -> Result<Self, String> {
                match value.as_str() {
                    $(Some($name) => Ok(Self::$variant),)+
                    _ => Err($crate::config::value::not_a_choice::<Self>(value, &[$($name),+])),
                }
            }

            fn schema() -> serde_json::Value {
                serde_json::json!({"enum": [$($name),+]})
            }

            fn write(&self) -> Option<toml::Value> {
                let name = match self {
                    $(Self::$variant => $name,)+
                };
                Some(toml::Value::String(name.into()))
            }
        }
    };
}
pub(crate) use choices;

pub(crate) fn not_a_choice<T: Value>(value: &toml::Value, names: &[&str]) -> String {
    let guess = value
        .as_str()
        .and_then(|s| closest(s, names.iter().copied()));
    let hint = guess.map_or(String::new(), |g| format!("; did you mean '{g}'?"));
    mismatch::<T>(value) + &hint
}
