//! Ranks that are threads of one process: tensors are handed over, and moved from device to device.

use super::exchange::{Exchange, Kind, Operation, Payload, Receipt, Want, Wire, unexpected};
use super::group::{Group, nothing};
use super::{Comm, CommError, catch};
use std::collections::HashMap;
use std::panic::resume_unwind;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

/// Ranks that are threads of one process.
///
/// A tensor is handed over on its device and brought to the receiver's by
/// [`Tensor::to_device`](burn::tensor::Tensor::to_device): not at all if it is the same, by the backend
/// if it knows how, otherwise through the host.
#[derive(Debug)]
pub struct LocalComm;

impl LocalComm {
    /// The ends of a group of `world` ranks, in their order, one for each thread. No call waits for
    /// another rank longer than `deadline`.
    ///
    /// A rank has ended when its end, and all groups made of it, are dropped. Where that may come late
    /// or not at all (a panic while an autodiff graph holds a copy), run it within [`catch`].
    ///
    /// # Panics
    ///
    /// If `world` is 0.
    pub fn group(world: usize, deadline: Duration) -> Vec<Arc<dyn Comm>> {
        assert!(world > 0, "a group has at least one rank");
        let job = Arc::new(Job {
            deadline,
            state: Mutex::new(State {
                ended: vec![false; world],
                waits_for: vec![None; world],
                ..State::default()
            }),
            changed: Condvar::new(),
        });
        let end = |rank| -> Arc<dyn Comm> {
            let job = job.clone();
            Arc::new(Group::of_all(End { rank, job }, rank, world))
        };
        (0..world).map(end).collect()
    }

    /// Runs `rank` on `world` threads, each with its end, and returns what each made of it.
    ///
    /// # Panics
    ///
    /// If one of them does; the others have failed by then.
    pub fn run<T: Send>(
        world: usize,
        deadline: Duration,
        rank: impl Fn(Arc<dyn Comm>) -> T + Sync,
    ) -> Vec<Result<T, CommError>> {
        std::thread::scope(|scope| {
            let start = |comm: Arc<dyn Comm>| {
                let rank = &rank;
                scope.spawn(move || catch(&*comm.clone(), move || rank(comm)))
            };
            let threads: Vec<_> = Self::group(world, deadline)
                .into_iter()
                .map(start)
                .collect();
            let ended: Vec<_> = threads.into_iter().map(|thread| thread.join()).collect();
            let unpack =
                |result: std::thread::Result<_>| result.unwrap_or_else(|p| resume_unwind(p));
            ended.into_iter().map(unpack).collect()
        })
    }
}

/// What all ranks share.
#[derive(Debug)]
struct Job {
    deadline: Duration,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// Who ended the job, and why.
    fault: Option<(usize, String)>,
    letters: HashMap<Slot, (Kind, Payload)>,
    /// What receivers that came first want.
    wanted: HashMap<Slot, (Kind, Want)>,
    /// Exchanges that a rank has begun in a group: what it wants is known.
    begun: HashMap<(u64, usize), u64>,
    /// Exchanges for which a rank has sent all it sends.
    sent: HashMap<(u64, usize), u64>,
    ended: Vec<bool>,
    waits_for: Vec<Option<usize>>,
    /// Who issues a transfer between devices.
    issues: Option<usize>,
}

/// The place of a message. There is at most one from one rank to another in an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Slot {
    group: u64,
    number: u64,
    from: usize,
    to: usize,
}

/// A rank's hold of the job; its subgroups share it.
#[derive(Debug)]
struct End {
    rank: usize,
    job: Arc<Job>,
}

impl Drop for End {
    fn drop(&mut self) {
        let mut state = self.job.state();
        state.ended[self.rank] = true;
        if std::thread::panicking() && state.fault.is_none() {
            state.fault = Some((self.rank, "it panicked".into()));
        }
        self.job.changed.notify_all();
    }
}

impl Wire for End {
    fn start(&self, exchange: Exchange) -> Result<Receipt, CommError> {
        self.job.clone().start(self.rank, exchange)
    }

    fn abort(&self, why: &str) {
        let mut state = self.job.state();
        state.fault.get_or_insert_with(|| (self.rank, why.into()));
        self.job.changed.notify_all();
    }
}

impl State {
    fn take(&mut self, slot: Slot) -> Option<Payload> {
        let (_, payload) = self.letters.remove(&slot)?;
        self.wanted.remove(&slot);
        Some(payload)
    }

    fn check_fault(&self, rank: usize) -> Result<(), CommError> {
        match self.fault.clone() {
            Some((by, why)) => Err(CommError::Aborted { rank, by, why }),
            None => Ok(()),
        }
    }

    /// The rank that holds up `other`: itself, or the end of the chain of ranks that wait for each other.
    fn stuck(&self, mut other: usize) -> usize {
        for _ in 0..self.waits_for.len() {
            match self.waits_for[other] {
                Some(next) => other = next,
                None => break,
            }
        }
        other
    }
}

/// How far a rank is in a group.
fn progress(of: &HashMap<(u64, usize), u64>, group: u64, rank: usize) -> u64 {
    of.get(&(group, rank)).copied().unwrap_or(0)
}

