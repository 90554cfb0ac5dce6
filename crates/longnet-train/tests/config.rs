//! What a wrong config is told, word for word.

use longnet_train::config::{Origin, Resolved};
use std::path::Path;

/// A good config file of ten lines, then `extra`, in `folder`.
fn file(folder: &Path, extra: &str) -> std::path::PathBuf {
    let path = folder.join("x.toml");
    let text = format!(
        "# comment\n[model]\nd_model = 64 # width\nheads = 4\n\n[attention]\nsegments = [64, 256]\ndilations = [1, 4]\n[data]\npaths = [\"a.txt\"]\n{extra}"
    );
    std::fs::write(&path, text).unwrap();
    path
}

/// The errors of the file with `extra` and `sets`, the folder left out of them.
fn errors(extra: &str, sets: &[&str]) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let path = file(folder.path(), extra);
    let sets: Vec<String> = sets.iter().map(|s| s.to_string()).collect();
    let errors = Resolved::load(Some(&path), &sets).expect_err("the config is wrong");
    let prefix = format!("{}/", folder.path().display());
    let lines = errors.0.iter().map(|e| e.to_string().replace(&prefix, ""));
    lines.collect()
}

#[test]
fn an_unknown_key_names_file_line_and_the_likely_key() {
    assert_eq!(
        errors("[train]\nstesp = 4\n", &[]),
        ["x.toml:12: train.stesp: unknown key; did you mean 'steps'?"]
    );
    assert_eq!(
        errors("layers = 4\n", &[]),
        ["x.toml:11: data.layers: unknown key; did you mean 'model.layers'?"]
    );
    assert_eq!(
        errors("qqqqq = 4\n", &[]),
        ["x.toml:11: data.qqqqq: unknown key; 'longnet config show' lists every key"]
    );
}

#[test]
fn an_unknown_section_names_the_likely_section() {
    assert_eq!(
        errors("[trian]\nsteps = 4\nlr = 1\n", &[]),
        ["x.toml:11: trian: unknown section; did you mean [train]?"]
    );
    assert_eq!(
        errors("[zzz]\n", &[]),
        [
            "x.toml:11: zzz: unknown section; the sections are [model], [attention], [data], [train], [parallel], [generate], [eval]"
        ]
    );
}

#[test]
fn a_wrong_type_names_field_value_and_what_was_expected() {
    assert_eq!(
        errors("context = \"long\"\n", &[]),
        ["x.toml:11: data.context: expected a whole number, 0 or more, found the string \"long\""]
    );
    assert_eq!(
        errors("context = -1\n", &[]),
        ["x.toml:11: data.context: expected a whole number, 0 or more, found -1"]
    );
    assert_eq!(
        errors("valid_fraction = true\n[train]\ndecay = \"cosin\"\n", &[]),
        [
            "x.toml:11: data.valid_fraction: expected a number, found true",
            "x.toml:13: train.decay: expected one of 'cosine', 'linear', 'polynomial', 'constant', 'inverse-sqrt', found the string \"cosin\"; did you mean 'cosine'?"
        ]
    );
}

#[test]
fn values_out_of_range_or_at_odds_say_what_to_do() {
    assert_eq!(
        errors(
            "valid_fraction = 0.7\n[train]\nsteps = 10\nwarmup = 11\n",
            &[]
        ),
        [
            "x.toml:11: data.valid_fraction = 0.7: must be above 0 and at most 0.5, such as 0.05",
            "x.toml:14: train.warmup = 11: warmup = 11 is longer than steps = 10; a tenth of the steps is usual"
        ]
    );
    assert_eq!(
        errors("", &["model.heads=5"]),
        [
            "--set model.heads=5: model.heads = 5: heads = 5 does not divide d_model = 64; use one of [1, 2, 4, 8, 16, 32, 64] heads or another width"
        ]
    );
    assert_eq!(
        errors("", &["model.heads=64"]),
        [
            "--set model.heads=64: model.heads = 64: a head has d_model / heads = 1 channels, and rotary and xpos need an even number; change heads, d_model or positions"
        ]
    );
    assert_eq!(
        errors("", &["model.kv_heads=3"]),
        [
            "--set model.kv_heads=3: model.kv_heads = 3: kv_heads = 3 does not divide heads = 4; use one of [1, 2, 4]"
        ]
    );
    assert_eq!(
        errors("", &["attention.dilations=[1, 0]"]),
        [
            "--set attention.dilations=[1, 0]: attention.dilations = [1, 0]: branch 1: dilation rate 0 is outside 1..=2^48; 1 keeps every token, 2 every second"
        ]
    );
}

