//! Compiles and emulates the project's CUDA kernels.
fn main() {}
