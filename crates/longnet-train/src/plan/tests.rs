use super::*;
use crate::config::Recompute;

/// A config that the checks would pass, without data.
fn config(change: impl FnOnce(&mut Config)) -> Config {
    let mut config = Config::default();
    config.model.d_model = 256;
    config.model.heads = 4;
    config.attention.segments = vec![1024, 4096];
    config.attention.dilations = vec![1, 4];
    change(&mut config);
    config
}

#[test]
fn weights_are_counted_with_the_head_and_without_the_embedding_s_lookup() {
    let config = config(|_| ());
    let (flops, keys) = Flops::of(&config);
    // Four projections of 256 x 256 and two of 256 x 1024 a layer, and 256 tokens' logits.
    let weights = 4 * (4 * 256 * 256 + 2 * 256 * 1024) + 256 * 256;
    assert_eq!(flops.weights, 6.0 * weights as f64);
    // Two products forward and five backward of 64 channels for each of 4 heads and 4 layers.
    let attention = keys * 7.0 * 2.0 * 64.0 * 16.0;
    assert!((flops.attention - attention).abs() < 1e-6 * attention);
}

#[test]
fn what_costs_memory_shows_in_its_part() {
    let base = worst_moment(&config(|_| ()), 1).memory;
    let part = |part: Part, change: fn(&mut Config)| {
        worst_moment(&config(change), 1).memory[part] / base[part]
    };
    assert!(part(Part::Activations, |c| c.train.batch = 2) > 1.9);
    assert!(part(Part::Activations, |c| c.model.recompute = Recompute::All) < 0.5);
    assert!(part(Part::Attention, |c| c.model.kv_heads = Some(1)) < 0.8);
    assert!(part(Part::Weights, |c| c.model.layers = 8) > 1.9);
    assert!(part(Part::Gradients, |c| c.train.accumulate = 4) > 1.5);
}

#[test]
fn scores_of_blocks_cost_memory_and_products() {
    let adaptive = |block| {
        config(|c| {
            c.attention.kind = vec![AttentionKind::Adaptive];
            c.attention.block = block;
            c.attention.top_k = 1;
        })
    };
    let attention = |block| worst_moment(&adaptive(block), 1).most[Part::Attention];
    // 256 and 512 blocks in 4 layers of 4 heads.
    assert!(attention(8) - attention(16) > 4.0 * 4.0 * 7.0 * (512.0f64.powi(2) - 256.0f64.powi(2)));
    let (flops, keys) = Flops::of(&adaptive(16));
    let (pairs, scores) = (
        keys * 7.0 * 2.0 * 64.0 * 16.0,
        16.0 * 256.0 * 256.0 * 6.0 * 64.0 / 4096.0,
    );
    assert!((flops.attention - pairs - scores).abs() < 1e-6 * flops.attention);
    let left = memory::after(&Shape::of(&adaptive(16), 1));
    assert!(left[Part::Attention].abs() < 1.0);
}

#[test]
fn every_kind_of_model_gives_back_all_that_it_took() {
    use burn_longnet::model::{Activation, Positions, Residual};
    for norm in [
        Residual::SubLayerNorm,
        Residual::PreNorm,
        Residual::DeepNorm,
        Residual::PostNorm,
    ] {
        for activation in [
            Activation::Gelu,
            Activation::Relu,
            Activation::Swish,
            Activation::SwiGlu,
        ] {
            for [recompute, tie, dropout, embedding_norm] in
                (0..16).map(|i| [1, 2, 4, 8].map(|b| i & b > 0))
            {
                let config = config(|c| {
                    c.model.norm = norm;
                    c.model.activation = activation;
                    c.model.recompute = match recompute {
                        true => Recompute::Layers(vec![1, 2]),
                        false => Recompute::None,
                    };
                    c.model.tie = tie;
                    c.model.embedding_norm = embedding_norm;
                    c.model.dropout = if dropout { 0.1 } else { 0.0 };
                    c.model.positions = if tie {
                        Positions::XPos
                    } else {
                        Positions::Learned
                    };
                    c.train.accumulate = 2;
                });
                let left = memory::after(&Shape::of(&config, 1));
                for part in [
                    Part::Activations,
                    Part::Attention,
                    Part::Loss,
                    Part::Gradients,
                ] {
                    assert!(
                        left[part].abs() < 1.0,
                        "{part:?} of {:?}: {left:?}",
                        config.model
                    );
                }
            }
        }
    }
}

#[test]
fn the_longest_context_fits_and_the_next_one_does_not() {
    let config = config(|_| ());
    let memory = 2e9;
    let longest = longest_context(&config, 1, memory).unwrap();
    assert!(longest.is_multiple_of(4096), "{longest}");
    let at = |context| {
        let mut config = config.clone();
        config.data.context = context;
        worst_moment(&config, 1).memory.total()
    };
    assert!(at(longest) <= memory && at(longest + 4096) > memory);
    assert!(longest_context(&config, 8, memory).unwrap() > 6 * longest);
    assert_eq!(longest_context(&config, 1, 30e6), None);
}

