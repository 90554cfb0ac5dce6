//! NVIDIA's compilers on the kernels of the emulator's tests.

mod kernels;

use cubecl::ir::{ElemType, FloatKind};
use cubecl::prelude::*;
use kernels::matmul;
use longnet_cuda_check::nvcc::{Resources, Toolchain};
use longnet_cuda_check::{Arch, Error, Recorder, Source, required};

/// The compilers, or `None` with a line that says why where they cannot be had.
fn toolchain() -> Option<Toolchain> {
    match Toolchain::fetch() {
        Ok(toolchain) => Some(toolchain),
        Err(error @ Error::NoWheels(..)) if !required("cuda-compilers") => {
            println!("skipped: {error}");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

fn product(arch: Arch) -> Source {
    let recorder = Recorder::new(arch);
    let client = recorder.client();
    let tensor = |rows: usize, columns: usize, bytes: usize| unsafe {
        TensorArg::from_raw_parts(
            client.empty(rows * columns * bytes),
            [columns, 1].into(),
            [rows, columns].into(),
        )
    };
    for _ in 0..2 {
        matmul::launch(
            client,
            CubeCount::Static(2, 1, 1),
            CubeDim::new_1d(32),
            tensor(32, 64, 2),
            tensor(64, 64, 2),
            tensor(32, 64, 4),
            64,
            64,
            true,
            ElemType::Float(FloatKind::BF16),
        );
    }
    let sources = recorder.take().unwrap();
    assert_eq!(sources.len(), 1, "the same kernel twice is one source");
    assert!(recorder.take().unwrap().is_empty());
    sources.into_iter().next().expect("one")
}

#[test]
fn products_compile_to_tensor_core_instructions() {
    let Some(toolchain) = toolchain() else {
        return;
    };
    for arch in Arch::ALL {
        let source = product(arch);
        assert_eq!(source.shared_bytes, (16 * 64 + 64 * 64) * 2);
        let ptx = toolchain.ptx(&source).unwrap();
        assert!(ptx.contains("mma.sync.aligned.m16n8k16"), "{ptx}");
        assert!(ptx.contains("ldmatrix"), "{ptx}");
        let Resources {
            registers,
            spill_stores,
            ..
        } = toolchain.compile(&source).unwrap();
        assert!((16..=255).contains(&registers), "{registers}");
        assert_eq!(spill_stores, 0);
    }
}

#[test]
fn what_is_wrong_is_said() {
    let Some(toolchain) = toolchain() else {
        return;
    };
    let mut source = product(Arch::Sm80);
    source.text = source.text.replace("ldmatrix.sync", "ldmatrix.sunk");
    let error = toolchain.compile(&source).unwrap_err().to_string();
    assert!(
        error.contains("refuses it") && error.contains("sunk"),
        "{error}"
    );
    source.text.push_str("\nint unfinished =");
    let error = toolchain.compile(&source).unwrap_err().to_string();
    assert!(error.contains("NVRTC refuses it"), "{error}");
}
