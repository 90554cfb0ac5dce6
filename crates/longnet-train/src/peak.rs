//! How fast a device is at best.

use burn::tensor::{DType, Device, Distribution, ExecutionError, Tensor};
use std::time::Instant;

/// Seconds that the timed products may take, and the duration of one product that is long enough.
const BUDGET: f64 = 0.3;
const LONG: f64 = 0.05;

/// The most FLOPs a second that products of square matrices of `dtype` reach on `device`, of several
/// sizes and tries: what model FLOPs utilisation is a share of.
///
/// # Errors
///
/// The device fails.
pub fn matmul(device: &Device, dtype: DType) -> Result<f64, ExecutionError> {
    let device = device.clone().inner();
    let (mut best, mut spent) = (0.0f64, 0.0);
    let mut size = 256;
    loop {
        let random = || {
            let x = Tensor::<2>::random([size, size], Distribution::Default, &device);
            x.cast(dtype)
        };
        let (a, b) = (random(), random());
        // Compiling and tuning are no part of the peak, and may take many times as long.
        drop(a.clone().matmul(b.clone()));
        let mut longest = 0.0;
        for _ in 0..3 {
            device.sync()?;
            let before = Instant::now();
            let product = a.clone().matmul(b.clone());
            device.sync()?;
            longest = before.elapsed().as_secs_f64();
            drop(product);
            best = best.max(2.0 * (size as f64).powi(3) / longest);
            spent += longest;
            if spent > BUDGET {
                break;
            }
        }
        if longest > LONG || size >= 16384 || spent > BUDGET {
            return Ok(best);
        }
        size *= 2;
    }
}
