//! Values that are out of range or at odds with each other.

use super::{ConfigError, Origin, Resolved};
use crate::data::tokenizer::BYTE;
use burn::tensor::DType;
use burn_longnet::model::Positions;
use burn_longnet::pattern::DilatedPattern;

/// All problems of a config whose types are right.
pub(super) fn check(resolved: &Resolved) -> Vec<ConfigError> {
    let mut problems = Problems {
        resolved,
        found: Vec::new(),
    };
    problems.limits();
    if !problems.found.is_empty() {
        // The other checks calculate with these.
        return problems.found;
    }
    problems.model();
    problems.attention();
    problems.data();
    problems.train();
    problems.generate();
    problems.library();
    problems.found
}

/// The largest value of each field that has a limit: what the arithmetic of sizes and the devices of
/// today can hold, with room to spare.
const LIMITS: [(&str, i64); 17] = [
    ("model.vocab", 1 << 24),
    ("model.d_model", 1 << 20),
    ("model.heads", 1 << 20),
    ("model.kv_heads", 1 << 20),
    ("model.layers", 1 << 16),
    ("model.ffn", 1 << 24),
    ("data.context", 1 << 31),
    ("data.valid_block", 1 << 40),
    ("train.steps", 1 << 40),
    ("train.batch", 1 << 16),
    ("train.accumulate", 1 << 16),
    ("train.loss_chunk", 1 << 31),
    ("train.eval_every", 1 << 40),
    ("train.eval_windows", 1 << 40),
    ("train.checkpoint_every", 1 << 40),
    ("generate.tokens", 1 << 31),
    ("generate.top_k", 1 << 31),
];

/// Parameters of a model and tokens of one pass that are refused beyond this.
const MOST_PARAMETERS: u64 = 100_000_000_000;
const MOST_TOKENS: u64 = 1 << 31;

struct Problems<'a> {
    resolved: &'a Resolved,
    found: Vec<ConfigError>,
}

