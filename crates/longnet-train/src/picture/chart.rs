//! Charts: panels of curves above each other, over one axis.

use super::{Anchor, Color, Paint, Picture, Step};

/// How a curve is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// A line.
    Line,
    /// A line that stays in the background.
    Faint,
    /// A dot at each point, with a dashed line between them.
    Dots,
}

/// Points in the order of x. Those that are not finite are gaps.
#[derive(Clone, Debug)]
pub struct Curve {
    /// The points.
    pub points: Vec<(f64, f64)>,
    /// The place of its colour among the colours of curves.
    pub color: usize,
    /// How it is drawn.
    pub style: Style,
}

/// Curves over one y axis.
#[derive(Clone, Debug)]
pub struct Panel {
    /// What y is.
    pub title: String,
    /// Whether y is logarithmic.
    pub logarithmic: bool,
    /// The curves.
    pub curves: Vec<Curve>,
}

/// Panels over one x axis.
#[derive(Clone, Debug)]
pub struct Chart {
    /// What the whole is.
    pub title: String,
    /// What x is.
    pub x_title: String,
    /// The name of each colour.
    pub legend: Vec<String>,
    /// The panels.
    pub panels: Vec<Panel>,
}

/// Colours that are told apart with any colour vision: Okabe and Ito, 2008.
const COLORS: [Color; 7] = [
    [0, 114, 178],
    [213, 94, 0],
    [0, 158, 115],
    [204, 121, 167],
    [86, 180, 233],
    [230, 159, 0],
    [90, 90, 90],
];
const INK: Color = [40, 40, 40];
const GREY: Color = [120, 120, 120];
const GRID: Color = [226, 226, 226];

const WIDTH: f32 = 820.0;
const LEFT: f32 = 76.0;
const RIGHT: f32 = 24.0;
const TOP: f32 = 40.0;
const LEGEND_LINE: f32 = 18.0;
const PANEL: f32 = 250.0;
const GAP: f32 = 44.0;
const BOTTOM: f32 = 46.0;

/// A range of values with round numbers in it.
#[derive(Clone, Debug, PartialEq)]
pub struct Axis {
    low: f64,
    high: f64,
    logarithmic: bool,
    ticks: Vec<f64>,
}

impl Axis {
    /// An axis over all finite `values`; above 0, if it is logarithmic.
    pub fn over(values: impl Iterator<Item = f64>, logarithmic: bool) -> Self {
        let values = values.filter(|v| v.is_finite() && (!logarithmic || *v > 0.0));
        let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), v| {
            (low.min(v), high.max(v))
        });
        match (low > high, logarithmic) {
            (true, _) => Self::over([1.0, 2.0].into_iter(), logarithmic),
            (_, true) => Self::logarithmic(low, high),
            _ => Self::linear(low, high),
        }
    }

    fn linear(low: f64, high: f64) -> Self {
        // One value gets room on both sides.
        let spread = match high - low {
            0.0 if low == 0.0 => 1.0,
            0.0 => low.abs() * 0.2,
            spread => spread,
        };
        let (low, high) = match high == low {
            true => (low - spread / 2.0, high + spread / 2.0),
            false => (low, high),
        };
        let rough = spread / 5.0;
        let power = 10f64.powf(rough.log10().floor());
        let steps = [1.0, 2.0, 5.0, 10.0].map(|step| step * power);
        let step = steps.into_iter().find(|step| *step >= rough);
        let step = step.unwrap_or(10.0 * power);
        // Within a hundredth of a step a tick counts as inside.
        let first = (low / step - 0.01).ceil() as i64;
        let last = (high / step + 0.01).floor() as i64;
        Self {
            low,
            high,
            logarithmic: false,
            ticks: (first..=last).map(|i| i as f64 * step).collect(),
        }
    }

    fn logarithmic(low: f64, high: f64) -> Self {
        let (low, high) = match high / low < 1.1 {
            true => (low / 1.2, high * 1.2),
            false => (low, high),
        };
        if high / low < 10.0 {
            // Round numbers of one decade are few; evenly spaced ones are read as well here.
            return Self {
                logarithmic: true,
                ..Self::linear(low, high)
            };
        }
        let decades = low.log10().floor() as i32..=high.log10().ceil() as i32;
        let steps: &[f64] = match high / low {
            ratio if ratio > 1e3 => &[1.0],
            _ => &[1.0, 2.0, 5.0],
        };
        let ticks = decades.flat_map(|e| steps.iter().map(move |s| s * 10f64.powi(e)));
        Self {
            low,
            high,
            logarithmic: true,
            ticks: ticks.filter(|t| *t >= low && *t <= high).collect(),
        }
    }

    /// Where `value` lies, 0 at the low end and 1 at the high one.
    fn place(&self, value: f64) -> f64 {
        let scale = |v: f64| if self.logarithmic { v.ln() } else { v };
        (scale(value) - scale(self.low)) / (scale(self.high) - scale(self.low))
    }

    fn label(&self, tick: f64) -> String {
        let largest = self.high.abs().max(self.low.abs());
        let gap = match self.ticks.as_slice() {
            [a, b, ..] if !self.logarithmic || self.high / self.low < 10.0 => b - a,
            _ => tick.abs(),
        };
        if tick == 0.0 {
            return "0".into();
        }
        if largest >= 1e4 {
            let (divisor, unit) = match largest {
                l if l >= 1e9 => (1e9, "G"),
                l if l >= 1e6 => (1e6, "M"),
                _ => (1e3, "k"),
            };
            let decimals = decimals(gap / divisor);
            return format!("{:.decimals$}{unit}", tick / divisor);
        }
        match gap {
            gap if gap < 1e-3 => format!("{tick:.1e}"),
            gap => format!("{tick:.0$}", decimals(gap)),
        }
    }
}

