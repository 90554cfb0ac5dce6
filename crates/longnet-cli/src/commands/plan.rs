//! `longnet plan`.

use crate::args::PlanArgs;
use crate::exit::Failure;
use crate::out::out;
use longnet_train::config::Resolved;
use longnet_train::estimate::si;
use longnet_train::plan::{Plan, bytes, longest_context};
use longnet_train::progress::duration;

pub fn run(args: PlanArgs) -> Result<(), Failure> {
    let resolved = Resolved::load(Some(&args.config.config), &args.config.set.set)?;
    let config = &resolved.config;
    let plan = Plan::of(config, args.devices.get());
    let mut text = plan.to_string();
    if let Some(memory) = args.memory {
        let verdict = match plan.worst.memory.total() <= memory {
            true => "fits into",
            false => "does not fit into",
        };
        text += &format!("fit                this step {verdict} {}\n", bytes(memory));
        text += &match longest_context(config, args.devices.get(), memory) {
            Some(context) => format!(
                "longest context    {context} tokens fit, {} x {context} in one pass\n",
                plan.batch
            ),
            None => "longest context    none: the weights and what belongs to them do not fit; a smaller model, more memory or another optimiser may\n".into(),
        };
    }
    if let Some(rate) = args.flops {
        let seconds = plan.seconds(rate, args.mfu);
        let all = plan.run_tokens;
        text += &format!(
            "speed              {} tokens/s at {}FLOP/s and a utilisation of {:.0} %; {} tokens in {} steps take {}\n",
            si(all / seconds),
            si(rate * plan.devices as f64),
            100.0 * args.mfu,
            si(all),
            config.train.steps,
            duration(seconds),
        );
    }
    text += ASSUMPTIONS;
    if plan.devices > 1 {
        text += SHARDED;
    }
    out(&text)
}

const ASSUMPTIONS: &str = "
Memory is that of the worst moment of a step on the CPU backend, which tests hold to 10 % of what
programs use; other backends keep the same tensors, with workspaces of their own. The mapped text is
not counted: the system may drop it. FLOPs are the model's: what is computed again does not count.
'longnet train CONFIG --dry-run' runs two steps and says whether the plan held.
";

const SHARDED: &str = "
A projection, for the program does not yet train on several devices: each sequence is cut into one part
for each device; weights, gradients and optimiser are on all of them; of segments longer than a part each
device gathers the keys and values that the dilation keeps, with their gradients; what layers that are not
dilated would gather is not counted; nothing waits for communication.
";
