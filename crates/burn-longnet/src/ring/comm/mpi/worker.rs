//! The thread that makes all calls of MPI.
//!
//! Exchanges are done one after the other, in the order in which the program issued them. A header goes
//! ahead of each message; the receiver takes headers from anybody at any time, and asks for the
//! content once it wants it, so that nobody fills its memory.

use super::super::exchange::{Content, Operation, Payload, Want, unexpected};
use super::super::group::nothing;
use super::header::Header;
use super::{CommError, Order, Parcels, Stop};
use ::mpi::request::{LocalScope, Request};
use ::mpi::topology::SimpleCommunicator;
use ::mpi::traits::{Communicator, Destination, MatchedReceiveVec, Source};
use burn::tensor::{Tensor, TensorData};
use std::collections::VecDeque;
use std::fmt::Display;
use std::sync::mpsc::{Receiver, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Tags of headers, and of the question whom a rank waits for with its answer.
const HEADER: i32 = 1;
const WHOM: i32 = 2;
const ANSWER: i32 = 3;
/// Tags of contents: of their own for each message, so that none is taken for another. MPI has at least
/// 32767.
const CONTENTS: std::ops::Range<i32> = 16..32767;

/// MPI counts elements in 31 bits.
const PIECE: usize = 1 << 30;

/// How long a rank has to say whom it waits for.
const ANSWER_TIME: Duration = Duration::from_millis(300);

/// How long `mpirun` has to pass on a last message before the abort, which it may not survive.
pub(super) const HEARD: Duration = Duration::from_millis(200);

pub(super) struct Worker {
    world: SimpleCommunicator,
    rank: usize,
    deadline: Duration,
    stop: Arc<Mutex<Option<Stop>>>,
    /// Headers that have come, by rank, with contents that came along.
    headers: Vec<VecDeque<(Header, Vec<u8>)>>,
    /// Messages sent to each rank.
    sent: Vec<i32>,
}

/// What the worker is waiting for.
#[derive(Clone, Copy)]
struct Waiting {
    operation: Operation,
    other: usize,
}

type Requests<'a, 's> = Vec<(usize, Request<'a, [u8], &'s LocalScope<'a>>)>;

impl Worker {
    /// Does what is ordered until the end is; tells who it is once MPI has started.
    pub(super) fn run(
        deadline: Duration,
        orders: &Receiver<Order>,
        stop: Arc<Mutex<Option<Stop>>>,
        started: &SyncSender<(usize, usize)>,
    ) {
        // This thread initialises MPI and alone calls it, which is all that "funneled" asks for.
        let Some((universe, _)) = ::mpi::initialize_with_threading(::mpi::Threading::Funneled)
        else {
            return;
        };
        let world = universe.world();
        let (rank, size) = (world.rank() as usize, world.size() as usize);
        let mut worker = Self {
            world,
            rank,
            deadline,
            stop,
            headers: vec![VecDeque::new(); size],
            sent: vec![0; size],
        };
        let _ = started.send((rank, size));
        while let Ok(order) = orders.recv() {
            match order {
                Order::Exchange(parcels, reply) => {
                    // Nobody waits for it any more if that fails.
                    let _ = reply.send(worker.exchange(parcels));
                }
                Order::Wake => worker.heed_stop(None),
                Order::End => break,
            }
        }
        drop(universe);
    }

    fn exchange(&mut self, parcels: Parcels) -> Vec<Payload> {
        let Parcels {
            operation,
            sends,
            wants,
        } = parcels;
        let headers = sends.iter().map(|&(to, content, _)| {
            let tag = CONTENTS.start + self.sent[to];
            self.sent[to] = (self.sent[to] + 1) % CONTENTS.len() as i32;
            Header {
                operation,
                content,
                tag,
            }
        });
        let headers: Vec<_> = headers.collect();
        let envelopes = headers.iter().zip(&sends).map(|(header, (_, _, bytes))| {
            let mut envelope = header.encode();
            if header.holds_content() {
                envelope.extend_from_slice(bytes);
            }
            envelope
        });
        let envelopes: Vec<_> = envelopes.collect();
        ::mpi::request::scope(|scope| {
            let mut requests = Requests::new();
            for ((header, envelope), (to, _, bytes)) in headers.iter().zip(&envelopes).zip(&sends) {
                let process = self.world.process_at_rank(*to as i32);
                let mut send = |bytes, tag| {
                    requests.push((*to, process.immediate_send_with_tag(scope, bytes, tag)));
                };
                send(&envelope[..], HEADER);
                if !header.holds_content() {
                    bytes
                        .chunks(PIECE)
                        .for_each(|piece| send(piece, header.tag));
                }
            }
            let received = self.receive(operation, &wants);
            self.complete(operation, requests);
            let received = received.into_iter().zip(wants);
            received
                .map(|((content, bytes), (_, want))| unpack(content, bytes, want))
                .collect()
        })
    }

    fn receive(
        &mut self,
        operation: Operation,
        wants: &[(usize, Want)],
    ) -> Vec<(Content, Vec<u8>)> {
        let headers = wants.iter().map(|(from, want)| {
            let (header, content) = self.header(operation, wants, *from);
            let (theirs, ours) = ((*from, header.operation.kind), (self.rank, operation.kind));
            if let Err(problem) = want.check(theirs, ours, header.content) {
                self.disagree(operation, *from, problem);
            }
            (header, content)
        });
        let headers: Vec<_> = headers.collect();
        let buffers = headers
            .iter()
            .map(|(header, content)| match header.holds_content() {
                true => content.clone(),
                false => vec![0; header.content.bytes()],
            });
        let mut buffers: Vec<_> = buffers.collect();
        ::mpi::request::scope(|scope| {
            let mut requests = Requests::new();
            for (((header, _), buffer), (from, _)) in headers.iter().zip(&mut buffers).zip(wants) {
                if header.holds_content() {
                    continue;
                }
                let process = self.world.process_at_rank(*from as i32);
                for piece in buffer.chunks_mut(PIECE) {
                    let request = process.immediate_receive_into_with_tag(scope, piece, header.tag);
                    requests.push((*from, request));
                }
            }
            self.complete(operation, requests);
        });
        let contents = headers.into_iter().map(|(header, _)| header.content);
        contents.zip(buffers).collect()
    }

    /// Waits for the header of what `from` sends in this operation.
    fn header(
        &mut self,
        operation: Operation,
        wants: &[(usize, Want)],
        from: usize,
    ) -> (Header, Vec<u8>) {
        let mut pause = Pause::default();
        loop {
            self.take_headers();
            for other in 0..self.headers.len() {
                if wants.iter().all(|(wanted, _)| *wanted != other) {
                    self.expect_nothing(operation, other);
                }
            }
            let mut of_group = self.headers[from].iter().enumerate();
            let first = of_group.find(|(_, (h, _))| h.operation.group == operation.group);
            if let Some((i, (header, _))) = first {
                if header.operation.number == operation.number {
                    return self.headers[from].remove(i).expect("it is there");
                }
                let problem = match header.operation.number < operation.number {
                    true => self.left_over(from, header),
                    false => format!(
                        "rank {} expects something of rank {from}, which has come to {}",
                        self.rank, header.operation
                    ),
                };
                self.disagree(operation, from, problem);
            }
            pause.wait();
            self.attend(Waiting {
                operation,
                other: from,
            });
        }
    }

    /// Ends the job if `other` has sent something for this operation, or an earlier one of the group.
    fn expect_nothing(&self, operation: Operation, other: usize) {
        let early = self.headers[other].iter().find(|(header, _)| {
            let theirs = header.operation;
            theirs.group == operation.group && theirs.number <= operation.number
        });
        if let Some((header, _)) = early {
            let theirs = (other, header.operation.kind);
            let ours = (self.rank, operation.kind);
            let problem = match header.operation.number < operation.number {
                true => self.left_over(other, header),
                false => unexpected(theirs, ours, header.content),
            };
            self.disagree(operation, other, problem);
        }
    }

    /// What is wrong with a message of an operation that is over.
    fn left_over(&self, from: usize, header: &Header) -> String {
        format!(
            "rank {from} sent {} to rank {} in {}, which expected nothing",
            header.content, self.rank, header.operation
        )
    }

    /// Takes all headers that have come.
    fn take_headers(&mut self) {
        while let Some(found) = self
            .world
            .any_process()
            .immediate_matched_probe_with_tag(HEADER)
        {
            let (mut bytes, status) = found.matched_receive_vec::<u8>();
            let from = status.source_rank() as usize;
            match Header::decode(&bytes) {
                Some(header) => {
                    bytes.drain(..Header::BYTES);
                    self.headers[from].push_back((header, bytes));
                }
                None => self.die(&CommError::Setup {
                    problem: format!(
                        "rank {} does not understand rank {from}: run the same program on all hosts",
                        self.rank
                    ),
                }),
            }
        }
    }

    fn complete(&mut self, operation: Operation, mut requests: Requests<'_, '_>) {
        let mut pause = Pause::default();
        loop {
            let still = requests
                .into_iter()
                .filter_map(|(other, request)| Some((other, request.test().err()?)));
            requests = still.collect();
            let Some(&(other, _)) = requests.first() else {
                return;
            };
            pause.wait();
            self.attend(Waiting { operation, other });
        }
    }

    /// Stops if it must, and tells who asks whom this rank waits for.
    fn attend(&self, waiting: Waiting) {
        self.heed_stop(Some(waiting));
        self.answer(waiting.other);
    }

    fn answer(&self, waits_for: usize) {
        let anybody = self.world.any_process();
        while let Some(found) = anybody.immediate_matched_probe_with_tag(WHOM) {
            let (_, status) = found.matched_receive_vec::<u8>();
            let asker = self.world.process_at_rank(status.source_rank());
            asker.send_with_tag(&(waits_for as u64).to_le_bytes()[..], ANSWER);
        }
    }

    fn heed_stop(&self, waiting: Option<Waiting>) {
        let stop = self.stop.lock().unwrap_or_else(PoisonError::into_inner);
        match (&*stop, waiting) {
            (None, _) | (Some(Stop::Late), None) => {}
            (Some(Stop::Late), Some(Waiting { operation, other })) => {
                self.die(&CommError::Late {
                    rank: self.rank,
                    other: self.stuck(other),
                    operation: operation.to_string(),
                    deadline: self.deadline,
                });
            }
            (Some(Stop::Why(why)), _) => {
                self.die(&format!("rank {} ends the job: {why}", self.rank))
            }
        }
    }

    /// The rank that holds up `other`: itself, or the end of the chain of ranks that wait for each other.
    fn stuck(&self, awaited: usize) -> usize {
        let mut other = awaited;
        for _ in 0..self.headers.len().min(4) {
            match self.waits_for(other, awaited) {
                Some(next) if next != self.rank => other = next,
                _ => break,
            }
        }
        other
    }

    /// Whom `other` waits for; this rank waits for `awaited`. A rank that is not waiting does not answer.
    fn waits_for(&self, other: usize, awaited: usize) -> Option<usize> {
        let process = self.world.process_at_rank(other as i32);
        process.send_with_tag(&[0u8][..], WHOM);
        let asked = Instant::now();
        while asked.elapsed() < ANSWER_TIME {
            if let Some(found) = process.immediate_matched_probe_with_tag(ANSWER) {
                let (bytes, _) = found.matched_receive_vec::<u8>();
                return Some(u64::from_le_bytes(bytes.try_into().ok()?) as usize);
            }
            // Who asks may ask this rank.
            self.answer(awaited);
            thread::sleep(Duration::from_millis(1));
        }
        None
    }

    fn disagree(&self, operation: Operation, other: usize, problem: String) -> ! {
        self.die(&CommError::Disagree {
            rank: self.rank,
            other,
            operation: operation.to_string(),
            problem,
        })
    }

    fn die(&self, error: &dyn Display) -> ! {
        eprintln!("{error}");
        thread::sleep(HEARD);
        self.world.abort(1)
    }
}

fn unpack(content: Content, bytes: Vec<u8>, want: Want) -> Payload {
    match want {
        Want::Bytes => Payload::Bytes(bytes),
        Want::Exactly(e) | Want::Any(e) if content.len == 0 => {
            Payload::Tensor(nothing(e.dtype, &e.device))
        }
        Want::Exactly(e) | Want::Any(e) => {
            let data = TensorData::from_bytes_vec(bytes, [content.len], e.dtype);
            let device = e.device.inner();
            Payload::Tensor(Tensor::from_data(data, (&device, e.dtype)))
        }
    }
}

/// Lets others run between two looks at MPI: at first only that, then for longer.
#[derive(Default)]
struct Pause(u32);

impl Pause {
    fn wait(&mut self) {
        self.0 += 1;
        match self.0 {
            ..100 => thread::yield_now(),
            _ => thread::sleep(Duration::from_micros(50)),
        }
    }
}
