//! What the machine can do at most: a large square product by the `gemm` crate.

use crate::contender::{Contender, seconds};
use crate::inputs::numbers;
use crate::oracle::Sample;
use gemm::{Parallelism, gemm};

/// How many products a run makes, the fastest of which counts: a peak, not what noise leaves of it.
const PRODUCTS: usize = 5;

/// `c = a b`, f32, row-major.
pub struct Gemm {
    size: usize,
    threads: usize,
    a: Vec<f32>,
    b: Vec<f32>,
    c: Vec<f32>,
}

impl Gemm {
    /// Matrices of `size` by `size`.
    pub fn new(size: usize, threads: usize) -> Self {
        Self {
            size,
            threads,
            a: numbers(0, size * size),
            b: numbers(1, size * size),
            c: vec![0.0; size * size],
        }
    }

    fn compute(&mut self) {
        let n = self.size;
        let (columns, rows) = (1, n as isize);
        // SAFETY: the three matrices hold n x n elements each, and c is not one of the others.
        unsafe {
            gemm(
                n,
                n,
                n,
                self.c.as_mut_ptr(),
                columns,
                rows,
                false,
                self.a.as_ptr(),
                columns,
                rows,
                self.b.as_ptr(),
                columns,
                rows,
                0.0,
                1.0,
                false,
                false,
                false,
                Parallelism::Rayon(self.threads),
            );
        }
    }
}

impl Contender for Gemm {
    fn name(&self) -> String {
        "sgemm".into()
    }

    fn note(&self) -> String {
        format!("{0} x {0}, best of {PRODUCTS}", self.size)
    }

    fn flops(&self) -> Option<f64> {
        Some(2.0 * (self.size as f64).powi(3))
    }

    fn check(&mut self, _: &[Sample]) -> Result<Option<f64>, String> {
        self.compute();
        let n = self.size;
        let mut worst = 0f64;
        for at in (0..20).map(|x| x * (n * n - 1) / 19) {
            let terms = (0..n)
                .map(|k| f64::from(self.a[at / n * n + k]) * f64::from(self.b[k * n + at % n]));
            let (want, got) = (terms.sum::<f64>(), f64::from(self.c[at]));
            // The terms are about 1, so the sum is about sqrt(n).
            worst = worst.max((got - want).abs() / (n as f64).sqrt());
        }
        match worst < 1e-5 {
            true => Ok(Some(worst)),
            false => Err(format!("the product is wrong: error {worst:.1e}")),
        }
    }

    fn run(&mut self) -> Result<f64, String> {
        let products = (0..PRODUCTS).map(|_| seconds(|| self.compute()));
        Ok(products.fold(f64::INFINITY, f64::min))
    }
}
