//! Attention on a device of CubeCL, beside the same in plain tensor ops there.

use super::Bench;
use super::attention::WIDTH;
use crate::bars::Bar;
use crate::baselines::Op;
use crate::contender::{Contender, Pass};
use crate::inputs::Inputs;
use crate::oracle::{Amount, samples};
use crate::problem::Problem;
use burn::tensor::{Device, DeviceKind};

/// Few: on a processor that plays the device the fallback takes long.
const HEADS: usize = 2;

/// Dilated attention in f32 on the default device of wgpu.
pub fn dilated(bench: &mut Bench, n: usize, branches: &[(usize, usize)]) -> Result<(), String> {
    let problem = Problem::dilated(HEADS, n, WIDTH, branches);
    let inputs = Inputs::<f32>::new(&problem);
    let samples = samples(&problem, &inputs, Amount::Gradients);
    let device = ("wgpu", &Device::wgpu(DeviceKind::DefaultDevice));
    for pass in [Pass::Forward, Pass::Both] {
        let contenders: Vec<Box<dyn Contender>> = [true, false]
            .map(|kernels| Op::on(device, kernels, &problem, pass, &inputs))
            .map(|op| Box::new(op) as Box<dyn Contender>)
            .into();
        let bars = vec![Bar::over("fallback on wgpu", 5.0)];
        let name = format!("wgpu dilated f32 n {n}, {}", pass.name());
        bench.case(name, &samples, contenders, bars, Vec::new())?;
    }
    Ok(())
}
