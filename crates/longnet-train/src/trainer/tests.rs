//! Tests of the steps of a learner.

use super::passes::{Objective, Passes};
use super::*;
use crate::config::sections::{NumberFormat, OnNonFinite};
use crate::config::{Config, Stage};
use crate::data::{self, Cursor};
use crate::loader::{Batch, Feed};
use crate::metrics::Measured;
use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Device, FloatDType, Tensor, TensorData};
use burn_longnet::model::ChunkedLoss;
use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A run of a tiny model on some text in a folder of its own.
struct Place {
    folder: tempfile::TempDir,
    config: Config,
    /// The generator of weights is all tests', so that they are drawn once.
    trainee: OnceCell<Trainee>,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut config = Config::default();
        config.model.d_model = 16;
        config.model.heads = 2;
        config.model.layers = 2;
        config.attention.segments = vec![16, 32];
        config.attention.dilations = vec![1, 2];
        config.data.root = folder.path().to_string_lossy().into();
        config.data.paths = vec!["*.txt".into()];
        config.data.context = 32;
        config.data.valid_fraction = 0.1;
        config.data.valid_block = 64;
        config.train.batch = 2;
        config.train.lr = 1e-2;
        config.train.warmup = 2;
        config.train.steps = 40;
        let trainee = OnceCell::new();
        let place = Self {
            folder,
            config,
            trainee,
        };
        let lines = (0..60).map(|line| format!("line {line}: all is well\n"));
        place.write("a.txt", &lines.collect::<String>());
        place
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.folder.path().join(name), text).unwrap();
    }

    fn feed(&self) -> Feed {
        let text = data::load(&self.config.data).unwrap();
        let seed = self.config.train.seed as u64;
        Feed::new(Arc::new(text.train), seed, Cursor::default())
    }

    /// The same at each call, so that [model] must be as it shall be before the first.
    fn trainee(&self) -> Trainee {
        let new = || Trainee {
            lm: self
                .config
                .language_model()
                .init(&Device::default().autodiff()),
        };
        self.trainee.get_or_init(new).clone()
    }

    fn learner(&self) -> Learner {
        Learner::new(&self.config, self.trainee())
    }

    fn run(&self, steps: usize) -> (Learner, Vec<Measured>) {
        let (mut learner, mut feed) = (self.learner(), self.feed());
        let all = (0..steps).map(|_| step(&mut learner, &mut feed).unwrap());
        let all = all.collect();
        (learner, all)
    }
}

fn step(learner: &mut Learner, feed: &mut Feed) -> Result<Measured, TrainError> {
    let measured = learner.step(feed, &|| false)?;
    Ok(measured.expect("nothing stopped it"))
}

fn mean(steps: &[Measured]) -> f64 {
    steps.iter().map(|m| m.loss).sum::<f64>() / steps.len() as f64
}

fn weights<M: Module>(model: &M) -> Vec<TensorData> {
    struct All(Vec<TensorData>);
    impl ModuleVisitor for All {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.0.push(param.val().into_data());
        }
    }
    let mut all = All(Vec::new());
    model.visit(&mut all);
    all.0
}

/// The model with what `change` makes of its embedding.
fn with_embedding(mut trainee: Trainee, change: impl FnOnce(Tensor<2>) -> Tensor<2>) -> Trainee {
    let weight = trainee.lm.embedding.weight;
    trainee.lm.embedding.weight = weight.map(|w| change(w.detach()).detach().require_grad());
    trainee
}

#[test]
fn half_precision_follows_the_losses_of_f32_and_keeps_f32_weights() {
    let mut place = Place::new();
    let (_, exact) = place.run(40);
    assert!(mean(&exact[30..]) < 0.6 * mean(&exact[..2]), "{exact:?}");
    for precision in [NumberFormat::Bf16, NumberFormat::F16] {
        place.config.train.precision = precision;
        let (learner, half) = place.run(40);
        for (step, (half, exact)) in half.iter().zip(&exact).enumerate() {
            let off = (half.loss - exact.loss).abs() / exact.loss;
            assert!(off < 0.05, "{precision:?}, step {step}: {half:?} {exact:?}");
            assert!(half.grad_norm.is_finite());
        }
        assert_ne!(
            half[20].loss, exact[20].loss,
            "{precision:?} computes in f32"
        );
        assert!(mean(&half[30..]) < 0.6 * mean(&half[..2]));
        for weight in weights(learner.model()) {
            assert_eq!(weight.dtype(), burn::tensor::DType::F32);
        }
        let scale = if precision == NumberFormat::F16 {
            65536.0
        } else {
            1.0
        };
        assert_eq!(half[39].loss_scale, scale);
    }
}

