//! Products of f32 matrices, by the `gemm` crate.
//!
//! The result is written once, into memory that nothing cleared before, and a product that sums over
//! many rows, such as the gradient of a weight, is cut along them, which keeps all threads busy.

use crate::rowwise::add_slice;
use gemm::Parallelism;
use rayon::prelude::*;
use std::ops::Range;

/// A strided view: element `[i, j]` is `data[offset + i * strides[0] + j * strides[1]]`.
#[derive(Clone, Copy, Debug)]
pub struct Matrix<'a> {
    /// The storage.
    pub data: &'a [f32],
    /// Where element `[0, 0]` lies in it.
    pub offset: usize,
    /// Rows and columns.
    pub shape: [usize; 2],
    /// Distance of neighbours along each dimension, in elements.
    pub strides: [isize; 2],
}

impl Matrix<'_> {
    /// The address of element `[0, 0]`, if all elements lie inside of the slice.
    fn start(&self, name: &str) -> *const f32 {
        let view = crate::View {
            data: self.data,
            offset: self.offset,
            shape: [1, 1, self.shape[0], self.shape[1]],
            strides: [0, 0, self.strides[0], self.strides[1]],
        };
        view.check_bounds(name);
        self.data.as_ptr().wrapping_add(self.offset)
    }
}

/// Terms of a sum that are added before the next part of it; such parts run side by side.
const DEPTH: usize = 1024;

/// The largest result that is computed in parts, each of which needs as much memory.
const SMALL: usize = 1 << 20;

/// The most parts.
const PARTS: usize = 8;

/// Multiplications that are worth threads.
const WORTH_THREADS: usize = 192 * 192 * 192;

/// `a · b` in row-major order. The same bits for any number of threads.
///
/// # Panics
///
/// If the inner sizes differ, or a view reaches outside of its slice.
pub fn product(a: Matrix, b: Matrix) -> Vec<f32> {
    let ([rows, depth], [inner, columns]) = (a.shape, b.shape);
    assert_eq!(depth, inner, "columns of a and rows of b");
    let size = rows * columns;
    let operands = Operands {
        a: a.start("a"),
        b: b.start("b"),
        strides: [a.strides, b.strides],
        shape: [rows, columns],
    };
    if size == 0 || depth == 0 {
        return vec![0.0; size];
    }
    let work = size.saturating_mul(depth);
    if depth < 2 * DEPTH || size > SMALL || work < WORTH_THREADS {
        let threads = match work < WORTH_THREADS {
            true => Parallelism::None,
            false => Parallelism::Rayon(0),
        };
        return operands.product(0..depth, threads);
    }
    let parts = (depth / DEPTH).min(PARTS);
    let threads = match rayon::current_num_threads() > parts {
        true => Parallelism::Rayon(0),
        false => Parallelism::None,
    };
    let part = |i| operands.product(i * depth / parts..(i + 1) * depth / parts, threads);
    let parts: Vec<_> = (0..parts).into_par_iter().map(part).collect();
    let mut parts = parts.into_iter();
    let mut sum = parts.next().expect("at least one part");
    parts.for_each(|part| add_slice(&mut sum, &part));
    sum
}

/// Matrices whose elements lie inside of their slices, from their first.
#[derive(Clone, Copy)]
struct Operands {
    a: *const f32,
    b: *const f32,
    strides: [[isize; 2]; 2],
    /// Of the product.
    shape: [usize; 2],
}

// SAFETY: only `product` reads through the pointers, while the slices are borrowed.
unsafe impl Send for Operands {}
// SAFETY: as above; nothing writes.
unsafe impl Sync for Operands {}

impl Operands {
    /// The product of columns `depth` of a and rows `depth` of b.
    fn product(self, depth: Range<usize>, threads: Parallelism) -> Vec<f32> {
        let ([rows, columns], [a, b]) = (self.shape, self.strides);
        let start = depth.start as isize;
        let mut out = Vec::with_capacity(rows * columns);
        // SAFETY: the operands are inside of their slices, checked in `product`; gemm writes each
        // element of the result, which has the capacity, and reads none of them.
        unsafe {
            gemm::gemm(
                rows,
                columns,
                depth.len(),
                out.as_mut_ptr(),
                1,
                columns as isize,
                false,
                self.a.wrapping_offset(start * a[1]),
                a[1],
                a[0],
                self.b.wrapping_offset(start * b[0]),
                b[1],
                b[0],
                0.0f32,
                1.0f32,
                false,
                false,
                false,
                threads,
            );
            out.set_len(rows * columns);
        }
        out
    }
}
