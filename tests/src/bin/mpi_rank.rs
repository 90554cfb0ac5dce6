//! One rank of the tests over MPI: `mpirun -n 4 mpi_rank TASK MILLISECONDS`, with the deadline of all calls.
//! It prints its process id first and `done` last.

use burn::tensor::DType;
use burn_longnet::ring::{Comm, CommError, MpiComm, catch, raise};
use longnet_tests::ranks;
use std::sync::Arc;
use std::time::Duration;

fn main() {
    let mut args = std::env::args().skip(1);
    let task = args.next().expect("a task");
    let deadline = args.next().map(|ms| ms.parse().expect("milliseconds"));
    let deadline = Duration::from_millis(deadline.unwrap_or(60_000));
    let comm = MpiComm::world(deadline).unwrap_or_else(|error| panic!("{error}"));
    println!("rank {} is process {}", comm.rank(), std::process::id());
    let result = catch(&*comm, || {
        run(&comm, &task).unwrap_or_else(|error| raise(error))
    });
    result.unwrap_or_else(|error| panic!("{error}"));
    println!("rank {} of {} done", comm.rank(), comm.world());
}

fn run(group: &Arc<dyn Comm>, task: &str) -> Result<(), CommError> {
    let comm = &**group;
    match task {
        "ring" => {
            ranks::check_ring(group);
            Ok(())
        }
        "operations" => {
            for dtype in [DType::F32, DType::F64, DType::F16, DType::BF16] {
                for len in [0, 1, 7, 5000] {
                    ranks::check(comm, len, dtype)?;
                }
            }
            // Beyond what MPI sends without asking the receiver.
            ranks::check(comm, 1 << 18, DType::F32)
        }
        // Until it is killed or stopped from outside.
        "loop" => loop {
            ranks::check(comm, 5000, DType::F32)?;
        },
        "length" => {
            let len = 3 + usize::from(comm.rank() == 1);
            let sent = Some(ranks::values(0, len, DType::F32));
            comm.shift(1, sent, ranks::expected(3, DType::F32))
                .map(|_| ())
        }
        "kind" if comm.rank() == 1 => comm.barrier(),
        "kind" => comm.all_reduce(ranks::values(0, 3, DType::F32)).map(|_| ()),
        "unexpected" => {
            let sent = (comm.rank() == 0).then(|| ranks::values(0, 3, DType::F32));
            comm.shift(1, sent, None)?;
            comm.barrier()
        }
        "missing" => {
            let wanted = ranks::expected(3, DType::F32).filter(|_| comm.rank() == 1);
            comm.shift(1, None, wanted)?;
            comm.barrier()
        }
        "panic" if comm.rank() == 1 => panic!("out of luck"),
        "return" if comm.rank() == 1 => Ok(()),
        // Busy elsewhere for longer than the others wait.
        "late" if comm.rank() == 1 => {
            std::thread::sleep(Duration::from_secs(20));
            comm.barrier()
        }
        "panic" | "return" | "late" => comm.barrier(),
        // More than 2^31 bytes in one message.
        "large" => {
            let len = (1 << 31) + 5;
            let bytes = match comm.rank() {
                0 => vec![7; len],
                _ => Vec::new(),
            };
            let gathered = comm.all_gather_bytes(bytes)?;
            assert!(gathered[0].len() == len && gathered[0].iter().all(|&byte| byte == 7));
            Ok(())
        }
        task => panic!("no task {task}"),
    }
}
