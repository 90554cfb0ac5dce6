//! A CubeCL server whose device is this crate: it records what is launched, or emulates it.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use cubecl::client::Client;

use cubecl::prelude::{CubeCount, CubeKernel};
use cubecl::server::{
    BufferBinding, CopyDescriptor, IoError, KernelArguments, KernelResource, ProfileError,
    ProfilingToken, Server, ServerCommunication, ServerError, ServerStorage, ServerUtilities,
};
use cubecl_common::bytes::Bytes;
use cubecl_common::device::{DeviceId, DeviceService, ServerUtilitiesHandle, ServiceId};
use cubecl_common::profile::ProfileDuration;
use cubecl_environment::backtrace::BackTrace;
use cubecl_environment::future::DynFut;
use cubecl_environment::stream::StreamId;
use cubecl_server::allocator::PitchedMemoryLayoutPolicy;
use cubecl_server::dry_run::LaunchMode;
use cubecl_server::id::KernelId;
use cubecl_server::logging::ServerLogger;
use cubecl_server::memory_management::{
    ManagedMemoryHandle, ManagedMemoryId, MemoryAllocationMode, StreamMemoryReport,
};
use cubecl_server::storage::{BytesStorage, ComputeStorage, ManagedResource};
use cubecl_server::timestamp_profiler::TimestampProfiler;

use crate::device::target_properties;
use crate::emulate::{Argument, Kernel, Order};
use crate::record::Log;
use crate::{Arch, Error, Source};

/// What a device does with launches.
pub enum Mode {
    /// Runs them.
    Emulate(Order),
    /// Keeps their sources.
    Record(Arc<Mutex<Log>>),
}

/// A client of a new device.
pub fn device(arch: Arch, mode: Mode) -> Client {
    // Every client has a device, and with it a thread, of its own.
    static COUNT: AtomicU16 = AtomicU16::new(0);
    let id = DeviceId {
        type_id: 0,
        index_id: COUNT.fetch_add(1, Ordering::Relaxed),
    };
    Client::init(id, EmulatedServer::new(id, arch, mode))
}

/// Bytes on either side of an allocation that belong to nobody.
const MARGIN: usize = 4096;

/// What was never written reads as NaN.
const POISON: u8 = 0xff;

/// Memory in words, for its alignment.
struct Allocation {
    memory: ManagedMemoryHandle,
    words: Vec<u128>,
    bytes: usize,
}

impl Allocation {
    fn new(memory: ManagedMemoryHandle, bytes: usize, fill: u8) -> Self {
        let words = (bytes + 2 * MARGIN).div_ceil(16) + 32;
        Self {
            memory,
            words: vec![u128::from_ne_bytes([fill; 16]); words],
            bytes,
        }
    }

    /// The first byte, aligned as CUDA aligns allocations: to 256 bytes at least.
    fn start(&mut self) -> *mut u8 {
        let base = self.words.as_mut_ptr().cast::<u8>();
        let offset = base.wrapping_add(MARGIN).align_offset(512) + MARGIN;
        // 32 words more than the margins leave room for the alignment.
        base.wrapping_add(offset)
    }

    fn bytes(&mut self) -> &mut [u8] {
        let (start, length) = (self.start(), self.bytes);
        // SAFETY: within the words by the construction of both, and borrowed as `self` is.
        unsafe { std::slice::from_raw_parts_mut(start, length) }
    }
}

struct EmulatedServer {
    arch: Arch,
    mode: Mode,
    utilities: Arc<ServerUtilities>,
    allocations: HashMap<ManagedMemoryId, Allocation>,
    /// The first launch that failed. What follows cannot be relied on.
    failure: Option<String>,
    /// The host's time, which says nothing about a GPU's: for tuners, which measure.
    profiler: TimestampProfiler,
}

impl std::fmt::Debug for EmulatedServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EmulatedServer")
            .field("arch", &self.arch)
            .finish_non_exhaustive()
    }
}

impl EmulatedServer {
    fn new(id: DeviceId, arch: Arch, mode: Mode) -> Self {
        let properties = arch.properties();
        let policy = PitchedMemoryLayoutPolicy::new(properties.memory.alignment as usize);
        let (utilities, _) = ServerUtilities::init(
            ServiceId::of::<Self>(id),
            "cuda",
            properties,
            target_properties(),
            Arc::new(ServerLogger::default()),
            policy,
        );
        Self {
            arch,
            mode,
            utilities: Arc::new(utilities),
            allocations: HashMap::new(),
            failure: None,
            profiler: TimestampProfiler::default(),
        }
    }

    fn check_failure(&self) -> Result<(), ServerError> {
        match &self.failure {
            None => Ok(()),
            Some(reason) => Err(failed(reason.clone())),
        }
    }

