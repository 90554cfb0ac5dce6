//! The properties that CubeCL's CUDA runtime reads off a GPU, written by hand.

use cubecl::cmma::MatrixLayout;
use cubecl::ir::features::{Plane, Tma};
use cubecl::ir::{
    ContiguousElements, DeviceIdentity, DeviceProperties, ElemType, FloatKind, HardwareProperties,
    MemoryDeviceProperties, MmaProperties, OpaqueType, TargetProperties, VectorSize,
    features::TypeUsage,
};
use cubecl::profile::TimingMethod;
use cubecl_cpp::cuda::arch::CudaArchitecture;
use cubecl_cpp::cuda::mma::CudaCmmaCompiler;
use cubecl_cpp::cuda::mma::manual::contiguous_elements_cuda;
use cubecl_cpp::cuda::supported_mma_combinations;
use cubecl_cpp::register_supported_types;
use cubecl_cpp::shared::{
    CompilationOptions, CppSupportedFeatures, register_mma_features, register_wmma_features,
};

/// A GPU architecture that kernels are compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Arch {
    /// Ampere: A100.
    Sm80,
    /// Hopper: H100, H200.
    Sm90,
}

impl Arch {
    /// All of them.
    pub const ALL: [Arch; 2] = [Arch::Sm80, Arch::Sm90];

    /// The compute capability times ten.
    pub fn version(self) -> u32 {
        match self {
            Arch::Sm80 => 80,
            Arch::Sm90 => 90,
        }
    }

    /// The name that CubeCL's CUDA runtime gives to NVRTC: with the features of exactly this
    /// architecture from Hopper on.
    pub fn target(self) -> &'static str {
        match self {
            Arch::Sm80 => "sm_80",
            Arch::Sm90 => "sm_90a",
        }
    }

    /// The most shared memory that one block may have, in bytes.
    fn shared_memory(self) -> usize {
        match self {
            Arch::Sm80 => 163 << 10,
            Arch::Sm90 => 227 << 10,
        }
    }

    /// What a client of such a device reports.
    pub fn properties(self) -> DeviceProperties {
        let architecture = CudaArchitecture {
            version: self.version(),
            tensor_cores: true,
        };
        let hardware = HardwareProperties {
            load_width: 128,
            vector_register_count: None,
            plane_size_min: 32,
            plane_size_max: 32,
            max_bindings: 1024,
            max_shared_memory_size: self.shared_memory(),
            max_cube_count: (i32::MAX as u32, u16::MAX as u32, u16::MAX as u32),
            max_units_per_cube: 1024,
            max_cube_dim: (1024, 1024, 64),
            num_streaming_multiprocessors: Some(match self {
                Arch::Sm80 => 108,
                Arch::Sm90 => 132,
            }),
            num_cpu_cores: None,
            last_level_cache_size: None,
            num_tensor_cores: Some(4),
            min_tensor_cores_dim: Some(8),
            max_vector_size: VectorSize::MAX,
            cube_mma_reserved_shared_memory: 0,
        };
        let mut properties = DeviceProperties::new(
            Default::default(),
            MemoryDeviceProperties::new(1 << 34, 512),
            hardware,
            TimingMethod::System,
            DeviceIdentity {
                name: format!("emulated {}", self.target()),
                fingerprint: format!("ptx_sm{}", self.version()),
                physical: None,
            },
        );
        register_supported_types(&mut properties);
        register_wmma_features(
            CudaCmmaCompiler::Cpp.supported_cmma_combinations(&architecture),
            &mut properties,
        );
        register_mma_features(supported_mma_combinations(&architecture), &mut properties);
        properties.register_type_usage(ElemType::Float(FloatKind::TF32), TypeUsage::Conversion);
        properties.register_opaque_type(OpaqueType::Barrier);
        let features = &mut properties.features;
        for plane in [Plane::Ops, Plane::Sync, Plane::NonUniformControlFlow] {
            features.plane.insert(plane);
        }
        features.copy_async = true;
        features.memory_reinterpret = true;
        features.alignment = true;
        features.device_memory_scope = true;
        for half in [FloatKind::F16, FloatKind::BF16] {
            features.matmul.ldmatrix.insert(ElemType::Float(half));
            if self == Arch::Sm90 {
                features.matmul.stmatrix.insert(ElemType::Float(half));
            }
        }
        if self == Arch::Sm90 {
            features.cube_cluster = true;
            features.tma.insert(Tma::Base);
            properties.register_opaque_type(OpaqueType::TensorMap);
        }
        properties
    }

    /// What CubeCL's compiler may emit.
    pub(crate) fn options(self) -> CompilationOptions {
        CompilationOptions {
            warp_size: 32,
            supports_features: CppSupportedFeatures {
                grid_constants: true,
                clusters: self == Arch::Sm90,
                fast_math: true,
                fast_tanh: true,
                elect_sync: self == Arch::Sm90,
                dp4a: true,
            },
            ..Default::default()
        }
    }
}

/// What CUDA guarantees about its instructions.
pub(crate) fn target_properties() -> TargetProperties {
    TargetProperties {
        mma: MmaProperties {
            register_size_bits: 32,
            const_plane_size: 32,
            register_layout_a: MatrixLayout::RowMajor,
            register_layout_b: MatrixLayout::ColMajor,
            register_layout_acc: MatrixLayout::RowMajor,
            register_duplication_a: 1,
            register_duplication_b: 1,
            register_duplication_acc: 1,
            contiguous_elements: ContiguousElements::new(contiguous_elements_cuda),
        },
    }
}
