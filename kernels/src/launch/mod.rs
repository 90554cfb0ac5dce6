//! From a problem to launches: [`Plan`] picks a routine and its tile sizes or says why not,
//! [`forward`] and [`backward`] launch it; [`tuned_forward`] and [`tuned_backward`] try the routines of a device.

/// Launches `$kernel` of the routine that `$compiled` is of, in `$role`.
macro_rules! launch {
    ($kernel:ident, $compiled:expr, $role:expr, $client:expr, $cubes:expr, $address:expr, [$($arg:expr),* $(,)?], $types:expr) => {
        match $compiled {
            crate::launch::plan::Compiled::Unit(blueprint) => crate::unit::$kernel::launch(
                $client,
                $cubes,
                CubeDim::new_1d(blueprint.units() as u32),
                $address,
                $($arg,)*
                crate::blueprint::Blueprint { role: $role, ..blueprint },
                $types,
            ),
            crate::launch::plan::Compiled::Mma(blueprint) => crate::mma::$kernel::launch(
                $client,
                $cubes,
                CubeDim::new_1d(blueprint.units() as u32),
                $address,
                $($arg,)*
                crate::mma::MmaBlueprint { role: $role, ..blueprint },
                $types,
            ),
        }
    };
}

mod backward;
mod decode;
mod forward;
mod plan;
mod problem;
mod resident;
mod tensors;
mod tune;

pub use backward::{Backward, backward};
pub use forward::{Forward, forward};
pub use plan::{Pass, Plan, Routine, Tiles, WIDEST};
pub use problem::{Declined, Problem};
pub use tune::{tuned_backward, tuned_forward};
