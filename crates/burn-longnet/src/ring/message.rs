//! Rows of keys and values as one flat tensor.

use super::Expected;
use crate::pattern::ring::{Exchange, SeenRows};
use burn::tensor::{DType, Device, FloatDType, Int, IntDType, Tensor, TensorData};

/// Keys and values of a shard, or their gradients, and the labels of the keys.
#[derive(Clone, Debug)]
pub(super) struct Keys {
    /// `[batch, kv_heads, rows, d]`.
    pub k: Tensor<4>,
    /// `[batch, kv_heads, rows, d_v]`.
    pub v: Tensor<4>,
    /// `[batch, rows]`, 32 bits.
    pub labels: Option<Tensor<2, Int>>,
}

impl Keys {
    /// With rows side by side, so that each message need not copy the whole shard to pick rows of it.
    pub fn contiguous(&self) -> Self {
        let contiguous = |t: &Tensor<4>| {
            let dims = t.dims();
            let flat: Tensor<1> = t.clone().reshape([dims.iter().product::<usize>()]);
            flat.reshape(dims)
        };
        Self {
            k: contiguous(&self.k),
            v: contiguous(&self.v),
            labels: self.labels.clone(),
        }
    }
}

/// What a message holds: the rows of `exchange` of a shard of `rows` rows.
pub(super) struct Message<'a> {
    pub exchange: &'a Exchange,
    pub rows: usize,
    pub batch: usize,
    /// Widths of a key and of a value.
    pub widths: [usize; 2],
    pub dtype: DType,
    pub device: Device,
    pub labels: bool,
}

/// A label as numbers of a float type: pieces of so many bits, which it holds exactly.
fn pieces(dtype: DType) -> (usize, u32) {
    match dtype {
        DType::F64 => (1, 32),
        DType::F32 => (2, 16),
        _ => (4, 8),
    }
}

