//! Results as a figure in SVG: curves of loss, and heat maps of what was found again.

mod curves;
mod heat;
mod svg;

use super::results::{Answered, ByLength, Passkey, Recall, Results, Text};
use curves::{Curve, Curves};
use heat::Heat;
use svg::Svg;

/// The figure of `results`, one panel for each thing that was measured.
pub fn figure(results: &Results) -> String {
    let mut svg = Svg::new(&results.checkpoint);
    if let Some(text) = &results.text {
        loss_by_length(text, results.trained_context).draw(&mut svg);
        let full: Vec<&ByLength> = text.lengths.iter().filter(|l| l.stride.is_none()).collect();
        loss_by_position(&full).draw(&mut svg);
    }
    if let Some(passkey) = &results.passkey {
        passkey_map(passkey).draw(&mut svg);
    }
    if let Some(recall) = &results.recall {
        recall_map(recall).draw(&mut svg);
        recall_by_distance(recall).draw(&mut svg);
    }
    svg.finish()
}

fn loss_by_length(text: &Text, trained: usize) -> Curves {
    let mut modes: Vec<String> = text.lengths.iter().map(ByLength::mode).collect();
    modes.sort();
    modes.dedup();
    let curve = |mode: String| {
        let of = text.lengths.iter().filter(|l| l.mode() == mode);
        Curve {
            points: of.map(|l| (l.length as f64, l.score.loss)).collect(),
            name: match mode.as_str() {
                "full" => "windows one after the other".into(),
                sliding => sliding.replace("sliding", "windows moved by"),
            },
        }
    };
    Curves {
        title: format!("Loss on the {} text by context length", text.label),
        x: "tokens in the window",
        y: "loss (nats a token)",
        mark: Some((trained as f64, "training")),
        percent: false,
        curves: modes.into_iter().map(curve).collect(),
    }
}

fn loss_by_position(full: &[&ByLength]) -> Curves {
    let curve = |by_length: &&ByLength| {
        let points = by_length.positions.iter();
        Curve {
            name: format!("windows of {}", by_length.length),
            points: points.map(|p| (middle(p.from, p.to), p.loss)).collect(),
        }
    };
    Curves {
        title: "Loss by the context that each token has".into(),
        x: "tokens before it in its window",
        y: "loss (nats a token)",
        mark: None,
        percent: false,
        curves: full.iter().map(curve).collect(),
    }
}

/// Where numbers between these stand on a logarithmic axis.
fn middle(from: usize, to: usize) -> f64 {
    (from as f64 * to as f64).sqrt()
}

/// Each of `values` once, in order.
fn single<T: PartialOrd + Copy>(values: impl Iterator<Item = T>) -> Vec<T> {
    let mut values: Vec<T> = values.collect();
    values.sort_by(|a, b| a.partial_cmp(b).expect("lengths and depths are numbers"));
    values.dedup();
    values
}

fn passkey_map(passkey: &Passkey) -> Heat {
    let lengths = single(passkey.cells.iter().map(|c| c.length));
    let depths = single(passkey.cells.iter().map(|c| c.depth));
    let cell = |depth: f64, length: usize| {
        let mut cells = passkey.cells.iter();
        let found = cells.find(|c| c.length == length && c.depth == depth)?;
        Some(found.answered.accuracy)
    };
    Heat {
        title: "Passkey retrieval: share of keys that were found".into(),
        x: "tokens of the prompt",
        y: "depth of the key",
        columns: lengths.iter().map(ToString::to_string).collect(),
        rows: depths
            .iter()
            .map(|d| format!("{:.0} %", d * 100.0))
            .collect(),
        cells: depths
            .iter()
            .map(|&d| lengths.iter().map(|&l| cell(d, l)).collect())
            .collect(),
    }
}

fn recall_map(recall: &Recall) -> Heat {
    let lengths = single(recall.cells.iter().map(|c| c.length));
    let pairs = single(recall.cells.iter().map(|c| c.pairs));
    let cell = |pairs: usize, length: usize| {
        let mut cells = recall.cells.iter();
        let found = cells.find(|c| c.length == length && c.pairs == pairs)?;
        Some(found.answered.accuracy)
    };
    Heat {
        title: format!(
            "Associative recall: share of values that were found (guessing: {:.0} %)",
            recall.chance * 100.0
        ),
        x: "tokens of the sequence",
        y: "pairs",
        columns: lengths.iter().map(ToString::to_string).collect(),
        rows: pairs.iter().map(ToString::to_string).collect(),
        cells: pairs
            .iter()
            .map(|&p| lengths.iter().map(|&l| cell(p, l)).collect())
            .collect(),
    }
}

fn recall_by_distance(recall: &Recall) -> Curves {
    let pairs = single(recall.cells.iter().map(|c| c.pairs));
    let curve = |pairs: usize| {
        let cells = recall.cells.iter().filter(|c| c.pairs == pairs);
        let all: Vec<_> = cells.flat_map(|c| &c.distances).collect();
        let share = |to: usize| {
            let same = all.iter().filter(|d| d.to == to);
            let sum = |f: fn(&Answered) -> u64| same.clone().map(|d| f(&d.answered)).sum::<u64>();
            sum(|a| a.right) as f64 / sum(|a| a.asked) as f64
        };
        let points = single(all.iter().map(|d| (d.from, d.to))).into_iter();
        Curve {
            name: format!("{pairs} pairs"),
            points: points
                .map(|(from, to)| (middle(from, to), share(to)))
                .collect(),
        }
    };
    Curves {
        title: "Associative recall by distance, all lengths together".into(),
        x: "tokens between value and query",
        y: "share of values found",
        mark: None,
        percent: true,
        curves: pairs.into_iter().map(curve).collect(),
    }
}

#[cfg(test)]
mod tests;
