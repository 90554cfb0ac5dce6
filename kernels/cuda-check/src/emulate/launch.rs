use std::process::{Command, Stdio};

use cubecl::client::Client;

use crate::server::{Mode, device};
use crate::{Arch, Error, required};

/// The order in which the threads of a block run between barriers. A right kernel gives the same for
/// all of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// The first thread first.
    #[default]
    Ascending,
    /// The last thread first.
    Descending,
    /// Drawn anew after each barrier.
    Drawn(u64),
}

/// A client of a new emulated device, or `None`, with a line that says why, where the host has no C++
/// compiler.
///
/// A launch that fails poisons the device: what is read from it afterwards is an error with the
/// launch's message.
///
/// # Panics
///
/// Without a compiler if `LONGNET_REQUIRE` contains `cxx`.
pub fn client(arch: Arch) -> Option<Client> {
    client_with(arch, Order::default())
}

/// [`client`] with an order of the threads.
///
/// # Panics
///
/// As [`client`].
pub fn client_with(arch: Arch, order: Order) -> Option<Client> {
    match compiler() {
        Ok(_) => Some(device(arch, Mode::Emulate(order))),
        Err(error) if required("cxx") => panic!("{error}"),
        Err(error) => {
            println!("skipped: {error}");
            None
        }
    }
}

/// The C++ compiler in use.
///
/// # Errors
///
/// [`Error::NoCompiler`] if it cannot be run.
pub fn compiler() -> Result<String, Error> {
    let name = super::compile::compiler();
    Command::new(&name)
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .map_err(Error::NoCompiler)?;
    Ok(name)
}
