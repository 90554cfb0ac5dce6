//! What is measured.

mod attention;
mod blocks;
#[cfg(feature = "cuda")]
mod cuda;
mod decode;
#[cfg(feature = "wgpu")]
mod device;
mod lm;
mod tokens;

use crate::args::Args;
use crate::bars::Bar;
use crate::baselines::Python;
use crate::contender::{Contender, Pass};
use crate::oracle::Sample;
use crate::report::{Case, Row, case_table};
use crate::rounds::{Budget, time};
use half::{bf16, f16};
use std::cell::RefCell;
use std::path::Path;

/// What all cases share.
pub struct Bench<'a> {
    pub args: &'a Args,
    pub python: Option<&'a RefCell<Python>>,
    /// A place for files.
    pub folder: &'a Path,
    pub cases: Vec<Case>,
}

/// The FLOPs of all contenders from which on a round takes half a minute and more.
const LONG: f64 = 5e12;

/// A group of cases that share inputs.
type Group = (String, Box<dyn Fn(&mut Bench) -> Result<(), String>>);

/// LongNet's branches, cut to what `n` of the cases holds.
fn branches(longest: usize) -> [(usize, usize); 3] {
    [(longest / 4, 1), (longest / 2, 2), (longest, 4)]
}

/// All of them.
fn groups(quick: bool) -> Vec<Group> {
    let pick = move |quickly: usize, fully: usize| if quick { quickly } else { fully };
    let longest = pick(512, 8192);
    let mut groups: Vec<Group> = Vec::new();
    let n = pick(512, 4096);
    groups.push((
        format!("dense f32 {n}"),
        Box::new(move |bench| attention::dense(bench, n)),
    ));
    for n in [pick(512, 8192), pick(1024, 32768)] {
        groups.push((
            format!("dilated f32 {n}"),
            Box::new(move |bench| attention::dilated_f32(bench, n, &branches(longest))),
        ));
        groups.push((
            format!("dilated bf16 {n}"),
            Box::new(move |bench| attention::dilated_half::<bf16>(bench, n, &branches(longest))),
        ));
        groups.push((
            format!("dilated f16 {n}"),
            Box::new(move |bench| attention::dilated_half::<f16>(bench, n, &branches(longest))),
        ));
    }
    let n = pick(1024, 32768);
    groups.push((
        format!("decode f32 {n}"),
        Box::new(move |bench| decode::decode(bench, n, &branches(longest))),
    ));
    let lengths = match quick {
        true => [1024, 2048, 4096, 8192],
        false => [1 << 14, 1 << 16, 1 << 18, 1 << 20],
    };
    for pass in [Pass::Forward, Pass::Both] {
        groups.push((
            format!("tokens f32 {}", pass.name()),
            Box::new(move |bench| tokens::tokens(bench, pass, &lengths, &branches(longest))),
        ));
    }
    for n in [pick(1024, 8192), pick(2048, 32768)] {
        for pass in [Pass::Forward, Pass::Both] {
            groups.push((
                format!("blocks f32 {n} {}", pass.name()),
                Box::new(move |bench| blocks::sparsity(bench, n, pass)),
            ));
        }
    }
    for block in [16, 32, 64, 128] {
        let n = pick(1024, 4096);
        groups.push((
            format!("crossover f32 {n} block {block}"),
            Box::new(move |bench| blocks::crossover(bench, n, block)),
        ));
    }
    let side = pick(64, 256);
    groups.push((
        format!("hilbert f32 {}", side * side),
        Box::new(move |bench| blocks::hilbert(bench, side)),
    ));
    #[cfg(feature = "wgpu")]
    {
        let n = pick(1024, 16384);
        groups.push((
            format!("wgpu dilated f32 {n}"),
            Box::new(move |bench| device::dilated(bench, n, &branches(longest))),
        ));
    }
    #[cfg(feature = "cuda")]
    groups.extend(cuda_groups(quick));
    // Last: from there on the process keeps the memory that it frees.
    let n = pick(512, 4096);
    groups.push((format!("lm {n}"), Box::new(move |bench| lm::lm(bench, n))));
    groups
}

