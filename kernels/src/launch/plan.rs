//! The routine and the tile sizes for a problem on a device.

use super::resident::Resident;
use super::{Declined, Problem, decode};
use crate::blueprint::Blueprint;
use crate::mma::{Kernel, MmaBlueprint};
use crate::rules::ArgsLaunch;
use crate::table::Side;
use crate::walk::{Role, Rows};
use cubecl::client::Client;
use cubecl::ir::{ElemType, FloatKind, HardwareProperties};
use cubecl::prelude::*;
use longnet_pattern::{Dropout, MixGradient, Tail};
use std::sync::{Arc, OnceLock};

/// The widest head that the kernels hold in registers.
pub const WIDEST: usize = 256;
/// Devices whose planes are narrower are processors.
pub(crate) const NARROW: u32 = 16;
/// Rows of a tile.
const ROWS: usize = 64;
/// Buffers of the kernel that has most, with the one of shapes and scalars.
const BINDINGS: u32 = 16;

/// Sizes of a problem.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub batch: usize,
    pub heads: usize,
    pub kv_heads: usize,
    pub d: usize,
    pub d_v: usize,
}

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
    /// Rows of the other side that are staged at a time: a multiple of 8, and no more than there are units.
    pub stage: usize,
    /// Units that share a row: there are `rows / each * split` of them.
    pub split: usize,
    /// Rows that a unit holds, a divisor of `rows`.
    pub each: usize,
}

/// The kernels of a pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Routine {
    /// A row a unit, in tiles of these sizes: on every device.
    Unit(Tiles),
    /// On tensor cores, with tiles that suit registers and shared memory: f16 and bf16.
    Mma,
}

impl Routine {
    /// What `LONGNET_ROUTINE` names.
    pub(crate) fn forced() -> Option<Self> {
        static FORCED: OnceLock<Option<Routine>> = OnceLock::new();
        *FORCED.get_or_init(|| {
            let name = std::env::var("LONGNET_ROUTINE").ok()?;
            let routine = Self::named(&name);
            assert!(
                routine.is_some(),
                "LONGNET_ROUTINE={name}: not a routine; there are mma and unit:ROWS,STAGE,SPLIT[,EACH], as unit:64,32,1"
            );
            routine
        })
    }

    fn named(name: &str) -> Option<Self> {
        if name == "mma" {
            return Some(Self::Mma);
        }
        let sizes: Result<Vec<usize>, _> = name
            .strip_prefix("unit:")?
            .split(',')
            .map(str::parse)
            .collect();
        let mut sizes = sizes.ok()?;
        if sizes.len() == 3 {
            sizes.push(1);
        }
        let [rows, stage, split, each] = sizes.try_into().ok()?;
        let tiles = Tiles {
            rows,
            stage,
            split,
            each,
        };
        tiles.divide().ok()?;
        Some(Self::Unit(tiles))
    }
}

/// A kernel to launch, but for its role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Compiled {
    Unit(Blueprint),
    Mma(MmaBlueprint),
}

impl Compiled {
    /// Rows of a tile.
    pub fn rows(&self) -> usize {
        match self {
            Self::Unit(blueprint) => blueprint.rows,
            Self::Mma(blueprint) => blueprint.rows(),
        }
    }

    fn merging(self, merges: bool) -> Self {
        match self {
            Self::Unit(blueprint) => Self::Unit(Blueprint {
                merges,
                ..blueprint
            }),
            Self::Mma(blueprint) => Self::Mma(MmaBlueprint {
                merges,
                ..blueprint
            }),
        }
    }
}

