//! Where things lie in tensors: the one place where row numbers, of 32 bits, become offsets in the kernel's
//! address type.

use cubecl::prelude::*;

/// Where `head` of a batch entry begins in `[batch, heads, n, width]`.
#[cube]
pub fn head_at<E: CubePrimitive>(x: &Tensor<E>, batch: u32, head: u32) -> usize {
    batch as usize * x.stride(0) + head as usize * x.stride(1)
}

/// Where row `row` of the head that begins at `start` begins.
#[cube]
pub fn row_at<E: CubePrimitive>(x: &Tensor<E>, start: usize, row: u32) -> usize {
    start + row as usize * x.stride(2)
}

/// The number of a row, over all heads of all batch entries: `head` is counted so, of `rows` rows each.
#[cube]
pub fn flat(head: u32, rows: usize, row: u32) -> usize {
    head as usize * rows + row as usize
}
