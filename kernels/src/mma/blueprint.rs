//! What a kernel on tensor cores is compiled for.

use crate::launch::{Declined, Problem, WIDEST};
use crate::walk::Role;
use cubecl::ir::features::{MmaConfig, Plane};
use cubecl::ir::{DeviceProperties, ElemType, FloatKind};
use longnet_pattern::{MixGradient, Tail};

/// Planes of a cube.
const PLANES: usize = 4;
/// The narrowest head that is worth a product's 16 channels.
const NARROWEST: usize = 16;

/// One of the routine's kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kernel {
    /// [`super::attention()`]
    Forward,
    /// [`super::query_gradients()`]
    Queries,
    /// [`super::key_gradients()`]
    Keys,
}

/// The compile-time side of a launch: one kernel for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MmaBlueprint {
    /// Width of queries and keys, a multiple of 8.
    pub d: usize,
    /// Width of values, a multiple of 8.
    pub d_v: usize,
    /// Planes of a cube, of 32 units each.
    pub planes: usize,
    /// Tiles of 16 rows that a plane owns.
    pub tiles: usize,
    /// Planes that own the same rows, each with a part of the channels of the results; 1 but for the pass over
    /// keys.
    pub share: usize,
    /// Rows of the other side that are staged at a time, a multiple of 16.
    pub stage: usize,
    /// 2: the next rows are staged while the present ones are in use; 1: they are not.
    pub stages: usize,
    /// A plane's own operands stay in registers; else they are loaded from shared memory each time.
    pub resident: bool,
    /// Asynchronous copies and PTX: what the CUDA C++ compiler of CubeCL has.
    pub copy_async: bool,
    /// The schedule is a block mask, not residues of segments.
    pub blocks: bool,
    /// The blocks of the mask have a bias.
    pub bias: bool,
    /// What becomes of the results.
    pub role: Role,
    /// Whether the final launch finds partial results.
    pub merges: bool,
    /// Keys after a query are not seen.
    pub causal: bool,
    /// There are labels.
    pub labels: bool,
    /// There may be queries of a tile that see nothing.
    pub gaps: bool,
    /// There is dropout.
    pub dropout: bool,
    /// Segments that are not filled hold zero keys (`Tail::ZeroKeys`).
    pub zero_keys: bool,
    /// Each branch has a delta of its own (`MixGradient::Detached`).
    pub detached: bool,
}

impl MmaBlueprint {
    /// What suits `problem` on a device, for its final launch without partial results; `role` and `merges` are
    /// the launch's to set.
    ///
    /// # Errors
    ///
    /// What the device lacks, or what of the problem the routine does not take. Tensors must besides lie as
    /// [`aligned`] asks.
    pub fn new(
        problem: &Problem,
        kernel: Kernel,
        properties: &DeviceProperties,
    ) -> Result<Self, Declined> {
        supported(problem, properties)?;
        let causal = problem.schedule.is_causal();
        let span = problem.schedule.span();
        let base = Self {
            d: problem.d,
            d_v: problem.d_v,
            planes: PLANES,
            tiles: 1,
            share: 1,
            stage: 16,
            stages: 2,
            resident: false,
            copy_async: properties.features.copy_async,
            blocks: problem.schedule.mask().is_some(),
            bias: problem.bias,
            role: Role::Final,
            merges: false,
            causal,
            labels: problem.labels,
            gaps: problem.labels
                || problem.bias
                || problem.schedule.mask().is_some()
                || (span.q_start, span.n_q) != (span.k_start, span.n_k),
            dropout: problem.dropout.is_some(),
            zero_keys: problem.schedule.tail() == Tail::ZeroKeys && !causal,
            // A block mask is one branch: nothing is mixed.
            detached: problem.gradient == MixGradient::Detached
                && problem.schedule.mask().is_none(),
        };
        let mut blueprint = base.sized(kernel, rows_a_tile(problem, kernel));
        let has = properties.hardware.max_shared_memory_size;
        // Fewer rows at a time first: copies that overlap with products are worth more.
        while blueprint.shared_memory(kernel) > has && blueprint.stage > 16 {
            blueprint.stage /= 2;
        }
        if blueprint.shared_memory(kernel) > has {
            blueprint.stages = 1;
        }
        match blueprint.shared_memory(kernel) {
            needs if needs > has => Err(Declined(format!(
                "a tile takes {needs} bytes of shared memory, the device has {has}"
            ))),
            _ => Ok(blueprint),
        }
    }