/// A pass over a problem that a device can run, with its schedule on the device.
#[derive(Debug)]
pub struct Plan {
    /// The kernel over queries, and in a backward pass the one over keys.
    pub(crate) queries: Compiled,
    pub(crate) keys: Compiled,
    pub(crate) shape: Shape,
    pub(crate) resident: Arc<Resident>,
    /// What the problem asks of every kernel.
    pub(crate) flags: Blueprint,
    pub(crate) branches: usize,
    n_q: usize,
    n_k: usize,
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
        // Planes narrower than those of GPUs are those of CPUs, where rows lie in the stack, and loading the
        // other side's takes longer than computing with them.
        let (channels, each) = match (hardware.plane_size_max, pass) {
            (0..NARROW, _) => (64, 2),
            (_, Pass::Forward) => (64, 1),
            (_, Pass::Backward) => (32, 1),
        };
        let width = problem.d.max(problem.d_v);
        let most = (hardware.max_units_per_cube as usize / ROWS).max(1);
        let mut tiles = Self {
            rows: ROWS,
            stage: 32,
            split: width.div_ceil(channels).next_power_of_two().min(most),
            each,
        };
        let has = hardware.max_shared_memory_size;
        while tiles.blueprint(problem).shared_memory() > has && tiles.stage > 8 {
            tiles.stage /= 2;
        }
        tiles
    }

    /// Units of a cube, if the sizes divide each other.
    fn divide(&self) -> Result<usize, Declined> {
        let Self {
            rows,
            stage,
            split,
            each,
        } = *self;
        if [rows, stage, split, each].contains(&0)
            || !stage.is_multiple_of(8)
            || !rows.is_multiple_of(each)
        {
            return Err(Declined(format!(
                "tiles of {rows} rows, {each} a unit, {split} units a row, {stage} rows staged: none may be 0, \
                 staged rows are a multiple of 8, and a tile's rows a multiple of a unit's"
            )));
        }
        Ok(rows / each * split)
    }

    /// Whether the kernels take these sizes: each unit brings what comes beside a staged row, its label, lse and
    /// delta, for one row at most.
    fn check(&self) -> Result<(), Declined> {
        let (units, stage) = (self.divide()?, self.stage);
        match units < stage {
            true => Err(Declined(format!(
                "a tile has {units} units for {stage} staged rows, it takes one each"
            ))),
            false => Ok(()),
        }
    }

    /// The blueprint, if the kernels take it and the device holds it.
    fn within(
        &self,
        problem: &Problem,
        hardware: &HardwareProperties,
    ) -> Result<Blueprint, Declined> {
        self.check()?;
        let blueprint = self.blueprint(problem);
        let (memory, units) = (blueprint.shared_memory(), blueprint.units());
        for (what, needs, has) in [
            (
                "bytes of shared memory",
                memory,
                hardware.max_shared_memory_size,
            ),
            ("units", units, hardware.max_units_per_cube as usize),
        ] {
            if needs > has {
                return Err(Declined(format!(
                    "a tile takes {needs} {what}, the device has {has}"
                )));
            }
        }
        let plane = hardware.plane_size_max;
        let narrow = plane < NARROW && plane == hardware.plane_size_min;
        let whole = plane > 1 && blueprint.across().is_multiple_of(plane as usize);
        Ok(Blueprint {
            broadcast: if narrow && whole { plane as usize } else { 0 },
            ..blueprint
        })
    }

    fn blueprint(&self, problem: &Problem) -> Blueprint {
        let schedule = &problem.schedule;
        Blueprint {
            d: problem.d,
            d_v: problem.d_v,
            rows: self.rows,
            each: self.each,
            stage: self.stage,
            split: self.split,
            broadcast: 0,
            blocks: schedule.mask().is_some(),
            bias: problem.bias,
            role: Role::Final,
            merges: false,
            causal: schedule.is_causal(),
            labels: problem.labels,
            dropout: problem.dropout.is_some(),
            zero_keys: schedule.tail() == Tail::ZeroKeys && !schedule.is_causal(),
            // A block mask is one branch: nothing is mixed.
            detached: problem.gradient == MixGradient::Detached
                && problem.schedule.mask().is_none(),
        }
    }
}

impl Plan {
    /// How `pass` over `problem` runs on the device of `client`, or by the routine that the environment variable
    /// `LONGNET_ROUTINE` names: `mma`, or `unit:ROWS,STAGE,SPLIT` or `unit:ROWS,STAGE,SPLIT,EACH` (see [`Tiles`]).
    ///
    /// # Errors
    ///
    /// What the device or the kernels cannot do.
    pub fn new(client: &Client, problem: &Problem, pass: Pass) -> Result<Self, Declined> {
        if let Some(routine) = Routine::forced() {
            return Self::with_routine(client, problem, pass, routine);
        }
        if let Ok(plan) = Self::with_routine(client, problem, pass, Routine::Mma)
            .inspect_err(|reason| log::debug!("attention without tensor cores: {reason}"))
        {
            return Ok(plan);
        }
        let tiles = Tiles::suiting(client, problem, pass);
        Self::with_routine(client, problem, pass, Routine::Unit(tiles))
    }

