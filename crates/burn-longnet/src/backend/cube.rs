//! CubeCL's backends (CUDA, ROCm, Vulkan, Metal, WebGPU): the tensor-op fallback for now.

use crate::ops::SparseAttentionOps;

impl SparseAttentionOps for burn_cubecl::CubeBackend {}
