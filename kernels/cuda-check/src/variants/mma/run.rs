//! A problem by the kernels on tensor cores, launch by launch.

use super::reference::{Expected, Problem};
use burn_longnet_kernels::launch;
use burn_longnet_kernels::mma::{self, Kernel, MmaBlueprint};
use burn_longnet_kernels::rules::ArgsLaunch;
use burn_longnet_kernels::table::{Side, Table};
use burn_longnet_kernels::walk::Role;
use cubecl::client::Client;
use cubecl::ir::{AddressType, ElemType, FloatKind};
use cubecl::prelude::*;
use cubecl::server::Handle;
use half::{bf16, f16};
use longnet_pattern::MixGradient;

/// Of 16 bits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Half {
    F16,
    Bf16,
}

impl Half {
    pub fn round(self) -> fn(f64) -> f64 {
        match self {
            Self::F16 => |x| f16::from_f64(x).to_f64(),
            Self::Bf16 => |x| bf16::from_f64(x).to_f64(),
        }
    }

    fn kind(self) -> ElemType {
        ElemType::Float(match self {
            Self::F16 => FloatKind::F16,
            Self::Bf16 => FloatKind::BF16,
        })
    }

    fn bytes(self, values: &[f64]) -> Vec<u8> {
        let bits = values.iter().map(|&x| match self {
            Self::F16 => f16::from_f64(x).to_bits(),
            Self::Bf16 => bf16::from_f64(x).to_bits(),
        });
        bits.flat_map(u16::to_le_bytes).collect()
    }

    fn values(self, bytes: &[u8]) -> Vec<f64> {
        let bits = bytes
            .chunks_exact(2)
            .map(|x| u16::from_le_bytes([x[0], x[1]]));
        bits.map(|x| match self {
            Self::F16 => f16::from_bits(x).to_f64(),
            Self::Bf16 => bf16::from_bits(x).to_f64(),
        })
        .collect()
    }
}

/// How tensors lie in memory.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Layout {
    /// `[batch, heads, n, d]`.
    Contiguous,
    /// `[batch, n, heads, d]`, as a projection leaves them.
    Permuted,
}

/// What varies in how a problem is run, not in what comes out.
#[derive(Clone, Copy, Debug)]
pub struct Way {
    pub half: Half,
    pub layout: Layout,
    /// Changes what the routine would choose.
    pub adjust: fn(MmaBlueprint) -> MmaBlueprint,
}

pub struct Device<'a> {
    pub client: &'a Client,
    pub problem: &'a Problem,
    pub way: Way,
}

#[derive(Clone)]
struct Buffer {
    handle: Handle,
    shape: Vec<usize>,
    strides: Vec<usize>,
}

impl Buffer {
    fn arg(&self) -> TensorArg {
        let (strides, shape) = (self.strides.clone(), self.shape.clone());
        unsafe { TensorArg::from_raw_parts(self.handle.clone(), strides.into(), shape.into()) }
    }
}

fn contiguous(shape: &[usize]) -> Vec<usize> {
    (0..shape.len())
        .map(|i| shape[i + 1..].iter().product())
        .collect()
}