    /// As [`Plan::new`], by this routine.
    ///
    /// # Errors
    ///
    /// As [`Plan::new`].
    pub fn with_routine(
        client: &Client,
        problem: &Problem,
        pass: Pass,
        routine: Routine,
    ) -> Result<Self, Declined> {
        let properties = client.properties();
        let hardware = &properties.hardware;
        let (schedule, dtype) = (&problem.schedule, problem.dtype);
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
        if span.step != 1 {
            return Err(Declined(format!(
                "rows are {} positions apart, the kernels take rows that follow each other",
                span.step
            )));
        }
        if [span.n_q, span.n_k, problem.batch, problem.kv_heads].contains(&0) {
            return Err(Declined("a tensor is empty".into()));
        }
        let cubes = problem.batch * schedule.heads();
        let widest = hardware.max_cube_count.1 as usize;
        if cubes > widest {
            return Err(Declined(format!(
                "{cubes} heads of all batch entries, the device takes {widest} cubes along an axis"
            )));
        }
        let (heads, width) = (schedule.heads(), problem.d.max(problem.d_v));
        let largest = problem.batch * heads * span.n_q.max(span.n_k) * width;
        // More than 2^32 elements; partial results of several branches may be twice as many as rows.
        if largest > u32::MAX as usize / 2 && !properties.supports_address(AddressType::U64) {
            return Err(Declined(format!(
                "tensors of {largest} elements and partial results of them, the device has 32-bit addresses"
            )));
        }
        if problem.labels && problem.batch * span.n_q.max(span.n_k) > u32::MAX as usize {
            return Err(Declined("labels of more than 2^32 positions".into()));
        }
        if hardware.max_bindings < BINDINGS {
            return Err(Declined(format!(
                "the device binds {} buffers at most, the kernels need {BINDINGS}",
                hardware.max_bindings
            )));
        }
        let [queries, keys] = match (routine, pass) {
            (Routine::Unit(tiles), _) => [Compiled::Unit(tiles.within(problem, hardware)?); 2],
            (Routine::Mma, Pass::Forward) => {
                [Compiled::Mma(MmaBlueprint::new(problem, Kernel::Forward, properties)?); 2]
            }
            (Routine::Mma, Pass::Backward) => [
                Compiled::Mma(MmaBlueprint::new(problem, Kernel::Queries, properties)?),
                Compiled::Mma(MmaBlueprint::new(problem, Kernel::Keys, properties)?),
            ],
        };
        let rows = [queries.rows(), keys.rows()];
        let resident = Resident::of(client, schedule, problem.kv_heads, rows).map_err(Declined)?;
        let merges = resident.table.queries.partial_tiles > 0;
        let dropout = problem.dropout.unwrap_or(Dropout { p: 0.0, seed: 0 });
        Ok(Self {
            queries: queries.merging(merges),
            keys: keys.merging(merges),
            shape: Shape {
                batch: problem.batch,
                heads: schedule.heads(),
                kv_heads: problem.kv_heads,
                d: problem.d,
                d_v: problem.d_v,
            },
            flags: Tiles::suiting(client, problem, pass).blueprint(problem),
            resident,
            branches: schedule.branches(),
            n_q: span.n_q,
            n_k: span.n_k,
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

    /// Whether a forward pass is split over keys.
    pub(crate) fn decodes(&self) -> bool {
        self.n_q <= decode::ROWS && self.n_k >= decode::KEYS && !self.flags.zero_keys
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
        self.q_block.div_ceil(self.queries.rows())
    }

    pub(crate) fn side(&self, rows: Rows) -> &Side {
        match rows {
            Rows::Queries => &self.resident.table.queries,
            Rows::Keys => &self.resident.table.keys,
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
        unsafe {
            BufferArg::from_raw_parts(self.resident.words.clone(), self.resident.table.words.len())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routines_have_names() {
        let tiles = Tiles {
            rows: 32,
            stage: 16,
            split: 2,
            each: 1,
        };
        assert_eq!(Routine::named("unit:32,16,2"), Some(Routine::Unit(tiles)));
        let four = Tiles { each: 4, ..tiles };
        assert_eq!(Routine::named("unit:32,16,2,4"), Some(Routine::Unit(four)));
        assert_eq!(Routine::named("mma"), Some(Routine::Mma));
        for wrong in [
            "",
            "unit",
            "unit:32,16",
            "unit:32,12,2",
            "unit:0,8,1",
            "unit:32,16,2,3",
            "unit:32,16,2,4,1",
            "unit:32,16,x",
        ] {
            assert_eq!(Routine::named(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn tiles_of_wrong_sizes_are_declined() {
        let check = |rows, stage, split, each| {
            let tiles = Tiles {
                rows,
                stage,
                split,
                each,
            };
            tiles.check().map_err(|declined| declined.0)
        };
        for (rows, stage, split, each) in [
            (64, 32, 1, 1),
            (64, 32, 1, 2),
            (64, 32, 2, 4),
            (32, 16, 2, 2),
        ] {
            assert_eq!(check(rows, stage, split, each), Ok(()));
        }
        let Some(Routine::Unit(few)) = Routine::named("unit:64,32,1,4") else {
            panic!("it has a name");
        };
        assert_eq!(
            few.check().unwrap_err().0,
            "a tile has 16 units for 32 staged rows, it takes one each"
        );
        for (rows, stage, split, each) in [
            (0, 8, 1, 1),
            (64, 0, 1, 1),
            (64, 8, 0, 1),
            (64, 8, 1, 0),
            (64, 12, 1, 1),
            (64, 8, 1, 3),
        ] {
            let reason = check(rows, stage, split, each).unwrap_err();
            let sizes =
                format!("tiles of {rows} rows, {each} a unit, {split} units a row, {stage}");
            assert!(reason.starts_with(&sizes), "{reason}");
        }
    }
}
