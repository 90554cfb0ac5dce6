//! The sections of a config file.

use super::section::section;
use super::value::choices;
use super::{Recompute, Stage};
use burn_longnet::attention::{BlockScorer, QkNorm};
use burn_longnet::model::{Activation, Positions, Residual};
use burn_longnet::pattern::ring::Layout;
use burn_longnet::pattern::{BlockPattern, HeadAssignment, HeadOffset, MixGradient, Precision};

choices!(Activation { Gelu = "gelu", Relu = "relu", Swish = "swish", SwiGlu = "swiglu" });
choices!(Residual {
    SubLayerNorm = "sub-ln",
    PreNorm = "pre",
    DeepNorm = "deepnorm",
    PostNorm = "post",
});
choices!(QkNorm { None = "none", PerHead = "per-head", Full = "full" });
choices!(Positions { Rotary = "rotary", XPos = "xpos", Learned = "learned", None = "none" });
choices!(HeadAssignment { All = "all", Grouped = "grouped" });
choices!(HeadOffset { Modulo = "modulo", ByGroup = "by-group" });
choices!(Precision { Highest = "highest", High = "high" });
choices!(MixGradient { Exact = "exact", Detached = "detached" });
choices!(Layout { Zigzag = "zigzag", Contiguous = "contiguous", Striped = "striped" });

/// How the learning rate falls after the warm-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decay {
    /// Half a cosine wave.
    Cosine,
    /// A straight line.
    Linear,
    /// A power of what is left of the run.
    Polynomial,
    /// Not at all.
    Constant,
    /// With the root of the step.
    InverseSqrt,
}
choices!(Decay {
    Cosine = "cosine",
    Linear = "linear",
    Polynomial = "polynomial",
    Constant = "constant",
    InverseSqrt = "inverse-sqrt",
});

/// The rule of an optimiser's step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OptimizerKind {
    /// arXiv 1711.05101.
    AdamW,
    /// arXiv 1412.6980.
    Adam,
    /// arXiv 1804.04235.
    Adafactor,
    /// Duchi et al., 2011.
    AdaGrad,
    /// arXiv 2208.06677.
    Adan,
    /// arXiv 1904.00962.
    Lamb,
    /// arXiv 2302.06675.
    Lion,
    /// Orthogonalised momentum of matrices, arXiv 2502.16982; AdamW for all else.
    Muon,
    /// Tieleman and Hinton, 2012.
    RmsProp,
    /// Stochastic gradient descent with momentum.
    Sgd,
}
choices!(OptimizerKind {
    AdamW = "adamw",
    Adam = "adam",
    Adafactor = "adafactor",
    AdaGrad = "adagrad",
    Adan = "adan",
    Lamb = "lamb",
    Lion = "lion",
    Muon = "muon",
    RmsProp = "rmsprop",
    Sgd = "sgd",
});

/// The number format of forward and backward passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NumberFormat {
    /// 32 bits.
    F32,
    /// 16 bits with the range of f32.
    Bf16,
    /// 16 bits with more digits and a small range.
    F16,
}
choices!(NumberFormat { F32 = "f32", Bf16 = "bf16", F16 = "f16" });

/// What follows a loss or gradient that is not finite.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnNonFinite {
    /// The run ends.
    Stop,
    /// The step changes nothing, and the run goes on with the next batch.
    Skip,
}
choices!(OnNonFinite { Stop = "stop", Skip = "skip" });

/// What tokens see of other documents.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Documents {
    /// The text is one: a window may reach over the ends of documents, and all of it is seen.
    Continuous,
    /// A token sees its own document only, and no document predicts the next one.
    Masked,
}
choices!(Documents { Continuous = "continuous", Masked = "masked" });

