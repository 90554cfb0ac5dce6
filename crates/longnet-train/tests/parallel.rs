//! Ranks that are threads beside one rank.

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Device, Tensor, TensorData};
use burn_longnet::model::LongNetLM;
use burn_longnet::pattern::ring::Layout;
use burn_longnet::ring::LocalComm;
use longnet_train::config::sections::{Documents, NumberFormat, OnNonFinite};
use longnet_train::config::{Config, Recompute, Stage};
use longnet_train::data::{self, Cursor};
use longnet_train::loader::Feed;
use longnet_train::metrics::Measured;
use longnet_train::trainer::parallel::{Mesh, Word, guarded};
use longnet_train::trainer::{Learner, LearnerState, TrainError, Trainee};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A run of a tiny model on some text in a folder of its own.
struct Place {
    folder: tempfile::TempDir,
    config: Config,
}

impl Place {
    /// A batch of four, twice a step, with all that is added to losses.
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
        config.train.lr = 1e-2;
        config.train.warmup = 2;
        config.train.steps = 40;
        let train = &mut config.train;
        (train.batch, train.accumulate) = (4, 2);
        (train.z_loss, train.label_smoothing, train.ema) = (1e-3, 0.1, 0.9);
        train.clip = 0.5;
        let place = Self { folder, config };
        let lines = (0..60).map(|line| format!("line {line}: all is well\n"));
        place.write("a.txt", &lines.collect::<String>());
        place
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.folder.path().join(name), text).unwrap();
    }

    /// The same weights in every run: draws are those of one generator, and are made when a weight is first read.
    fn lm(&self) -> LongNetLM {
        static DRAWS: Mutex<()> = Mutex::new(());
        let _turn = DRAWS.lock().unwrap_or_else(PoisonError::into_inner);
        let device = Device::default().autodiff();
        device.seed(1);
        let lm = self.config.language_model().init(&device);
        weights(&lm);
        lm
    }
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

const DEADLINE: Duration = Duration::from_secs(30);

/// What a rank has after some steps.
struct Ended {
    steps: Vec<Measured>,
    weights: Vec<TensorData>,
    average: Option<Vec<TensorData>>,
    state: LearnerState,
    /// Tensors of the optimiser's state.
    states: usize,
}

fn feed(config: &Config) -> Feed {
    let text = data::load(&config.data).unwrap();
    Feed::new(
        Arc::new(text.train),
        config.train.seed as u64,
        Cursor::default(),
    )
}

/// `steps` steps of `lm` on one rank of `mesh`.
fn steps(config: &Config, lm: LongNetLM, mesh: Mesh, steps: usize) -> Result<Ended, TrainError> {
    let lm = lm.fork(&Device::default().autodiff());
    let mut learner = Learner::on(config, Trainee { lm }, mesh);
    let mut feed = feed(config);
    let measured = (0..steps).map(|_| learner.step(&mut feed, &|| false));
    let measured: Result<Option<Vec<_>>, _> = measured.collect();
    let measured = measured?.expect("nothing stops it");
    learner.check_replicas()?;
    Ok(Ended {
        steps: measured,
        weights: weights(learner.model()),
        average: learner.average().map(weights),
        state: *learner.state(),
        states: learner.optimizer().to_record().len(),
    })
}

/// The same on all ranks that `config` asks for, in their order.
fn ranks(config: &Config, lm: &LongNetLM, count: usize) -> Vec<Result<Ended, TrainError>> {
    let lm = lm.clone();
    let all = LocalComm::run(config.parallel.ranks(), DEADLINE, |world| {
        let mesh = Mesh::new(world, &config.parallel)?;
        guarded(&mesh.clone(), || steps(config, lm.clone(), mesh, count))
    });
    all.into_iter().map(|rank| rank.unwrap()).collect()
}