impl Job {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the job for this reason, unless it has ended.
    fn fail(&self, state: &mut State, rank: usize, error: CommError) -> CommError {
        state.fault.get_or_insert_with(|| (rank, error.to_string()));
        self.changed.notify_all();
        error
    }

    fn start(self: Arc<Self>, rank: usize, exchange: Exchange) -> Result<Receipt, CommError> {
        let Exchange {
            operation,
            members,
            sends,
            wants,
        } = exchange;
        let receivers: Vec<_> = sends.iter().map(|&(to, _)| to).collect();
        let awaited = self.post(rank, operation, &members, sends, &wants)?;
        // Outside of the lock: a move between devices may take its time.
        let place = Place { rank, operation };
        let moved = awaited.into_iter().map(|(slot, payload, want)| {
            let payload = self.hand_over(place, slot.to, payload, &want)?;
            Ok((slot, (operation.kind, payload)))
        });
        let moved = moved.collect::<Result<Vec<_>, CommError>>()?;
        let early = {
            let mut state = self.state();
            state.letters.extend(moved);
            let begun = operation.number + 1;
            state.sent.insert((operation.group, rank), begun);
            self.changed.notify_all();
            let take = |&(from, _): &(usize, Want)| state.take(place.from(from));
            wants.iter().map(take).collect::<Vec<_>>()
        };
        let received = early.into_iter().zip(wants);
        let received = received.map(|(early, (from, want))| {
            let early = early.map(|payload| self.hand_over(place, from, payload, &want));
            Ok((early.transpose()?, from, want))
        });
        let received = received.collect::<Result<Vec<_>, CommError>>()?;
        Ok(Box::new(move || {
            let mut payloads = Vec::with_capacity(received.len());
            for (early, from, want) in received {
                payloads.push(match early {
                    Some(payload) => payload,
                    None => {
                        let payload = self.receive(place, from)?;
                        self.hand_over(place, from, payload, &want)?
                    }
                });
            }
            for to in receivers {
                self.wait_until(place, to, |state| {
                    let begun = progress(&state.begun, operation.group, to);
                    Ok((begun > operation.number).then_some(()))
                })?;
            }
            Ok(payloads)
        }))
    }

    /// Says what `rank` wants and puts down what it sends, apart from those messages (they are returned)
    /// whose receiver is waiting: they are to be moved to its device first.
    fn post(
        &self,
        rank: usize,
        operation: Operation,
        members: &[usize],
        sends: Vec<(usize, Payload)>,
        wants: &[(usize, Want)],
    ) -> Result<Vec<(Slot, Payload, Want)>, CommError> {
        let Operation {
            group,
            number,
            kind,
        } = operation;
        let place = Place { rank, operation };
        let mut state = self.state();
        state.check_fault(rank)?;
        let disagree = |state: &mut State, other, problem| {
            self.fail(state, rank, place.disagree(other, problem))
        };
        for (from, want) in wants {
            state.wanted.insert(place.from(*from), (kind, want.clone()));
        }
        state.begun.insert((group, rank), number + 1);
        for &from in members {
            let slot = place.from(from);
            let Some((theirs, payload)) = state.letters.get(&slot) else {
                continue;
            };
            let content = payload.content();
            let checked = match state.wanted.get(&slot) {
                Some((_, want)) => want.check((from, *theirs), (rank, kind), content),
                None => Err(unexpected((from, *theirs), (rank, kind), content)),
            };
            checked.map_err(|problem| disagree(&mut state, from, problem))?;
        }
        let mut awaited = Vec::new();
        for (to, payload) in sends {
            let slot = place.to(to);
            let content = payload.content();
            let checked = match state.wanted.get(&slot) {
                Some((theirs, want)) => want
                    .check((rank, kind), (to, *theirs), content)
                    .map(|()| Some(want.clone())),
                None if progress(&state.begun, group, to) > number => Err(format!(
                    "rank {rank} sends {content} to rank {to}, which expects nothing"
                )),
                None => Ok(None),
            };
            match checked.map_err(|problem| disagree(&mut state, to, problem))? {
                Some(want) => awaited.push((slot, payload, want)),
                None => {
                    state.letters.insert(slot, (kind, payload));
                }
            }
        }
        self.changed.notify_all();
        Ok(awaited)
    }

    fn receive(&self, place: Place, from: usize) -> Result<Payload, CommError> {
        let Place { rank, operation } = place;
        self.wait_until(place, from, |state| {
            let taken = state.take(place.from(from));
            let sent = progress(&state.sent, operation.group, from);
            if taken.is_none() && sent > operation.number {
                return Err(format!(
                    "rank {rank} expects something of rank {from}, which sends nothing"
                ));
            }
            Ok(taken)
        })
    }