section! {
    /// The network.
    Model = "model" {
        /// Token ids. 0: as many as the tokenizer has.
        vocab: usize = 0,
        /// Width of the residual stream; a multiple of heads.
        d_model: usize = 256,
        /// Query heads of each attention layer.
        heads: usize = 8,
        /// Key/value heads, a divisor of heads. Unset: as many as heads.
        kv_heads: Option<usize> = None,
        /// Transformer layers.
        layers: usize = 4,
        /// Inner width of the feed-forward layers. Unset: 4 d_model, for swiglu 8/3 d_model.
        ffn: Option<usize> = None,
        /// Nonlinearity of the feed-forward layers: gelu, relu, swish or swiglu.
        activation: Activation = Activation::Gelu,
        /// Where norms stand: sub-ln (MAGNETO, the paper), pre, deepnorm (post-norm) or post.
        norm: Residual = Residual::SubLayerNorm,
        /// Position encoding: rotary, xpos, learned or none.
        positions: Positions = Positions::Rotary,
        /// Base of the frequencies of rotary and xpos.
        rotary_theta: f64 = 10000.0,
        /// Distance over which the fastest decaying channels of xpos fall to 2/7.
        xpos_scale_base: f64 = 512.0,
        /// Share the token embedding with the output head.
        tie: bool = true,
        /// Multiply token embeddings by sqrt(d_model).
        embedding_scale: bool = false,
        /// Normalise the embeddings before the first layer.
        embedding_norm: bool = false,
        /// Normalisation of queries and keys: none, per-head or full.
        qk_norm: QkNorm = QkNorm::None,
        /// Dropout of embeddings and residual branches, 0 to below 1.
        dropout: f64 = 0.0,
        /// Keep no activations inside layers; compute them again in the backward pass: true, false or a list of layers counted from 0.
        recompute: Recompute = Recompute::None,
    }
}

/// What a layer's queries see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttentionKind {
    /// Dilated branches.
    Dilated,
    /// Blocks of a pattern.
    BlockSparse,
    /// Blocks chosen by what they hold.
    Adaptive,
}
choices!(AttentionKind {
    Dilated = "dilated",
    BlockSparse = "block-sparse",
    Adaptive = "adaptive",
});
choices!(BlockScorer { Learned = "learned", Mean = "mean" });

section! {
    /// Which positions see each other.
    Attention = "attention" {
        /// The kind of attention: dilated, block-sparse or adaptive; a list of kinds is for the layers in turn.
        kind: Vec<AttentionKind> = vec![AttentionKind::Dilated],
        /// block-sparse: which blocks see each other, such as "window(1024) | global(128)". A list of heads may hold dilated ones.
        pattern: Option<BlockPattern> = None,
        /// block-sparse, adaptive: tokens of a block.
        block: usize = 128,
        /// adaptive: key blocks that a block of queries sees, its own among them.
        top_k: usize = 8,
        /// adaptive: how blocks are scored: learned (not with xpos), or mean (of their vectors, without parameters).
        scorer: BlockScorer = BlockScorer::Learned,
        /// dilated: segment length of each branch, in tokens.
        segments: Vec<usize> = vec![2048, 4096, 8192, 16384, 32768],
        /// dilated: dilation rate of each branch.
        dilations: Vec<usize> = vec![1, 2, 4, 6, 12],
        /// dilated: which heads run which branches: all (every head every branch) or grouped.
        assignment: HeadAssignment = HeadAssignment::All,
        /// dilated: which residue a head takes: modulo (the paper) or by-group (torchscale).
        offset: HeadOffset = HeadOffset::Modulo,
        /// Gradient of the branch mix: exact, or detached as torchscale trains.
        gradient: MixGradient = MixGradient::Exact,
        /// Products of f32: highest, or high (errors up to 1e-4), which is faster on CPUs with AMX.
        precision: Precision = Precision::Highest,
        /// Dropout of attention weights, 0 to below 1.
        dropout: f64 = 0.0,
    }
}

section! {
    /// The text to learn.
    Data = "data" {
        /// Files, folders, globs and folders of shards; relative ones start at root.
        paths: Vec<String> = vec![],
        /// Share of the training tokens from each entry of paths. Empty: all of them are one text.
        weights: Vec<f64> = vec![],
        /// Folder that relative paths start from; relative to the working directory.
        root: String = ".".into(),
        /// File name endings taken from folders and globs, without the dot. Empty: all.
        extensions: Vec<String> = vec![],
        /// Globs of files to leave out, matched against the path below root.
        exclude: Vec<String> = vec![],
        /// Field of JSONL (.jsonl, also .gz and .zst) or column of Parquet that holds the text.
        field: String = "text".into(),
        /// What turns text into tokens: byte, or the path of a tokenizer.json, which starts at root.
        tokenizer: String = "byte".into(),
        /// Token after each document. Empty: the tokenizer's usual one, such as <|endoftext|>; with byte none.
        end_token: String = "".into(),
        /// What tokens see of other documents: continuous (all) or masked (nothing; not with adaptive layers).
        documents: Documents = Documents::Continuous,
        /// Tokens of one training sequence.
        context: usize = 4096,
        /// Other contexts, none longer, as [from step, tokens]: [[1, 512], [1000, 4096]] starts short. Before the first: context.
        context_schedule: Vec<Stage> = vec![],
        /// Share of the tokens held out for validation, above 0 and up to 0.5.
        valid_fraction: f64 = 0.05,
        /// Validation text is held out in blocks of up to this many tokens of one file.
        valid_block: usize = 65536,
    }
}