#[test]
fn values_that_no_device_can_hold_are_refused() {
    for set in [
        "train.batch_schedule=[[1, 9223372036854775807]]",
        "data.context_schedule=[[9223372036854775807, 9223372036854775807]]",
        "train.cooldown=9223372036854775807",
        "model.recompute=[9223372036854775807]",
        "train.scale_growth=9223372036854775807",
        "train.ema=0.99999999999",
        "model.layers=9223372036854775807",
        "model.d_model=9223372036854775806",
        "model.rotary_theta=nan",
        "model.rotary_theta=0",
        "model.xpos_scale_base=inf",
        "model.dropout=0.99999999999",
        "data.context=1000000000000",
        "train.steps=9223372036854775807",
        "train.lr=1e300",
        "train.eps=1e-60",
        "train.clip=1e39",
        "train.log_seconds=1e300",
        "train.batch=1000000000",
        "train.batch=65000",
        "generate.tokens=9223372036854775807",
    ] {
        // 64 Ki sequences of this length are too many for one pass.
        let error = errors("context = 65536\n", &[set]);
        let (key, _) = set.split_once('=').unwrap();
        let expected = format!("--set {set}: {key} = ");
        assert!(
            error.len() == 1 && error[0].starts_with(&expected),
            "{error:?}"
        );
    }
    let large = ["model.d_model=131072", "model.layers=1000"];
    let error = errors("", &large);
    assert!(error[0].contains("parameters, and 1000"), "{error:?}");
}

#[test]
fn inconsistent_values_blame_the_one_that_was_given() {
    // heads stands in the file, kv_heads on the command line.
    let error = errors("", &["model.kv_heads=3"]);
    assert!(error[0].starts_with("--set model.kv_heads=3:"), "{error:?}");
    let error = errors("[train]\nwarmup = 2000\n", &[]);
    assert!(error[0].starts_with("x.toml:12: train.warmup"), "{error:?}");
}

#[test]
fn a_syntax_error_names_its_line() {
    let error = errors("[train\n", &[]);
    assert!(error[0].starts_with("x.toml:11: "), "{error:?}");
    let error = errors("context = 4\ncontext = 5\n", &[]);
    assert!(error[0].starts_with("x.toml:12: "), "{error:?}");
}

#[test]
fn a_missing_file_is_named() {
    let error = Resolved::load(Some(Path::new("nowhere.toml")), &[]).unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("nowhere.toml: cannot read the config file: "),
        "{error}"
    );
}

#[test]
fn set_takes_toml_values_bare_words_and_single_entries_of_lists() {
    let folder = tempfile::tempdir().unwrap();
    let sets = [
        "model.layers=7",
        "model.activation=relu",
        "train.lr = 1e-3",
        "data.paths=src",
        "data.exclude=[\"a*\", \"b\"]",
        "generate.prompt=\"a = b\"",
        "data.tokenizer=byte",
        "train.run_dir=2026-11-21",
        "model.layers=8",
    ];
    let sets: Vec<String> = sets.iter().map(|s| s.to_string()).collect();
    let path = file(folder.path(), "");
    let resolved = Resolved::load(Some(&path), &sets).unwrap();
    let config = &resolved.config;
    assert_eq!(config.model.layers, 8);
    assert_eq!(config.train.lr, 1e-3);
    assert_eq!(config.data.paths, ["src"]);
    assert_eq!(config.data.exclude, ["a*", "b"]);
    assert_eq!(config.generate.prompt, "a = b");
    let set = Origin::Set("model.layers=8".into());
    assert_eq!(*resolved.origin("model.layers"), set);
    assert_eq!(*resolved.origin("model.heads"), Origin::File(path, Some(4)));
    assert_eq!(*resolved.origin("model.ffn"), Origin::Default);
    assert_eq!(config.train.run_dir, "2026-11-21");
}

