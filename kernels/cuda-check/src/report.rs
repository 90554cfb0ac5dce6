//! The table of compiled kernels.

use std::fmt::Write;
use std::path::Path;

use longnet_cuda_check::Source;
use longnet_cuda_check::nvcc::Resources;
use serde::Serialize;

use crate::variants::Variant;

/// One kernel on one architecture.
#[derive(Serialize)]
pub struct Row {
    /// The variant that it belongs to.
    pub variant: String,
    /// Its entry point.
    pub kernel: String,
    /// The architecture, as NVRTC names it.
    pub arch: &'static str,
    /// Whether it may not spill.
    pub hot: bool,
    /// Threads of a block.
    pub threads: u32,
    /// Shared memory of a block that the launch asks for, in bytes.
    pub dynamic_shared: usize,
    /// What ptxas says.
    #[serde(flatten)]
    pub resources: Resources,
}

impl Row {
    /// The row of one compiled source.
    pub fn new(variant: &Variant, source: &Source, resources: Resources) -> Self {
        Self {
            variant: variant.name.clone(),
            kernel: source.entry.clone(),
            arch: source.arch.target(),
            hot: variant.hot,
            threads: source.block.iter().product(),
            dynamic_shared: source.shared_bytes,
            resources,
        }
    }

    /// Whether registers go to memory.
    pub fn spills(&self) -> bool {
        self.resources.spill_stores + self.resources.spill_loads > 0
    }
}

/// The rows for people.
pub fn table(rows: &[Row]) -> String {
    let width = |of: fn(&Row) -> &str, least| {
        rows.iter()
            .map(|row| of(row).len())
            .max()
            .unwrap_or(0)
            .max(least)
    };
    let (variants, kernels) = (width(|row| &row.variant, 7), width(|row| &row.kernel, 6));
    let mut text = format!(
        "{:variants$}  {:kernels$}  {:6}  threads  registers  spilled (stores/loads)  stack  shared \
         (static+dynamic)\n",
        "variant", "kernel", "arch"
    );
    for row in rows {
        let Resources {
            registers,
            spill_stores,
            spill_loads,
            stack,
            static_shared,
        } = row.resources;
        let spilled = format!("{spill_stores}/{spill_loads}");
        let shared = format!("{static_shared}+{}", row.dynamic_shared);
        writeln!(
            text,
            "{:variants$}  {:kernels$}  {:6}  {:>7}  {registers:>9}  {spilled:>22}  {stack:>5}  \
             {shared:>23}",
            row.variant, row.kernel, row.arch, row.threads
        )
        .expect("strings take all text");
    }
    text
}

/// The rows for programs.
pub fn write(rows: &[Row], path: &Path) -> std::io::Result<()> {
    let mut text = serde_json::to_string_pretty(rows)?;
    text.push('\n');
    std::fs::write(path, text)
}