section! {
    /// Optimisation, evaluation and checkpoints.
    Train = "train" {
        /// Optimiser steps.
        steps: usize = 1000,
        /// Sequences in one forward and backward pass.
        batch: usize = 1,
        /// Other batches, as [from step, sequences]: [[1000, 4]] grows from batch to 4. Before the first: batch.
        batch_schedule: Vec<Stage> = vec![],
        /// Passes whose gradients are averaged, each token alike, into one step.
        accumulate: usize = 1,
        /// The optimiser: adamw, adam, adafactor, adagrad, adan, lamb, lion, muon (adamw for all but matrices), rmsprop or sgd.
        optimizer: OptimizerKind = OptimizerKind::AdamW,
        /// Highest learning rate, reached at the end of the warm-up.
        lr: f64 = 6e-4,
        /// Learning rate at the last step, as a share of lr.
        lr_floor: f64 = 0.1,
        /// Steps over which the learning rate rises from 0.
        warmup: usize = 100,
        /// How the learning rate falls after the warm-up: cosine, linear, polynomial, constant or inverse-sqrt (of the step; never below the floor).
        decay: Decay = Decay::Cosine,
        /// Exponent of decay = "polynomial". Unset: 2.
        power: Option<f64> = None,
        /// Last steps, over which a decay that is constant or inverse-sqrt falls to the floor in a straight line.
        cooldown: usize = 0,
        /// Decay rate of the mean of gradients. Unset: 0.9, for adan 0.98.
        beta1: Option<f64> = None,
        /// Decay rate of the mean of squared gradients; lion: of the momentum; adan: of their differences. Unset: 0.98, for adan 0.92, for lion and rmsprop 0.99.
        beta2: Option<f64> = None,
        /// adan: decay rate of the mean of squares. Unset: 0.99.
        beta3: Option<f64> = None,
        /// muon, rmsprop, sgd: share of the last step that is kept. Unset: 0.95 for muon, 0 for rmsprop, 0.9 for sgd.
        momentum: Option<f64> = None,
        /// Added to the root of the mean of squared gradients. Unset: 1e-6, for adagrad 1e-10, adan and rmsprop 1e-8; adafactor (to the squares) 1e-30.
        eps: Option<f64> = None,
        /// Weight decay of matrices; norms, biases and embeddings have none. Unset: 0.01; lion 0.1; adam, adagrad, rmsprop, sgd (to the gradient) 0.
        weight_decay: Option<f64> = None,
        /// Largest norm of the gradient over all parameters. 0: no clipping.
        clip: f64 = 1.0,
        /// Share of a target's weight that is spread over the vocabulary in training, 0 to below 1.
        label_smoothing: f64 = 0.0,
        /// Factor of (ln Z)^2, added to the training loss to keep logits from drifting. 0: none; PaLM has 1e-4.
        z_loss: f64 = 0.0,
        /// Number format of training's forward and backward passes: f32, bf16 or f16; weights and optimiser are f32.
        precision: NumberFormat = NumberFormat::F32,
        /// f16: steps without overflow after which the factor of the loss doubles; an overflow halves it.
        scale_growth: usize = 2000,
        /// Decay rate of a running average of the weights, which evaluations and the final model then use; 0.999 is usual. 0: none.
        ema: f64 = 0.0,
        /// What follows a loss or gradient that is infinite or not a number: stop, or skip (the batch; 100 in a row stop).
        on_nonfinite: OnNonFinite = OnNonFinite::Stop,
        /// Tokens whose logits exist at once when the loss is computed.
        loss_chunk: usize = 2048,
        /// Seed of the initial weights, the order of the data and dropout.
        seed: usize = 0,
        /// Steps between evaluations on the validation text.
        eval_every: usize = 100,
        /// Validation windows of such an evaluation, spread evenly; the last one takes all. 0: all.
        eval_windows: usize = 16,
        /// Steps between checkpoints. 0: by time only.
        checkpoint_every: usize = 500,
        /// Minutes after which a checkpoint is written whatever the step. 0: by steps only.
        checkpoint_minutes: f64 = 30.0,
        /// Newest checkpoints that are kept, besides the best one.
        keep: usize = 3,
        /// Keep the checkpoint of the best evaluation on the validation text, too.
        keep_best: bool = true,
        /// Seconds between progress lines.
        log_seconds: f64 = 5.0,
        /// Folder of the run: checkpoints, log.jsonl. {name} is the config file's name.
        run_dir: String = "runs/{name}".into(),
    }
}

