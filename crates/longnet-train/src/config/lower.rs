//! From config sections to what the libraries take. All of it is here.

use super::Config;
use longnet_pattern::{DilatedPattern, Pattern};

impl Config {
    /// The causal attention pattern.
    ///
    /// # Panics
    ///
    /// If the config was not checked.
    pub fn pattern(&self) -> Pattern {
        let a = &self.attention;
        DilatedPattern::from_lists(self.model.heads, &a.segments, &a.dilations)
            .and_then(|builder| {
                builder
                    .causal(true)
                    .head_assignment(a.assignment)
                    .head_offset(a.offset)
                    .build()
            })
            .expect("the config check builds this pattern")
    }
}