/// Those on a CUDA device.
#[cfg(feature = "cuda")]
fn cuda_groups(quick: bool) -> Vec<Group> {
    let (longest, lengths, end) = match quick {
        true => (512, vec![1024], 1 << 19),
        false => (8192, vec![8192, 32768, 131072], 1 << 18),
    };
    let mut groups: Vec<Group> = Vec::new();
    for d in [64, 128] {
        groups.push((
            format!("cuda dense bf16 d {d} n {longest}"),
            Box::new(move |bench| cuda::dense::<bf16>(bench, d, longest)),
        ));
        groups.push((
            format!("cuda dense f32 d {d} n {longest}"),
            Box::new(move |bench| cuda::dense::<f32>(bench, d, longest)),
        ));
        for &n in &lengths {
            groups.push((
                format!("cuda dilated bf16 d {d} n {n}"),
                Box::new(move |bench| cuda::dilated::<bf16>(bench, d, n, &branches(longest))),
            ));
            groups.push((
                format!("cuda dilated f32 d {d} n {n}"),
                Box::new(move |bench| cuda::dilated::<f32>(bench, d, n, &branches(longest))),
            ));
        }
    }
    for d in [64, 128] {
        groups.push((
            format!("cuda longest bf16 d {d}"),
            Box::new(move |bench| cuda::longest::<bf16>(bench, d, end, &branches(longest))),
        ));
    }
    groups
}

/// Runs the cases that the arguments ask for.
///
/// # Errors
///
/// No case has such a name, or a contender failed in a way that leaves nothing to go on with.
pub fn run(bench: &mut Bench) -> Result<(), String> {
    let groups = groups(bench.args.quick);
    let filter = bench.args.filter.clone().unwrap_or_default();
    let chosen = groups.iter().filter(|(name, _)| name.contains(&filter));
    if chosen.clone().count() == 0 {
        let names: Vec<&str> = groups.iter().map(|group| group.0.as_str()).collect();
        let names = names.join(", ");
        return Err(format!(
            "--filter {filter}: no such case; there are: {names}"
        ));
    }
    for (_, group) in chosen {
        group(bench)?;
    }
    Ok(())
}

impl Bench<'_> {
    /// Checks the contenders, times those that are right in turns, and prints the case.
    fn case(
        &mut self,
        name: String,
        samples: &[Sample],
        mut contenders: Vec<Box<dyn Contender + '_>>,
        bars: Vec<Bar>,
        left_out: Vec<String>,
    ) -> Result<(), String> {
        let checks: Vec<Result<Option<f64>, String>> = contenders
            .iter_mut()
            .map(|contender| contender.check(samples))
            .collect();
        let flops: f64 = contenders.iter().filter_map(|c| c.flops()).sum();
        let long = flops > LONG;
        let right = contenders.iter_mut().zip(&checks);
        let mut right: Vec<&mut dyn Contender> = right
            .filter(|(_, check)| check.is_ok())
            .map(|(contender, _)| &mut **contender as &mut dyn Contender)
            .collect();
        let mut times = time(&mut right, self.budget(long))?.into_iter();
        let rows = contenders.iter().zip(checks).map(|(contender, check)| Row {
            who: contender.name(),
            note: contender.note(),
            flops: contender.flops(),
            tokens: contender.tokens(),
            error: check.as_ref().ok().copied().flatten(),
            times: check.map(|_| times.next().expect("times of those that are right")),
        });
        let rows = rows.collect();
        let case = Case {
            name,
            rows,
            bars,
            left_out,
        };
        print!("{}", case_table(&case));
        self.cases.push(case);
        Ok(())
    }

    /// Of a long case one round has to do.
    fn budget(&self, long: bool) -> Budget {
        match self.args.quick {
            true => Budget {
                seconds: 0.3,
                rounds: (3, 5),
            },
            false => Budget {
                seconds: 15.0,
                rounds: (if long { 1 } else { 3 }, 15),
            },
        }
    }
}
