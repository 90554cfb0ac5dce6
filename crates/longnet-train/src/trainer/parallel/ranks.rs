//! Threads as ranks, and how a rank ends.

use super::super::steps::Run;
use super::super::{TrainError, Trainee};
use super::{Mesh, ParallelError};
use burn::module::Module;
use burn_longnet::model::LongNetLM;
use burn_longnet::ring::{LocalComm, catch};
use std::panic::resume_unwind;
use std::thread;
use std::time::Duration;

/// What `f`, which is all that a rank does, returns. If it fails in any way, the other ranks do, too, at once.
///
/// # Errors
///
/// Those of `f`, and of the communication in passes of the model.
pub fn guarded<T>(mesh: &Mesh, f: impl FnOnce() -> Result<T, TrainError>) -> Result<T, TrainError> {
    if mesh.is_single() {
        return f();
    }
    let result = catch(&*mesh.world, f).map_err(ParallelError::from)?;
    if let Err(error) = &result {
        mesh.world.abort(&error.to_string());
    }
    result
}

/// What `lead` returns on this thread, which is rank 0, while the other ranks of `run` train `lm` on threads of their
/// own.
///
/// # Errors
///
/// The one that ended the run, on whatever rank it was.
pub(in crate::trainer) fn on_threads<T>(
    run: Run,
    lm: LongNetLM,
    lead: impl FnOnce(Run) -> Result<T, TrainError>,
) -> Result<T, TrainError> {
    let parallel = run.config.config.parallel.clone();
    let deadline = Duration::from_secs_f64(parallel.deadline);
    let mut ends = LocalComm::group(parallel.ranks(), deadline).into_iter();
    let mut devices = run.control.devices.clone();
    if devices.is_empty() {
        devices = vec![lm.devices()[0].clone().inner()];
    }
    let mut different: Vec<_> = devices.iter().take(parallel.ranks()).collect();
    different.dedup();
    let distinct = different.len();
    let on = |world| {
        let mut mesh = Mesh::new(world, &parallel)?;
        mesh.devices = distinct;
        let run = run.clone();
        Ok::<_, TrainError>(Run { mesh, ..run })
    };
    let first = ends.next().expect("a run has a rank");
    thread::scope(|scope| {
        let followers: Vec<_> = ends
            .enumerate()
            .map(|(i, world)| {
                let (lm, on) = (lm.clone(), &on);
                let device = devices[(i + 1) % devices.len()].clone().autodiff();
                scope.spawn(move || {
                    let run = on(world)?;
                    // A graph of its own.
                    let lm = lm.fork(&device);
                    run.follow(Trainee { lm })
                })
            })
            .collect();
        drop(lm);
        let led = on(first).and_then(lead);
        let followed: Vec<_> = followers.into_iter().map(|rank| rank.join()).collect();
        let mut cause = None;
        for (i, result) in followed.into_iter().enumerate() {
            let result = result.unwrap_or_else(|panic| resume_unwind(panic));
            if let Some(error) = result.err().filter(|error| !error.is_echo()) {
                cause.get_or_insert((i + 1, error));
            }
        }
        match (led, cause) {
            (Ok(done), None) => Ok(done),
            (Err(error), None) => Err(error),
            (Err(error), _) if !error.is_echo() => Err(error),
            (_, Some((_, TrainError::Parallel(error)))) => Err(error.into()),
            (_, Some((rank, error))) => Err(ParallelError::Rank {
                rank,
                message: error.to_string(),
            }
            .into()),
        }
    })
}