#[test]
fn a_scale_that_overflows_is_halved_until_it_fits_and_nothing_is_learned_before() {
    let mut place = Place::new();
    place.config.train.precision = NumberFormat::F16;
    place.config.train.scale_growth = 3;
    place.config.train.ema = 0.9;
    let (mut learner, mut feed) = (place.learner(), place.feed());
    learner.state_mut().scale_bits = 24;
    let before = weights(learner.model());
    let mut overflows = 0;
    loop {
        let measured = step(&mut learner, &mut feed).unwrap();
        assert!(measured.loss.is_finite());
        if measured.grad_norm.is_finite() {
            break;
        }
        overflows += 1;
        assert_eq!(measured.loss_scale, 2f64.powi(25 - overflows));
        assert!(weights(learner.model()) == before);
        assert!(weights(learner.average().unwrap()) == before);
        assert!(learner.optimizer().to_record().is_empty());
    }
    assert!((1..16).contains(&overflows), "{overflows}");
    assert!(weights(learner.model()) != before);
    assert_eq!(learner.state().skipped, 0);
    assert_eq!(learner.steps(), overflows as usize + 1);
    // After three good steps it is tried again. Gradients of other batches may be a little larger.
    learner.state_mut().scale_bits -= 4;
    let scale = |learner: &Learner| learner.state().scale_bits;
    let fits = scale(&learner);
    for _ in 0..2 {
        step(&mut learner, &mut feed).unwrap();
    }
    assert_eq!(scale(&learner), fits + 1);
}

#[test]
fn an_overflow_at_the_smallest_scale_is_an_error() {
    let mut place = Place::new();
    place.config.train.precision = NumberFormat::F16;
    let huge = with_embedding(place.trainee(), |w| w * f64::NAN);
    let mut learner = Learner::new(&place.config, huge);
    let error = step(&mut learner, &mut place.feed()).unwrap_err();
    assert!(error.to_string().contains("the loss is NaN"), "{error}");
    // Gradients alone: the scale is at fault until it can no longer be.
    let state = learner.state_mut();
    assert!(state.overflow(&place.config.train));
    state.scale_bits = 0;
    assert!(!state.overflow(&place.config.train));
}

/// Text of which few windows have the letter `Z`, and a model whose embedding of it is not a number.
fn broken() -> (Place, Trainee) {
    let mut place = Place::new();
    place.config.model.tie = false;
    place.config.train.ema = 0.9;
    place.write("b.txt", &format!("{}Z{}", "y".repeat(300), "y".repeat(300)));
    let trainee = with_embedding(place.trainee(), |w| {
        let nan = w.clone().slice([90..91, 0..16]) * f64::NAN;
        w.slice_assign([90..91, 0..16], nan)
    });
    (place, trainee)
}

#[test]
fn a_batch_that_is_not_finite_stops_and_is_named() {
    let (mut place, trainee) = broken();
    place.config.train.accumulate = 2;
    let mut learner = Learner::new(&place.config, trainee);
    let mut feed = place.feed();
    let error = loop {
        match step(&mut learner, &mut feed) {
            Ok(measured) => assert!(measured.loss.is_finite()),
            Err(error) => break error.to_string(),
        }
        assert!(learner.steps() < 500);
    };
    let start = format!("step {}: the loss is NaN", learner.steps() + 1);
    assert!(error.starts_with(&start), "{error}");
    assert!(
        error.contains("the batch was 1 of 2, ") || error.contains("the batch was 2 of 2, "),
        "{error}"
    );
    assert!(error.contains("b.txt from byte "), "{error}");
    assert!(error.contains("train.on_nonfinite = \"skip\""), "{error}");
    // Two windows a batch, and only that batch.
    assert_eq!(error.matches("from byte").count(), 2, "{error}");
}

