//! What a config costs, without building it.

use crate::config::Config;
use burn_longnet::pattern::{Sizes, Span};
use std::fmt;
use std::ops::Range;

/// Exact counts at the configured context.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimate {
    /// Parameters of the model.
    pub parameters: usize,
    /// Tokens of one sequence.
    pub context: usize,
    /// Key positions that one query of one head sees, on average over the sequence and the layers.
    pub keys_per_query: f64,
    /// FLOPs of attention's two products per token, over all heads and layers, forward only.
    pub attention_flops: f64,
}

impl Estimate {
    /// The counts of a checked config.
    pub fn of(config: &Config) -> Self {
        let (m, n) = (&config.model, config.data.context);
        let sizes = |heads: &Range<usize>| Sizes {
            batch: 1,
            kv_heads: heads.len(),
            d: m.d_model / m.heads,
            d_v: m.d_model / m.heads,
            bytes_per_element: 4,
        };
        let (mut pairs, mut flops) = (0, 0);
        for (layers, groups) in config.layer_groups(n) {
            for group in groups {
                let schedule = group.pattern.schedule(Span::full(n));
                let schedule = schedule.expect("a masked tail has a schedule at every length");
                let cost = schedule.cost(&sizes(&group.heads));
                pairs += cost.pairs * layers as u64;
                flops += cost.forward_flops * layers as u64;
            }
        }
        Self {
            parameters: config.language_model().num_params(),
            context: n,
            keys_per_query: pairs as f64 / (n * m.heads * m.layers) as f64,
            attention_flops: flops as f64 / n as f64,
        }
    }
}

impl fmt::Display for Estimate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "parameters         {}", si(self.parameters as f64))?;
        writeln!(
            f,
            "context            {} tokens, of which a query sees {:.0} on average",
            self.context, self.keys_per_query
        )?;
        write!(
            f,
            "attention          {} visited FLOPs a token forward, 2.5 times that backward",
            si(self.attention_flops)
        )
    }
}

/// 1234567 as "1.23 M".
pub fn si(value: f64) -> String {
    let units = ["", " k", " M", " G", " T", " P"];
    let mut scaled = value;
    let mut unit = 0;
    while scaled >= 999.5 && unit + 1 < units.len() {
        scaled /= 1000.0;
        unit += 1;
    }
    let decimals = match scaled {
        _ if unit == 0 || scaled >= 100.0 => 0,
        s if s >= 10.0 => 1,
        _ => 2,
    };
    format!("{scaled:.decimals$}{}", units[unit])
}