/// Steps of one rank and those of the ranks that `config` asks for, which must be the same to the rounding of f32.
fn equal(config: &Config, lm: &LongNetLM, count: usize) -> (Ended, Vec<Ended>) {
    let one = steps(config, lm.clone(), Mesh::single(), count).unwrap();
    let all = ranks(config, lm, count);
    let all: Vec<Ended> = all.into_iter().map(Result::unwrap).collect();
    for (rank, ended) in all.iter().enumerate() {
        for (step, (own, expected)) in ended.steps.iter().zip(&one.steps).enumerate() {
            let at = format!("{:?}: rank {rank}, step {step}", config.parallel);
            assert_eq!(own.tokens, expected.tokens, "{at}");
            let tolerance = match config.train.precision {
                NumberFormat::F32 => 1e-5,
                _ => 2e-3,
            };
            for (own, whole, scale) in [
                (own.loss, expected.loss, expected.loss),
                (own.grad_norm, expected.grad_norm, expected.grad_norm),
                // What is added to a loss is as exact as that is.
                (own.z_loss, expected.z_loss, expected.loss),
                (own.smoothing, expected.smoothing, expected.loss),
                (own.bytes_per_token, expected.bytes_per_token, 1.0),
            ] {
                assert!(
                    (own - whole).abs() < tolerance * scale,
                    "{at}: {own} {whole}"
                );
            }
        }
        assert!(
            ended.weights == all[0].weights,
            "rank {rank} has other weights"
        );
        assert!(ended.average == all[0].average);
        assert_eq!(ended.state, one.state);
    }
    (one, all)
}

#[test]
fn ranks_that_share_batches_learn_as_one_does() {
    let mut place = Place::new();
    place.config.train.batch_schedule = vec![Stage { from: 3, value: 8 }];
    let lm = place.lm();
    for data in [2, 4] {
        place.config.parallel.data = data;
        equal(&place.config, &lm, 6);
    }
}

#[test]
fn ranks_that_share_sequences_learn_as_one_does_with_dropout_too() {
    let mut place = Place::new();
    place.config.train.batch = 2;
    place.config.data.context = 29;
    place.config.attention.dropout = 0.1;
    place.config.model.dropout = 0.1;
    let lm = place.lm();
    for (ring, layout) in [
        (2, Layout::Zigzag),
        (3, Layout::Contiguous),
        (4, Layout::Striped),
    ] {
        (place.config.parallel.ring, place.config.parallel.layout) = (ring, layout);
        equal(&place.config, &lm, 4);
    }
}

#[test]
fn rings_and_data_ranks_together_learn_as_one_does() {
    let mut place = Place::new();
    for file in 0..40 {
        place.write(&format!("{file}.txt"), &"short. ".repeat(1 + file % 7));
    }
    place.config.data.documents = Documents::Masked;
    place.config.model.recompute = Recompute::All;
    (place.config.parallel.ring, place.config.parallel.data) = (2, 2);
    place.config.parallel.zero = true;
    let lm = place.lm();
    equal(&place.config, &lm, 4);
}

#[test]
fn documents_that_are_apart_leave_ranks_different_numbers_of_targets() {
    let mut place = Place::new();
    for file in 0..40 {
        place.write(&format!("{file}.txt"), &"short. ".repeat(1 + file % 7));
    }
    place.config.data.documents = Documents::Masked;
    place.config.parallel.data = 2;
    let (one, _) = equal(&place.config, &place.lm(), 5);
    let tokens: Vec<_> = one.steps.iter().map(|m| m.tokens).collect();
    assert!(tokens.iter().any(|&t| t < 4 * 2 * 32), "{tokens:?}");
}

#[test]
fn the_optimiser_s_state_can_be_shared() {
    let mut place = Place::new();
    let lm = place.lm();
    for data in [2, 4] {
        place.config.parallel.data = data;
        place.config.parallel.zero = false;
        let (_, whole) = equal(&place.config, &lm, 5);
        place.config.parallel.zero = true;
        let (_, shared) = equal(&place.config, &lm, 5);
        // Not only nearly: each parameter is stepped as before, by one of the ranks.
        assert!(shared[0].weights == whole[0].weights);
        let states: Vec<_> = shared.iter().map(|rank| rank.states).collect();
        assert_eq!(states.iter().sum::<usize>(), whole[0].states, "{states:?}");
        assert!(states.iter().all(|&n| n > 0), "{states:?}");
    }
}

#[test]
fn half_precision_follows_and_ranks_agree_on_the_loss_scale() {
    let mut place = Place::new();
    place.config.parallel.data = 2;
    place.config.train.scale_growth = 2;
    let lm = place.lm();
    for precision in [NumberFormat::Bf16, NumberFormat::F16] {
        place.config.train.precision = precision;
        // Not more: the parts of a batch have smaller gradients than the whole, and overflow at a larger scale.
        let (one, _) = equal(&place.config, &lm, 4);
        let scales: Vec<_> = one.steps.iter().map(|m| m.loss_scale).collect();
        assert_eq!(
            scales[3] > scales[0],
            precision == NumberFormat::F16,
            "{scales:?}"
        );
    }
}