#[test]
fn skipped_batches_change_nothing_and_are_counted() {
    let (mut place, trainee) = broken();
    place.config.train.on_nonfinite = OnNonFinite::Skip;
    let mut learner = Learner::new(&place.config, trainee);
    let mut feed = place.feed();
    let (mut lost, mut learned) = (0, 0);
    for number in 1..=60 {
        let before = (
            weights(learner.model()),
            weights(learner.average().unwrap()),
            learner.optimizer().into_bytes().unwrap().to_vec(),
        );
        let cursor = feed.cursor();
        let measured = step(&mut learner, &mut feed).unwrap();
        let after = (
            weights(learner.model()),
            weights(learner.average().unwrap()),
            learner.optimizer().into_bytes().unwrap().to_vec(),
        );
        match measured.loss.is_finite() {
            true => learned += 1,
            false => {
                lost += 1;
                // Not by ==, which NaN is not to itself.
                assert_eq!(format!("{:?}", after.0), format!("{:?}", before.0));
                assert_eq!(format!("{:?}", after.1), format!("{:?}", before.1));
                assert_eq!(after.2.len(), before.2.len());
            }
        }
        assert_ne!(feed.cursor(), cursor);
        assert_eq!(measured.skipped, lost);
        assert_eq!(learner.steps(), number);
    }
    assert!(lost > 0 && learned > 40, "{lost} lost, {learned} learned");
    assert_eq!(learner.state().skipped, lost);
}

#[test]
fn a_hundred_skipped_steps_in_a_row_stop() {
    let mut place = Place::new();
    place.config.train.on_nonfinite = OnNonFinite::Skip;
    let trainee = with_embedding(place.trainee(), |w| w * f64::NAN);
    let mut learner = Learner::new(&place.config, trainee);
    let mut feed = place.feed();
    for _ in 1..MOST_SKIPPED {
        step(&mut learner, &mut feed).unwrap();
    }
    let error = step(&mut learner, &mut feed).unwrap_err().to_string();
    assert!(error.starts_with("step 100: the loss is NaN"), "{error}");
    assert!(error.contains("100 steps in a row"), "{error}");
}

#[test]
fn batch_and_context_are_those_of_the_schedules() {
    let mut place = Place::new();
    let stage = |from, value| Stage { from, value };
    place.config.train.batch_schedule = vec![stage(3, 4)];
    place.config.data.context_schedule = vec![stage(1, 8), stage(4, 32)];
    let (_, steps) = place.run(5);
    let tokens: Vec<_> = steps.iter().map(|m| m.tokens).collect();
    assert_eq!(tokens, [16, 16, 32, 128, 128]);
}

#[test]
fn added_losses_are_reported_apart() {
    let mut place = Place::new();
    let (plain, losses) = place.run(1);
    place.config.train.z_loss = 1e-2;
    place.config.train.label_smoothing = 0.1;
    let (learner, with) = place.run(1);
    assert_eq!(with[0].loss, losses[0].loss);
    assert!(with[0].z_loss > 0.1 && with[0].smoothing != 0.0, "{with:?}");
    assert_eq!((losses[0].z_loss, losses[0].smoothing), (0.0, 0.0));
    assert_ne!(with[0].grad_norm, losses[0].grad_norm);
    assert!(weights(learner.model()) != weights(plain.model()));
}

#[test]
fn evaluations_and_the_final_model_are_the_average_where_there_is_one() {
    let mut place = Place::new();
    let (plain, _) = place.run(5);
    assert!(plain.average().is_none());
    assert!(weights(&plain.evaluated()) == weights(plain.model()));
    place.config.train.ema = 0.5;
    let (learner, _) = place.run(5);
    // The weights themselves go on as without it.
    assert!(weights(learner.model()) == weights(plain.model()));
    let average = weights(learner.average().unwrap());
    assert!(average != weights(learner.model()));
    assert!(weights(&learner.evaluated()) == average);
    assert!(weights(&learner.into_model()) == average);
}

