//! The project's kernels, each with a problem that it is compiled for and emulated on.

mod attention;
mod mma;
mod reference;

use cubecl::client::Client;

/// A kernel, or the few of one operation, at one compile-time choice.
pub struct Variant {
    /// What it is.
    pub name: String,
    /// Whether its speed is what it is for, so that nothing may be spilled.
    pub hot: bool,
    /// Launches it, and compares the results with a reference on the host: what differs, in words.
    pub run: Box<dyn Fn(&Client) -> Result<(), String>>,
}

/// All of them.
pub fn all() -> Vec<Variant> {
    let mut all = attention::variants();
    all.extend(mma::variants());
    all
}