#[test]
fn what_is_not_finite_on_one_rank_is_skipped_or_ends_the_run_on_all() {
    // Few windows have the letter `Z`, and the embedding of it is not a number.
    let mut place = Place::new();
    place.config.model.tie = false;
    (place.config.train.batch, place.config.train.accumulate) = (2, 1);
    place.write("b.txt", &format!("{}Z{}", "y".repeat(300), "y".repeat(300)));
    let mut lm = place.lm();
    lm.embedding.weight = lm.embedding.weight.map(|w| {
        let w = w.detach();
        let nan = w.clone().slice([90..91, 0..16]) * f64::NAN;
        w.slice_assign([90..91, 0..16], nan).detach().require_grad()
    });
    place.config.parallel.data = 2;
    place.config.train.on_nonfinite = OnNonFinite::Skip;
    let all = ranks(&place.config, &lm, 40);
    let all: Vec<Ended> = all.into_iter().map(Result::unwrap).collect();
    assert!(all[0].state.skipped > 0 && all[0].state.skipped < 40);
    assert_eq!(all[0].state, all[1].state);
    place.config.train.on_nonfinite = OnNonFinite::Stop;
    for ended in ranks(&place.config, &lm, 200) {
        let error = ended.err().expect("a batch has the letter").to_string();
        assert!(
            error.contains("the loss is NaN") && error.contains("b.txt"),
            "{error}"
        );
    }
}

#[test]
fn a_rank_with_other_weights_is_named() {
    let mut place = Place::new();
    place.config.parallel.data = 3;
    place.config.train.batch = 3;
    let lm = place.lm();
    let config = &place.config;
    let all = LocalComm::run(3, DEADLINE, |world| {
        let mesh = Mesh::new(world, &config.parallel).unwrap();
        let mut lm = lm.clone();
        if mesh.world.rank() == 2 {
            lm.embedding.weight = lm.embedding.weight.map(|w| (w.detach() + 1e-6).detach());
        }
        let learner = Learner::on(config, Trainee { lm }, mesh);
        learner.check_replicas().unwrap_err().to_string()
    });
    for rank in all {
        let drift = rank.unwrap();
        assert!(
            drift.contains("the weights of rank 2 are not those of rank 0"),
            "{drift}"
        );
        assert!(drift.contains("--resume auto"), "{drift}");
    }
}

#[test]
fn a_rank_that_fails_or_stalls_ends_all_within_the_deadline() {
    let mut place = Place::new();
    place.config.parallel.data = 2;
    let (config, lm) = (&place.config, place.lm());
    // Longer than a loaded machine takes for a step.
    let deadline = Duration::from_secs(5);
    for how in ["fails", "stalls"] {
        let begun = Instant::now();
        let all = LocalComm::run(2, deadline, |world| {
            let mesh = Mesh::new(world, &config.parallel)?;
            let rank = mesh.world.rank();
            guarded(&mesh.clone(), || {
                steps(config, lm.clone(), mesh.clone(), 1)?;
                if rank == 1 && how == "fails" {
                    return Err(TrainError::Framework("no more".into()));
                }
                if rank == 1 {
                    std::thread::sleep(2 * deadline);
                }
                steps(config, lm.clone(), mesh, 1)
            })
        });
        let error = all
            .into_iter()
            .next()
            .unwrap()
            .unwrap()
            .err()
            .unwrap()
            .to_string();
        assert!(
            error.contains("rank 1") && error.contains("--resume auto"),
            "{how}: {error}"
        );
        assert!(how == "stalls" || error.contains("no more"), "{error}");
        assert!(begun.elapsed() < Duration::from_secs(40));
    }
}

#[test]
fn work_longer_than_the_deadline_is_waited_for() {
    let config = {
        let mut config = Config::default();
        (config.parallel.data, config.parallel.deadline) = (2, 3.0);
        config
    };
    let all = LocalComm::run(2, Duration::from_secs(3), |world| {
        let mesh = Mesh::new(world, &config.parallel).unwrap();
        let seconds = 5 * mesh.world.rank() as u64;
        let work = || std::thread::sleep(Duration::from_secs(seconds));
        mesh.patiently(work).unwrap();
        mesh.agree(Word {
            stop: (mesh.world.rank() == 1).then(|| "SIGTERM".into()),
            save: mesh.leads(),
        })
    });
    for rank in all {
        let word = rank.unwrap().unwrap();
        assert_eq!((word.stop.as_deref(), word.save), (Some("SIGTERM"), true));
    }
}
