//! Strided views of host slices.

/// A strided `[batch, heads, rows, width]` view: element `[b, h, i, x]` is
/// `data[offset + b * strides[0] + h * strides[1] + i * strides[2] + x * strides[3]]`.
///
/// Strides count elements and may be anything: zero, negative, of a permuted tensor.
#[derive(Clone, Copy, Debug)]
pub struct View<'a, T> {
    /// The storage.
    pub data: &'a [T],
    /// Where element `[0, 0, 0, 0]` lies in it.
    pub offset: usize,
    /// Batch entries, heads, rows, width.
    pub shape: [usize; 4],
    /// Distance of neighbours along each dimension, in elements.
    pub strides: [isize; 4],
}

impl<'a, T> View<'a, T> {
    /// A view of a slice that holds `shape` in row-major order.
    pub fn contiguous(data: &'a [T], shape: [usize; 4]) -> Self {
        let [_, heads, rows, width] = shape.map(|s| s as isize);
        Self {
            data,
            offset: 0,
            shape,
            strides: [heads * rows * width, rows * width, width, 1],
        }
    }

    /// Panics unless every element lies inside of the slice.
    pub(crate) fn check_bounds(&self, name: &str) {
        if self.shape.contains(&0) {
            return;
        }
        let (mut low, mut high) = (self.offset as i128, self.offset as i128);
        for (&size, &stride) in self.shape.iter().zip(&self.strides) {
            let reach = (size as i128 - 1) * stride as i128;
            low += reach.min(0);
            high += reach.max(0);
        }
        let len = self.data.len();
        assert!(
            low >= 0 && high < len as i128,
            "{name}: shape {:?}, strides {:?} and offset {} reach elements {low}..={high} of a slice of {len}",
            self.shape,
            self.strides,
            self.offset,
        );
    }

    /// Where row `i` of a head starts. The indices must be inside of the shape.
    #[inline]
    pub(crate) fn row_start(&self, batch: usize, head: usize, i: usize) -> usize {
        let [b, h, r, _] = self.strides;
        let shift = batch as isize * b + head as isize * h + i as isize * r;
        self.offset.wrapping_add_signed(shift)
    }
}