/// Decimals that tell numbers apart that differ by `gap`.
fn decimals(gap: f64) -> usize {
    match gap {
        gap if gap >= 1.0 => 0,
        gap => (-gap.log10() - 1e-9).ceil().clamp(0.0, 6.0) as usize,
    }
}

impl Chart {
    /// The chart as a picture.
    pub fn picture(&self) -> Picture {
        let legend = if self.legend.len() > 1 {
            self.legend.len()
        } else {
            0
        };
        let top = TOP + legend as f32 * LEGEND_LINE;
        let panels = self.panels.len() as f32;
        let height = top + panels * (PANEL + GAP) - GAP + BOTTOM + 20.0;
        let mut picture = Picture::new(WIDTH as u32, height.ceil() as u32, &self.title);
        let title = shortened(&self.title, WIDTH - LEFT - RIGHT, 15.0);
        picture.text(&title, (LEFT, 26.0), 15.0, Anchor::Start, INK);
        for (i, name) in self.legend.iter().enumerate().take(legend) {
            let y = TOP + 4.0 + i as f32 * LEGEND_LINE;
            let color = COLORS[i % COLORS.len()];
            picture.line(&[(LEFT, y), (LEFT + 22.0, y)], 2.5, color, 1.0);
            let name = shortened(name, WIDTH - LEFT - RIGHT - 30.0, 12.0);
            picture.text(&name, (LEFT + 30.0, y + 4.0), 12.0, Anchor::Start, INK);
        }
        let all = self.panels.iter().flat_map(|panel| &panel.curves);
        let x = all.flat_map(|curve| curve.points.iter().map(|point| point.0));
        let x = Axis::over(x, false);
        for (i, panel) in self.panels.iter().enumerate() {
            let y = top + 20.0 + i as f32 * (PANEL + GAP);
            panel.draw(
                &mut picture,
                &x,
                y,
                &self.x_title,
                i + 1 == self.panels.len(),
            );
        }
        picture
    }
}

/// `text`, its middle left out if it is wider than `width`.
fn shortened(text: &str, width: f32, size: f32) -> String {
    let letters: Vec<char> = text.chars().filter(|c| !c.is_control()).collect();
    for keep in (0..=letters.len()).rev() {
        let short: String = match keep == letters.len() {
            true => letters.iter().collect(),
            false => {
                let (head, tail) = (keep.div_ceil(2), keep / 2);
                let parts = [&letters[..head], &['…'], &letters[letters.len() - tail..]];
                parts.concat().into_iter().collect()
            }
        };
        if super::font::width(&short, size) <= width {
            return short;
        }
    }
    String::new()
}

impl Panel {
    fn draw(&self, picture: &mut Picture, x: &Axis, top: f32, x_title: &str, is_last: bool) {
        let values = self
            .curves
            .iter()
            .flat_map(|c| c.points.iter().map(|p| p.1));
        let y = Axis::over(values, self.logarithmic);
        let (left, right, bottom) = (LEFT, WIDTH - RIGHT, top + PANEL);
        let at_x = |value: f64| left + (right - left) * x.place(value) as f32;
        let at_y = |value: f64| bottom - 8.0 - (PANEL - 16.0) * y.place(value) as f32;

        picture.text(&self.title, (left, top - 8.0), 12.0, Anchor::Start, GREY);
        for &tick in &y.ticks {
            let h = at_y(tick);
            picture.line(&[(left, h), (right, h)], 1.0, GRID, 1.0);
            picture.text(
                &y.label(tick),
                (left - 8.0, h + 4.0),
                11.0,
                Anchor::End,
                INK,
            );
        }
        for &tick in &x.ticks {
            let v = at_x(tick);
            picture.line(&[(v, top), (v, bottom)], 1.0, GRID, 1.0);
            if is_last {
                picture.text(
                    &x.label(tick),
                    (v, bottom + 18.0),
                    11.0,
                    Anchor::Middle,
                    INK,
                );
            }
        }
        let frame = [(left, top), (left, bottom), (right, bottom)];
        picture.line(&frame, 1.0, GREY, 1.0);
        if is_last {
            let middle = (left + right) / 2.0;
            picture.text(x_title, (middle, bottom + 38.0), 12.0, Anchor::Middle, GREY);
        }

        for curve in &self.curves {
            let color = COLORS[curve.color % COLORS.len()];
            let shown = |&(px, py): &(f64, f64)| {
                let ok = px.is_finite() && py.is_finite() && (!self.logarithmic || py > 0.0);
                ok.then(|| (at_x(px), at_y(py)))
            };
            let points: Vec<_> = curve.points.iter().map(shown).collect();
            let lines = points.split(|point| point.is_none());
            let lines = lines.map(|line| line.iter().flatten().copied().collect::<Vec<_>>());
            for line in lines {
                match (curve.style, line.as_slice()) {
                    (Style::Faint, line) => picture.line(line, 1.0, color, 0.3),
                    // A line of one point would not be seen.
                    (Style::Line, [point]) => picture.disc(*point, 2.0, color),
                    (Style::Line, line) => picture.line(&thinned(line), 1.8, color, 1.0),
                    (Style::Dots, line) => {
                        let steps = line.iter().enumerate().map(|(i, &(x, y))| match i {
                            0 => Step::Move(x, y),
                            _ => Step::Line(x, y),
                        });
                        let paint = Paint::Line {
                            width: 1.2,
                            dashed: true,
                        };
                        picture.draw(steps.collect(), paint, color, 0.8);
                        line.iter()
                            .for_each(|&point| picture.disc(point, 3.2, color));
                    }
                }
            }
        }
    }
}