#[test]
fn a_plan_of_schedules_is_that_of_its_largest_pass_and_sums_its_stages() {
    use crate::config::Stage;
    let stage = |from, value| Stage { from, value };
    let plan = |change: fn(&mut Config)| Plan::of(&config(change), 1);
    let fixed = plan(|c| c.train.steps = 10);
    assert_eq!(fixed.run_tokens, (10 * fixed.tokens) as f64);
    let seconds = fixed.run_tokens * fixed.flops.total() / 0.5e9;
    assert!((fixed.seconds(1e9, 0.5) / seconds - 1.0).abs() < 1e-12);

    let mut staged = config(|c| {
        c.train.steps = 10;
        c.train.batch = 1;
        c.data.context = 4096;
    });
    staged.data.context_schedule = vec![stage(1, 512), stage(5, 4096), stage(11, 8192)];
    staged.train.batch_schedule = vec![stage(3, 16), stage(5, 1)];
    let plan = Plan::of(&staged, 1);
    // The largest pass is that of steps 3 and 4, and the FLOPs of attention are those of its context.
    assert_eq!((plan.context, plan.batch, plan.tokens), (512, 16, 8192));
    let at = |context| {
        let mut config = staged.clone();
        config.data.context = context;
        Flops::of(&config)
    };
    assert_eq!((plan.flops, plan.keys_per_query), at(512));
    let (short, long) = ((2.0 + 2.0 * 16.0) * 512.0, 6.0 * 4096.0);
    assert_eq!(plan.run_tokens, short + long);
    let flops = short * at(512).0.total() + long * at(4096).0.total();
    assert!((plan.run_flops / flops - 1.0).abs() < 1e-12);

    // The longest context is one of as many sequences.
    let mut wide = staged.clone();
    wide.data.context_schedule.clear();
    wide.train.batch_schedule.clear();
    wide.train.batch = 16;
    assert_eq!(
        longest_context(&staged, 1, 2e9),
        longest_context(&wide, 1, 2e9)
    );
}

#[test]
fn what_others_send_is_bounded_by_the_layout_s_share() {
    use burn_longnet::pattern::ring::{Layout, RingSchedule, Shards};
    const DEVICES: usize = 4;
    let shares = |change: fn(&mut Config)| {
        [Layout::Contiguous, Layout::Zigzag, Layout::Striped].map(|layout| {
            let mut config = config(change);
            config.parallel.layout = layout;
            let (m, context) = (&config.model, config.data.context);
            let bound = largest_message(&config, DEVICES);
            let shards = Shards::new(layout, context, DEVICES);
            let kv_heads = m.kv_heads.unwrap_or(m.heads);
            let mut most: f64 = 0.0;
            for group in config.layer_groups(context).iter().flat_map(|(_, g)| g) {
                let shared = group.kv_heads(m.heads, kv_heads);
                let kv = shared.map_or(group.heads.len(), |range| range.len());
                for rank in 0..DEVICES {
                    let schedule = RingSchedule::new(&group.pattern, &shards, kv, rank).unwrap();
                    let sent = schedule.hops().iter().map(|hop| hop.incoming.rows()).max();
                    let shard = context.div_ceil(DEVICES) * kv;
                    most = most.max(sent.unwrap() as f64 / shard as f64);
                }
            }
            assert!(
                most <= bound,
                "{layout:?}: {most} of a shard, bound {bound}"
            );
            assert!(
                (bound == 0.0) == (most == 0.0),
                "{layout:?}: {bound}, {most}"
            );
            let shape = Shape::of(&config, DEVICES);
            let gathered = gathered(&config, &shape, DEVICES);
            let shard = shape.tokens * 2.0 * shape.keys * 4.0;
            let expected = if bound > 0.0 { 3.0 + 6.0 * bound } else { 0.0 };
            assert_eq!(gathered, expected * shard);
            (bound, most)
        })
    };
    let all = (1.0, 1.0);
    // In a zigzag only one of the two parts of a shard is in the segment of another's.
    let quarter = shares(|c| c.data.context = 8192);
    assert_eq!(quarter, [(0.25, 0.25), (0.25, 0.125), all]);
    // Within parts of 2048 tokens, but not of 1024.
    let [contiguous, zigzag, striped] = shares(|c| {
        c.data.context = 8192;
        c.attention.segments = vec![1024, 2048];
    });
    assert_eq!((contiguous, zigzag.0, striped), ((0.0, 0.0), 0.25, all));
    // Two heads see two residues of the keys that they share.
    let shared = shares(|c| {
        c.data.context = 8192;
        c.model.kv_heads = Some(2);
    });
    assert_eq!(shared, [(0.5, 0.5), (0.5, 0.25), all]);
    // Parts whose edges lie within segments.
    shares(|c| c.data.context = 8201);
    shares(|c| {
        c.data.context = 30_000;
        c.attention.segments = vec![64, 1024, 16384];
        c.attention.dilations = vec![1, 4, 16];
    });
}

#[test]
fn adaptive_layers_gather_nothing_and_block_sparse_ones_may_gather_all() {
    let share = |kind| {
        let config = config(|c| c.attention.kind = vec![kind]);
        largest_message(&config, 4)
    };
    assert_eq!(share(AttentionKind::Adaptive), 0.0);
    assert_eq!(share(AttentionKind::BlockSparse), 1.0);
}