    /// Waits until `ready` returns something, which `other` must bring about.
    fn wait_until<T>(
        &self,
        place: Place,
        other: usize,
        ready: impl Fn(&mut State) -> Result<Option<T>, String>,
    ) -> Result<T, CommError> {
        let Place { rank, operation } = place;
        let started = Instant::now();
        let mut state = self.state();
        state.waits_for[rank] = Some(other);
        let result = loop {
            if let Err(error) = state.check_fault(rank) {
                break Err(error);
            }
            match ready(&mut state) {
                Ok(Some(value)) => break Ok(value),
                Ok(None) => {}
                Err(problem) => break Err(place.disagree(other, problem)),
            }
            if state.ended[other] {
                let operation = operation.to_string();
                break Err(CommError::Gone {
                    rank,
                    other,
                    operation,
                });
            }
            let left = self.deadline.saturating_sub(started.elapsed());
            if left.is_zero() {
                break Err(CommError::Late {
                    rank,
                    other: state.stuck(other),
                    operation: operation.to_string(),
                    deadline: self.deadline,
                });
            }
            let waited = self.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        };
        state.waits_for[rank] = None;
        result.map_err(|error| self.fail(&mut state, rank, error))
    }

    /// The payload, where it is wanted; it is between this rank and `other`.
    fn hand_over(
        &self,
        place: Place,
        other: usize,
        payload: Payload,
        want: &Want,
    ) -> Result<Payload, CommError> {
        let (Payload::Tensor(t), Want::Exactly(e) | Want::Any(e)) = (&payload, want) else {
            return Ok(payload);
        };
        let device = e.device.clone().inner();
        if t.device() == device {
            return Ok(payload);
        }
        if t.dims()[0] == 0 {
            return Ok(Payload::Tensor(nothing(t.dtype(), &device)));
        }
        let turn = self.turn(place, other)?;
        let moved = t.clone().to_device(&device);
        self.state().issues = None;
        drop(turn);
        Ok(Payload::Tensor(moved))
    }

    /// Waits until this rank may issue a transfer, as long as it may wait for a rank: that which issues one may hang.
    fn turn(&self, place: Place, other: usize) -> Result<MutexGuard<'static, ()>, CommError> {
        let Place { rank, operation } = place;
        let started = Instant::now();
        loop {
            let free = match ISSUE.try_lock() {
                Ok(free) => Some(free),
                Err(TryLockError::Poisoned(free)) => Some(free.into_inner()),
                Err(TryLockError::WouldBlock) => None,
            };
            let mut state = self.state();
            state.waits_for[rank] = None;
            state.check_fault(rank)?;
            if let Some(free) = free {
                state.issues = Some(rank);
                return Ok(free);
            }
            // If none of this job does, one of another job in this process.
            let other = state.issues.filter(|by| *by != rank).unwrap_or(other);
            if started.elapsed() >= self.deadline {
                let late = CommError::Late {
                    rank,
                    other,
                    operation: format!(
                        "{operation}, with a transfer between devices before its own"
                    ),
                    deadline: self.deadline,
                };
                return Err(self.fail(&mut state, rank, late));
            }
            state.waits_for[rank] = Some(other);
            drop(state);
            std::thread::sleep(TURN);
        }
    }
}

/// A rank in an exchange.
#[derive(Clone, Copy)]
struct Place {
    rank: usize,
    operation: Operation,
}

impl Place {
    fn slot(self, from: usize, to: usize) -> Slot {
        let Operation { group, number, .. } = self.operation;
        Slot {
            group,
            number,
            from,
            to,
        }
    }

    fn from(self, from: usize) -> Slot {
        self.slot(from, self.rank)
    }

    fn to(self, to: usize) -> Slot {
        self.slot(self.rank, to)
    }

    fn disagree(self, other: usize, problem: String) -> CommError {
        CommError::Disagree {
            rank: self.rank,
            other,
            operation: self.operation.to_string(),
            problem,
        }
    }
}

/// Transfers between devices are issued one by one: two opposite ones that are issued at the same time
/// can wait for each other for ever.
static ISSUE: Mutex<()> = Mutex::new(());

/// How long a rank sleeps between two looks at whether it may issue a transfer.
const TURN: Duration = Duration::from_micros(100);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transfer_that_hangs_holds_up_the_others_until_the_deadline() {
        let deadline = Duration::from_millis(200);
        let turn = |state: State| {
            let job = Job {
                deadline,
                state: Mutex::new(state),
                changed: Condvar::new(),
            };
            let operation = Operation {
                group: 0,
                number: 0,
                kind: Kind::Barrier,
            };
            job.turn(Place { rank: 1, operation }, 0).map(|_| ())
        };
        let state = || State {
            waits_for: vec![None; 3],
            issues: Some(2),
            ..State::default()
        };
        let hung = ISSUE.lock().unwrap();
        let begun = Instant::now();
        let late = turn(state()).unwrap_err();
        assert!(begun.elapsed() >= deadline && begun.elapsed() < 20 * deadline);
        assert!(
            matches!(
                &late,
                CommError::Late {
                    rank: 1,
                    other: 2,
                    ..
                }
            ),
            "{late}"
        );
        let aborted = turn(State {
            fault: Some((2, "it is out of luck".into())),
            ..state()
        });
        assert!(matches!(aborted, Err(CommError::Aborted { by: 2, .. })));
        drop(hung);
        turn(state()).unwrap();
    }
}
