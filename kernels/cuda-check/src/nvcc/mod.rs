//! NVIDIA's compilers, which need no GPU: NVRTC and ptxas from PyPI.
