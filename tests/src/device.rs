//! The devices that tests of CubeCL backends run on.

use crate::report::report;
use burn::tensor::{Device, DeviceKind, Tensor};

/// The default device of wgpu, or `None` with a printed line where there is none.
///
/// # Panics
///
/// If there is none and `LONGNET_REQUIRE` contains the word `wgpu`.
pub fn wgpu() -> Option<Device> {
    let found = std::panic::catch_unwind(|| {
        let device = Device::wgpu(DeviceKind::DefaultDevice);
        Tensor::<1>::ones([1], &device).into_scalar::<f32>();
        device
    });
    if found.is_err() {
        let required = std::env::var("LONGNET_REQUIRE").unwrap_or_default();
        let required = required.split([',', ' ']).any(|word| word == "wgpu");
        assert!(
            !required,
            "LONGNET_REQUIRE asks for wgpu, and there is no such device"
        );
        report("skipped: no device for wgpu (Debian: apt install mesa-vulkan-drivers)");
    }
    found.ok()
}