impl Device<'_> {
    fn half(&self, shape: [usize; 4], values: &[f64]) -> Buffer {
        let [batch, heads, n, d] = shape;
        let (data, strides) = match self.way.layout {
            Layout::Contiguous => (values.to_vec(), contiguous(&shape)),
            Layout::Permuted => {
                let mut data = vec![0.0; values.len()];
                for (from, value) in values.iter().enumerate() {
                    let (x, i, h) = (from % d, from / d % n, from / d / n % heads);
                    let b = from / d / n / heads;
                    data[((b * n + i) * heads + h) * d + x] = *value;
                }
                (data, vec![n * heads * d, d, heads * d, 1])
            }
        };
        assert_eq!(data.len(), batch * heads * n * d);
        Buffer {
            handle: self.client.create_from_slice(&self.way.half.bytes(&data)),
            shape: shape.into(),
            strides,
        }
    }

    fn floats(&self, shape: &[usize], values: &[f64]) -> Buffer {
        let bytes: Vec<u8> = values
            .iter()
            .flat_map(|&x| (x as f32).to_le_bytes())
            .collect();
        Buffer {
            handle: self.client.create_from_slice(&bytes),
            shape: shape.to_vec(),
            strides: contiguous(shape),
        }
    }

    fn empty(&self, shape: &[usize], bytes: usize) -> Buffer {
        let count = shape.iter().product::<usize>().max(1);
        Buffer {
            handle: self.client.empty(count * bytes),
            shape: shape.to_vec(),
            strides: contiguous(shape),
        }
    }

    fn words(&self, values: &[u32]) -> BufferArg {
        let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
        let handle = self.client.create_from_slice(&bytes);
        unsafe { BufferArg::from_raw_parts(handle, values.len()) }
    }

    fn labels(&self) -> (BufferArg, BufferArg) {
        let words = |labels: &[i32]| labels.iter().map(|&x| x as u32).collect::<Vec<_>>();
        match &self.problem.labels {
            Some((q, k)) => (self.words(&words(q)), self.words(&words(k))),
            None => (self.words(&[0]), self.words(&[0])),
        }
    }

    fn args(&self, tiles: usize) -> ArgsLaunch {
        let dropout = self.problem.dropout;
        ArgsLaunch::new(
            self.problem.scale as f32,
            f32::NEG_INFINITY,
            dropout.map_or(0, |x| x.seed as u32),
            dropout.map_or(0, |x| (x.seed >> 32) as u32),
            dropout.map_or(0, |x| x.threshold() as u32),
            dropout.map_or(1.0, |x| x.scale() as f32),
            tiles as u32,
        )
    }

    fn blueprint(&self, kernel: Kernel) -> Result<MmaBlueprint, String> {
        let p = self.problem;
        let call = launch::Problem {
            schedule: p.schedule.clone(),
            scale: p.scale,
            gradient: p.mix,
            dropout: p.dropout,
            labels: p.labels.is_some(),
            bias: p.bias.is_some(),
            dtype: self.way.half.kind(),
            aligned: true,
            batch: p.batch,
            kv_heads: p.kv_heads,
            d: p.d,
            d_v: p.d_v,
        };
        MmaBlueprint::new(&call, kernel, self.client.properties())
            .map(self.way.adjust)
            .map_err(|declined| declined.to_string())
    }

    fn table(&self, rows: usize) -> Table {
        Table::new(&self.problem.schedule, self.problem.kv_heads, rows, rows)
            .expect("a small table")
    }

    fn bias(&self) -> Buffer {
        let p = self.problem;
        match &p.bias {
            Some(bias) => self.floats(&[p.batch, bias.len() / p.batch], bias),
            None => self.empty(&[1, 1], 4),
        }
    }

    fn read(&self, buffer: &Buffer) -> Result<Vec<f64>, String> {
        Ok(self.way.half.values(&self.bytes(buffer)?))
    }

    fn bytes(&self, buffer: &Buffer) -> Result<Vec<u8>, String> {
        let bytes = self.client.read_one(buffer.handle.clone());
        Ok(bytes.map_err(|error| error.to_string())?.to_vec())
    }

    fn read_floats(&self, buffer: &Buffer) -> Result<Vec<f64>, String> {
        let bytes = self.bytes(buffer)?;
        let floats = bytes.chunks_exact(4);
        Ok(floats
            .map(|x| f32::from_le_bytes([x[0], x[1], x[2], x[3]]) as f64)
            .collect())
    }

    /// The launches of a side that has work, with what they need to know.
    fn roles(side: &Side) -> Vec<(Role, bool, usize)> {
        let mut roles = Vec::new();
        if side.partial_tiles > 0 {
            roles.push((Role::Partial, false, side.partial_tiles));
        }
        roles.push((Role::Final, side.partial_tiles > 0, side.final_tiles));
        roles
    }

    /// All launches of a call, forward and backward.
    pub fn run(&self) -> Result<Expected, String> {
        let p = self.problem;
        let span = p.schedule.span();
        let (heads, d, d_v) = (p.heads(), p.d, p.d_v);
        let (float, half) = (ElemType::Float(FloatKind::F32), self.way.half.kind());
        let q = self.half([p.batch, heads, span.n_q, d], &p.q);
        let k = self.half([p.batch, p.kv_heads, span.n_k, d], &p.k);
        let v = self.half([p.batch, p.kv_heads, span.n_k, d_v], &p.v);
        let dout = self.half([p.batch, heads, span.n_q, d_v], &p.dout);
        let types = |role| match role {
            Role::Partial => [half, float],
            Role::Final => [half, half],
        };
        let count = |tiles: usize, planes: usize| {
            CubeCount::Static(tiles as u32, (p.batch * planes) as u32, 1)
        };

        let out = self.empty(&[p.batch, heads, span.n_q, d_v], 2);
        let lse = self.empty(&[p.batch, heads, span.n_q], 4);
        let forward = self.blueprint(Kernel::Forward)?;
        let table = self.table(forward.rows());
        let rows = table.queries.partial_rows.max(1);
        let partial_out = self.empty(&[p.batch, heads, rows, d_v], 4);
        let partial_lse = self.empty(&[p.batch, heads, rows], 4);
        let nothing = [self.empty(&[1, 1, 1, 2], 4), self.empty(&[1, 1, 1], 4)];
        for (role, merges, tiles) in Self::roles(&table.queries) {
            let blueprint = MmaBlueprint {
                role,
                merges,
                ..forward
            };
            let (q_labels, k_labels) = self.labels();
            let (from, to) = match role {
                Role::Partial => (&nothing, [&partial_out, &partial_lse]),
                Role::Final if merges => {
                    (&[partial_out.clone(), partial_lse.clone()], [&out, &lse])
                }
                Role::Final => (&nothing, [&out, &lse]),
            };
            mma::attention::launch(
                self.client,
                count(tiles, heads),
                CubeDim::new_1d(blueprint.units() as u32),
                AddressType::U32,
                q.arg(),
                k.arg(),
                v.arg(),
                q_labels,
                k_labels,
                self.bias().arg(),
                self.words(&table.words),
                from[0].arg(),
                from[1].arg(),
                to[0].arg(),
                to[1].arg(),
                self.args(tiles),
                blueprint,
                types(role),
            );
        }
        let dlse = self.floats(&[p.batch, heads, span.n_q], &p.dlse);
        // The backward pass is given the forward's results.
        let detached = p.mix == MixGradient::Detached;
        let dq = self.empty(&[p.batch, heads, span.n_q, d], 2);
        let of_queries = self.blueprint(Kernel::Queries)?;
        let table = self.table(of_queries.rows());
        let delta = match detached {
            true => self.empty(&[p.batch, heads, table.queries.branch_rows], 4),
            false => {
                let (out, lse) = (self.read(&out)?, &p.dlse);
                let values: Vec<f64> = (0..lse.len())
                    .map(|i| {
                        let (out, dout) = (&out[i * d_v..][..d_v], &p.dout[i * d_v..][..d_v]);
                        out.iter().zip(dout).map(|(x, y)| x * y).sum::<f64>() - lse[i]
                    })
                    .collect();
                self.floats(&[p.batch, heads, span.n_q], &values)
            }
        };
        let rows = table.queries.partial_rows.max(1);
        let partial = self.empty(&[p.batch, heads, rows, d], 4);
        let blocks = p.bias.as_ref().map_or(0, |bias| bias.len() / p.batch);
        let q_block = p.schedule.mask().map_or(1, |mask| mask.grid().q_block);
        let places = q_block.div_ceil(of_queries.rows());
        let count_of_sums = p.batch * blocks.max(1) * places;
        let dbias = self.floats(&[p.batch, blocks.max(1), places], &vec![0.0; count_of_sums]);
        for (role, merges, tiles) in Self::roles(&table.queries) {
            let blueprint = MmaBlueprint {
                role,
                merges,
                ..of_queries
            };
            let (q_labels, k_labels) = self.labels();
            let (from, to) = match role {
                Role::Partial => (&nothing[0], &partial),
                Role::Final if merges => (&partial, &dq),
                Role::Final => (&nothing[0], &dq),
            };
            mma::query_gradients::launch(
                self.client,
                count(tiles, heads),
                CubeDim::new_1d(blueprint.units() as u32),
                AddressType::U32,
                q.arg(),
                k.arg(),
                v.arg(),
                dout.arg(),
                lse.arg(),
                dlse.arg(),
                q_labels,
                k_labels,
                self.bias().arg(),
                self.words(&table.words),
                from.arg(),
                delta.arg(),
                to.arg(),
                dbias.arg(),
                self.args(tiles),
                blueprint,
                types(role),
            );
        }

        let dk = self.empty(&[p.batch, p.kv_heads, span.n_k, d], 2);
        let dv = self.empty(&[p.batch, p.kv_heads, span.n_k, d_v], 2);
        let of_keys = self.blueprint(Kernel::Keys)?;
        let table = self.table(of_keys.rows());
        let rows = table.keys.partial_rows.max(1);
        let partials = [
            self.empty(&[p.batch, heads, rows, d], 4),
            self.empty(&[p.batch, heads, rows, d_v], 4),
        ];
        let nothing = [nothing[0].clone(), nothing[0].clone()];
        let results = [dk.clone(), dv.clone()];
        for (role, merges, tiles) in Self::roles(&table.keys) {
            let blueprint = MmaBlueprint {
                role,
                merges,
                ..of_keys
            };
            let (q_labels, k_labels) = self.labels();
            let (from, to, planes) = match role {
                Role::Partial => (&nothing, &partials, heads),
                Role::Final if merges => (&partials, &results, p.kv_heads),
                Role::Final => (&nothing, &results, p.kv_heads),
            };
            mma::key_gradients::launch(
                self.client,
                count(tiles, planes),
                CubeDim::new_1d(blueprint.units() as u32),
                AddressType::U32,
                q.arg(),
                k.arg(),
                v.arg(),
                dout.arg(),
                lse.arg(),
                delta.arg(),
                q_labels,
                k_labels,
                self.bias().arg(),
                self.words(&table.words),
                from[0].arg(),
                from[1].arg(),
                to[0].arg(),
                to[1].arg(),
                self.args(tiles),
                blueprint,
                types(role),
            );
        }
        let sums = self.read_floats(&dbias)?;
        Ok(Expected {
            out: self.read(&out)?,
            lse: self.read_floats(&lse)?,
            dq: self.read(&dq)?,
            dk: self.read(&dk)?,
            dv: self.read(&dv)?,
            dbias: sums
                .chunks_exact(places)
                .take(p.batch * blocks)
                .map(|x| x.iter().sum())
                .collect(),
        })
    }
}
