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
    let devices = args.devices.map_or(config.parallel.ring, |n| n.get());
    let plan = Plan::of(config, devices);
    let mut text = plan.to_string();
    if let Some(memory) = args.memory {
        let verdict = match plan.worst.memory.total() <= memory {
            true => "fits into",
            false => "does not fit into",
        };
        text += &format!("fit                this step {verdict} {}\n", bytes(memory));
        text += &match longest_context(config, devices, memory) {
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
            si(rate * plan.ranks as f64),
            100.0 * args.mfu,
            si(all),
            config.train.steps,
            duration(seconds),
        );
    }
    if let Some(link) = args.link {
        let attention = match plan.ring {
            Some(ring) => format!("{:.3} s of keys and values", ring.sent / link),
            None => "keys and values not counted".into(),
        };
        text += &format!(
            "sending            {:.3} s of a step at {}/s: {:.3} s of gradients and weights, {attention}\n",
            (plan.sent + plan.ring.map_or(0.0, |ring| ring.sent)) / link,
            bytes(link),
            plan.sent / link,
        );
        if let Some(rate) = args.flops {
            let step = plan.flops.total() * plan.tokens as f64;
            let step = step / (rate * args.mfu * plan.ranks as f64);
            text += &format!(
                "computing          {step:.3} s of a step, beside which keys and values are sent\n"
            );
        }
    }
    text += ASSUMPTIONS;
    if plan.ranks > 1 {
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
A projection for several devices: weights and gradients are whole on each, the optimiser's state too unless
parallel.zero shares it. Keys and values sent are the most of the first, middle and last rank. Of the memory,
keys and values of others are a bound: those of one hop and gradients in buffers as large as a device's own, and
messages of the size that parallel.layout, segments and dilations allow, or of all of a device's rows if layers are
block-sparse. The speed is that of devices which never wait for each other.
";
