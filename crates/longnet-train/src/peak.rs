//! How fast a device is at best.

use burn::tensor::{DType, Device, Distribution, ExecutionError, Tensor};
use std::time::Instant;

/// Seconds that a measurement may take, and the duration of one product that is long enough.
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
    let started = Instant::now();
    let mut best = 0.0f64;
    let mut size = 256;
    loop {
        let random = || {
            let x = Tensor::<2>::random([size, size], Distribution::Default, &device);
            x.cast(dtype)
        };
        let (a, b) = (random(), random());
        let mut longest = 0.0f64;
        // The first one pays for compiling and tuning.
        for _ in 0..4 {
            device.sync()?;
            let before = Instant::now();
            let product = a.clone().matmul(b.clone());
            device.sync()?;
            let seconds = before.elapsed().as_secs_f64();
            drop(product);
            best = best.max(2.0 * (size as f64).powi(3) / seconds);
            longest = seconds;
            if started.elapsed().as_secs_f64() > BUDGET {
                break;
            }
        }
        if longest > LONG || size >= 16384 || started.elapsed().as_secs_f64() > BUDGET {
            return Ok(best);
        }
        size *= 2;
    }
}
