use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use cubecl::client::Client;
use cubecl::prelude::CubeKernel;
use cubecl_server::id::KernelId;

use crate::server::{Mode, device};
use crate::{Arch, Error, Source};

/// A device that runs nothing and keeps the sources of all kernels launched on it.
///
/// Buffers hold zeros.
pub struct Recorder {
    client: Client,
    log: Arc<Mutex<Log>>,
}

/// Kernels that were launched, and the sources of those that were so for the first time.
#[derive(Default)]
pub(crate) struct Log {
    seen: HashSet<KernelId>,
    sources: Vec<Result<Source, Error>>,
}

impl Log {
    /// Notes a launch of `kernel`.
    pub(crate) fn note(&mut self, kernel: &dyn CubeKernel, arch: Arch) {
        if self.seen.insert(kernel.id()) {
            self.sources.push(Source::of(kernel, arch));
        }
    }
}

impl Recorder {
    /// A new device of architecture `arch`.
    pub fn new(arch: Arch) -> Self {
        let log = Arc::new(Mutex::new(Log::default()));
        Self {
            client: device(arch, Mode::Record(log.clone())),
            log,
        }
    }

    /// The client to launch on.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// What was launched since the last call, in order, each kernel once.
    ///
    /// # Errors
    ///
    /// The first kernel's that could not be emitted.
    pub fn take(&self) -> Result<Vec<Source>, Error> {
        // Launches are queued; this waits for them.
        let _ = cubecl_environment::future::block_on(self.client.sync());
        let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        log.seen.clear();
        log.sources.drain(..).collect()
    }
}
