//! A training step of a small language model. Both processes keep the memory that they free: ours as
//! `longnet train` does, PyTorch's by glibc's environment variables, in a process of its own.

use super::Bench;
use crate::bars::Bar;
use crate::baselines::{Losses, OursTrainer, Python, Start, Trainer};
use crate::contender::Contender;
use longnet_train::config::Config;
use serde_json::{Map, json};
use std::cell::RefCell;

/// Steps over which both must have the same losses before they are timed; those that are timed are
/// compared too, afterwards.
const SAME: usize = 3;

/// What `longnet_cpu::keep_freed_memory` sets, for another process.
const KEEP_FREED_MEMORY: [(&str, &str); 2] = [
    ("MALLOC_MMAP_MAX_", "0"),
    ("MALLOC_TRIM_THRESHOLD_", "4611686018427387904"),
];

/// 4 layers of width 256, 4 heads, bytes as tokens, `n` of them.
pub fn lm(bench: &mut Bench, n: usize) -> Result<(), String> {
    let mut config = Config::default();
    (
        config.model.d_model,
        config.model.heads,
        config.model.layers,
    ) = (256, 4, 4);
    config.model.ffn = Some(1024);
    config.attention.segments = vec![n / 4, n / 2, n];
    config.attention.dilations = vec![1, 2, 4];
    config.data.context = n;
    let tokens = tokens(n + 1);
    let (losses, their_losses) = (Losses::default(), Losses::default());
    let python = python(bench)?;
    let mut ours = OursTrainer::new(&config, &tokens, python.is_none(), losses.clone());
    let mut pytorch = None;
    if let Some(python) = &python {
        let folder = bench.folder;
        let shapes = ours
            .write(folder)
            .map_err(|error| format!("{}: {error}", folder.display()))?;
        let shapes: Map<_, _> = shapes
            .into_iter()
            .map(|(name, s)| (name, json!(s)))
            .collect();
        let (train, model) = (&config.train, config.language_model());
        let branches: Vec<_> = model
            .branches
            .iter()
            .map(|b| (b.segment, b.dilation))
            .collect();
        let options = json!({
            "folder": folder,
            "shapes": shapes,
            "tokens": tokens,
            "model": {
                "heads": model.n_heads,
                "layers": model.n_layers,
                "branches": branches,
                "epsilon": model.norm_epsilon,
                "theta": model.rotary_theta,
            },
            "optimizer": {
                "lr": train.lr,
                "betas": [train.beta1, train.beta2],
                "eps": train.eps,
                "weight_decay": train.weight_decay,
            },
            "clip": train.clip,
        });
        let mut trainer = Trainer::new(python, n, options, their_losses.clone())?;
        for _ in 0..SAME {
            ours.run()?;
            trainer.run()?;
        }
        compare(&losses.borrow(), &their_losses.borrow())?;
        if !trainer.note().starts_with(&ours.parameters()) {
            return Err(format!(
                "ours has {}, PyTorch's {}",
                ours.parameters(),
                trainer.note()
            ));
        }
        pytorch = Some(trainer);
    }
    let mut contenders: Vec<Box<dyn Contender>> = vec![Box::new(ours)];
    if let Some(pytorch) = pytorch {
        contenders.push(Box::new(pytorch));
    }
    let name = format!("training step f32, n {n}");
    bench.case(
        name,
        &[],
        contenders,
        vec![Bar::over("PyTorch", 1.2)],
        Vec::new(),
    )?;
    if python.is_some() {
        // Those of the timed steps too.
        let same = compare(&losses.borrow(), &their_losses.borrow());
        same.inspect_err(|_| drop(bench.cases.pop()))?;
    }
    Ok(())
}

/// A PyTorch that keeps the memory that it frees, where PyTorch takes part.
fn python(bench: &Bench) -> Result<Option<RefCell<Python>>, String> {
    let Some(program) = bench
        .args
        .python
        .as_ref()
        .filter(|_| bench.python.is_some())
    else {
        return Ok(None);
    };
    match Python::start(program, bench.args.threads.into(), &KEEP_FREED_MEMORY)? {
        Start::Ready(python) => Ok(Some(RefCell::new(python))),
        Start::Missing(why) => Err(why),
    }
}

/// Bytes with some order in them: something to learn.
fn tokens(len: usize) -> Vec<i32> {
    (0..len).map(|i| ((i * i / 7 + i) % 97) as i32).collect()
}

/// Whether both train the same model in the same way.
fn compare(ours: &[f64], theirs: &[f64]) -> Result<(), String> {
    let same = |(a, b): (&f64, &f64)| (a - b).abs() < 1e-3 * b.abs();
    match ours.len() == theirs.len() && ours.iter().zip(theirs).all(same) {
        true => Ok(()),
        false => Err(format!(
            "the models differ: losses of the steps {ours:?}, PyTorch's {theirs:?}"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_that_differ_are_refused() {
        assert!(compare(&[5.0, 4.0], &[5.0, 4.0001]).is_ok());
        assert!(compare(&[5.0, 4.0], &[5.0, 4.1]).is_err());
        assert!(compare(&[5.0], &[5.0, 4.0]).is_err());
        assert!(compare(&[f64::NAN], &[f64::NAN]).is_err());
    }
}
