//! What runs per tile and per row: compiled once per instruction set, chosen once per process.

pub mod bf16;
mod levels;
mod lines;
mod product;
mod rows;
#[cfg(target_arch = "x86_64")]
mod rows_avx512;
mod transpose;
mod vector;
mod widen;

use crate::element::Element;
use crate::real::Real;
use lines::LineArgs;

pub use levels::{UnknownLevel, available, selected};

/// Widths of packed rows are padded to multiples of this.
pub const LANE: usize = 16;
/// Columns of a transposed panel, see [`Kernels::transpose`].
pub const PANEL: usize = 64;
/// The columns of a tile that are computed are padded to multiples of this.
pub const STEP: usize = 32;

/// A row-major matrix in scratch memory: rows start `ld` apart.
#[derive(Clone, Copy)]
pub struct Matrix<'a, R> {
    pub data: &'a [R],
    pub ld: usize,
}

/// Rows of a tensor where they lie: the `width` elements of `data` from each of `starts` on.
#[derive(Clone, Copy)]
pub struct Lines<'a, E> {
    pub data: &'a [E],
    pub starts: &'a [usize],
    pub width: usize,
}

impl<E> Lines<'_, E> {
    fn inside(&self) -> bool {
        let last = self.data.len().checked_sub(self.width);
        self.width == 0 || last.is_some_and(|last| self.starts.iter().all(|&start| start <= last))
    }
}

/// The kernels of one instruction set.
///
/// They are `unsafe` to call on a machine without it, and those that take pointers do not check
/// them; the methods below make all of them safe, since a table is only ever handed out by
/// [`available`] and [`selected`].
pub struct Kernels<R: 'static> {
    product: unsafe fn(ProductArgs<R>),
    product_tn: unsafe fn(ProductArgs<R>),
    transpose: unsafe fn(&mut [R], *const R, usize, usize, usize),
    line_scores: &'static [unsafe fn(LineArgs<R>)],
    line_sums: &'static [unsafe fn(LineArgs<R>)],
    softmax: unsafe fn(&mut [R], R, R) -> (R, R),
    scale: unsafe fn(&mut [R], R),
    multiply: unsafe fn(&mut [R], &[R]),
    add: unsafe fn(&mut [R], &[R]),
    sum: unsafe fn(&[R]) -> R,
    gradient_of_row: unsafe fn(&mut [R], &mut [R], R, R, R),
    keep: unsafe fn(&mut [R], u32, &[u32], u32, R),
}

/// `c = a b`, or `c += a b` if `add`; `a` is `m x k` (stored `k x m` for `product_tn`), `b` is `k x n`.
#[derive(Clone, Copy)]
struct ProductArgs<R> {
    c: *mut R,
    ldc: usize,
    a: *const R,
    lda: usize,
    b: *const R,
    ldb: usize,
    m: usize,
    n: usize,
    k: usize,
    add: bool,
}

#[inline(always)]
fn spans(len: usize, ld: usize, rows: usize, width: usize) -> bool {
    rows == 0 || (rows - 1) * ld + width <= len
}

// SAFETY of every block below: the table holds functions that this machine runs (see `Kernels`), and
// the assertions bound every address.
impl<R: Real> Kernels<R> {
    /// `c = a b`, or `c += a b` if `add`, where `a` is `m x k` and `b` is `k x n` with `n` a multiple
    /// of [`LANE`]. Every element of the product is one chain of sums over `k` in ascending order,
    /// wherever its row lies.
    #[inline]
    pub fn product(
        &self,
        c: &mut [R],
        ldc: usize,
        a: Matrix<R>,
        b: Matrix<R>,
        [m, n, k]: [usize; 3],
        add: bool,
    ) {
        assert!(n.is_multiple_of(LANE));
        assert!(spans(c.len(), ldc, m, n) && spans(a.data.len(), a.ld, m, k));
        assert!(spans(b.data.len(), b.ld, k, n));
        let args = ProductArgs {
            c: c.as_mut_ptr(),
            ldc,
            a: a.data.as_ptr(),
            lda: a.ld,
            b: b.data.as_ptr(),
            ldb: b.ld,
            m,
            n,
            k,
            add,
        };
        unsafe { (self.product)(args) }
    }

    /// `c += a^T b`, where `a` is `k x m` and `b` is `k x n` with `n` a multiple of [`LANE`]. Sums as
    /// [`product`](Self::product) does.
    #[inline]
    pub fn add_product_tn(
        &self,
        c: &mut [R],
        ldc: usize,
        a: Matrix<R>,
        b: Matrix<R>,
        [m, n, k]: [usize; 3],
    ) {
        assert!(n.is_multiple_of(LANE));
        assert!(spans(c.len(), ldc, m, n) && spans(a.data.len(), a.ld, k, m));
        assert!(spans(b.data.len(), b.ld, k, n));
        let args = ProductArgs {
            c: c.as_mut_ptr(),
            ldc,
            a: a.data.as_ptr(),
            lda: a.ld,
            b: b.data.as_ptr(),
            ldb: b.ld,
            m,
            n,
            k,
            add: true,
        };
        unsafe { (self.product_tn)(args) }
    }

