//! The device of a CubeCL backend that tests run on.

use crate::report::report;
#[cfg(feature = "wgpu")]
use burn::tensor::DeviceKind;
use burn::tensor::{DType, Device, Tensor};

/// The backends that are compiled in, wgpu first.
const COMPILED: &[&str] = &[
    #[cfg(feature = "wgpu")]
    "wgpu",
    #[cfg(feature = "cuda")]
    "cuda",
];

/// The device under test: of the backend that `LONGNET_TEST_DEVICE` names, `wgpu` or `cuda`, or of the first that
/// is compiled in. `None` with a printed line where there is none.
///
/// # Panics
///
/// If `LONGNET_TEST_DEVICE` names a backend that is not compiled in, or there is no device and
/// `LONGNET_REQUIRE` contains the backend's name.
pub fn under_test() -> Option<Device> {
    match name().as_str() {
        #[cfg(feature = "wgpu")]
        "wgpu" => wgpu(),
        #[cfg(feature = "cuda")]
        "cuda" => cuda(),
        name => panic!(
            "LONGNET_TEST_DEVICE={name}: compiled in are {}",
            COMPILED.join(", ")
        ),
    }
}

/// The name of the backend under test.
pub fn name() -> String {
    std::env::var("LONGNET_TEST_DEVICE").unwrap_or_else(|_| COMPILED[0].into())
}

/// The device under test if it computes in `dtype`, or `None` with a printed line.
///
/// # Panics
///
/// As [`under_test`].
pub fn with_dtype(dtype: DType) -> Option<Device> {
    let device = under_test()?;
    if !device.supports_dtype(dtype) {
        report(&format!("skipped: {} has no {dtype:?} here", name()));
        return None;
    }
    Some(device)
}

/// The default device of wgpu, or `None` with a printed line where there is none.
///
/// # Panics
///
/// If there is none and `LONGNET_REQUIRE` contains the word `wgpu`.
#[cfg(feature = "wgpu")]
pub fn wgpu() -> Option<Device> {
    let missing = "no device for wgpu (Debian: apt install mesa-vulkan-drivers)";
    found("wgpu", missing, || Device::wgpu(DeviceKind::DefaultDevice))
}

/// The first CUDA device, or `None` with a printed line where there is none.
///
/// # Panics
///
/// If there is none and `LONGNET_REQUIRE` contains the word `cuda`.
#[cfg(feature = "cuda")]
pub fn cuda() -> Option<Device> {
    found("cuda", "no CUDA device", || Device::cuda(0))
}

/// The device that `make` makes, if it computes.
fn found(name: &str, missing: &str, make: fn() -> Device) -> Option<Device> {
    let found = std::panic::catch_unwind(|| {
        let device = make();
        Tensor::<1>::ones([1], &device).into_scalar::<f32>();
        device
    });
    if found.is_err() {
        let required = std::env::var("LONGNET_REQUIRE").unwrap_or_default();
        let required = required.split([',', ' ']).any(|word| word == name);
        assert!(
            !required,
            "LONGNET_REQUIRE asks for {name}, and there is no such device"
        );
        report(&format!("skipped: {missing}"));
    }
    found.ok()
}
