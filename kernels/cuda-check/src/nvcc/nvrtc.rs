use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::path::{Path, PathBuf};
use std::ptr;

use libloading::{Library, Symbol};

use crate::{Error, Source};

/// The run-time compiler as a library.
pub struct Nvrtc {
    library: Library,
    path: PathBuf,
    includes: Vec<String>,
}

type Program = *mut c_void;
type Create = unsafe extern "C" fn(
    *mut Program,
    *const c_char,
    *const c_char,
    c_int,
    *const *const c_char,
    *const *const c_char,
) -> c_int;
type Compile = unsafe extern "C" fn(Program, c_int, *const *const c_char) -> c_int;
type Size = unsafe extern "C" fn(Program, *mut usize) -> c_int;
type Text = unsafe extern "C" fn(Program, *mut c_char) -> c_int;
type Destroy = unsafe extern "C" fn(*mut Program) -> c_int;

impl Nvrtc {
    /// The library among CUDA's parts in `folder`.
    pub fn load(folder: &Path) -> Result<Self, Error> {
        let path = folder.join("cuda_nvrtc/lib/libnvrtc.so.12");
        // SAFETY: NVIDIA's library, whose constructors are its own.
        let library = unsafe { Library::new(&path) }.map_err(|error| Error::Load {
            path: path.clone(),
            reason: error.to_string(),
        })?;
        let includes = ["cuda_runtime", "cuda_cccl", "cuda_nvcc"]
            .map(|part| {
                let folder = folder.join(part).join("include");
                format!("--include-path={}", folder.display())
            })
            .to_vec();
        Ok(Self {
            library,
            path,
            includes,
        })
    }

    fn symbol<T>(&self, name: &str) -> Result<Symbol<'_, T>, Error> {
        // SAFETY: the types above are those of CUDA 12's nvrtc.h.
        unsafe { self.library.get(name.as_bytes()) }.map_err(|error| Error::Load {
            path: self.path.clone(),
            reason: error.to_string(),
        })
    }

    /// PTX of `source`.
    pub fn compile(&self, source: &Source) -> Result<String, Error> {
        let refused = |log: String| Error::Compile {
            kernel: source.entry.clone(),
            compiler: "NVRTC",
            log,
        };
        let text = CString::new(source.text.as_str())
            .map_err(|_| refused("a zero byte in the source".into()))?;
        // As CubeCL's CUDA runtime: its headers, and nothing about speed or the standard.
        let mut options = vec![
            format!("--gpu-architecture={}", source.arch.target()),
            "-lineinfo".to_string(),
        ];
        options.extend(self.includes.iter().cloned());
        let options: Vec<CString> = options
            .into_iter()
            .map(|option| CString::new(option).expect("options have no zero bytes"))
            .collect();
        let options: Vec<*const c_char> = options.iter().map(|option| option.as_ptr()).collect();

        let create: Symbol<Create> = self.symbol("nvrtcCreateProgram")?;
        let compile: Symbol<Compile> = self.symbol("nvrtcCompileProgram")?;
        let destroy: Symbol<Destroy> = self.symbol("nvrtcDestroyProgram")?;
        let mut program: Program = ptr::null_mut();
        // SAFETY: the texts outlive the calls, and the program is destroyed once, below.
        let status = unsafe {
            create(
                &mut program,
                text.as_ptr(),
                ptr::null(),
                0,
                ptr::null(),
                ptr::null(),
            )
        };
        if status != 0 {
            return Err(refused(format!("nvrtcCreateProgram: status {status}")));
        }
        // SAFETY: a live program and as many options as said.
        let status = unsafe { compile(program, options.len() as c_int, options.as_ptr()) };
        let result = if status == 0 {
            self.text(program, "nvrtcGetPTXSize", "nvrtcGetPTX")
        } else {
            self.text(program, "nvrtcGetProgramLogSize", "nvrtcGetProgramLog")
                .and_then(|log| Err(refused(log)))
        };
        // SAFETY: as above.
        unsafe { destroy(&mut program) };
        result
    }

    /// A text of the program, got with its size first.
    fn text(&self, program: Program, size: &str, text: &str) -> Result<String, Error> {
        let size: Symbol<Size> = self.symbol(size)?;
        let text: Symbol<Text> = self.symbol(text)?;
        let mut bytes = 0;
        // SAFETY: a live program, and as many bytes as it asks for; the last is zero.
        unsafe {
            size(program, &mut bytes);
            let mut buffer = vec![0u8; bytes + 1];
            text(program, buffer.as_mut_ptr().cast());
            let text = CStr::from_ptr(buffer.as_ptr().cast());
            Ok(text.to_string_lossy().into_owned())
        }
    }
}
