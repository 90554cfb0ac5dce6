//! The sections of a config file.

use super::section::section;
use super::value::choices;
use burn_longnet::attention::QkNorm;
use burn_longnet::model::{Activation, Positions, Residual};
use burn_longnet::pattern::{HeadAssignment, HeadOffset, MixGradient, Precision};

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

/// How the learning rate falls after the warm-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decay {
    /// Half a cosine wave.
    Cosine,
    /// A straight line.
    Linear,
    /// Not at all.
    Constant,
}
choices!(Decay { Cosine = "cosine", Linear = "linear", Constant = "constant" });

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
        /// Keep no activations inside layers; compute them again in the backward pass.
        recompute: bool = false,
    }
}

section! {
    /// The dilated attention pattern.
    Attention = "attention" {
        /// Segment length of each branch, in tokens.
        segments: Vec<usize> = vec![2048, 4096, 8192, 16384, 32768],
        /// Dilation rate of each branch.
        dilations: Vec<usize> = vec![1, 2, 4, 6, 12],
        /// Which heads run which branches: all (every head every branch) or grouped.
        assignment: HeadAssignment = HeadAssignment::All,
        /// Which residue a head takes: modulo (the paper) or by-group (torchscale).
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
        /// What tokens see of other documents: continuous (all) or masked (nothing).
        documents: Documents = Documents::Continuous,
        /// Tokens of one training sequence.
        context: usize = 4096,
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
        /// Passes whose gradients are averaged into one step.
        accumulate: usize = 1,
        /// Highest learning rate, reached at the end of the warm-up.
        lr: f64 = 6e-4,
        /// Learning rate at the last step, as a share of lr.
        lr_floor: f64 = 0.1,
        /// Steps over which the learning rate rises from 0.
        warmup: usize = 100,
        /// How the learning rate falls after the warm-up: cosine, linear or constant.
        decay: Decay = Decay::Cosine,
        /// AdamW: decay rate of the mean of gradients.
        beta1: f64 = 0.9,
        /// AdamW: decay rate of the mean of squared gradients.
        beta2: f64 = 0.98,
        /// AdamW: added to the root of the mean of squared gradients.
        eps: f64 = 1e-6,
        /// AdamW: weight decay of matrices; norms, biases and embeddings have none.
        weight_decay: f64 = 0.01,
        /// Largest norm of the gradient over all parameters. 0: no clipping.
        clip: f64 = 1.0,
        /// Tokens whose logits exist at once when the loss is computed.
        loss_chunk: usize = 2048,
        /// Seed of the initial weights, the order of the data and dropout.
        seed: usize = 0,
        /// Steps between evaluations on the validation text.
        eval_every: usize = 100,
        /// Validation windows of such an evaluation, spread evenly; the last one takes all. 0: all.
        eval_windows: usize = 16,
        /// Steps between checkpoints. 0: only one at the end.
        checkpoint_every: usize = 500,
        /// Seconds between progress lines.
        log_seconds: f64 = 5.0,
        /// Folder of the run: checkpoints, log.jsonl. {name} is the config file's name.
        run_dir: String = "runs/{name}".into(),
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
        /// Seed of the draws.
        seed: usize = 0,
    }
}
