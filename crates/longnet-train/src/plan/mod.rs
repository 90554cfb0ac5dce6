//! What a run will cost, before anything is spent.
//!
//! Parameters and FLOPs are counted exactly. Memory is that of the worst moment of a training step on
//! the CPU backend, found by going through the step buffer by buffer; other backends
//! keep the same tensors for the backward pass, but have workspaces of their own.

mod flops;
mod ledger;
mod memory;
mod ring;
mod shape;
mod units;

pub use flops::Flops;
pub use ledger::{Bytes, Moment, Part};
pub use ring::{RingCost, ring_cost};
pub use units::{UnitError, bytes, parse_bytes, parse_flops};

use crate::config::Config;
use crate::config::sections::AttentionKind;
use crate::estimate::si;
use burn_longnet::pattern::ring::Layout;
use shape::Shape;
pub(crate) use shape::largest_pass;
use std::fmt;

/// The cost of a training step of a config.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Parameters of the model.
    pub parameters: usize,
    /// Tokens of one sequence of the largest pass, which the next ones are about, too.
    pub context: usize,
    /// Sequences of one pass.
    pub batch: usize,
    /// Tokens of one optimiser step.
    pub tokens: usize,
    /// Devices that a sequence is spread over.
    pub devices: usize,
    /// All devices: so many for each part of the batch.
    pub ranks: usize,
    /// Bytes of gradients, and of weights with ZeRO-1, that a rank sends in a step.
    pub sent: f64,
    /// What attention sends, if that could be found.
    pub ring: Option<RingCost>,
    /// Key positions that one query of one head sees, on average.
    pub keys_per_query: f64,
    /// FLOPs a token.
    pub flops: Flops,
    /// Tokens of the run, whose passes need not all be the largest.
    pub run_tokens: f64,
    /// FLOPs of the run.
    pub run_flops: f64,
    /// Memory of one device at the worst moment.
    pub worst: Moment,
}

impl Plan {
    /// The plan of a checked config, each sequence spread over `devices`.
    ///
    /// # Panics
    ///
    /// If `devices` is 0.
    pub fn of(config: &Config, devices: usize) -> Self {
        assert!(devices > 0, "a plan needs a device");
        let (context, batch) = largest_pass(config);
        let mut largest = config.clone();
        largest.data.context = context;
        let (flops, keys_per_query) = Flops::of(&largest);
        let by_context = Flops::by_context(config);
        let (mut run_tokens, mut run_flops) = (0.0, 0.0);
        for (steps, context, batch) in shape::stages(config) {
            let tokens = (context * batch * config.train.accumulate) as f64 * steps as f64;
            run_tokens += tokens;
            run_flops += tokens * by_context[&context];
        }
        Self {
            parameters: config.language_model().num_params(),
            context,
            batch,
            tokens: context * batch * config.train.accumulate,
            devices,
            ranks: devices * config.parallel.data,
            sent: sent(config, devices * config.parallel.data),
            ring: ring_cost(config, devices),
            keys_per_query,
            flops,
            run_tokens,
            run_flops,
            worst: worst_moment(config, devices),
        }
    }

    /// Seconds of the run where each device computes `rate` FLOPs a second at best and spends the share
    /// `utilisation` of them on the model.
    pub fn seconds(&self, rate: f64, utilisation: f64) -> f64 {
        self.run_flops / (rate * utilisation * self.ranks as f64)
    }
}

/// Bytes that each of `ranks` sends in a step: the parts of its gradients to those who add them, the sum of its own part
/// to all; with ZeRO-1 also the weights that it has stepped.
fn sent(config: &Config, ranks: usize) -> f64 {
    let bytes = 4.0 * config.language_model().num_params() as f64;
    let others = (ranks - 1) as f64 / ranks as f64;
    let times = if config.parallel.zero { 3.0 } else { 2.0 };
    times * bytes * others
}

/// The worst moment of a step on one of `devices`.
pub fn worst_moment(config: &Config, devices: usize) -> Moment {
    let shape = Shape::of(config, devices);
    let mut moment = memory::worst(&shape);
    if devices > 1 {
        let gathered = gathered(config, &shape, devices);
        moment.memory[Part::Attention] += gathered;
        moment.most[Part::Attention] += gathered;
    }
    moment
}

/// A bound of what a ring adds to a device's memory in the attention of a layer: its own keys and values side by
/// side, those of a hop and the gradients of those of a hop in buffers as large as its shard, and messages: keys and
/// values of the next hop, gradients of this one and the one before, each of them both ways.
fn gathered(config: &Config, shape: &Shape, devices: usize) -> f64 {
    let shard = shape.tokens * 2.0 * shape.keys * shape.element;
    match largest_message(config, devices) {
        0.0 => 0.0,
        message => shard * (3.0 + 6.0 * message),
    }
}

