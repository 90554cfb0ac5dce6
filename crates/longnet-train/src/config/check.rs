//! Values that are out of range or at odds with each other.

use super::sections::AttentionKind;
use super::sections::{Decay, Documents, NumberFormat, OptimizerKind};
use super::stage::largest;
use super::value::Value;
use super::{ConfigError, Origin, Recompute, Resolved, Stage};
use crate::data::tokenizer::BYTE;
use crate::optim::Settings;
use burn::tensor::DType;
use burn_longnet::attention::AdaptiveAttentionConfig;
use burn_longnet::model::Positions;
use burn_longnet::pattern::{
    BlockGrid, BlockPattern, DilatedPattern, HeadAssignment, HeadOffset, MixGradient,
};

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
    problems.parallel();
    problems.generate();
    problems.eval();
    problems.library();
    problems.found
}

/// The largest value of each field that has a limit: what the arithmetic of sizes and the devices of
/// today can hold, with room to spare.
pub(super) const LIMITS: &[(&str, i64)] = &[
    ("model.vocab", 1 << 24),
    ("model.d_model", 1 << 20),
    ("model.heads", 1 << 20),
    ("model.kv_heads", 1 << 20),
    ("model.layers", 1 << 16),
    ("model.ffn", 1 << 24),
    ("attention.block", 1 << 31),
    ("attention.top_k", 1 << 31),
    ("data.context", 1 << 31),
    ("data.valid_block", 1 << 40),
    ("train.steps", 1 << 40),
    ("train.batch", 1 << 16),
    ("train.accumulate", 1 << 16),
    ("train.loss_chunk", 1 << 31),
    ("train.cooldown", 1 << 40),
    ("train.scale_growth", 1 << 40),
    ("train.eval_every", 1 << 40),
    ("train.eval_windows", 1 << 40),
    ("train.checkpoint_every", 1 << 40),
    ("train.keep", 1 << 40),
    ("parallel.ring", 1 << 16),
    ("parallel.data", 1 << 16),
    ("generate.tokens", 1 << 31),
    ("generate.top_k", 1 << 31),
    ("generate.repetition_window", 1 << 40),
    ("eval.sliding", 1 << 31),
    ("eval.text_tokens", 1 << 40),
    ("eval.samples", 1 << 20),
];

/// The smallest value of each field that has one above 0.
pub(super) const LEAST: &[(&str, usize)] = &[
    ("model.d_model", 1),
    ("model.heads", 1),
    ("model.layers", 1),
    ("model.ffn", 1),
    ("model.kv_heads", 1),
    ("attention.block", 1),
    ("attention.top_k", 1),
    ("data.context", 2),
    ("data.valid_block", 2),
    ("train.steps", 1),
    ("train.batch", 1),
    ("train.accumulate", 1),
    ("train.loss_chunk", 1),
    ("train.eval_every", 1),
    ("train.scale_growth", 1),
    ("train.keep", 1),
    ("parallel.ring", 1),
    ("parallel.data", 1),
    ("eval.samples", 1),
];