/// Gradients by parameter.
fn gradients(
    model: &Trainee,
    gradients: &burn::optim::GradientsParams,
) -> BTreeMap<u64, TensorData> {
    struct All<'a>(&'a burn::optim::GradientsParams, BTreeMap<u64, TensorData>);
    impl ModuleVisitor for All<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if let Some(gradient) = self.0.get::<D>(param.id) {
                let gradient = gradient.cast(FloatDType::F64).into_data();
                self.1.insert(param.id.val(), gradient);
            }
        }
    }
    let mut all = All(gradients, BTreeMap::new());
    model.visit(&mut all);
    all.1
}

#[test]
fn batches_count_by_their_tokens() {
    let place = Place::new();
    let trainee = place.trainee();
    let mut feed = place.feed();
    let objective = |scale| Objective {
        loss: ChunkedLoss {
            z_loss: 1e-3,
            label_smoothing: 0.1,
            ..ChunkedLoss::default()
        },
        scale,
        half: None,
    };
    // 8, 32 and 64 tokens.
    let batches: Vec<Batch> = [(1, 8), (1, 32), (2, 32)]
        .map(|(batch, context)| feed.next(batch, context).unwrap())
        .into();
    let mut passes = Passes::new();
    for batch in &batches {
        passes.add(
            &trainee,
            &Mesh::single(),
            batch,
            Vec::new(),
            0,
            &objective(4.0),
        );
    }
    assert_eq!(passes.measured.tokens, 104);
    let (sum, factor) = passes.gradients(&objective(4.0));
    let sum = gradients(&trainee, &sum);
    let mut loss = 0.0;
    let mut expected: BTreeMap<u64, Vec<f64>> = BTreeMap::new();
    for batch in &batches {
        let output = trainee.learn(batch, 0, &objective(1.0).loss, 1.0);
        let share = batch.targets() as f64 / 104.0;
        loss += output.item.loss * share;
        for (id, gradient) in gradients(&trainee, &output.grads) {
            let total = expected.entry(id).or_default();
            let gradient: Vec<f64> = gradient.iter::<f64>().map(|g| g * share).collect();
            total.resize(gradient.len(), 0.0);
            total.iter_mut().zip(gradient).for_each(|(t, g)| *t += g);
        }
    }
    assert!((passes.measured.loss - loss).abs() < 1e-6);
    assert_eq!(sum.len(), expected.len());
    for (id, expected) in expected {
        for (found, expected) in sum[&id].iter::<f64>().zip(expected) {
            assert!(
                (found * factor - expected).abs() < 1e-6,
                "{found} {expected}"
            );
        }
    }
}

#[test]
fn batches_that_are_alike_are_averaged_as_ever() {
    let place = Place::new();
    let trainee = place.trainee();
    let mut feed = place.feed();
    let objective = Objective {
        loss: ChunkedLoss::default(),
        scale: 1.0,
        half: None,
    };
    let mut passes = Passes::new();
    for _ in 0..3 {
        let batch = feed.next(2, 32).unwrap();
        passes.add(&trainee, &Mesh::single(), &batch, Vec::new(), 0, &objective);
    }
    assert_eq!(passes.gradients(&objective).1, 1.0 / 3.0);
}

#[test]
fn a_format_that_the_device_lacks_is_named_with_those_it_has() {
    let device = Device::default();
    for format in [NumberFormat::F32, NumberFormat::Bf16, NumberFormat::F16] {
        check_precision(format, &device).unwrap();
    }
    let error = TrainError::NumberFormat {
        device: "Wgpu".into(),
        dtype: "bf16".into(),
        usable: "\"f16\" or \"f32\"".into(),
    };
    assert_eq!(
        error.to_string(),
        "Wgpu does not compute in bf16; use train.precision = \"f16\" or \"f32\", or another --backend"
    );
    assert_eq!(error.field(), Some("train.precision"));
}
