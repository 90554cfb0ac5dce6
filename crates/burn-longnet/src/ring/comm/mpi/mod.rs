//! Ranks that are processes, on one machine or several, over MPI. Tensors travel through the host.
//!
//! One thread makes all calls of MPI (see `worker`), without blocking, while the program computes; the
//! program waits for it and never longer than the deadline, whatever MPI does.

mod header;
mod worker;

use super::exchange::{Exchange, Operation, Payload, Receipt, Want, Wire};
use super::group::Group;
use super::{Comm, CommError};
use std::sync::mpsc::{self, RecvTimeoutError, Sender, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use worker::Worker;

/// Ranks that are processes which `mpirun` has started.
///
/// A failure is fail-stop: the rank that notices it prints the [`CommError`] to standard error and calls
/// `MPI_Abort`, which ends all processes of the job. No call returns an error, and
/// [`abort`](Comm::abort) does not return.
#[derive(Debug)]
pub struct MpiComm;

impl MpiComm {
    /// All processes of the job. Without `mpirun` that is this one alone.
    ///
    /// When this and all groups made of it are dropped, MPI ends: normally, or with the whole job if
    /// that happens in a panic. No call waits for another rank longer than `deadline`, nor does the end.
    ///
    /// # Errors
    ///
    /// If this process has used MPI before, which can be initialised only once, or if some process of the
    /// job has not come to this call within `deadline`. End the process then: MPI may still be starting.
    pub fn world(deadline: Duration) -> Result<Arc<dyn Comm>, CommError> {
        let (orders, received) = mpsc::channel();
        let (started, start) = mpsc::sync_channel(1);
        let stop = Arc::new(Mutex::new(None));
        let thread = {
            let stop = stop.clone();
            thread::Builder::new()
                .name("mpi".into())
                .spawn(move || Worker::run(deadline, &received, stop, &started))
        };
        let thread = thread.map_err(|error| CommError::Setup {
            problem: format!("cannot start a thread: {error}"),
        })?;
        // MPI waits there for all processes, without an end.
        let (rank, world) = start.recv_timeout(deadline).map_err(|error| {
            let problem = match error {
                RecvTimeoutError::Disconnected => {
                    "MPI was initialised before; make one world a process, and share it".into()
                }
                RecvTimeoutError::Timeout => format!(
                    "MPI has not started within {deadline:?}: some process has not come to its \
                     start; look whether all of them run, and the same program, or raise the deadline"
                ),
            };
            CommError::Setup { problem }
        })?;
        let process = Process {
            rank,
            deadline,
            orders,
            stop,
            thread: Some(thread),
        };
        Ok(Arc::new(Group::of_all(process, rank, world)))
    }
}

/// What the worker is told to do.
enum Order {
    Exchange(Parcels, SyncSender<Vec<Payload>>),
    /// Look at why to stop.
    Wake,
    End,
}

/// An exchange whose tensors are bytes on the host.
struct Parcels {
    operation: Operation,
    sends: Vec<(usize, super::exchange::Content, Vec<u8>)>,
    wants: Vec<(usize, Want)>,
}

/// Why the job must end.
#[derive(Debug)]
enum Stop {
    /// The program has waited too long.
    Late,
    Why(String),
}

/// How long the worker may take to end the job before this process ends by itself.
const GRACE: Duration = Duration::from_secs(5);

#[derive(Debug)]
struct Process {
    rank: usize,
    deadline: Duration,
    orders: Sender<Order>,
    stop: Arc<Mutex<Option<Stop>>>,
    thread: Option<JoinHandle<()>>,
}

/// Has the worker end the job.
fn end_job(rank: usize, orders: &Sender<Order>, stop: &Mutex<Option<Stop>>, why: Stop) -> ! {
    let text = format!("rank {rank} ends the job: {why:?}");
    let mut reason = stop.lock().unwrap_or_else(PoisonError::into_inner);
    reason.get_or_insert(why);
    drop(reason);
    let _ = orders.send(Order::Wake);
    thread::sleep(GRACE);
    // The worker is stuck in a call of MPI; a process that ends without MPI_Finalize ends the job.
    eprintln!("{text}, and MPI does not respond");
    thread::sleep(worker::HEARD);
    std::process::abort();
}

impl Wire for Process {
    fn start(&self, exchange: Exchange) -> Result<Receipt, CommError> {
        let Exchange {
            operation,
            sends,
            wants,
            ..
        } = exchange;
        let sends = sends.into_iter().map(|(to, payload)| {
            let content = payload.content();
            let bytes = match payload {
                Payload::Bytes(bytes) => bytes,
                Payload::Tensor(t) => match t.try_into_data() {
                    Ok(data) => data.into_bytes().to_vec(),
                    Err(e) => self.abort_for(format!("it cannot read a tensor to send: {e}")),
                },
            };
            (to, content, bytes)
        });
        let parcels = Parcels {
            operation,
            sends: sends.collect(),
            wants,
        };
        let (reply, replied) = mpsc::sync_channel(1);
        let _ = self.orders.send(Order::Exchange(parcels, reply));
        let (rank, deadline) = (self.rank, self.deadline);
        let (orders, stop) = (self.orders.clone(), self.stop.clone());
        Ok(Box::new(move || match replied.recv_timeout(deadline) {
            Ok(payloads) => Ok(payloads),
            Err(RecvTimeoutError::Timeout) => end_job(rank, &orders, &stop, Stop::Late),
            // Only if it panicked, which it has said.
            Err(RecvTimeoutError::Disconnected) => std::process::abort(),
        }))
    }

    fn abort(&self, why: &str) {
        self.abort_for(why.into())
    }
}

impl Process {
    fn abort_for(&self, why: String) -> ! {
        end_job(self.rank, &self.orders, &self.stop, Stop::Why(why))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if thread::panicking() {
            self.abort("it panicked");
        }
        let _ = self.orders.send(Order::End);
        let begun = Instant::now();
        if let Some(thread) = self.thread.take() {
            while !thread.is_finished() {
                if begun.elapsed() > self.deadline {
                    eprintln!(
                        "rank {} has ended, but some rank has not within {:?}: it is stuck or much slower; \
                         look at what it last printed, or raise the deadline",
                        self.rank, self.deadline
                    );
                    thread::sleep(worker::HEARD);
                    std::process::abort();
                }
                thread::sleep(Duration::from_millis(1));
            }
        }
    }
}
