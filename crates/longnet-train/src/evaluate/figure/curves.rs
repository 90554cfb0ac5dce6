//! Curves over a logarithmic axis.

use super::svg::{Anchor, COLOURS, Svg, WIDTH};

/// A named curve. Points that are not finite are left out.
pub struct Curve {
    pub name: String,
    pub points: Vec<(f64, f64)>,
}

/// A panel of curves.
pub struct Curves {
    pub title: String,
    pub x: &'static str,
    pub y: &'static str,
    /// A place on the x axis, and what is there.
    pub mark: Option<(f64, &'static str)>,
    /// Whether y is a share, drawn from 0 to 100 %.
    pub percent: bool,
    pub curves: Vec<Curve>,
}

const LEFT: f64 = 76.0;
const RIGHT: f64 = WIDTH - 24.0;
const HEIGHT: f64 = 240.0;
const LEGEND: f64 = 20.0;

impl Curves {
    /// Adds the panel to `svg`, unless there is no point to draw.
    pub fn draw(&self, svg: &mut Svg) {
        let finite = |(x, y): &&(f64, f64)| x.is_finite() && y.is_finite();
        let points = self.curves.iter().flat_map(|c| &c.points).filter(finite);
        let (xs, ys): (Vec<f64>, Vec<f64>) = points.copied().unzip();
        if xs.is_empty() {
            return;
        }
        let legend = LEGEND * self.curves.len() as f64;
        let top = svg.panel(HEIGHT + 100.0 + legend) + 40.0;
        let bottom = top + HEIGHT;
        svg.text(
            (LEFT, top - 16.0),
            Anchor::Start,
            "font-weight=\"bold\"",
            &self.title,
        );

        let mark = self.mark.iter().map(|(x, _)| *x);
        let (from, to) = bounds(xs.into_iter().chain(mark).map(f64::log2));
        let (from, to) = (from - 0.15, to + 0.15);
        let (low, high) = match self.percent {
            true => (0.0, 1.0),
            false => bounds(ys.into_iter()),
        };
        let mut ticks = ticks(low, high);
        if let (Some(_), [.., before, last]) = (self.mark, ticks.as_slice()) {
            // Room for its name, above the curves.
            ticks.push(2.0 * last - before);
        }
        let (low, high) = (low.min(ticks[0]), high.max(ticks[ticks.len() - 1]));
        let x = |value: f64| LEFT + (value.log2() - from) / (to - from) * (RIGHT - LEFT);
        let y = |value: f64| bottom - (value - low) / (high - low) * HEIGHT;

        for &tick in &ticks {
            let label = match self.percent {
                true => format!("{:.0} %", tick * 100.0),
                false => trimmed(tick),
            };
            svg.line((LEFT, y(tick)), (RIGHT, y(tick)), "stroke=\"#ddd\"");
            svg.text((LEFT - 8.0, y(tick) + 4.5), Anchor::End, "", label);
        }
        // Not more labels than there is room for.
        let powers = from.ceil() as i32..=to.floor() as i32;
        let every = (powers.clone().count() / 12 + 1) as i32;
        for power in powers.filter(|power| power % every == 0) {
            let value = 2f64.powi(power);
            svg.line(
                (x(value), bottom),
                (x(value), bottom + 5.0),
                "stroke=\"#333\"",
            );
            svg.text((x(value), bottom + 20.0), Anchor::Middle, "", value);
        }
        svg.line((LEFT, bottom), (RIGHT, bottom), "stroke=\"#333\"");
        svg.text(
            ((LEFT + RIGHT) / 2.0, bottom + 40.0),
            Anchor::Middle,
            "",
            self.x,
        );
        svg.upward_text((20.0, (top + bottom) / 2.0), self.y);
        if let Some((at, name)) = self.mark {
            let attributes = "stroke=\"#777\" stroke-dasharray=\"4 4\"";
            svg.line((x(at), top), (x(at), bottom), attributes);
            let (anchor, side) = match x(at) > (LEFT + RIGHT) / 2.0 {
                true => (Anchor::End, -6.0),
                false => (Anchor::Start, 6.0),
            };
            svg.text((x(at) + side, top + 12.0), anchor, "fill=\"#555\"", name);
        }
        for (i, curve) in self.curves.iter().enumerate() {
            let colour = COLOURS[i % COLOURS.len()];
            let points = curve.points.iter().filter(finite);
            let points: Vec<_> = points.map(|p| (x(p.0), y(p.1))).collect();
            svg.polyline(&points, colour);
            for &point in &points {
                svg.dot(point, colour);
            }
            let line = bottom + 62.0 + LEGEND * i as f64;
            svg.line(
                (LEFT, line - 4.0),
                (LEFT + 24.0, line - 4.0),
                &format!("stroke=\"{colour}\" stroke-width=\"2\""),
            );
            svg.text((LEFT + 32.0, line), Anchor::Start, "", &curve.name);
        }
    }
}

/// The least and the greatest; a little apart if they are one.
fn bounds(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let start = (f64::INFINITY, f64::NEG_INFINITY);
    let (low, high) = values.fold(start, |(low, high), v| (low.min(v), high.max(v)));
    match high - low > 1e-9 * high.abs() {
        true => (low, high),
        false => (low - 0.5, high + 0.5),
    }
}

/// Round numbers that enclose `low` and `high`, four to nine of them.
fn ticks(low: f64, high: f64) -> Vec<f64> {
    let rough = (high - low) / 4.0;
    let power = 10f64.powf(rough.log10().floor());
    let step = [5.0, 2.0, 1.0].map(|n| n * power);
    let step = step.into_iter().find(|s| *s <= rough).unwrap_or(power);
    let (first, last) = ((low / step).floor(), (high / step - 1e-9).ceil());
    (first as i64..=last as i64)
        .map(|n| n as f64 * step)
        .collect()
}

/// Without noise and without zeros at the end.
fn trimmed(value: f64) -> String {
    let text = format!("{value:.6}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    match text {
        "-0" => "0".into(),
        text => text.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_enclose_what_is_drawn() {
        for (low, high) in [
            (0.0, 1.0),
            (1.234, 5.4),
            (2.0, 2.001),
            (-3.0, 1e6),
            (1e-9, 2e-9),
        ] {
            let ticks = ticks(low, high);
            assert!((4..=10).contains(&ticks.len()), "{low} {high}: {ticks:?}");
            let tolerance = 1e-6 * (high - low);
            assert!(ticks[0] <= low && ticks[ticks.len() - 1] >= high - tolerance);
        }
        assert_eq!(
            ticks(0.0, 1.0),
            [0.0, 0.2, 0.4, 0.6000000000000001, 0.8, 1.0]
        );
        assert_eq!(trimmed(0.6000000000000001), "0.6");
        assert_eq!(trimmed(3.0), "3");
    }
}