    /// The sizes of tiles at which ptxas spills nothing and that are largest then, where tiles need no more
    /// than `rows` rows.
    fn sized(self, kernel: Kernel, rows: usize) -> Self {
        let width = self.d.max(self.d_v);
        // Rules for single pairs take registers.
        let plain = !self.dropout && !self.labels && !self.bias;
        let two = if rows > 64 && plain { 2 } else { 1 };
        let [tiles, share, stage, resident] = match (kernel, width) {
            (Kernel::Forward, ..=64) if two == 1 => [1, 1, 64, 1],
            (Kernel::Forward, ..=64) => [2, 1, 64, 0],
            (Kernel::Forward, ..=128) if two == 1 => [1, 1, 64, 0],
            (Kernel::Forward, ..=128) => [2, 1, 32, 0],
            (Kernel::Forward, _) => [1, 1, 32, 0],
            (Kernel::Queries, ..=64) if two == 1 => [1, 1, 64, 1],
            (Kernel::Queries, ..=64) => [2, 1, 32, 0],
            (Kernel::Queries, ..=128) => [1, 1, 32, 0],
            (Kernel::Queries, _) => [1, 1, 16, 0],
            (Kernel::Keys, ..=64) => [1, 1, 32, 1],
            (Kernel::Keys, ..=128) => [1, 1, 16, 0],
            (Kernel::Keys, _) => [1, 2, 16, 0],
        };
        Self {
            tiles,
            share,
            stage,
            resident: resident == 1,
            ..self
        }
    }

    /// Units of a cube.
    pub fn units(&self) -> usize {
        self.planes * 32
    }

    /// Rows of a tile: of queries, in the pass over keys of keys.
    pub fn rows(&self) -> usize {
        self.planes / self.share * self.tiles * 16
    }

    /// Shared memory of a cube, in bytes.
    pub fn shared_memory(&self, kernel: Kernel) -> usize {
        let (line, v_line) = (self.line(self.d), self.line(self.d_v));
        let own = match kernel {
            Kernel::Forward => line,
            Kernel::Queries | Kernel::Keys => line + v_line,
        };
        let other = self.stages * self.stage * (line + v_line);
        let labels = if self.labels { 2 * self.stage } else { 1 };
        let aside = match kernel {
            Kernel::Forward => 0,
            Kernel::Queries => self.planes,
            // lse and delta of two stages.
            Kernel::Keys => 4 * self.stage,
        };
        16 * (self.rows() * own + other) + 4 * (labels + aside)
    }

    /// Groups of 16 channels that a plane accumulates of results of `width`.
    pub(crate) fn part(&self, width: usize) -> usize {
        width.div_ceil(16).div_ceil(self.share)
    }

    /// Groups of eight channels between staged rows of `width` channels: one more than they fill, and so an
    /// odd number of 16-byte units, which has eight consecutive rows lie in different banks.
    pub(crate) fn line(&self, width: usize) -> usize {
        self.part(width) * self.share * 2 + 1
    }
}