#[test]
fn a_wrong_set_is_an_error_with_a_suggestion() {
    assert_eq!(
        errors(
            "",
            &[
                "model.layrs=4",
                "layers=4",
                "data.paths=[a,b]",
                "model.layers"
            ]
        ),
        [
            "--set model.layrs=4: model.layrs: unknown key; did you mean 'layers'?",
            "--set layers=4: layers: unknown key; did you mean 'model.layers'?",
            "--set data.paths=[a,b]: data.paths: not a TOML value; quote the strings of a list, and the whole for the shell: 'data.paths=[\"a\", \"b\"]'",
            "--set model.layers: expected section.field=value, such as model.layers=4"
        ]
    );
}

#[test]
fn what_is_shown_reads_back_as_the_same_config() {
    let folder = tempfile::tempdir().unwrap();
    let sets = [
        "train.lr=3e-5".to_string(),
        "generate.prompt=\"a\\n\\\"b\"".to_string(),
    ];
    let resolved = Resolved::load(Some(&file(folder.path(), "")), &sets).unwrap();
    let shown = resolved.to_string();
    assert!(shown.contains("x.toml:3\n"), "{shown}");
    assert!(
        shown.contains("# --set\n") && shown.contains("# default\n"),
        "{shown}"
    );
    let again = folder.path().join("again.toml");
    std::fs::write(&again, shown).unwrap();
    assert_eq!(
        Resolved::load(Some(&again), &[]).unwrap().config,
        resolved.config
    );
}

#[test]
fn a_probability_to_draw_from_is_above_0_and_at_most_1() {
    for value in ["0.0", "1.5", "nan"] {
        let found = errors("", &[&format!("generate.top_p={value}")]);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(
            found[0].contains("generate.top_p") && found[0].contains("at most 1"),
            "{found:?}"
        );
    }
}

#[test]
fn every_preset_is_good_and_quickstart_explains_every_field() {
    let configs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs");
    let mut presets = 0;
    for entry in std::fs::read_dir(&configs).unwrap() {
        Resolved::load(Some(&entry.unwrap().path()), &[]).unwrap();
        presets += 1;
    }
    assert!(presets >= 6, "{presets} presets");
    let quickstart = configs.join("quickstart.toml");
    let resolved = Resolved::load(Some(&quickstart), &[]).unwrap();
    let text = std::fs::read_to_string(&quickstart).unwrap();
    for section in resolved.config.sections() {
        for field in section.fields() {
            let key = format!("{}.{}", section.key(), field.name);
            let origin = resolved.origin(&key);
            // What only other choices read stands there as a comment.
            let comment = format!("\n# {} = ", field.name);
            let is_comment = section.get(field.name).is_none() && text.contains(&comment);
            assert!(
                matches!(origin, Origin::File(..)) || is_comment,
                "{key} is not in quickstart.toml"
            );
        }
    }
}

#[test]
fn what_a_file_leaves_out_is_wrong_in_that_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("empty.toml");
    std::fs::write(&path, "").unwrap();
    let error = Resolved::load(Some(&path), &[]).unwrap_err().to_string();
    let place = format!("{}: data.paths = []", path.display());
    assert!(error.contains(&place), "{error}");
}

