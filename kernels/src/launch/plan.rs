//! The routine and the tile sizes for a problem on a device.

use super::{Declined, Problem};
use crate::blueprint::Blueprint;
use crate::rules::ArgsLaunch;
use crate::table::{Side, Table};
use crate::walk::{Role, Rows};
use cubecl::client::Client;
use cubecl::ir::{ElemType, FloatKind};
use cubecl::prelude::*;
use cubecl::server::Handle;
use longnet_pattern::{Dropout, MixGradient, Tail};

/// The widest head that the kernels hold in registers.
pub const WIDEST: usize = 256;
/// Rows of a tile.
const ROWS: usize = 64;
/// Buffers of the kernel that has most, with the one of shapes and scalars.
const BINDINGS: u32 = 16;

/// Which of the op's two passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Pass {
    /// Out and lse.
    Forward,
    /// The gradients.
    Backward,
}

/// The sizes that a pass may be tuned by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tiles {
    /// Rows of a tile.
    pub rows: usize,
    /// Rows of the other side that are staged at a time, a multiple of 8.
    pub stage: usize,
    /// Units that share a row.
    pub split: usize,
}

/// A pass over a problem that a device can run, with its schedule on the device.
#[derive(Debug)]
pub struct Plan {
    pub(crate) blueprint: Blueprint,
    pub(crate) table: Table,
    pub(crate) words: Handle,
    pub(crate) heads: usize,
    pub(crate) kv_heads: usize,
    pub(crate) batch: usize,
    pub(crate) dtype: ElemType,
    q_block: usize,
    args: [u32; 3],
    floats: [f32; 2],
}

impl Tiles {
    /// What suits the device without trying: as many units a row as its registers ask for, and as many
    /// staged rows as its shared memory takes.
    pub fn suiting(client: &Client, problem: &Problem, pass: Pass) -> Self {
        let hardware = &client.properties().hardware;
        let channels = match (hardware.plane_size_max, pass) {
            // Narrow planes are those of CPUs, where a row lies in the stack.
            (0..16, _) => WIDEST,
            (_, Pass::Forward) => 64,
            (_, Pass::Backward) => 32,
        };
        let width = problem.d.max(problem.d_v);
        let most = (hardware.max_units_per_cube as usize / ROWS).max(1);
        let mut tiles = Self {
            rows: ROWS,
            stage: 32,
            split: width.div_ceil(channels).next_power_of_two().min(most),
        };
        let has = hardware.max_shared_memory_size;
        while tiles.blueprint(problem).shared_memory() > has && tiles.stage > 8 {
            tiles.stage /= 2;
        }
        tiles
    }

    fn blueprint(&self, problem: &Problem) -> Blueprint {
        let schedule = problem.schedule;
        Blueprint {
            d: problem.d,
            d_v: problem.d_v,
            rows: self.rows,
            stage: self.stage,
            split: self.split,
            blocks: schedule.mask().is_some(),
            bias: problem.bias,
            role: Role::Final,
            merges: false,
            causal: schedule.is_causal(),
            labels: problem.labels,
            dropout: problem.dropout.is_some(),
            zero_keys: schedule.tail() == Tail::ZeroKeys && !schedule.is_causal(),
            detached: problem.gradient == MixGradient::Detached,
        }
    }
}

impl Plan {
    /// How `pass` over `problem` runs on the device of `client`.
    ///
    /// # Errors
    ///
    /// What the device or the kernels cannot do.
    pub fn new(client: &Client, problem: &Problem, pass: Pass) -> Result<Self, Declined> {
        Self::with_tiles(client, problem, Tiles::suiting(client, problem, pass))
    }

