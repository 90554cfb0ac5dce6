//! Block patterns and orders that other projects generate: equal, pair for pair.

use longnet_pattern::{BlockGrid, BlockPattern, Level, hilbert};
use longnet_tests::dilated_attention_pytorch::{number, tensors};
use longnet_tests::goldens::Golden;
use serde_json::Value;

/// The pairs of `pattern` beside a golden, `[blocks, blocks]` for each head or once.
fn compare(
    name: &str,
    golden: &Golden,
    pattern: &BlockPattern,
    block: usize,
) -> Result<f64, String> {
    let blocks = *golden.shape.last().expect("a matrix");
    let heads = golden.data.len() / (blocks * blocks);
    let grid = BlockGrid::square(blocks * block, block);
    let mask = pattern
        .mask(heads, grid, false)
        .map_err(|e| e.to_string())?;
    for (at, set) in golden.data.iter().enumerate() {
        let (head, i, j) = (at / (blocks * blocks), at / blocks % blocks, at % blocks);
        if mask.bias_index(head, i, j).is_some() != (*set != 0.0) {
            return Err(format!("{name}: head {head}, blocks {i} and {j}"));
        }
    }
    Ok(0.0)
}

/// The generators that agree with the definitions here.
pub fn generators(case: &Value) -> Result<f64, String> {
    let tensors = tensors(case);
    let [block, window, global] =
        ["block_size", "local_window_size", "global_tokens"].map(|key| number(case, key));
    let window = BlockPattern::Window(window);
    let with_global = window.clone() | BlockPattern::Global(global);
    compare("local_window", tensors.get("local_window"), &window, block)?;
    compare(
        "global_local",
        tensors.get("global_local"),
        &with_global,
        block,
    )
}

/// Strides and windows, level by level.
pub fn hierarchical(case: &Value) -> Result<f64, String> {
    let tensors = tensors(case);
    let cases = case["params"]["cases"].as_array().expect("cases");
    for (index, case) in cases.iter().enumerate() {
        let level = |level: &Value| Level {
            stride: level["stride"].as_u64().expect("stride") as usize,
            window: level["window_size"].as_u64().map(|tokens| tokens as usize),
        };
        let levels = match case["levels"].as_array() {
            Some(levels) => levels.iter().map(level).collect(),
            // What it does where it is not told.
            None => [(64, Some(256)), (256, Some(1024)), (1024, None)]
                .map(|(stride, window)| Level { stride, window })
                .to_vec(),
        };
        let name = format!("pattern.{index}");
        let block = case["block_size"].as_u64().expect("block_size") as usize;
        let pattern = BlockPattern::Hierarchical(levels);
        compare(&name, tensors.get(&name), &pattern, block)?;
    }
    Ok(0.0)
}

/// Hilbert's curve in squares, from the first cell to the end of a side: theirs goes right where ours goes down in
/// every other level.
pub fn hilbert(case: &Value) -> Result<f64, String> {
    let tensors = tensors(case);
    let levels = case["params"]["levels"].as_array().expect("levels");
    for level in levels.iter().map(|l| l.as_u64().expect("a level")) {
        let side = 1 << level;
        let golden = &tensors.get(&format!("hilbert_square.{level}")).data;
        let order = hilbert::order(side, side);
        let transposed = |&at: &usize| at % side * side + at / side;
        let theirs: Vec<usize> = golden.iter().map(|&at| at as usize).collect();
        let mirrored: Vec<usize> = theirs.iter().map(transposed).collect();
        if order.as_slice() != theirs && order.as_slice() != mirrored {
            return Err(format!("level {level}: {:?}", order.as_slice()));
        }
    }
    Ok(0.0)
}