#[test]
fn a_number_that_the_optimizer_does_not_read_is_refused_with_those_that_do() {
    assert_eq!(
        errors("[train]\noptimizer = \"sgd\"\nbeta1 = 0.9\n", &[]),
        [
            "x.toml:13: train.beta1 = 0.9: the optimizer \"sgd\" does not read beta1, which is set to 0.9; leave beta1 out, or use one that does: \"adamw\", \"adam\", \"adan\", \"lamb\", \"lion\", \"muon\""
        ]
    );
    // What was said last is to blame.
    let found = errors(
        "[train]\nmomentum = 0.5\noptimizer = \"sgd\"\n",
        &["train.optimizer=lion"],
    );
    assert_eq!(found.len(), 1);
    assert!(
        found[0].starts_with("--set train.optimizer=lion: train.optimizer = \"lion\": the optimizer \"lion\" does not read momentum, which is set to 0.5"),
        "{found:?}"
    );
    for good in [
        "optimizer = \"muon\"\nmomentum = 0.9\nbeta1 = 0.8",
        "optimizer = \"adan\"\nbeta3 = 0.5",
        "optimizer = \"rmsprop\"\nmomentum = 0\nbeta2 = 0.9\neps = 1e-3",
        "optimizer = \"adafactor\"\nweight_decay = 0.5",
    ] {
        let folder = tempfile::tempdir().unwrap();
        let path = file(folder.path(), &format!("[train]\n{good}\n"));
        let resolved = Resolved::load(Some(&path), &[]).unwrap();
        // What is printed can be read back.
        std::fs::write(&path, resolved.to_string()).unwrap();
        assert_eq!(
            Resolved::load(Some(&path), &[]).unwrap().config,
            resolved.config
        );
    }
}

#[test]
fn schedules_that_cannot_work_are_refused() {
    for (extra, message) in [
        (
            "context = 64\ncontext_schedule = [[1, 32], [10, 128]]\n",
            "data.context_schedule = [[1, 32], [10, 128]]: [10, 128]: its value must be from 2 to 64",
        ),
        (
            "[train]\nbatch_schedule = [[5, 2], [5, 4]]\n",
            "train.batch_schedule = [[5, 2], [5, 4]]: [5, 4]: its step must come after 5, that of the pair before it",
        ),
        (
            "[train]\nbatch_schedule = [[0, 2]]\n",
            "[0, 2]: steps are counted from 1",
        ),
        (
            "[train]\nbatch_schedule = [[3, 0]]\n",
            "[3, 0]: its value must be from 1 to 65536",
        ),
        (
            "[train]\nbatch_schedule = [3, 2]\n",
            "expected a pair [from step, value], such as [1000, 4], found 3",
        ),
        (
            "[train]\npower = 3.0\n",
            "train.power = 3.0: only decay = \"polynomial\" has a power",
        ),
        (
            "[train]\ncooldown = 10\n",
            "train.cooldown = 10: only a decay that is constant or inverse-sqrt has a cooldown",
        ),
        (
            "[train]\ndecay = \"constant\"\nsteps = 10\nwarmup = 6\ncooldown = 5\n",
            "warmup = 6 and cooldown = 5 are together longer than steps = 10",
        ),
        (
            "[train]\nema = 1.0\n",
            "train.ema = 1.0: must be 0 or more and below 1",
        ),
        (
            "[train]\nz_loss = -1\n",
            "train.z_loss = -1.0: must be 0 or more and finite",
        ),
        (
            "[train]\nlabel_smoothing = 1\n",
            "train.label_smoothing = 1.0: must be 0 or more and below 1",
        ),
    ] {
        let found = errors(extra, &[]).join("\n");
        assert!(found.contains(message), "{found}");
    }
}

