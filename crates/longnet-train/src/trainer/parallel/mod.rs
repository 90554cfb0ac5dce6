//! A run on several ranks.
//!
//! Every rank runs the same loop on a model of its own (SPMD): the same weights from the same seed, the same feed, and
//! of each batch its part: some of the rows (`data`), of these some of the positions (`ring`). What they
//! must agree on is exchanged: sums of losses, gradients, requests to stop.
//!
//! | module | concept |
//! |---|---|
//! | `mesh` | who the other ranks are, and what this one takes |
//! | `agree` | what ranks tell each other beside tensors |
//! | `evaluate` | evaluations, each rank its part |
//! | `flat` | tensors of parameters in a few large messages |
//! | `lease` | what graphs keep of a communicator |
//! | `processes` | processes as ranks |
//! | `zero` | the optimiser's state, a share on each rank (ZeRO-1) |
//! | `ranks` | threads as ranks |

mod agree;
mod error;
mod evaluate;
mod flat;
mod lease;
mod mesh;
mod processes;
mod ranks;
mod zero;

pub(super) use agree::Start;
pub use agree::Word;
pub use error::ParallelError;
pub(super) use flat::{fingerprint, missing, reduced};
pub use mesh::Mesh;
pub use processes::{of_this_process, rank_on_this_machine};
pub use ranks::guarded;
pub(super) use ranks::on_threads;
pub(super) use zero::Zero;
