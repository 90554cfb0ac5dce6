//! Writing SVG.

use std::fmt::{Display, Write};

/// Width of a figure.
pub const WIDTH: f64 = 720.0;

/// Colours that also differ for the colour-blind (Okabe and Ito 2008), without the yellow, which is
/// faint on white.
pub const COLOURS: [&str; 7] = [
    "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000",
];

/// Where a text hangs on its point.
#[derive(Clone, Copy, Debug)]
pub enum Anchor {
    Start,
    Middle,
    End,
}

/// A figure that grows downwards.
pub struct Svg {
    body: String,
    height: f64,
}

impl Svg {
    /// A figure with a line of text at its head.
    pub fn new(head: &str) -> Self {
        let mut svg = Self {
            body: String::new(),
            height: 36.0,
        };
        svg.text(
            (16.0, 24.0),
            Anchor::Start,
            "font-size=\"12\" fill=\"#555\"",
            head,
        );
        svg
    }

    /// Where the next panel of `height` begins.
    pub fn panel(&mut self, height: f64) -> f64 {
        let top = self.height;
        self.height += height;
        top
    }

    /// Text at a point, with further attributes.
    pub fn text(&mut self, at: (f64, f64), anchor: Anchor, attributes: &str, text: impl Display) {
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        let text = escaped(&text.to_string());
        let place = place(at);
        self.add(format_args!(
            "<text {place} text-anchor=\"{anchor}\" {attributes}>{text}</text>"
        ));
    }

    /// Text that runs upwards.
    pub fn upward_text(&mut self, (x, y): (f64, f64), text: &str) {
        let attributes = format!("transform=\"rotate(-90 {x:.1} {y:.1})\"");
        self.text((x, y), Anchor::Middle, &attributes, text);
    }

    /// A line.
    pub fn line(&mut self, from: (f64, f64), to: (f64, f64), attributes: &str) {
        let ((x1, y1), (x2, y2)) = (from, to);
        self.add(format_args!(
            "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" {attributes}/>"
        ));
    }

    /// A line through `points`.
    pub fn polyline(&mut self, points: &[(f64, f64)], colour: &str) {
        let points: Vec<String> = points
            .iter()
            .map(|(x, y)| format!("{x:.1},{y:.1}"))
            .collect();
        let points = points.join(" ");
        self.add(format_args!(
            "<polyline points=\"{points}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>"
        ));
    }

    /// A dot.
    pub fn dot(&mut self, (x, y): (f64, f64), colour: &str) {
        self.add(format_args!(
            "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.5\" fill=\"{colour}\"/>"
        ));
    }

    /// A filled rectangle.
    pub fn rectangle(&mut self, at: (f64, f64), size: (f64, f64), fill: &str) {
        let (place, (width, height)) = (place(at), size);
        self.add(format_args!(
            "<rect {place} width=\"{width:.1}\" height=\"{height:.1}\" fill=\"{fill}\" stroke=\"#fff\"/>"
        ));
    }

    fn add(&mut self, element: impl Display) {
        writeln!(self.body, "{element}").expect("strings can be written to");
    }

    /// The whole file.
    pub fn finish(self) -> String {
        let Self { body, height } = self;
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" font-size=\"13\">\n\
             <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n{body}</svg>\n"
        )
    }
}

fn place((x, y): (f64, f64)) -> String {
    format!("x=\"{x:.1}\" y=\"{y:.1}\"")
}

fn escaped(text: &str) -> String {
    // XML has no way to write other control characters.
    let text = text.replace(|c: char| c.is_control(), " ");
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    text.replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_cannot_break_the_file() {
        let svg = Svg::new("runs/<a & \"b\">\u{7}").finish();
        assert!(
            svg.contains(">runs/&lt;a &amp; &quot;b&quot;&gt; </text>"),
            "{svg}"
        );
    }
}