    /// As [`Plan::new`], with tiles of these sizes.
    ///
    /// # Errors
    ///
    /// As [`Plan::new`].
    pub fn with_tiles(client: &Client, problem: &Problem, tiles: Tiles) -> Result<Self, Declined> {
        let properties = client.properties();
        let hardware = &properties.hardware;
        let (schedule, dtype) = (problem.schedule, problem.dtype);
        let known = [FloatKind::F32, FloatKind::F16, FloatKind::BF16].map(ElemType::Float);
        if !known.contains(&dtype) {
            return Err(Declined(format!(
                "the kernels take f32, f16 and bf16, got {dtype}"
            )));
        }
        if !properties.supports_type(dtype) {
            return Err(Declined(format!("the device has no {dtype}")));
        }
        for (name, width) in [("d", problem.d), ("d_v", problem.d_v)] {
            if !(1..=WIDEST).contains(&width) {
                return Err(Declined(format!(
                    "{name} = {width}, the kernels take 1 to {WIDEST}"
                )));
            }
        }
        let span = schedule.span();
        if [span.n_q, span.n_k, problem.batch, problem.kv_heads].contains(&0) {
            return Err(Declined("a tensor is empty".into()));
        }
        if hardware.max_bindings < BINDINGS {
            return Err(Declined(format!(
                "the device binds {} buffers at most, the kernels need {BINDINGS}",
                hardware.max_bindings
            )));
        }
        let mut blueprint = tiles.blueprint(problem);
        let limits = [
            (
                "bytes of shared memory",
                blueprint.shared_memory(),
                hardware.max_shared_memory_size,
            ),
            (
                "units",
                blueprint.units(),
                hardware.max_units_per_cube as usize,
            ),
        ];
        for (what, needs, has) in limits {
            if needs > has {
                return Err(Declined(format!(
                    "a tile takes {needs} {what}, the device has {has}"
                )));
            }
        }
        let table =
            Table::new(schedule, problem.kv_heads, tiles.rows, tiles.rows).map_err(Declined)?;
        blueprint.merges = table.queries.partial_tiles > 0;
        let dropout = problem.dropout.unwrap_or(Dropout { p: 0.0, seed: 0 });
        Ok(Self {
            blueprint,
            words: client.create_from_slice(u32::as_bytes(&table.words)),
            table,
            heads: schedule.heads(),
            kv_heads: problem.kv_heads,
            batch: problem.batch,
            dtype,
            q_block: schedule.mask().map_or(1, |mask| mask.grid().q_block),
            args: [
                dropout.seed as u32,
                (dropout.seed >> 32) as u32,
                // A probability of 1 keeps all with a factor of 0.
                u32::try_from(dropout.threshold()).unwrap_or(0),
            ],
            floats: [problem.scale as f32, dropout.scale() as f32],
        })
    }

    pub(crate) fn args(&self, tiles: usize) -> ArgsLaunch {
        let [seed_low, seed_high, threshold] = self.args;
        let [scale, keep] = self.floats;
        ArgsLaunch::new(
            scale,
            f32::NEG_INFINITY,
            seed_low,
            seed_high,
            threshold,
            keep,
            tiles as u32,
        )
    }

    /// Tiles of a query block of a block mask.
    pub(crate) fn tiles_a_block(&self) -> usize {
        self.q_block.div_ceil(self.blueprint.rows)
    }

    pub(crate) fn side(&self, rows: Rows) -> &Side {
        match rows {
            Rows::Queries => &self.table.queries,
            Rows::Keys => &self.table.keys,
        }
    }

    /// Cubes of a launch: tiles by `heads` of all batch entries.
    pub(crate) fn cubes(&self, client: &Client, tiles: usize, heads: usize) -> CubeCount {
        let widest = (client.properties().hardware.max_cube_count.0 as usize).min(1 << 30);
        let x = tiles.min(widest);
        CubeCount::Static(x as u32, heads as u32, tiles.div_ceil(x) as u32)
    }

    pub(crate) fn table_arg(&self) -> BufferArg {
        // SAFETY: the handle was made from as many words.
        unsafe { BufferArg::from_raw_parts(self.words.clone(), self.table.words.len()) }
    }
}