impl Problems<'_> {
    /// Reports `message` unless `ok`. Of the `keys` that take part, one given by `--set` is blamed
    /// before one of the file, and that before a default.
    fn require(&mut self, ok: bool, keys: &[&str], message: impl FnOnce() -> String) {
        if ok {
            return;
        }
        let certainty = |key: &&&str| match self.resolved.origin(key) {
            Origin::Set(_) => 0,
            Origin::File(..) => 1,
            Origin::Default => 2,
        };
        let key = keys.iter().min_by_key(certainty).expect("a check has keys");
        let value = self.value(key);
        let value = value.map_or("unset".to_string(), |value| value.to_string());
        self.found.push(ConfigError {
            origin: self.resolved.origin(key).clone(),
            key: format!("{key} = {value}"),
            message: message(),
        });
    }

    fn value(&self, key: &str) -> Option<toml::Value> {
        let (section, field) = key.split_once('.').expect("keys are section.field");
        let sections = self.resolved.config.sections();
        sections
            .into_iter()
            .find(|s| s.key() == section)?
            .get(field)
    }

    fn limits(&mut self) {
        for (key, most) in LIMITS {
            let value = self.value(key).and_then(|v| v.as_integer()).unwrap_or(0);
            self.require(value <= most, &[key], || format!("must be {most} or less"));
        }
    }

    /// A number above 0 that the device, which computes in f32, does not take for 0 or infinite.
    fn positive(&mut self, key: &str, value: f64) {
        let ok = value > 0.0 && (value as f32).is_normal();
        self.require(ok, &[key], || {
            "must be above 0 and finite, also as a 32 bit float (1.2e-38 to 3.4e38)".into()
        });
    }

    fn at_least(&mut self, key: &str, value: usize, least: usize) {
        self.require(value >= least, &[key], || {
            format!("must be {least} or more")
        });
    }

    fn share(&mut self, key: &str, value: f64) {
        // A value that is 1 in f32 would be divided by 0 there.
        let ok = value >= 0.0 && (value as f32) < 1.0;
        self.require(ok, &[key], || "must be 0 or more and below 1".into());
    }

    fn model(&mut self) {
        let m = &self.resolved.config.model;
        self.at_least("model.d_model", m.d_model, 1);
        self.at_least("model.heads", m.heads, 1);
        self.at_least("model.layers", m.layers, 1);
        self.at_least("model.ffn", m.ffn.unwrap_or(1), 1);
        self.at_least("model.kv_heads", m.kv_heads.unwrap_or(1), 1);
        self.share("model.dropout", m.dropout);
        self.positive("model.rotary_theta", m.rotary_theta);
        self.positive("model.xpos_scale_base", m.xpos_scale_base);
        if m.d_model == 0 || m.heads == 0 || m.kv_heads == Some(0) {
            return;
        }
        let whole = m.d_model.is_multiple_of(m.heads);
        self.require(whole, &["model.heads", "model.d_model"], || {
            format!(
                "heads = {} does not divide d_model = {}; use one of {:?} heads or another width",
                m.heads,
                m.d_model,
                divisors(m.d_model)
            )
        });
        let kv_heads = m.kv_heads.unwrap_or(m.heads);
        let whole_kv = m.heads.is_multiple_of(kv_heads);
        self.require(whole_kv, &["model.kv_heads", "model.heads"], || {
            format!(
                "kv_heads = {kv_heads} does not divide heads = {}; use one of {:?}",
                m.heads,
                divisors(m.heads)
            )
        });
        let rotates = matches!(m.positions, Positions::Rotary | Positions::XPos);
        let even = !rotates || !whole || (m.d_model / m.heads).is_multiple_of(2);
        self.require(even, &["model.heads", "model.d_model"], || {
            format!(
                "a head has d_model / heads = {} channels, and rotary and xpos need an even number; change heads, d_model or positions",
                m.d_model / m.heads
            )
        });
    }

    fn attention(&mut self) {
        let (m, a) = (&self.resolved.config.model, &self.resolved.config.attention);
        self.share("attention.dropout", a.dropout);
        let keys = ["attention.segments", "attention.dilations"];
        let pattern = DilatedPattern::from_lists(m.heads.max(1), &a.segments, &a.dilations)
            .and_then(|builder| builder.build());
        let message = pattern.err().map(|e| e.to_string());
        self.require(message.is_none(), &keys, || message.unwrap_or_default());
    }

    fn data(&mut self) {
        let d = &self.resolved.config.data;
        self.require(!d.paths.is_empty(), &["data.paths"], || {
            "names no text; list files, folders or globs, such as paths = [\"book.txt\", \"src\"]"
                .into()
        });
        for (key, globs) in [("data.paths", &d.paths), ("data.exclude", &d.exclude)] {
            for text in globs {
                let error = glob::Pattern::new(text).err();
                self.require(error.is_none(), &[key], || {
                    let reason = error.as_ref().map_or("", |e| e.msg);
                    format!("'{text}' is not a glob: {reason}")
                });
            }
        }
        let byte = d.tokenizer == BYTE;
        let room = !byte || self.resolved.config.model.vocab >= 256;
        self.require(room, &["model.vocab", "data.tokenizer"], || {
            "must be 256 or more for bytes as tokens; leave it out, or 0, to take the tokenizer's number"
                .into()
        });
        self.require(!d.tokenizer.is_empty(), &["data.tokenizer"], || {
            "must be 'byte' or the path of a tokenizer.json".into()
        });
        self.require(!d.field.is_empty(), &["data.field"], || {
            "must name a field of JSONL or a column of Parquet, such as 'text'".into()
        });
        let matched = d.weights.is_empty() || d.weights.len() == d.paths.len();
        self.require(matched, &["data.weights", "data.paths"], || {
            format!(
                "{} weights for {} paths; give one for each, or none to take them as one text",
                d.weights.len(),
                d.paths.len()
            )
        });
        let sum: f64 = d.weights.iter().sum();
        let good = sum.is_finite() && d.weights.iter().all(|&weight| weight > 0.0);
        self.require(good, &["data.weights"], || {
            "each must be above 0 and finite, such as [0.7, 0.3]; leave a path out that should not be learned"
                .into()
        });
        self.at_least("data.context", d.context, 2);
        self.at_least("data.valid_block", d.valid_block, 2);
        let ok = d.valid_fraction > 0.0 && d.valid_fraction <= 0.5;
        self.require(ok, &["data.valid_fraction"], || {
            "must be above 0 and at most 0.5, such as 0.05".into()
        });
    }

    fn train(&mut self) {
        let t = &self.resolved.config.train;
        for (key, value) in [
            ("train.steps", t.steps),
            ("train.batch", t.batch),
            ("train.accumulate", t.accumulate),
            ("train.loss_chunk", t.loss_chunk),
            ("train.eval_every", t.eval_every),
        ] {
            self.at_least(key, value, 1);
        }
        let fits = t.warmup <= t.steps;
        self.require(fits, &["train.warmup", "train.steps"], || {
            format!(
                "warmup = {} is longer than steps = {}; a tenth of the steps is usual",
                t.warmup, t.steps
            )
        });
        self.positive("train.lr", t.lr);
        self.positive("train.eps", t.eps);
        let ok = t.log_seconds > 0.0 && t.log_seconds <= 1e9;
        self.require(ok, &["train.log_seconds"], || {
            "must be above 0 and at most 1e9".into()
        });
        for (key, value) in [
            ("train.weight_decay", t.weight_decay),
            ("train.clip", t.clip),
        ] {
            let ok = value >= 0.0 && (value as f32).is_finite();
            self.require(ok, &[key], || {
                "must be 0 or more and finite, also as a 32 bit float (at most 3.4e38)".into()
            });
        }
        let tokens = t.batch as u64 * self.resolved.config.data.context as u64;
        self.require(
            tokens <= MOST_TOKENS,
            &["train.batch", "data.context"],
            || {
                format!(
                    "batch times context is {tokens} tokens in one pass, and {MOST_TOKENS} are the limit; use train.accumulate for large steps"
                )
            },
        );
        self.share("train.beta1", t.beta1);
        self.share("train.beta2", t.beta2);
        let ok = (0.0..=1.0).contains(&t.lr_floor);
        self.require(ok, &["train.lr_floor"], || {
            "must be from 0 to 1, a share of lr".into()
        });
        self.require(!t.run_dir.is_empty(), &["train.run_dir"], || {
            "must name a folder, such as runs/first".into()
        });
    }

    /// What the model's own check finds, if the checks above, which know the keys, found nothing.
    fn library(&mut self) {
        if !self.found.is_empty() {
            return;
        }
        let model = self.resolved.config.language_model();
        let parameters = model.num_params() as u64;
        let keys = ["model.d_model", "model.layers", "model.ffn", "data.context"];
        self.require(parameters <= MOST_PARAMETERS, &keys, || {
            format!(
                "the model would have {parameters} parameters, and {MOST_PARAMETERS} are the limit"
            )
        });
        let message = model.validate(DType::F32).err().map(|e| e.to_string());
        let keys = ["model.positions", "model.xpos_scale_base", "data.context"];
        self.require(message.is_none(), &keys, || message.unwrap_or_default());
    }

    fn generate(&mut self) {
        let g = &self.resolved.config.generate;
        let ok = g.temperature >= 0.0 && g.temperature.is_finite();
        self.require(ok, &["generate.temperature"], || {
            "must be 0 or more and finite".into()
        });
        let ok = g.top_p > 0.0 && g.top_p <= 1.0;
        self.require(ok, &["generate.top_p"], || {
            "must be above 0 and at most 1, such as 0.95".into()
        });
    }
}

fn divisors(n: usize) -> Vec<usize> {
    (1..=n.min(64)).filter(|d| n.is_multiple_of(*d)).collect()
}