    /// Rows of width `d` to panels `[panel][d][PANEL]`; columns past `rows` are zeroed.
    #[inline]
    pub fn transpose(&self, panels: &mut [R], src: Matrix<R>, rows: usize, d: usize) {
        assert!(panels.len() >= rows.div_ceil(PANEL) * PANEL * d);
        assert!(spans(src.data.len(), src.ld, rows, d));
        unsafe { (self.transpose)(panels, src.data.as_ptr(), src.ld, rows, d) }
    }

    /// The products of rows `slots` of `a`, widths padded with zeros to a multiple of [`LANE`], and
    /// `lines`: those of `slots[i]` in row `i` of `c`. The columns of `c` are padded to a multiple of
    /// [`STEP`], with anything. Meanwhile `next`, what is read next, is fetched.
    #[inline]
    pub fn line_scores<E: Element<Acc = R>>(
        &self,
        c: &mut [R],
        ldc: usize,
        a: Matrix<R>,
        slots: &[usize],
        lines: Lines<E>,
        next: Lines<E>,
    ) {
        let width = lines.width.next_multiple_of(LANE);
        let columns = lines.starts.len().next_multiple_of(STEP);
        assert!(spans(c.len(), ldc, slots.len(), columns));
        assert!(slots.iter().all(|i| i * a.ld + width <= a.data.len()));
        assert!(lines.inside());
        let args = LineArgs {
            tile: c.as_mut_ptr(),
            ld_tile: ldc,
            packed: a.data.as_ptr().cast_mut(),
            ld_packed: a.ld,
            slots,
            data: lines.data.as_ptr().cast(),
            starts: lines.starts,
            width: lines.width,
            next: (next.data.as_ptr().cast(), next.starts, next.width),
        };
        unsafe { self.line_scores[E::STORAGE as usize](args) }
    }

    /// Adds sums of `lines` to rows `slots` of `c`, widths padded to a multiple of [`LANE`]: those
    /// with the weights of row `i` of `a` to row `slots[i]`.
    #[inline]
    pub fn line_sums<E: Element<Acc = R>>(
        &self,
        c: &mut [R],
        ldc: usize,
        slots: &[usize],
        a: Matrix<R>,
        lines: Lines<E>,
    ) {
        let width = lines.width.next_multiple_of(LANE);
        assert!(spans(a.data.len(), a.ld, slots.len(), lines.starts.len()));
        assert!(slots.iter().all(|i| i * ldc + width <= c.len()));
        assert!(lines.inside());
        let args = LineArgs {
            tile: a.data.as_ptr().cast_mut(),
            ld_tile: a.ld,
            packed: c.as_mut_ptr(),
            ld_packed: ldc,
            slots,
            data: lines.data.as_ptr().cast(),
            starts: lines.starts,
            width: lines.width,
            next: (std::ptr::null(), &[], 0),
        };
        unsafe { self.line_sums[E::STORAGE as usize](args) }
    }

    /// Scores, times the positive `factor` in base 2, to weights, in place, relative to the maximum of `m`
    /// and the scores. Returns that maximum and the sum of the weights. `-inf` gives 0.
    #[inline]
    pub fn softmax(&self, s: &mut [R], factor: R, m: R) -> (R, R) {
        unsafe { (self.softmax)(s, factor, m) }
    }

    /// `x *= c`.
    #[inline]
    pub fn scale(&self, x: &mut [R], c: R) {
        unsafe { (self.scale)(x, c) }
    }

    /// `x *= y`.
    #[inline]
    pub fn multiply(&self, x: &mut [R], y: &[R]) {
        unsafe { (self.multiply)(x, y) }
    }

    /// `x += y`.
    #[inline]
    pub fn add(&self, x: &mut [R], y: &[R]) {
        unsafe { (self.add)(x, y) }
    }

    /// The sum.
    #[inline]
    pub fn sum(&self, x: &[R]) -> R {
        unsafe { (self.sum)(x) }
    }

    /// `s = 2^(factor s - lse)`, `dp = s (dp - delta)`: a row of one query.
    #[inline]
    pub fn gradient_of_row(&self, s: &mut [R], dp: &mut [R], factor: R, lse: R, delta: R) {
        unsafe { (self.gradient_of_row)(s, dp, factor, lse, delta) }
    }

    /// Dropout factors: `scale` where the draw of `word` and the column's word reaches `threshold`,
    /// else 0.
    #[inline]
    pub fn keep(&self, c: &mut [R], word: u32, words: &[u32], threshold: u32, scale: R) {
        unsafe { (self.keep)(c, word, words, threshold, scale) }
    }
}

#[cfg(test)]
mod tests;
