use std::sync::{Arc, Mutex, PoisonError};

use cubecl::client::Client;

use crate::server::{Mode, device};
use crate::{Arch, Error, Source};

/// A device that runs nothing and keeps the sources of all kernels launched on it.
///
/// Buffers hold zeros.
pub struct Recorder {
    client: Client,
    sources: Arc<Mutex<Vec<Result<Source, Error>>>>,
}

impl Recorder {
    /// A new device of architecture `arch`.
    pub fn new(arch: Arch) -> Self {
        let sources = Arc::new(Mutex::new(Vec::new()));
        Self {
            client: device(arch, Mode::Record(sources.clone())),
            sources,
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
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        let mut distinct: Vec<Source> = Vec::new();
        for source in sources.drain(..) {
            let source = source?;
            if !distinct.contains(&source) {
                distinct.push(source);
            }
        }
        Ok(distinct)
    }
}
