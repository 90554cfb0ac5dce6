//! What runs on a device that is faster than a clock on the host, and may fail.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Seconds that a run should take: much longer than the way to the device and back.
const RUN: f64 = 0.1;

/// Computations of a run, if one takes `once` seconds.
pub fn repeats(once: f64) -> usize {
    ((RUN / once) as usize).clamp(1, 200)
}

/// `work`, its panics as errors: that is how a device says that memory does not suffice.
///
/// # Errors
///
/// Those of `work`.
pub fn caught<T>(work: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
        let text = text.unwrap_or_else(|| "a panic".into());
        Err(text.lines().next().unwrap_or_default().to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_long_but_not_too_many() {
        assert_eq!([1.0, 0.05, 1e-3, 1e-9].map(repeats), [1, 2, 100, 200]);
    }

    #[test]
    fn panics_are_errors() {
        assert_eq!(caught(|| Ok(1)), Ok(1));
        assert_eq!(
            caught::<()>(|| panic!("out of {}\nmore", "memory")),
            Err("out of memory".into())
        );
    }
}
