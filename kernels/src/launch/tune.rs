//! The choice among routines: by trying them, once for each kind of problem and device.

use super::plan::NARROW;
use super::{Backward, Declined, Forward, Pass, Plan, Problem, Routine, Tiles, backward, forward};
use cubecl::client::Client;
use cubecl::tune::{LocalTuner, Tunable, TunableSet, anchor, local_tuner};

static FORWARD: LocalTuner<String, String> = local_tuner!("forward");
static BACKWARD: LocalTuner<String, String> = local_tuner!("backward");

/// One call, as the tuner repeats it.
#[derive(Clone)]
struct Call<T> {
    client: Client,
    problem: Problem,
    tensors: T,
}

/// Out and lse, by the routine that was fastest.
///
/// # Errors
///
/// What the device or the kernels cannot do.
pub fn tuned_forward(client: &Client, problem: Problem, tensors: Forward) -> Result<(), Declined> {
    let plan = Plan::new(client, &problem, Pass::Forward)?;
    if !is_open(client) || plan.decodes() {
        forward(client, &plan, tensors);
        return Ok(());
    }
    let call = Call {
        client: client.clone(),
        problem,
        tensors,
    };
    let device = format!("{} {:?}", client.name(), client.service_id().device);
    let set = FORWARD.init(&device, || {
        candidates(Pass::Forward, |client, plan, tensors| {
            forward(client, plan, tensors)
        })
    });
    FORWARD.execute(&device, client, set, call);
    Ok(())
}

/// The gradients, by the routine that was fastest.
///
/// # Errors
///
/// What the device or the kernels cannot do.
pub fn tuned_backward(
    client: &Client,
    problem: Problem,
    tensors: Backward,
) -> Result<(), Declined> {
    let plan = Plan::new(client, &problem, Pass::Backward)?;
    if !is_open(client) {
        backward(client, &plan, tensors);
        return Ok(());
    }
    let call = Call {
        client: client.clone(),
        problem,
        tensors,
    };
    let device = format!("{} {:?}", client.name(), client.service_id().device);
    let set = BACKWARD.init(&device, || {
        candidates(Pass::Backward, |client, plan, tensors| {
            backward(client, plan, tensors)
        })
    });
    BACKWARD.execute(&device, client, set, call);
    Ok(())
}

/// Whether there is a choice: processors have one routine.
fn is_open(client: &Client) -> bool {
    client.properties().hardware.plane_size_max >= NARROW && Routine::forced().is_none()
}

/// A routine that may suit a problem.
type Choose = fn(&Client, &Problem, Pass) -> Routine;

fn candidates<T: Clone + Send + Sync + 'static>(
    pass: Pass,
    launch: fn(&Client, &Plan, T),
) -> TunableSet<String, Call<T>, ()> {
    let choices: [(&str, Choose); 4] = [
        ("mma", |_, _, _| Routine::Mma),
        ("unit", |client, problem, pass| {
            Routine::Unit(Tiles::suiting(client, problem, pass))
        }),
        ("unit, 32 rows", |client, problem, pass| {
            Routine::Unit(Tiles {
                rows: 32,
                ..Tiles::suiting(client, problem, pass)
            })
        }),
        ("unit, 128 rows", |client, problem, pass| {
            Routine::Unit(Tiles {
                rows: 128,
                ..Tiles::suiting(client, problem, pass)
            })
        }),
    ];
    let mut set = TunableSet::new_cloning_inputs(move |call: &Call<T>| key(&call.problem, pass));
    for (name, choose) in choices {
        set = set.with(Tunable::new(name, move |call: Call<T>| {
            let Call {
                client,
                problem,
                tensors,
            } = call;
            let routine = choose(&client, &problem, pass);
            let plan = Plan::with_routine(&client, &problem, pass, routine)
                .inspect_err(|reason| log::debug!("attention by {name}, {pass:?}: {reason}"))
                .map_err(|declined| declined.0)?;
            launch(&client, &plan, tensors);
            Ok::<(), String>(())
        }));
    }
    set
}

/// What problems have in common that the same routine is fastest for; lengths to the next power of two.
fn key(problem: &Problem, pass: Pass) -> String {
    let Problem {
        schedule,
        gradient,
        dropout,
        labels,
        bias,
        dtype,
        aligned,
        batch,
        kv_heads,
        d,
        d_v,
        ..
    } = problem;
    let length = |n| anchor(n, None, None, None);
    let (span, heads) = (schedule.span(), schedule.heads());
    let (n_q, n_k, cubes) = (length(span.n_q), length(span.n_k), length(batch * heads));
    let branches: Vec<(usize, usize)> = (0..schedule.branches())
        .map(|b| schedule.branch(b))
        .map(|branch| (length(branch.segment.min(span.n_k)), branch.dilation))
        .collect();
    let blocks = schedule.mask().map(|mask| mask.grid());
    let blocks = blocks.map(|grid| (grid.q_block, grid.k_block));
    let dropout = dropout.is_some();
    let causal = schedule.is_causal();
    let group = heads / kv_heads;
    format!(
        "{pass:?} {dtype} d {d} {d_v} n {n_q} {n_k} heads {cubes} by {group}, {branches:?} {blocks:?}, causal {causal} \
         labels {labels} bias {bias} dropout {dropout} {gradient:?} aligned {aligned}"
    )
}
