//! Modules over sharded sequences.

use super::{Comm, SequenceShard};
use crate::attention::{
    AttentionInput, BlockSparseAttention, DilatedAttention, MhaInput, MhaOutput,
    MultiHeadBlockSparseAttention, MultiHeadDilatedAttention, MultiHeadSparseAttention,
    SparseAttention,
};
use crate::pattern::ring::Layout;
use burn::module::{Content, DisplaySettings, Module, ModuleDisplay};
use burn::tensor::Tensor;
use std::sync::{Arc, Mutex, PoisonError};

/// A module whose input is this rank's part of a sequence, and so is its output.
///
/// Made of the plain module that a configuration gives, whose parameters all ranks hold: [`Ring::new`]. With one rank it
/// is that module, to the bit. Gradients of parameters are this rank's share; their sum over ranks is the gradient.
///
/// ```
/// use burn::tensor::{Device, Distribution, Tensor};
/// use burn_longnet::attention::{MhaInput, MultiHeadDilatedAttentionConfig, branches};
/// use burn_longnet::pattern::ring::Layout;
/// use burn_longnet::ring::{LocalComm, Ring};
/// use std::time::Duration;
///
/// let device = Device::default();
/// let config = MultiHeadDilatedAttentionConfig::new(32, 4)
///     .with_branches(branches([(16, 1), (64, 2)]))
///     .with_causal(true);
/// let plain = config.init(&device);
/// let x = Tensor::<3>::random([1, 64, 32], Distribution::Default, &device);
/// let whole = plain.forward(MhaInput::self_attn(x.clone())).context;
///
/// let parts = LocalComm::run(2, Duration::from_secs(60), |comm| {
///     let ring = Ring::new(plain.clone(), comm, Layout::Contiguous);
///     let part = ring.shard(64).take(x.clone(), 1);
///     ring.forward(MhaInput::self_attn(part), 64).context
/// });
/// let parts = parts.into_iter().collect::<Result<Vec<_>, _>>()?;
/// let error = (Tensor::cat(parts, 1) - whole).abs().max().into_scalar::<f32>();
/// assert!(error < 1e-5);
/// # Ok::<(), burn_longnet::ring::CommError>(())
/// ```
#[derive(Module, Debug)]
#[module(custom_display)]
pub struct Ring<M> {
    /// The module.
    pub module: M,
    #[module(skip)]
    comm: Arc<dyn Comm>,
    #[module(skip)]
    layout: Layout,
    #[module(skip)]
    last: Last,
}

/// The shard of the length that was asked for last. Clones share it.
#[derive(Clone, Debug, Default)]
struct Last(Arc<Mutex<Option<SequenceShard>>>);

/// [`DilatedAttention`] over sharded sequences.
pub type RingDilatedAttention = Ring<DilatedAttention>;

/// [`BlockSparseAttention`] over sharded sequences.
pub type RingBlockSparseAttention = Ring<BlockSparseAttention>;

/// [`MultiHeadDilatedAttention`] over sharded sequences.
pub type RingMultiHeadDilatedAttention = Ring<MultiHeadDilatedAttention>;

/// [`MultiHeadBlockSparseAttention`] over sharded sequences.
pub type RingMultiHeadBlockSparseAttention = Ring<MultiHeadBlockSparseAttention>;

impl<M: Module + ModuleDisplay> ModuleDisplay for Ring<M> {
    fn custom_settings(&self) -> Option<DisplaySettings> {
        DisplaySettings::new()
            .with_new_line_after_attribute(false)
            .optional()
    }

    fn custom_content(&self, content: Content) -> Option<Content> {
        content
            .add("module", &self.module)
            .add("layout", &format!("{:?}", self.layout))
            .add("ranks", &self.comm.world())
            .optional()
    }
}

impl<M> Ring<M> {
    /// `module` on this rank of `comm`, over sequences that are dealt by `layout`.
    pub fn new(module: M, comm: Arc<dyn Comm>, layout: Layout) -> Self {
        Self {
            module,
            comm,
            layout,
            last: Last::default(),
        }
    }

    /// This rank's part of a sequence of `n` positions.
    pub fn shard(&self, n: usize) -> SequenceShard {
        let mut last = self.last.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &*last {
            Some(shard) if shard.n() == n => shard.clone(),
            _ => {
                let shard = SequenceShard::new(self.comm.clone(), self.layout, n);
                last.insert(shard).clone()
            }
        }
    }
}

impl RingDilatedAttention {
    /// Attention of this rank's queries over the keys of all ranks, in a sequence of `n` positions.
    ///
    /// # Shapes
    ///
    /// Those of [`DilatedAttention::forward`], with the rows of [`shard(n)`](Ring::shard).
    ///
    /// # Panics
    ///
    /// As [`ring_attention`](super::ring_attention).
    pub fn forward(&self, input: AttentionInput, n: usize) -> Tensor<4> {
        self.module.forward(input.shard(self.shard(n)))
    }
}

impl RingBlockSparseAttention {
    /// Attention of this rank's queries over the keys of all ranks, in a sequence of `n` positions.
    ///
    /// # Shapes
    ///
    /// Those of [`BlockSparseAttention::forward`], with the rows of [`shard(n)`](Ring::shard).
    ///
    /// # Panics
    ///
    /// As [`ring_attention`](super::ring_attention), and if the pattern cannot be built at this length.
    pub fn forward(&self, input: AttentionInput, n: usize) -> Tensor<4> {
        self.module.forward(input.shard(self.shard(n)))
    }
}

impl<A: SparseAttention> Ring<MultiHeadSparseAttention<A>> {
    /// Applies the forward pass to this rank's part of a sequence of `n` positions.
    ///
    /// # Shapes
    ///
    /// Those of [`MultiHeadSparseAttention::forward`], with the rows of [`shard(n)`](Ring::shard).
    ///
    /// # Panics
    ///
    /// As [`MultiHeadSparseAttention::forward`] and [`ring_attention`](super::ring_attention).
    pub fn forward(&self, input: MhaInput, n: usize) -> MhaOutput {
        self.module.forward(input.shard(self.shard(n)))
    }
}
