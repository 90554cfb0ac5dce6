//! Processes as ranks.

use super::{Mesh, ParallelError};
use crate::config::sections::{Engine, Parallel};

/// This process's place among those of a run whose ranks are processes; None where all ranks are in this one.
///
/// # Errors
///
/// The program has no MPI, or was not started as the config says.
pub fn of_this_process(parallel: &Parallel) -> Result<Option<Mesh>, ParallelError> {
    match parallel.engine {
        Engine::Threads => match started() {
            Some(found) if found > 1 => Err(ParallelError::Mpirun { found }),
            _ => Ok(None),
        },
        Engine::Mpi => mpi(parallel),
    }
}

#[cfg(feature = "mpi")]
fn mpi(parallel: &Parallel) -> Result<Option<Mesh>, ParallelError> {
    let deadline = std::time::Duration::from_secs_f64(parallel.deadline);
    let world = burn_longnet::ring::MpiComm::world(deadline)?;
    Mesh::new(world, parallel).map(Some)
}

#[cfg(not(feature = "mpi"))]
fn mpi(_: &Parallel) -> Result<Option<Mesh>, ParallelError> {
    Err(ParallelError::NotBuilt)
}

/// Processes that a launcher of MPI has started, if one has.
fn started() -> Option<usize> {
    number(&["PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "PMIX_SIZE"])
}

/// Which of the ranks on this machine this process is: it takes the device of that number.
pub fn rank_on_this_machine() -> usize {
    let names = [
        "MPI_LOCALRANKID",
        "OMPI_COMM_WORLD_LOCAL_RANK",
        "SLURM_LOCALID",
    ];
    number(&names).unwrap_or(0)
}

fn number(names: &[&str]) -> Option<usize> {
    names
        .iter()
        .find_map(|name| std::env::var(name).ok()?.parse().ok())
}