/// Parameters of a model and tokens of one pass that are refused beyond this.
const MOST_PARAMETERS: u64 = 100_000_000_000;
const MOST_TOKENS: u64 = 1 << 31;
/// Ranks of a run.
const MOST_RANKS: usize = 1 << 16;

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
        for &(key, most) in LIMITS {
            let value = self.value(key).and_then(|v| v.as_integer()).unwrap_or(0);
            self.require(value <= most, &[key], || format!("must be {most} or less"));
        }
        let config = &self.resolved.config;
        let (d, t) = (&config.data, &config.train);
        self.stages("data.context_schedule", &d.context_schedule, 2, d.context);
        self.stages("train.batch_schedule", &t.batch_schedule, 1, 1 << 16);
    }

    /// A number above 0 that the device, which computes in f32, does not take for 0 or infinite.
    fn positive(&mut self, key: &str, value: f64) {
        let ok = value > 0.0 && (value as f32).is_normal();
        self.require(ok, &[key], || {
            "must be above 0 and finite, also as a 32 bit float (1.2e-38 to 3.4e38)".into()
        });
    }

    /// `value` of `key` is at least what [`LEAST`] says.
    fn at_least(&mut self, key: &str, value: usize) {
        let least = LEAST.iter().find(|(known, _)| *known == key);
        let (_, least) = least.expect("the field is in the list");
        self.require(value >= *least, &[key], || {
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
        self.at_least("model.d_model", m.d_model);
        self.at_least("model.heads", m.heads);
        self.at_least("model.layers", m.layers);
        self.at_least("model.ffn", m.ffn.unwrap_or(1));
        self.at_least("model.kv_heads", m.kv_heads.unwrap_or(1));
        self.share("model.dropout", m.dropout);
        if let Recompute::Layers(layers) = &m.recompute {
            let beyond = layers.iter().find(|&&layer| layer >= m.layers);
            self.require(
                beyond.is_none(),
                &["model.recompute", "model.layers"],
                || {
                    let (layer, last) = (beyond.unwrap_or(&0), m.layers.saturating_sub(1));
                    format!("there is no layer {layer}; the layers are 0 to {last}")
                },
            );
        }
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
        self.require(!a.kind.is_empty(), &["attention.kind"], || {
            "names no kind; the kinds are \"dilated\", \"block-sparse\" and \"adaptive\"".into()
        });
        let has = |kind| a.kind.contains(&kind);
        self.at_least("attention.block", a.block);
        self.at_least("attention.top_k", a.top_k);
        let blocks = has(AttentionKind::BlockSparse);
        let keys = ["attention.kind", "attention.pattern"];
        self.require(!blocks || a.pattern.is_some(), &keys, || {
            "block-sparse layers need attention.pattern, such as \"window(1024) | global(128)\""
                .into()
        });
        self.require(blocks || a.pattern.is_none(), &["attention.pattern"], || {
            "is read by block-sparse layers only; add \"block-sparse\" to attention.kind or leave it out".into()
        });
        if let Some(pattern) = &a.pattern {
            // Prompts begin with one token; no training sequence is longer than the context.
            let context = self.resolved.config.data.context.max(1);
            let error = [1, context].into_iter().find_map(|n| {
                let grid = BlockGrid::square(n, a.block.max(1));
                pattern.head_groups(m.heads.max(1), grid, true).err()
            });
            let keys = ["attention.pattern", "attention.block", "model.heads"];
            self.require(error.is_none(), &keys, || {
                error.map_or_else(String::new, |e| e.to_string())
            });
        }
        if has(AttentionKind::Adaptive) {
            self.adaptive();
        }
        if !has(AttentionKind::Dilated) {
            self.dilated_only();
            return;
        }
        let keys = ["attention.segments", "attention.dilations"];
        let pattern = DilatedPattern::from_lists(m.heads.max(1), &a.segments, &a.dilations)
            .and_then(|builder| builder.build());
        let message = pattern.err().map(|e| e.to_string());
        self.require(message.is_none(), &keys, || message.unwrap_or_default());
    }

    fn adaptive(&mut self) {
        let config = &self.resolved.config;
        let (m, a, d) = (&config.model, &config.attention, &config.data);
        let masked = d.documents == Documents::Masked;
        self.require(!masked, &["data.documents", "attention.kind"], || {
            "adaptive layers choose blocks by means over all documents in them, so documents would know of each other; use documents = \"continuous\", or other kinds of attention".into()
        });
        let (heads, block) = (m.heads.max(1), a.block.max(1));
        let attention = AdaptiveAttentionConfig::new(heads, 1, 1).with_block(block);
        let error = attention.check_length(d.context).err();
        let keys = ["attention.block", "model.heads", "data.context"];
        self.require(error.is_none(), &keys, || {
            error.map_or_else(String::new, |e| e.to_string())
        });
    }

    /// What only dilated branches read must not be set where there are none.
    fn dilated_only(&mut self) {
        let a = &self.resolved.config.attention;
        let branches = a.pattern.as_ref().is_some_and(has_branches);
        for (key, set) in [
            ("attention.assignment", a.assignment != HeadAssignment::All),
            ("attention.offset", a.offset != HeadOffset::Modulo),
        ] {
            self.require(!set, &[key, "attention.kind"], || {
                "is read by dilated layers only, and there is none; leave it out (branches of a pattern have options of their own)".into()
            });
        }
        let set = a.gradient != MixGradient::Exact;
        let keys = ["attention.gradient", "attention.kind"];
        self.require(!set || branches, &keys, || {
            "is about mixing dilated branches, and no layer has any; leave it out".into()
        });
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
        self.at_least("data.context", d.context);
        self.at_least("data.valid_block", d.valid_block);
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
            self.at_least(key, value);
        }
        let fits = t.warmup <= t.steps;
        self.require(fits, &["train.warmup", "train.steps"], || {
            format!(
                "warmup = {} is longer than steps = {}; a tenth of the steps is usual",
                t.warmup, t.steps
            )
        });
        self.optimizer();
        self.decay();
        self.positive("train.lr", t.lr);
        self.share("train.label_smoothing", t.label_smoothing);
        self.share("train.ema", t.ema);
        self.at_least("train.scale_growth", t.scale_growth);
        self.at_least("train.keep", t.keep);
        let ok = t.checkpoint_minutes >= 0.0 && t.checkpoint_minutes <= 1e9;
        self.require(ok, &["train.checkpoint_minutes"], || {
            "must be 0 (never by time) to 1e9".into()
        });
        let ok = t.log_seconds > 0.0 && t.log_seconds <= 1e9;
        self.require(ok, &["train.log_seconds"], || {
            "must be above 0 and at most 1e9".into()
        });
        for (key, value) in [
            ("train.weight_decay", t.weight_decay.unwrap_or(0.0)),
            ("train.clip", t.clip),
            ("train.z_loss", t.z_loss),
        ] {
            let ok = value >= 0.0 && (value as f32).is_finite();
            self.require(ok, &[key], || {
                "must be 0 or more and finite, also as a 32 bit float (at most 3.4e38)".into()
            });
        }
        let d = &self.resolved.config.data;
        let batch = largest(&t.batch_schedule, t.batch);
        let context = largest(&d.context_schedule, d.context);
        let tokens = (batch as u64).saturating_mul(context as u64);
        self.require(
            tokens <= MOST_TOKENS,
            &["train.batch", "train.batch_schedule", "data.context"],
            || {
                format!(
                    "batch times context is {tokens} tokens in one pass, and {MOST_TOKENS} are the limit; use train.accumulate for large steps"
                )
            },
        );
        let ok = (0.0..=1.0).contains(&t.lr_floor);
        self.require(ok, &["train.lr_floor"], || {
            "must be from 0 to 1, a share of lr".into()
        });
        self.require(!t.run_dir.is_empty(), &["train.run_dir"], || {
            "must name a folder, such as runs/first".into()
        });
    }

    fn parallel(&mut self) {
        let config = &self.resolved.config;
        let (p, t, d) = (&config.parallel, &config.train, &config.data);
        self.at_least("parallel.ring", p.ring);
        self.at_least("parallel.data", p.data);
        let ok = p.deadline >= 1.0 && p.deadline <= 1e6;
        self.require(ok, &["parallel.deadline"], || {
            "must be 1 to 1e6 seconds, such as 60".into()
        });
        let ok = p.ranks() <= MOST_RANKS;
        self.require(ok, &["parallel.ring", "parallel.data"], || {
            format!(
                "ring times data are {} ranks, and {MOST_RANKS} are the limit",
                p.ranks()
            )
        });
        if p.data == 0 || p.ring == 0 {
            return;
        }
        let batches = t.batch_schedule.iter().map(|stage| stage.value);
        let uneven = batches
            .chain([t.batch])
            .find(|batch| !batch.is_multiple_of(p.data));
        let keys = ["parallel.data", "train.batch", "train.batch_schedule"];
        self.require(uneven.is_none(), &keys, || {
            format!(
                "data = {} ranks share each batch in equal parts, and a batch of {} cannot be; use a multiple, and a smaller train.accumulate",
                p.data,
                uneven.unwrap_or(0)
            )
        });
        if p.ring == 1 {
            return;
        }
        let adaptive = config.attention.kind.contains(&AttentionKind::Adaptive);
        self.require(!adaptive, &["parallel.ring", "attention.kind"], || {
            "adaptive layers choose blocks by what the whole sequence holds, which no rank of a ring has; use other kinds of attention, or data ranks".into()
        });
        let contexts = d.context_schedule.iter().map(|stage| stage.value);
        let shortest = contexts.chain([d.context]).min().unwrap_or(0);
        let keys = ["parallel.ring", "data.context", "data.context_schedule"];
        self.require(shortest >= 2 * p.ring, &keys, || {
            format!(
                "a context of {shortest} tokens is too short for {} ranks, which need at least {} of them",
                p.ring,
                2 * p.ring
            )
        });
    }

    /// Stages in order, each value from `least` to `most`.
    fn stages(&mut self, key: &str, stages: &[Stage], least: usize, most: usize) {
        let mut last = 0;
        for stage in stages {
            let Stage { from, value } = *stage;
            self.require(from > last, &[key], || {
                let pair = stage.write().map_or(String::new(), |pair| pair.to_string());
                match from {
                    0 => format!("{pair}: steps are counted from 1"),
                    _ => format!(
                        "{pair}: its step must come after {last}, that of the pair before it"
                    ),
                }
            });
            self.require((least..=most).contains(&value), &[key], || {
                let pair = stage.write().map_or(String::new(), |pair| pair.to_string());
                format!("{pair}: its value must be from {least} to {most}")
            });
            last = from;
        }
    }

    /// The optimiser's own numbers; those that it does not read must not be set.
    fn optimizer(&mut self) {
        let t = &self.resolved.config.train;
        let name = |kind: OptimizerKind| kind.write().map_or(String::new(), |v| v.to_string());
        for (field, value, used) in Settings::fields(t) {
            let Some(value) = value else { continue };
            let key = format!("train.{field}");
            self.require(used, &[&key, "train.optimizer"], || {
                let readers: Vec<_> = Settings::readers(field).map(name).collect();
                format!(
                    "the optimizer {} does not read {field}, which is set to {value}; leave {field} out, or use one that does: {}",
                    name(t.optimizer),
                    readers.join(", ")
                )
            });
            match field {
                "eps" => self.positive(&key, value),
                _ => self.share(&key, value),
            }
        }
    }

    fn decay(&mut self) {
        let t = &self.resolved.config.train;
        if let Some(power) = t.power {
            self.positive("train.power", power);
            let read = t.decay == Decay::Polynomial;
            self.require(read, &["train.power", "train.decay"], || {
                "only decay = \"polynomial\" has a power; leave it out, or use that decay".into()
            });
        }
        let steady = matches!(t.decay, Decay::Constant | Decay::InverseSqrt);
        self.require(t.cooldown == 0 || steady, &["train.cooldown", "train.decay"], || {
            "only a decay that is constant or inverse-sqrt has a cooldown, since the others end at the floor; leave it out".into()
        });
        let fits = t.warmup.saturating_add(t.cooldown) <= t.steps;
        self.require(
            t.cooldown == 0 || fits,
            &["train.cooldown", "train.steps"],
            || {
                format!(
                    "warmup = {} and cooldown = {} are together longer than steps = {}",
                    t.warmup, t.cooldown, t.steps
                )
            },
        );
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
        let keys = ["model.positions", "model.xpos_scale_base", "data.context"];
        let message = model.validate(DType::F32).err().map(|e| e.to_string());
        self.require(message.is_none(), &keys, || message.unwrap_or_default());
        let half = match self.resolved.config.train.precision {
            NumberFormat::F32 => return,
            NumberFormat::Bf16 => DType::BF16,
            NumberFormat::F16 => DType::F16,
        };
        if let (None, Err(error)) = (self.found.first(), model.validate(half)) {
            let keys = ["train.precision", keys[0], keys[1], keys[2]];
            self.require(false, &keys, || error.to_string());
        }
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
        let ok = (0.0..=1.0).contains(&g.min_p);
        self.require(ok, &["generate.min_p"], || {
            "must be from 0 to 1, such as 0.05".into()
        });
        let ok = (0.01..=100.0).contains(&g.repetition_penalty);
        self.require(ok, &["generate.repetition_penalty"], || {
            "must be from 0.01 to 100; 1 does nothing, 1.2 is usual".into()
        });
        let ok = g.stop.iter().all(|stop| !stop.is_empty());
        self.require(ok, &["generate.stop"], || {
            "an empty string is everywhere, and no text would come; leave it out".into()
        });
    }

    fn eval(&mut self) {
        let e = &self.resolved.config.eval;
        self.require(!e.tasks.is_empty(), &["eval.tasks"], || {
            "names nothing to measure; list some of text, passkey, recall".into()
        });
        let ok = e.lengths.iter().all(|n| (2..=1 << 31).contains(n));
        self.require(ok, &["eval.lengths"], || {
            format!("each length must be from 2 to {} tokens", 1u64 << 31)
        });
        let shortest = e.lengths.iter().copied().min().unwrap_or(usize::MAX);
        let ok = e.sliding <= shortest;
        self.require(ok, &["eval.sliding", "eval.lengths"], || {
            format!(
                "sliding = {} would leave tokens out between windows of {shortest}; it must be at most the shortest length",
                e.sliding
            )
        });
        self.at_least("eval.samples", e.samples);
        let ok = !e.depths.is_empty() && e.depths.iter().all(|d| (0.0..=1.0).contains(d));
        self.require(ok, &["eval.depths"], || {
            "must be shares from 0 to 1, such as [0.0, 0.5, 1.0]".into()
        });
        let ok = !e.pairs.is_empty() && e.pairs.iter().all(|n| (1..=676).contains(n));
        self.require(ok, &["eval.pairs"], || {
            "must be numbers from 1 to 676, the number of keys of two letters".into()
        });
    }
}

/// Whether heads of a pattern are dilated branches.
fn has_branches(pattern: &BlockPattern) -> bool {
    match pattern {
        BlockPattern::Branches(_) => true,
        BlockPattern::Heads(entries) => entries.iter().any(|entry| has_branches(&entry.pattern)),
        _ => false,
    }
}

fn divisors(n: usize) -> Vec<usize> {
    (1..=n.min(64)).filter(|d| n.is_multiple_of(*d)).collect()
}
