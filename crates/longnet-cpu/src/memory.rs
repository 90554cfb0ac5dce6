//! The allocator of the process.

/// Makes glibc's allocator keep what is freed for what is allocated next, rather than give it back to
/// the system, which would have to find and clear each page again: a training step allocates and frees
/// hundreds of megabytes. For programs to call once, at their start; the process keeps the size that it
/// once had. Does nothing where the allocator is another one.
pub fn keep_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        use std::ffi::c_int;
        unsafe extern "C" {
            fn mallopt(parameter: c_int, value: c_int) -> c_int;
        }
        const M_TRIM_THRESHOLD: c_int = -1;
        const M_MMAP_MAX: c_int = -4;
        // SAFETY: glibc's mallopt takes any numbers, and its own lock. -1 is the largest threshold.
        unsafe {
            mallopt(M_TRIM_THRESHOLD, -1);
            mallopt(M_MMAP_MAX, 0);
        }
    }
}
