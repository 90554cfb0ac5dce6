use std::collections::HashMap;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use libloading::{Library, Symbol};

use super::{Order, compile};
use crate::{Error, Source};

/// One argument of a launch, in the order in which CubeCL's CUDA server binds them: buffers, the
/// dynamic metadata (lengths and strides) if there are any, the packed scalars and static metadata.
#[derive(Clone, Copy, Debug)]
pub enum Argument {
    /// A pointer to memory that threads may access, `margin` bytes of which lie before and after and
    /// belong to nobody.
    Buffer {
        /// Where it starts.
        address: *mut u8,
        /// Its length.
        bytes: usize,
        /// How far an access beside it is told from one elsewhere.
        margin: usize,
    },
    /// A value passed by copy.
    Value {
        /// Where it stands.
        address: *const u8,
        /// Its length.
        bytes: usize,
    },
}

/// A kernel that runs on the host.
#[derive(Clone)]
pub struct Kernel {
    source: Arc<Source>,
    library: Arc<Mutex<Library>>,
}

// The C++ side has the same two structures.
#[repr(C)]
struct RawArgument {
    address: *mut c_void,
    size: u64,
    is_buffer: u32,
    margin: u32,
}

#[repr(C)]
struct RawLaunch {
    grid: [u32; 3],
    block: [u32; 3],
    shared_bytes: u32,
    order: u32,
    seed: u64,
    argument_count: u64,
    arguments: *const RawArgument,
    message: *mut c_char,
    message_bytes: u64,
}

impl Kernel {
    /// Compiles `source` for the host.
    ///
    /// # Errors
    ///
    /// [`Error::Translate`] or [`Error::Compile`] for what the emulator does not know,
    /// [`Error::NoCompiler`] without a C++ compiler.
    pub fn compile(source: &Source) -> Result<Self, Error> {
        let path = compile::library(source)?;
        Ok(Self {
            source: Arc::new(source.clone()),
            library: load(path)?,
        })
    }

    /// Runs a grid of `grid` blocks.
    ///
    /// # Safety
    ///
    /// The arguments must be those that the kernel takes, live, and used by nobody else meanwhile;
    /// a buffer's margins must belong to the same allocation.
    ///
    /// # Errors
    ///
    /// [`Error::Launch`] with what a thread did that it must not. The buffers hold then what was
    /// written until there.
    pub unsafe fn launch(
        &self,
        grid: [u32; 3],
        arguments: &[Argument],
        order: Order,
    ) -> Result<(), Error> {
        let raw: Vec<RawArgument> = arguments
            .iter()
            .map(|argument| match *argument {
                Argument::Buffer {
                    address,
                    bytes,
                    margin,
                } => RawArgument {
                    address: address.cast(),
                    size: bytes as u64,
                    is_buffer: 1,
                    margin: margin as u32,
                },
                Argument::Value { address, bytes } => RawArgument {
                    address: address.cast_mut().cast(),
                    size: bytes as u64,
                    is_buffer: 0,
                    margin: 0,
                },
            })
            .collect();
        let mut message = [0 as c_char; 2048];
        let (order, seed) = match order {
            Order::Ascending => (0, 0),
            Order::Descending => (1, 0),
            Order::Drawn(seed) => (2, seed),
        };
        let launch = RawLaunch {
            grid,
            block: self.source.block,
            shared_bytes: self.source.shared_bytes as u32,
            order,
            seed,
            argument_count: raw.len() as u64,
            arguments: raw.as_ptr(),
            message: message.as_mut_ptr(),
            message_bytes: message.len() as u64,
        };
        // One launch at a time: the emulator's state is the library's.
        let library = self.library.lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: the emulator's header gives every kernel this entry point; the rest is the
        // caller's promise.
        let status = unsafe {
            let entry: Symbol<unsafe extern "C" fn(*const RawLaunch) -> c_int> = library
                .get(b"emulator_launch")
                .map_err(|error| Error::Load {
                    path: self.source.entry.clone().into(),
                    reason: error.to_string(),
                })?;
            entry(&launch)
        };
        if status == 0 {
            return Ok(());
        }
        // SAFETY: the emulator ends the message within its bytes.
        let message = unsafe { CStr::from_ptr(message.as_ptr()) };
        Err(Error::Launch {
            kernel: self.source.entry.clone(),
            reason: message.to_string_lossy().into_owned(),
        })
    }
}

/// The library at `path`, the same one for all who ask: its state is shared anyway.
fn load(path: PathBuf) -> Result<Arc<Mutex<Library>>, Error> {
    static LOADED: OnceLock<Mutex<HashMap<PathBuf, Arc<Mutex<Library>>>>> = OnceLock::new();
    let mut loaded = LOADED
        .get_or_init(Default::default)
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    if let Some(library) = loaded.get(&path) {
        return Ok(library.clone());
    }
    // SAFETY: the library was made by this program, and has no constructors of its own.
    let library = unsafe { Library::new(&path) }.map_err(|error| Error::Load {
        path: path.clone(),
        reason: error.to_string(),
    })?;
    let library = Arc::new(Mutex::new(library));
    loaded.insert(path, library.clone());
    Ok(library)
}
