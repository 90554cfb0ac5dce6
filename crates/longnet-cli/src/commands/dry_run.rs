//! `longnet train --dry-run`.

use crate::exit::Failure;
use crate::out::out;
use longnet_train::estimate::si;
use longnet_train::memory::Resident;
use longnet_train::plan::bytes;
use longnet_train::progress::duration;
use longnet_train::trainer::{Prepared, TOLERANCE, TrainError};

/// `start` is the memory of the process before the text was read.
pub fn run(
    prepared: Prepared,
    start: Option<Resident>,
    backend: &str,
    steps: usize,
) -> Result<(), TrainError> {
    let result = prepared.dry_run(start)?;
    let step = &result.step;
    let mut text = format!("planned\n{}\nmeasured in two steps\n", result.plan);
    if let Some(machine) = &result.machine {
        text += &format!(
            "peak               {}FLOP/s in products of f32 matrices\n",
            si(machine.matmul_flops)
        );
    }
    text += &format!(
        "step               {:.2} s, {:.0} tokens/s, mfu {:.0} %; {steps} such steps take {}\n",
        step.seconds,
        step.tokens as f64 / step.seconds,
        100.0 * step.utilisation,
        duration(step.seconds * steps as f64),
    );
    text += &match (result.peak, result.deviation(), result.held()) {
        _ if backend != "flex" => {
            "memory             not compared: the plan is that of the CPU backend\n".into()
        }
        (Some(peak), Some(deviation), Some(held)) => format!(
            "memory             {} at most, beside {} of mapped text; the plan is {:+.1} % off\n\
             \n{}\n",
            bytes(peak as f64),
            bytes(result.text as f64),
            100.0 * deviation,
            match held {
                true => format!("The plan held: within {:.0} %.", 100.0 * TOLERANCE),
                false => format!(
                    "The plan did not hold: more than {:.0} % off.",
                    100.0 * TOLERANCE
                ),
            }
        ),
        _ => "memory             not measured: this system does not tell\n".into(),
    };
    out(&text).map_err(|error| match error {
        Failure::Output(source) => TrainError::Write {
            path: "standard output".into(),
            source,
        },
        other => unreachable!("writing fails in one way only: {other}"),
    })
}
