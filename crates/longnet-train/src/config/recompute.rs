//! Which layers keep their activations.

use super::value::Value;

/// The layers whose activations are computed again in the backward pass.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Recompute {
    /// None.
    #[default]
    None,
    /// All.
    All,
    /// These, counted from 0.
    Layers(Vec<usize>),
}

impl Recompute {
    /// Whether `layer` is among them.
    pub fn covers(&self, layer: usize) -> bool {
        match self {
            Self::None => false,
            Self::All => true,
            Self::Layers(layers) => layers.contains(&layer),
        }
    }
}

impl Value for Recompute {
    fn expected() -> String {
        "true, false, or a list of layers counted from 0, such as [0, 2]".into()
    }

    fn read(value: &toml::Value) -> Result<Self, String> {
        match value {
            toml::Value::Boolean(false) => Ok(Self::None),
            toml::Value::Boolean(true) => Ok(Self::All),
            toml::Value::Array(layers) => {
                let layers = layers.iter().map(Value::read);
                layers.collect::<Result<_, _>>().map(Self::Layers)
            }
            _ => Err(format!("expected {}, found {value}", Self::expected())),
        }
    }

    fn schema() -> serde_json::Value {
        let layers = Vec::<usize>::schema()["anyOf"][0].clone();
        serde_json::json!({"anyOf": [bool::schema(), layers]})
    }

    fn write(&self) -> Option<toml::Value> {
        match self {
            Self::None => false.write(),
            Self::All => true.write(),
            Self::Layers(layers) => layers.write(),
        }
    }
}