/// What the ranks of a run are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    /// Threads of one process.
    Threads,
    /// Processes that `mpirun` starts, on one machine or several.
    Mpi,
}
choices!(Engine { Threads = "threads", Mpi = "mpi" });

section! {
    /// Training on several ranks: ring times data of them.
    Parallel = "parallel" {
        /// Ranks that share each sequence: each holds some of its tokens, and keys and values go from rank to rank (ring attention).
        ring: usize = 1,
        /// Ranks that share each batch: each takes its part of the sequences, in equal numbers.
        data: usize = 1,
        /// What ranks are: threads of this process, or mpi: processes that mpirun starts, with a program built with the feature mpi.
        engine: Engine = Engine::Threads,
        /// Which tokens of a sequence a ring rank holds: contiguous (segments within a part are never sent), zigzag (as much causal work for each where segments are long) or striped.
        layout: Layout = Layout::Contiguous,
        /// Each rank keeps the optimiser's state of its share of the parameters only (ZeRO-1).
        zero: bool = false,
        /// Seconds after which a rank that others wait for is taken for dead, and the run ends.
        deadline: f64 = 60.0,
    }
}

impl Parallel {
    /// Ranks.
    pub fn ranks(&self) -> usize {
        self.ring * self.data
    }
}

section! {
    /// Sampling from the model.
    Generate = "generate" {
        /// Text to continue.
        prompt: String = "".into(),
        /// Tokens to generate.
        tokens: usize = 256,
        /// 0 takes the likeliest token; higher is more varied.
        temperature: f64 = 0.8,
        /// Draw from the k likeliest tokens only. 0: from all.
        top_k: usize = 40,
        /// Draw from the likeliest tokens that reach this probability together, above 0. 1: from all.
        top_p: f64 = 1.0,
        /// Draw from tokens at least this share as likely as the likeliest. 0: from all.
        min_p: f64 = 0.0,
        /// Makes tokens that were there before less likely (CTRL). 1: does nothing.
        repetition_penalty: f64 = 1.0,
        /// Last tokens, the prompt's included, that repetition_penalty counts. 0: all.
        repetition_window: usize = 0,
        /// Strings that end the text before them.
        stop: Vec<String> = vec![],
        /// Seed of the draws.
        seed: usize = 0,
    }
}

/// What an evaluation measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// Loss on text.
    Text,
    /// A key found again in filler text.
    Passkey,
    /// Values found again by their keys.
    Recall,
}
choices!(Task { Text = "text", Passkey = "passkey", Recall = "recall" });

section! {
    /// Evaluation by context length.
    Eval = "eval" {
        /// What is measured: text, passkey (a key in filler text), recall (values by keys).
        tasks: Vec<Task> = vec![Task::Text],
        /// Context lengths in tokens. Empty: data.context, half and a quarter of it.
        lengths: Vec<usize> = vec![],
        /// Also move windows by this many tokens, and score only these at the end of each. 0: do not.
        sliding: usize = 0,
        /// Score only so many tokens, from the start of the text, at each length. 0: all.
        text_tokens: usize = 0,
        /// Prompts of each length and depth (passkey) or number of pairs (recall).
        samples: usize = 10,
        /// Where passkey hides the key, as shares of the filler text before it, 0 to 1.
        depths: Vec<f64> = vec![0.0, 0.25, 0.5, 0.75, 1.0],
        /// Numbers of pairs of key and value in recall, up to 676.
        pairs: Vec<usize> = vec![4, 16, 64],
        /// Seed of the prompts.
        seed: usize = 0,
    }
}