    /// The bytes of a binding, with its offsets.
    fn bytes(&mut self, binding: &BufferBinding) -> Result<&mut [u8], ServerError> {
        let range = binding.range();
        let allocation = self
            .allocations
            .get_mut(&binding.memory.id())
            .ok_or_else(|| failed("a buffer that was never allocated".into()))?;
        Ok(&mut allocation.bytes()[range.start as usize..range.end as usize])
    }

    /// `kernel` for the host: made once for all devices.
    fn compiled(&self, kernel: &dyn CubeKernel) -> Result<Kernel, ServerError> {
        static KERNELS: Mutex<BTreeMap<u32, HashMap<KernelId, Kernel>>> =
            Mutex::new(BTreeMap::new());
        let version = self.arch.version();
        let kernels = || KERNELS.lock().unwrap_or_else(PoisonError::into_inner);
        let known = kernels()
            .get(&version)
            .and_then(|known| known.get(&kernel.id()).cloned());
        if let Some(known) = known {
            return Ok(known);
        }
        let source = Source::of(kernel, self.arch).map_err(stopped)?;
        let most = self.utilities.properties.hardware.max_shared_memory_size;
        if source.shared_bytes > most {
            let bytes = source.shared_bytes;
            return Err(failed(format!(
                "{}: {bytes} bytes of shared memory, {most} at most",
                source.entry
            )));
        }
        let compiled = Kernel::compile(&source).map_err(stopped)?;
        kernels()
            .entry(version)
            .or_default()
            .insert(kernel.id(), compiled.clone());
        Ok(compiled)
    }

    fn run(
        &mut self,
        kernel: &dyn CubeKernel,
        count: CubeCount,
        arguments: &KernelArguments,
        order: Order,
    ) -> Result<(), ServerError> {
        let compiled = self.compiled(kernel)?;
        let grid = match &count {
            CubeCount::Static(x, y, z) => [*x, *y, *z],
            CubeCount::Dynamic(binding) => {
                let bytes = self.bytes(binding)?;
                std::array::from_fn(|axis| {
                    let word = &bytes[axis * 4..axis * 4 + 4];
                    u32::from_ne_bytes(word.try_into().expect("four bytes"))
                })
            }
        };
        if grid.contains(&0) {
            return Ok(());
        }

        let mut passed = Vec::new();
        for resource in &arguments.resources {
            let KernelResource::Buffer(binding) = resource else {
                return Err(failed("tensor maps are not emulated".into()));
            };
            let bytes = self.bytes(binding)?;
            passed.push(Argument::Buffer {
                address: bytes.as_mut_ptr(),
                bytes: bytes.len(),
                margin: MARGIN,
            });
        }
        // Shapes and strides go by pointer, scalars and what is static by value, as CubeCL's CUDA
        // server passes them.
        let info = &arguments.info;
        let dynamic = info.data.get(info.dynamic_metadata_offset..);
        if let Some(dynamic) = dynamic.filter(|dynamic| !dynamic.is_empty()) {
            passed.push(Argument::Buffer {
                address: dynamic.as_ptr().cast_mut().cast(),
                bytes: size_of_val(dynamic),
                margin: 0,
            });
        }
        passed.push(Argument::Value {
            address: info.data.as_ptr().cast(),
            bytes: size_of_val(info.data.as_slice()),
        });
        // SAFETY: the arguments are those that CubeCL built for this kernel; the allocations and
        // the metadata live in `self` and `arguments`, and nobody else runs on this thread.
        unsafe { compiled.launch(grid, &passed, order) }.map_err(stopped)
    }
}

fn failed(reason: String) -> ServerError {
    ServerError::Generic {
        reason,
        backtrace: BackTrace::capture(),
    }
}

fn stopped(error: Error) -> ServerError {
    failed(error.to_string())
}

/// For each row along the last axis: where it starts in the packed bytes and in those with strides.
fn rows(descriptor: &CopyDescriptor) -> Vec<(usize, usize)> {
    let (shape, strides) = (&descriptor.shape, &descriptor.strides);
    let width = shape.last().copied().unwrap_or(1) * descriptor.elem_size;
    let count: usize = shape.iter().rev().skip(1).product();
    (0..count)
        .map(|row| {
            let mut left = row;
            let mut offset = 0;
            for axis in (0..shape.len().saturating_sub(1)).rev() {
                offset += left % shape[axis] * strides[axis];
                left /= shape[axis];
            }
            (row * width, offset * descriptor.elem_size)
        })
        .collect()
}

impl DeviceService for EmulatedServer {
    fn init(device_id: DeviceId) -> Self {
        Self::new(device_id, Arch::Sm80, Mode::Emulate(Order::default()))
    }

    fn utilities(&self) -> ServerUtilitiesHandle {
        self.utilities.clone()
    }
}