#[test]
fn the_layers_to_recompute_are_chosen_by_number() {
    let chosen = |value: &str| {
        let folder = tempfile::tempdir().unwrap();
        let path = file(folder.path(), "");
        let set = format!("model.recompute={value}");
        let config = Resolved::load(Some(&path), &[set]).unwrap().config;
        let model = config.language_model();
        (0..4)
            .filter(|&layer| model.recomputes(layer))
            .collect::<Vec<_>>()
    };
    assert_eq!(chosen("true"), [0, 1, 2, 3]);
    assert_eq!(chosen("[3, 0]"), [0, 3]);
    assert!(chosen("false").is_empty() && chosen("[]").is_empty());
    let beyond = errors("", &["model.recompute=[1, 4]"]);
    assert_eq!(
        beyond,
        [
            "--set model.recompute=[1, 4]: model.recompute = [1, 4]: there is no layer 4; the layers are 0 to 3"
        ]
    );
    let wrong = errors("", &["model.recompute=half"]);
    assert!(
        wrong[0].contains("expected true, false, or a list of layers counted from 0, such as [0, 2], found \"half\""),
        "{wrong:?}"
    );
}

#[test]
fn attention_that_cannot_work_is_refused_before_it_is_built() {
    let one = |extra: &str, sets: &[&str], key: &str, reason: &str| {
        let found = errors(extra, sets);
        assert!(
            found.len() == 1 && found[0].contains(key) && found[0].contains(reason),
            "{found:?}"
        );
    };
    let adaptive = "attention.kind=adaptive";
    one(
        "documents = \"masked\"\n",
        &[adaptive],
        "attention.kind",
        "continuous",
    );
    let many = [
        adaptive,
        "model.heads=1024",
        "model.d_model=2048",
        "attention.block=1",
        "attention.top_k=4096",
    ];
    one("", &many, "attention.block = 1", "use larger blocks");
    one(
        "",
        &[adaptive, "model.positions=xpos"],
        "model.positions",
        "rotary",
    );
    one(
        "",
        &[adaptive, "attention.offset=by-group"],
        "attention.offset",
        "dilated layers only",
    );
    one(
        "",
        &[adaptive, "attention.assignment=grouped"],
        "attention.assignment",
        "dilated layers only",
    );
    one(
        "",
        &[adaptive, "attention.gradient=detached"],
        "attention.gradient",
        "no layer has any",
    );
    let blocks = "attention.kind=block-sparse";
    one(
        "",
        &[
            blocks,
            "attention.pattern=window(256)",
            "attention.gradient=detached",
        ],
        "attention.gradient",
        "no layer has any",
    );
    let xpos = [
        "attention.kind=[\"dilated\",\"block-sparse\"]",
        "attention.pattern=window(256)",
        "model.positions=xpos",
        "data.context=4194304",
    ];
    one("", &xpos, "model.positions", "is too small");
}

#[test]
fn attention_that_works_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    let path = file(folder.path(), "context = 100\n");
    for sets in [
        vec![
            "attention.pattern=\"[branches(64/2) x 2, window(16) x 2]\"",
            "attention.gradient=detached",
        ],
        // No pair is there at all lengths.
        vec![
            "attention.pattern=\"blocks(0:0, 7:0)\"",
            "attention.block=16",
        ],
        vec![
            "attention.pattern=\"[branches(64/2, tail = zero_keys) x 1, window(16) x 3]\"",
            "data.documents=masked",
        ],
        // Without a dilated layer there are no branches to be right.
        vec![
            "attention.pattern=window(16)",
            "attention.segments=[]",
            "attention.dilations=[]",
        ],
    ] {
        let sets: Vec<String> = [&["attention.kind=block-sparse"], &sets[..]]
            .concat()
            .iter()
            .map(|s| s.to_string())
            .collect();
        let resolved = Resolved::load(Some(&path), &sets).unwrap_or_else(|error| panic!("{error}"));
        for n in [1, 2, 37, 100] {
            assert_eq!(resolved.config.layer_groups(n).len(), 1);
        }
    }
    let sets = [
        "attention.kind=[\"dilated\",\"adaptive\",\"dilated\"]",
        "model.layers=7",
    ]
    .map(str::to_string);
    let config = Resolved::load(Some(&path), &sets).unwrap().config;
    let layers: Vec<usize> = config
        .layer_groups(100)
        .iter()
        .map(|(layers, _)| *layers)
        .collect();
    assert_eq!(layers, [5, 2]);
}