/// The line with at most four points in a column of pixels: its first, lowest, highest and last.
fn thinned(line: &[(f32, f32)]) -> Vec<(f32, f32)> {
    let mut thin = Vec::new();
    for column in line.chunk_by(|a, b| a.0.floor() == b.0.floor()) {
        if column.len() <= 4 {
            thin.extend_from_slice(column);
            continue;
        }
        let by_y = |a: &&(f32, f32), b: &&(f32, f32)| a.1.total_cmp(&b.1);
        let mut ends = [column.iter().min_by(by_y), column.iter().max_by(by_y)];
        ends.sort_by(|a, b| a.map(|p| p.0).partial_cmp(&b.map(|p| p.0)).expect("finite"));
        thin.push(column[0]);
        thin.extend(ends.into_iter().flatten());
        thin.push(column[column.len() - 1]);
    }
    thin
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(values: &[f64], logarithmic: bool) -> Vec<String> {
        let axis = Axis::over(values.iter().copied(), logarithmic);
        axis.ticks.iter().map(|&t| axis.label(t)).collect()
    }

    #[test]
    fn ticks_are_round_numbers_within_the_range() {
        assert_eq!(labels(&[0.0, 300.0], false), ["0", "100", "200", "300"]);
        assert_eq!(labels(&[1.2, 2.9], false), ["1.5", "2.0", "2.5"]);
        assert_eq!(
            labels(&[0.0, 2.5e6], false),
            ["0", "0.5M", "1.0M", "1.5M", "2.0M", "2.5M"]
        );
        assert_eq!(labels(&[1e-6, 6e-4], false)[..2], ["0", "2.0e-4"]);
        assert_eq!(
            labels(&[1.0, 450.0], true),
            ["1", "2", "5", "10", "20", "50", "100", "200"]
        );
        // No value, one value, and values that cannot be drawn.
        for values in [&[][..], &[3.0], &[0.0], &[f64::NAN, f64::INFINITY], &[-1.0]] {
            for logarithmic in [false, true] {
                let axis = Axis::over(values.iter().copied(), logarithmic);
                assert!(
                    axis.high > axis.low && !axis.ticks.is_empty(),
                    "{values:?} {axis:?}"
                );
            }
        }
    }

    #[test]
    fn thinning_keeps_the_extremes() {
        let line: Vec<_> = (0..10_000)
            .map(|i| (i as f32 / 100.0, (i as f32).sin()))
            .collect();
        let thin = thinned(&line);
        assert!(thin.len() <= 400);
        let highest = |line: &[(f32, f32)]| line.iter().map(|p| p.1).fold(f32::MIN, f32::max);
        assert_eq!(highest(&thin), highest(&line));
        assert!(thin.windows(2).all(|pair| pair[0].0 <= pair[1].0));
    }

    #[test]
    fn pictures_are_drawn_without_fonts_of_the_machine() {
        let chart = Chart {
            title: "runs/<a> & b".into(),
            x_title: "step".into(),
            legend: vec!["runs/日本".into(), "x".repeat(400)],
            panels: vec![Panel {
                title: "loss".into(),
                logarithmic: false,
                curves: vec![Curve {
                    points: vec![(0.0, 1.0), (1.0, f64::NAN), (2.0, 0.5)],
                    color: 9,
                    style: Style::Line,
                }],
            }],
        };
        let picture = chart.picture();
        let svg = picture.to_svg();
        assert!(svg.contains("<title>runs/&lt;a&gt; &amp; b</title>") && !svg.contains("<text"));
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        let png = picture.to_png();
        assert_eq!(&png[1..4], b"PNG");
        let pixels = tiny_skia::Pixmap::decode_png(&png).unwrap();
        assert_eq!(pixels.width(), 2 * WIDTH as u32);
        let dark = pixels.pixels().iter().filter(|p| p.red() < 100).count();
        assert!(dark > 500, "no ink: {dark}");
    }
}