impl ServerCommunication for EmulatedServer {}

impl Server for EmulatedServer {
    fn initialize_memory(
        &mut self,
        memory: ManagedMemoryHandle,
        size: u64,
        _stream_id: StreamId,
    ) -> Result<(), ServerError> {
        self.allocations
            .retain(|_, allocation| !allocation.memory.is_free());
        let id = memory.descriptor().id;
        let fill = match self.mode {
            Mode::Emulate(_) => POISON,
            Mode::Record(_) => 0,
        };
        let allocation = Allocation::new(memory, size as usize, fill);
        self.allocations.insert(id, allocation);
        Ok(())
    }

    fn logger(&self) -> Arc<ServerLogger> {
        self.utilities.logger.clone()
    }

    fn utilities(&self) -> Arc<ServerUtilities> {
        self.utilities.clone()
    }

    fn read(
        &mut self,
        descriptors: Vec<CopyDescriptor>,
        _stream_id: StreamId,
    ) -> DynFut<Result<Vec<Bytes>, ServerError>> {
        let mut read = || {
            self.check_failure()?;
            descriptors
                .iter()
                .map(|descriptor| {
                    let width =
                        descriptor.shape.last().copied().unwrap_or(1) * descriptor.elem_size;
                    let source = self.bytes(&descriptor.handle)?;
                    let mut packed = Vec::new();
                    for (_, offset) in rows(descriptor) {
                        packed.extend_from_slice(&source[offset..offset + width]);
                    }
                    Ok(Bytes::from_bytes_vec(packed))
                })
                .collect()
        };
        let result = read();
        Box::pin(async move { result })
    }

    fn write(&mut self, descriptors: Vec<(CopyDescriptor, Bytes)>, _stream_id: StreamId) {
        for (descriptor, data) in descriptors {
            let width = descriptor.shape.last().copied().unwrap_or(1) * descriptor.elem_size;
            match self.bytes(&descriptor.handle) {
                Ok(target) => {
                    for (packed, offset) in rows(&descriptor) {
                        target[offset..offset + width]
                            .copy_from_slice(&data[packed..packed + width]);
                    }
                }
                Err(error) => {
                    self.failure.get_or_insert(error.to_string());
                }
            }
        }
    }

    fn sync(
        &mut self,
        _handles: Vec<BufferBinding>,
        _stream_id: StreamId,
    ) -> DynFut<Result<(), ServerError>> {
        let result = self.check_failure();
        Box::pin(async move { result })
    }

    fn check(
        &mut self,
        _handles: Vec<BufferBinding>,
        _stream_id: StreamId,
    ) -> Result<(), ServerError> {
        self.check_failure()
    }

    unsafe fn launch(
        &mut self,
        kernel: Box<dyn CubeKernel>,
        count: CubeCount,
        bindings: KernelArguments,
        _stream_id: StreamId,
        launch_mode: LaunchMode,
    ) {
        match &self.mode {
            Mode::Record(log) => log
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .note(&*kernel, self.arch),
            Mode::Emulate(order) => {
                let order = *order;
                if launch_mode.is_skipped() || self.failure.is_some() {
                    return;
                }
                if let Err(error) = self.run(&*kernel, count, &bindings, order) {
                    let ServerError::Generic { reason, .. } = error else {
                        unreachable!("this server's errors are of one kind");
                    };
                    self.failure = Some(reason);
                }
            }
        }
    }

    fn flush(&mut self, _stream_id: StreamId) -> Result<(), ServerError> {
        self.check_failure()
    }

    fn memory_report(&mut self, _stream_id: StreamId) -> Option<StreamMemoryReport> {
        None
    }

    fn memory_cleanup(&mut self, _stream_id: StreamId) -> Result<(), ServerError> {
        self.allocations
            .retain(|_, allocation| !allocation.memory.is_free());
        Ok(())
    }

    fn start_profile(&mut self, _stream_id: StreamId) -> Result<ProfilingToken, ServerError> {
        Ok(self.profiler.start())
    }

    fn end_profile(
        &mut self,
        _stream_id: StreamId,
        token: ProfilingToken,
    ) -> Result<ProfileDuration, ProfileError> {
        self.profiler.stop(token)
    }

    fn allocation_mode(&mut self, _mode: MemoryAllocationMode, _stream_id: StreamId) {}
}

impl ServerStorage for EmulatedServer {
    type Storage = BytesStorage;

    fn get_resource(
        &mut self,
        _binding: BufferBinding,
        _stream_id: StreamId,
    ) -> Result<ManagedResource<<Self::Storage as ComputeStorage>::Resource>, ServerError> {
        Err(IoError::UnsupportedIoOperation {
            backtrace: BackTrace::capture(),
        }
        .into())
    }
}
