//! Scratch memory on cache-line boundaries.

use std::ops::{Deref, DerefMut};

/// A slice that starts on a boundary of 64 bytes, so that vector loads do not straddle lines.
#[derive(Default)]
pub struct Buffer<R> {
    data: Vec<R>,
    start: usize,
    len: usize,
}

impl<R: Copy + Default> Buffer<R> {
    /// `len` zeros.
    pub fn new(len: usize) -> Self {
        let spare = 64 / size_of::<R>();
        let data = vec![R::default(); len + spare];
        let start = data.as_ptr().align_offset(64).min(spare);
        Self { data, start, len }
    }

    /// Makes room for `len` elements; what was there is lost.
    pub fn grow(&mut self, len: usize) {
        if self.len < len {
            *self = Self::new(len);
        }
    }
}

impl<R> Deref for Buffer<R> {
    type Target = [R];

    #[inline]
    fn deref(&self) -> &[R] {
        &self.data[self.start..self.start + self.len]
    }
}

impl<R> DerefMut for Buffer<R> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [R] {
        &mut self.data[self.start..self.start + self.len]
    }
}
