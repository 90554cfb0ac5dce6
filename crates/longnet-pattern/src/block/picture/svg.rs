//! A mask as a drawing.

use super::{Cell, Picture, caption, groups};
use crate::{BlockGrid, BlockMask};
use std::fmt::Write;

/// Rows and columns of cells of a panel.
const MOST: usize = 128;
/// Side of the longer edge of a panel, and the space around panels, in pixels.
const SIDE: f64 = 320.0;
const LEFT: f64 = 76.0;
const TOP: f64 = 64.0;
const GAP: f64 = 40.0;
const BELOW: f64 = 52.0;
const LEGEND: f64 = 28.0;
/// Panels side by side.
const ACROSS: usize = 4;

const FULL: &str = "#1f5a94";
/// By the share of the blocks of a cell that are listed; the last one also for single blocks.
const PARTIAL: [&str; 4] = ["#dbe8f4", "#bdd5ec", "#9cc0e2", "#7aaad6"];
const NONE: &str = "#f4f4f4";
const INK: &str = "#222222";

impl BlockMask {
    /// A drawing of some heads side by side, those with the same blocks once, four to a line: query positions
    /// downwards, key positions to the right. Where there are more than 128 blocks, a cell stands for several.
    ///
    /// # Panics
    ///
    /// If a head is not below the number of heads.
    pub fn to_svg(&self, heads: impl IntoIterator<Item = usize>) -> String {
        let grid = self.grid();
        let groups = groups(self, heads);
        let (tall, wide) = (grid.q_end().max(1) as f64, grid.k_end().max(1) as f64);
        let scale = SIDE / tall.max(wide);
        // Of a strip much is left to see.
        let (height, width) = (
            (tall * scale).max(SIDE / 16.0),
            (wide * scale).max(SIDE / 16.0),
        );
        let (step_x, step_y) = (width + LEFT + GAP, height + TOP + BELOW);
        let across = groups.len().clamp(1, ACROSS);
        let lines = groups.len().div_ceil(ACROSS).max(1);
        let all_width = (across as f64 * step_x).max(2.0 * SIDE);
        let all_height = lines as f64 * step_y + LEGEND;
        let mut svg = format!(
            concat!(
                r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {w:.0} {h:.0}" width="{w:.0}" height="{h:.0}" "#,
                r#"font-family="sans-serif" font-size="12" fill="{ink}">"#,
                "\n<rect width=\"{w:.0}\" height=\"{h:.0}\" fill=\"#ffffff\"/>\n"
            ),
            w = all_width,
            h = all_height,
            ink = INK,
        );
        let mut coarse = false;
        for (at, heads) in groups.iter().enumerate() {
            let picture = Picture::new(self, heads[0], MOST);
            coarse |= picture.is_coarse();
            let x = LEFT + (at % ACROSS) as f64 * step_x;
            let y = TOP + (at / ACROSS) as f64 * step_y;
            let _ = writeln!(svg, r#"<g transform="translate({x:.1} {y:.1})">"#);
            axes(&mut svg, grid, &caption(heads), width, height);
            cells(&mut svg, grid, &picture, width, height);
            svg.push_str("</g>\n");
        }
        legend(&mut svg, self.is_causal(), coarse, all_height - LEGEND);
        svg.push_str("</svg>\n");
        svg
    }
}

/// Caption, ticks in tokens, and what the axes are.
fn axes(svg: &mut String, grid: BlockGrid, caption: &str, width: f64, height: f64) {
    let _ = writeln!(
        svg,
        r#"<text x="{:.1}" y="-46" text-anchor="middle" font-weight="bold">{caption}</text>"#,
        width / 2.0
    );
    let _ = writeln!(
        svg,
        r#"<text x="{:.1}" y="-28" text-anchor="middle">key position (tokens)</text>"#,
        width / 2.0
    );
    let _ = writeln!(
        svg,
        r#"<text transform="translate(-58 {:.1}) rotate(-90)" text-anchor="middle">query position (tokens)</text>"#,
        height / 2.0
    );
    for (end, blocks, block, length, down) in [
        (grid.k_end(), grid.k_blocks, grid.k_block, width, false),
        (grid.q_end(), grid.q_blocks, grid.q_block, height, true),
    ] {
        let mut ticks: Vec<usize> = (0..=4).map(|part| blocks * part / 4 * block).collect();
        ticks.dedup();
        if length < SIDE / 2.0 {
            ticks = vec![0, end];
            ticks.dedup();
        }
        for tick in ticks {
            let at = length * tick as f64 / end.max(1) as f64;
            let _ = match down {
                true => writeln!(
                    svg,
                    r#"<path d="M-5 {at:.1}h5" stroke="{INK}"/><text x="-8" y="{:.1}" text-anchor="end">{tick}</text>"#,
                    at + 4.0
                ),
                false => writeln!(
                    svg,
                    r#"<path d="M{at:.1} -5v5" stroke="{INK}"/><text x="{at:.1}" y="-9" text-anchor="middle">{tick}</text>"#
                ),
            };
        }
    }
}

/// The cells, neighbours of a row with the same colour as one, and a frame.
fn cells(svg: &mut String, grid: BlockGrid, picture: &Picture, width: f64, height: f64) {
    let _ = writeln!(
        svg,
        r#"<rect width="{width:.1}" height="{height:.1}" fill="{NONE}"/>"#
    );
    let x = |column: usize| {
        width * (column * picture.k_step).min(grid.k_blocks) as f64 / grid.k_blocks.max(1) as f64
    };
    let y = |row: usize| {
        height * (row * picture.q_step).min(grid.q_blocks) as f64 / grid.q_blocks.max(1) as f64
    };
    let partial = |quarter: usize| (Cell::Partial { quarter }, PARTIAL[quarter]);
    for (kind, colour) in (0..4).map(partial).chain([(Cell::Full, FULL)]) {
        let mut path = String::new();
        for (row, line) in picture.cells.iter().enumerate() {
            let mut column = 0;
            while column < line.len() {
                let same = line[column..].iter().take_while(|cell| **cell == kind);
                let end = column + same.count();
                if end > column {
                    let _ = write!(
                        path,
                        "M{:.2} {:.2}H{:.2}V{:.2}H{:.2}z",
                        x(column),
                        y(row),
                        x(end),
                        y(row + 1),
                        x(column)
                    );
                }
                column = end.max(column + 1);
            }
        }
        if !path.is_empty() {
            let _ = writeln!(svg, r#"<path fill="{colour}" d="{path}"/>"#);
        }
    }
    // Lines between blocks, where they can be told apart.
    let few = |blocks: usize| blocks <= 32;
    if few(grid.q_blocks) && few(grid.k_blocks) {
        let mut path = String::new();
        for column in 1..grid.k_blocks {
            let _ = write!(path, "M{:.2} 0V{height:.2}", x(column));
        }
        for row in 1..grid.q_blocks {
            let _ = write!(path, "M0 {:.2}H{width:.2}", y(row));
        }
        let _ = writeln!(
            svg,
            r##"<path d="{path}" stroke="#ffffff" stroke-width="0.75" fill="none"/>"##
        );
    }
    let _ = writeln!(
        svg,
        r#"<rect width="{width:.1}" height="{height:.1}" fill="none" stroke="{INK}"/>"#
    );
}

fn legend(svg: &mut String, causal: bool, coarse: bool, y: f64) {
    let partial = match (causal, coarse) {
        (_, true) => "partial: the darker, the more blocks are listed",
        (true, false) => "partial: cut by causality",
        (false, false) => "partial",
    };
    let _ = writeln!(svg, r#"<g transform="translate({LEFT:.1} {y:.1})">"#);
    let mut x = 0;
    for (colour, label) in [(FULL, "full"), (PARTIAL[3], partial), (NONE, "not listed")] {
        let _ = writeln!(
            svg,
            r##"<rect x="{x}" width="14" height="14" fill="{colour}" stroke="#888888" stroke-width="0.5"/><text x="{}" y="12">{label}</text>"##,
            x + 20
        );
        x += 20 + 7 * label.len() + 20;
    }
    svg.push_str("</g>\n");
}
