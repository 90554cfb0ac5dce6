//! A resolved config as text.

use super::{Origin, Resolved};
use std::fmt;

/// The config as TOML, each value followed by where it comes from. It can be read back.
impl fmt::Display for Resolved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, section) in self.config.sections().into_iter().enumerate() {
            let gap = if index > 0 { "\n" } else { "" };
            writeln!(f, "{gap}[{}]", section.key())?;
            for field in section.fields() {
                let origin = self.origin(&format!("{}.{}", section.key(), field.name));
                let line = match section.get(field.name) {
                    Some(value) => format!("{} = {value}", field.name),
                    None => format!("# {} is not set", field.name),
                };
                let origin = match origin {
                    Origin::Set(_) => "--set".to_string(),
                    other => other.to_string(),
                };
                writeln!(f, "{line:<48}  # {origin}")?;
            }
        }
        Ok(())
    }
}