impl Message<'_> {
    fn len(&self) -> usize {
        let keys = self.exchange.rows() * (self.widths[0] + self.widths[1]);
        let labels = match self.labels {
            true => self.exchange.any().len() * pieces(self.dtype).0,
            false => 0,
        };
        self.batch * (keys + labels)
    }

    /// What the receiver waits for; `None` if nothing is sent.
    pub fn expected(&self) -> Option<Expected> {
        (!self.exchange.is_empty()).then(|| Expected {
            len: self.len(),
            dtype: self.dtype,
            device: self.device.clone(),
        })
    }

    /// The message; `None` if it is empty.
    pub fn pack(&self, keys: &Keys) -> Option<Tensor<1>> {
        if self.exchange.is_empty() {
            return None;
        }
        let index = self.index();
        let flat = |t: &Tensor<4>| {
            let [batch, heads, rows, width] = t.dims();
            let t = match &index {
                None => t.clone(),
                Some(index) => {
                    let t: Tensor<3> = t.clone().reshape([batch, heads * rows, width]);
                    t.select(1, index.clone()).unsqueeze()
                }
            };
            let t: Tensor<1> = t.reshape([self.batch * self.exchange.rows() * width]);
            t.cast(FloatDType::from(self.dtype))
        };
        let mut parts = vec![flat(&keys.k), flat(&keys.v)];
        if let Some(labels) = keys.labels.as_ref().filter(|_| self.labels) {
            let labels = match self.exchange.any() {
                SeenRows::All(_) => labels.clone(),
                rows => labels.clone().select(1, self.indices(rows.iter())),
            };
            parts.extend(self.split(labels));
        }
        Some(Tensor::cat(parts, 0))
    }

    /// What was packed, in a whole shard. Rows that were not sent are zero.
    pub fn unpack(&self, message: Tensor<1>) -> Keys {
        let (rows, mut start) = (self.exchange.rows(), 0);
        let mut next = |len: usize| {
            start += len;
            message.clone().slice(start - len..start)
        };
        let heads = self.exchange.heads().len();
        let inverse = (!self.exchange.is_whole()).then(|| self.inverse());
        let mut unpack = |width: usize| {
            let t = next(self.batch * rows * width);
            let shard = [self.batch, heads, self.rows, width];
            match &inverse {
                None => t.reshape(shard),
                Some(inverse) => {
                    let t: Tensor<3> = t.reshape([self.batch, rows, width]);
                    let zero = Tensor::zeros([self.batch, 1, width], (&self.device, self.dtype));
                    let t = Tensor::cat(vec![t, zero], 1);
                    t.select(1, inverse.clone()).reshape(shard)
                }
            }
        };
        let (k, v) = (unpack(self.widths[0]), unpack(self.widths[1]));
        let labels = self.labels.then(|| {
            let any = self.exchange.any();
            let labels = self.join(|| next(self.batch * any.len()), any.len());
            match any {
                SeenRows::All(_) => labels,
                any => {
                    let mut inverse = vec![0; self.rows];
                    any.iter()
                        .enumerate()
                        .for_each(|(at, row)| inverse[row] = at);
                    labels.select(1, self.indices(inverse.into_iter()))
                }
            }
        });
        Keys { k, v, labels }
    }

    /// The rows in a shard that is flattened over heads, unless all are sent.
    fn index(&self) -> Option<Tensor<1, Int>> {
        let flat = (self.exchange.heads().iter().enumerate())
            .flat_map(|(head, rows)| rows.iter().map(move |row| head * self.rows + row));
        (!self.exchange.is_whole()).then(|| self.indices(flat))
    }

    /// For each row of the flattened shard its place in the message, one past the end if it has none.
    fn inverse(&self) -> Tensor<1, Int> {
        let heads = self.exchange.heads();
        let mut inverse = vec![self.exchange.rows(); heads.len() * self.rows];
        let flat = (heads.iter().enumerate())
            .flat_map(|(head, rows)| rows.iter().map(move |row| head * self.rows + row));
        flat.enumerate().for_each(|(at, row)| inverse[row] = at);
        self.indices(inverse.into_iter())
    }

    fn indices(&self, indices: impl Iterator<Item = usize>) -> Tensor<1, Int> {
        let indices: Vec<i32> = indices
            .map(|index| {
                i32::try_from(index).expect("a shard has less than 2^31 rows of all kv heads")
            })
            .collect();
        let len = indices.len();
        Tensor::from_data(TensorData::new(indices, [len]), (&self.device, DType::I32))
    }

    /// Labels `[batch, rows]` in pieces, the low bits first.
    fn split(&self, labels: Tensor<2, Int>) -> Vec<Tensor<1>> {
        let [batch, rows] = labels.dims();
        let (count, bits) = pieces(self.dtype);
        let piece = |i: usize| {
            // The shift keeps the sign, so that the last piece has it.
            let high = labels
                .clone()
                .bitwise_right_shift_scalar((i as u32 * bits) as i32);
            let piece = match i + 1 == count {
                true => high,
                false => high.bitwise_and_scalar((1i32 << bits) - 1),
            };
            let piece: Tensor<1, Int> = piece.reshape([batch * rows]);
            piece.cast(FloatDType::from(self.dtype))
        };
        (0..count).map(piece).collect()
    }

    /// The inverse of [`split`](Self::split).
    fn join(&self, mut next: impl FnMut() -> Tensor<1>, rows: usize) -> Tensor<2, Int> {
        let (count, bits) = pieces(self.dtype);
        let mut labels: Option<Tensor<1, Int>> = None;
        for i in 0..count {
            let piece = next().cast(IntDType::I32);
            let piece = match i {
                0 => piece,
                _ => piece.bitwise_left_shift_scalar((i as u32 * bits) as i32),
            };
            labels = Some(match labels {
                None => piece,
                Some(low) => low.bitwise_or(piece),
            });
        }
        let labels = labels.expect("a label has a piece");
        labels.reshape([self.batch, rows])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pattern::Pattern;
    use crate::pattern::ring::{Layout, RingSchedule, Shards};

    #[test]
    fn labels_of_all_bits_travel_in_every_dtype() {
        let device = Device::default();
        let all = [
            i32::MIN,
            i32::MAX,
            -1,
            0,
            255,
            256,
            -70_000,
            16_777_217,
            -16_777_217,
        ];
        let rows = all.len();
        let shards = Shards::new(Layout::Contiguous, 2 * rows, 2);
        let schedule = RingSchedule::new(&Pattern::dense(1, false), &shards, 1, 0).unwrap();
        let exchange = &schedule.hops()[1].outgoing;
        let labels = Tensor::from_data(
            TensorData::new(all.to_vec(), [1, rows]),
            (&device, DType::I32),
        );
        for dtype in [DType::F64, DType::F32, DType::F16, DType::BF16] {
            let random = |width| {
                let t = Tensor::<4>::ones([1, 1, rows, width], &device);
                t.cast(FloatDType::from(dtype))
            };
            let keys = Keys {
                k: random(2),
                v: random(3),
                labels: Some(labels.clone()),
            };
            let message = Message {
                exchange,
                rows,
                batch: 1,
                widths: [2, 3],
                dtype,
                device: device.clone(),
                labels: true,
            };
            let packed = message.pack(&keys).expect("all rows are seen");
            let bytes = packed.dims()[0] * dtype.size();
            assert_eq!(bytes, rows * (5 * dtype.size() + Exchange::LABEL_BYTES));
            let unpacked = message.unpack(packed);
            let got: Vec<i32> = unpacked
                .labels
                .expect("labels")
                .into_data()
                .iter()
                .collect();
            assert_eq!(got, all, "{dtype:?}");
        }
    }
}