fn supported(problem: &Problem, properties: &DeviceProperties) -> Result<(), Declined> {
    let decline = |reason: String| Err(Declined(reason));
    let dtype = problem.dtype;
    if ![FloatKind::F16, FloatKind::BF16]
        .map(ElemType::Float)
        .contains(&dtype)
    {
        return decline(format!(
            "tensor cores are used for f16 and bf16, got {dtype}"
        ));
    }
    for (name, width) in [("d", problem.d), ("d_v", problem.d_v)] {
        if !(NARROWEST..=WIDEST).contains(&width) || !width.is_multiple_of(8) {
            return decline(format!(
                "{name} = {width}, tensor cores take multiples of 8 from {NARROWEST} to {WIDEST}"
            ));
        }
    }
    if !problem.aligned {
        return decline("rows do not begin at multiples of 16 bytes".into());
    }
    let scale = problem.scale as f32;
    if !(scale > 0.0 && (scale * std::f32::consts::LOG2_E).is_finite()) {
        return decline(format!(
            "the scale {} is not a positive number within f32",
            problem.scale
        ));
    }
    let features = &properties.features;
    let product = MmaConfig {
        a_type: dtype,
        b_type: dtype,
        cd_type: ElemType::Float(FloatKind::F32),
        m: 16,
        n: 8,
        k: 16,
    };
    if !features.matmul.mma.contains(&product) || !features.matmul.ldmatrix.contains(&dtype) {
        return decline(format!(
            "the device has no m16n8k16 products of {dtype} with ldmatrix"
        ));
    }
    let hardware = &properties.hardware;
    if (hardware.plane_size_min, hardware.plane_size_max) != (32, 32)
        || !features.plane.contains(Plane::Ops)
    {
        return decline("planes are not of 32 units that shuffle".into());
    }
    if (hardware.max_units_per_cube as usize) < PLANES * 32 {
        return decline(format!("a cube takes {} units", PLANES * 32));
    }
    Ok(())
}

/// How many consecutive rows there are at most: of a residue class in a segment, or of a block.
fn rows_a_tile(problem: &Problem, kernel: Kernel) -> usize {
    let schedule = &problem.schedule;
    let (span, keys) = (schedule.span(), kernel == Kernel::Keys);
    if let Some(mask) = schedule.mask() {
        let grid = mask.grid();
        return if keys { grid.k_block } else { grid.q_block };
    }
    let rows = if keys { span.n_k } else { span.n_q };
    (0..schedule.branches())
        .map(|b| schedule.branch(b))
        .map(|branch| branch.segment.min(rows).div_ceil(branch.dilation))
        .max()
        .unwrap_or(rows)
}

/// Whether the routine can read a tensor: its last axis has stride 1 and rows begin at multiples of 16 bytes.
/// `offset` is where it begins, in bytes.
///
/// # Errors
///
/// Which stride or offset cannot be read.
pub fn aligned(shape: &[usize], strides: &[usize], offset: u64) -> Result<(), Declined> {
    let (last, rest) = match strides.split_last() {
        Some((last, rest)) => (*last, rest),
        None => return Err(Declined("a tensor has no axes".into())),
    };
    if last != 1 {
        return Err(Declined(format!(
            "the last axis has stride {last}, tensor cores need 1"
        )));
    }
    let odd = rest
        .iter()
        .zip(shape)
        .find(|&(stride, &extent)| extent > 1 && !stride.is_multiple_of(8));
    if let Some((stride, _)) = odd {
        return Err(Declined(format!(
            "rows are {stride} numbers apart, tensor cores need multiples of 8"
        )));
    }
    match offset.is_multiple_of(16) {
        true => Ok(()),
        false => Err(Declined(format!(
            "a tensor begins at byte {offset}, tensor cores need multiples of 16"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::aligned;

    #[test]
    fn rows_of_16_bytes_are_read() {
        assert_eq!(aligned(&[2, 3, 5, 40], &[600, 200, 40, 1], 512), Ok(()));
        // [batch, n, heads, d] seen as [batch, heads, n, d].
        assert_eq!(aligned(&[2, 3, 5, 40], &[600, 40, 120, 1], 0), Ok(()));
        // The stride of an axis of one does not matter.
        assert_eq!(aligned(&[1, 1, 5, 40], &[7, 3, 40, 1], 0), Ok(()));
        let reason = |shape: &[usize], strides: &[usize], offset| {
            aligned(shape, strides, offset).unwrap_err().to_string()
        };
        assert!(reason(&[1, 1, 5, 40], &[1, 1, 44, 1], 0).contains("44"));
        assert!(reason(&[1, 1, 5, 40], &[1, 1, 40, 2], 0).contains("stride 2"));
        assert!(reason(&[1, 1, 5, 40], &[1, 1, 40, 1], 8).contains("byte 8"));
    }
}
