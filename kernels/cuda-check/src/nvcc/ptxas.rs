use std::fs;
use std::path::Path;
use std::process::Command;

use super::Resources;
use crate::error::at;
use crate::{Error, Source};

/// Assembles `ptx`, as the driver would, and reads what ptxas says about it.
pub fn assemble(ptxas: &Path, source: &Source, ptx: &str) -> Result<Resources, Error> {
    let work = tempfile::tempdir().map_err(at(std::env::temp_dir()))?;
    let path = work.path().join("kernel.ptx");
    fs::write(&path, ptx).map_err(at(&path))?;
    let output = Command::new(ptxas)
        .arg(format!("-arch={}", source.arch.target()))
        .arg("-v")
        .arg(&path)
        .arg("-o")
        .arg(work.path().join("kernel.cubin"))
        .output()
        .map_err(at(ptxas))?;
    let messages = String::from_utf8_lossy(&output.stderr);
    let refused = || Error::Compile {
        kernel: source.entry.clone(),
        compiler: "ptxas",
        log: messages.clone().into_owned(),
    };
    if !output.status.success() {
        return Err(refused());
    }
    read(&messages).ok_or_else(refused)
}

/// The numbers in ptxas's messages about one kernel.
fn read(messages: &str) -> Option<Resources> {
    // The number before a word, 0 where ptxas leaves it out.
    let number = |word: &str| -> u32 {
        messages
            .split([',', '\n', ':'])
            .find_map(|part| {
                part.trim()
                    .strip_suffix(word)?
                    .rsplit(' ')
                    .next()?
                    .parse()
                    .ok()
            })
            .unwrap_or(0)
    };
    let registers = number(" registers");
    (registers > 0).then(|| Resources {
        registers,
        spill_stores: number(" bytes spill stores"),
        spill_loads: number(" bytes spill loads"),
        stack: number(" bytes stack frame"),
        static_shared: number(" bytes smem"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read() {
        let messages = "ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function 'forward' for 'sm_80'
ptxas info    : Function properties for forward
    72 bytes stack frame, 68 bytes spill stores, 64 bytes spill loads
ptxas info    : Used 255 registers, used 1 barriers, 72 bytes cumulative stack size, 1024 bytes smem, 400 bytes cmem[0]
";
        let resources = Resources {
            registers: 255,
            spill_stores: 68,
            spill_loads: 64,
            stack: 72,
            static_shared: 1024,
        };
        assert_eq!(read(messages), Some(resources));
        assert_eq!(read("nothing"), None);
    }
}