/// A bound of the largest message as a share of a shard, in any layer: of each branch whose segments reach from one
/// part of the layout into another, the rows of those segments that the dilation keeps. Block-sparse layers may
/// send all, adaptive ones no ring has.
fn largest_message(config: &Config, devices: usize) -> f64 {
    let (m, a) = (&config.model, &config.attention);
    let has = |kind| a.kind.iter().take(m.layers).any(|k| *k == kind);
    if has(AttentionKind::BlockSparse) {
        return 1.0;
    }
    if !has(AttentionKind::Dilated) {
        return 0.0;
    }
    let (context, _) = largest_pass(config);
    let share = context.div_ceil(devices);
    // Heads that share keys see other residues of them.
    let sharing = m.heads / m.kv_heads.unwrap_or(m.heads);
    let inside = |segment: usize, parts: usize| {
        context.is_multiple_of(parts) && (context / parts).is_multiple_of(segment)
    };
    let kept = |rows: usize, dilation: usize| (rows.div_ceil(dilation) * sharing).min(rows);
    let rows = |(&segment, &dilation): (&usize, &usize)| {
        let segment = segment.min(context);
        match config.parallel.layout {
            Layout::Contiguous if inside(segment, devices) => 0,
            // One segment lies across the edge.
            Layout::Contiguous => kept(segment.min(share), dilation),
            Layout::Zigzag if inside(segment, 2 * devices) => 0,
            // One at either edge of both parts.
            Layout::Zigzag => kept((4 * segment).min(share), dilation),
            // All segments reach over all, and a residue may be that of all rows of a shard.
            Layout::Striped => share,
        }
    };
    let rows: usize = a.segments.iter().zip(&a.dilations).map(rows).sum();
    rows.min(share) as f64 / share as f64
}

/// The longest context whose step fits into `memory` bytes on each of `devices`, with the sequences of
/// the config's largest pass: a multiple of the config's longest segment that it is beyond, or of 64. None if not even that of 64 tokens does.
pub fn longest_context(config: &Config, devices: usize, memory: f64) -> Option<usize> {
    const UNIT: usize = 64;
    const MOST: usize = 1 << 44;
    let (_, batch) = largest_pass(config);
    let fits = |units: usize| {
        let mut config = config.clone();
        config.data.context = units * UNIT;
        config.data.context_schedule.clear();
        config.train.batch = batch;
        config.train.batch_schedule.clear();
        worst_moment(&config, devices).memory.total() <= memory
    };
    if !fits(1) {
        return None;
    }
    let mut good = 1;
    while good < MOST / UNIT && fits(2 * good) {
        good *= 2;
    }
    let mut bad = 2 * good;
    while bad - good > 1 {
        let middle = good + (bad - good) / 2;
        match fits(middle) {
            true => good = middle,
            false => bad = middle,
        }
    }
    let context = good * UNIT;
    let dilated = config.attention.kind.iter();
    let dilated = dilated.copied().all(|kind| kind == AttentionKind::Dilated);
    let longest = config.attention.segments.iter().max().copied();
    let longest = longest.filter(|_| dilated);
    let whole = longest.map_or(context, |longest| context / longest * longest);
    Some(if whole > 0 { whole } else { context })
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            parameters,
            context,
            batch,
            tokens,
            devices,
            ..
        } = self;
        writeln!(f, "parameters         {}", si(*parameters as f64))?;
        writeln!(
            f,
            "context            {context} tokens, of which a query sees {:.0} on average",
            self.keys_per_query
        )?;
        writeln!(
            f,
            "step               {tokens} tokens, {batch} x {context} in one pass"
        )?;
        let flops = &self.flops;
        writeln!(
            f,
            "FLOPs a token      {}: {} of weights, {} of attention; forward and backward, nothing counted twice",
            si(flops.total()),
            si(flops.weights),
            si(flops.attention),
        )?;
        let (ranks, batches) = (self.ranks, self.ranks / devices);
        let on = match ranks {
            1 => String::new(),
            _ => format!(" on each of {ranks} devices"),
        };
        if ranks > 1 {
            writeln!(
                f,
                "devices            {ranks}: each sequence over {devices}, each batch over {batches}"
            )?;
            writeln!(
                f,
                "sent               {} of gradients and weights from each device a step",
                bytes(self.sent)
            )?;
        }
        match self.ring {
            Some(ring) if *devices > 1 => writeln!(
                f,
                "                   {} of keys, values and their gradients, the most of the first, middle and last rank, {} in the largest message",
                bytes(ring.sent),
                bytes(ring.message)
            )?,
            None => writeln!(f, "                   keys and values not counted")?,
            _ => {}
        }
        let Moment {
            memory,
            most,
            doing,
        } = &self.worst;
        writeln!(
            f,
            "memory             {}{on} at the worst moment, {doing}",
            bytes(memory.total())
        )?;
        writeln!(f, "                        then   at most")?;
        for part in Part::ALL {
            writeln!(
                f,
                "  {:<16} {:>9} {:>9}",
                part.name(),
                bytes(memory[part]),
                bytes(most[part])
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
