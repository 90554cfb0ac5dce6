//! Pictures of lines and text, as SVG and PNG, the same in both and on any machine: text is drawn as
//! outlines of a font that is part of the program.

mod chart;
mod font;
mod png;
mod svg;

pub use chart::{Axis, Chart, Curve, Panel, Style};

/// A colour: red, green, blue.
pub type Color = [u8; 3];

/// A step of an outline, in pixels from the top left.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Step {
    Move(f32, f32),
    Line(f32, f32),
    Quad(f32, f32, f32, f32),
    Cubic(f32, f32, f32, f32, f32, f32),
    Close,
}

/// How an outline is drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Paint {
    Fill,
    /// A line of this width, dashed or not.
    Line {
        width: f32,
        dashed: bool,
    },
}

#[derive(Clone, Debug)]
struct Shape {
    steps: Vec<Step>,
    paint: Paint,
    color: Color,
    opacity: f32,
}

/// Where a text stands relative to its point.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Anchor {
    Start,
    Middle,
    End,
}

/// Shapes on white.
#[derive(Clone, Debug)]
pub struct Picture {
    width: u32,
    height: u32,
    /// What it shows, for those who cannot see it.
    title: String,
    shapes: Vec<Shape>,
}

impl Picture {
    fn new(width: u32, height: u32, title: &str) -> Self {
        Self {
            width,
            height,
            title: title.into(),
            shapes: Vec::new(),
        }
    }

    fn draw(&mut self, steps: Vec<Step>, paint: Paint, color: Color, opacity: f32) {
        if !steps.is_empty() {
            self.shapes.push(Shape {
                steps,
                paint,
                color,
                opacity,
            });
        }
    }

    fn line(&mut self, points: &[(f32, f32)], width: f32, color: Color, opacity: f32) {
        let steps = points.iter().enumerate().map(|(i, &(x, y))| match i {
            0 => Step::Move(x, y),
            _ => Step::Line(x, y),
        });
        let paint = Paint::Line {
            width,
            dashed: false,
        };
        self.draw(steps.collect(), paint, color, opacity);
    }

    fn disc(&mut self, (x, y): (f32, f32), radius: f32, color: Color) {
        // Four Bézier curves are a circle to a few parts in ten thousand.
        let (r, k) = (radius, radius * 0.552_284_8);
        let steps = vec![
            Step::Move(x + r, y),
            Step::Cubic(x + r, y + k, x + k, y + r, x, y + r),
            Step::Cubic(x - k, y + r, x - r, y + k, x - r, y),
            Step::Cubic(x - r, y - k, x - k, y - r, x, y - r),
            Step::Cubic(x + k, y - r, x + r, y - k, x + r, y),
            Step::Close,
        ];
        self.draw(steps, Paint::Fill, color, 1.0);
    }

    /// Text with its baseline at `y`.
    fn text(&mut self, text: &str, (x, y): (f32, f32), size: f32, anchor: Anchor, color: Color) {
        let width = font::width(text, size);
        let x = match anchor {
            Anchor::Start => x,
            Anchor::Middle => x - width / 2.0,
            Anchor::End => x - width,
        };
        self.draw(font::outline(text, (x, y), size), Paint::Fill, color, 1.0);
    }

    /// The picture as an SVG document.
    pub fn to_svg(&self) -> String {
        svg::document(self)
    }

    /// The picture as a PNG file, at twice its size in pixels.
    pub fn to_png(&self) -> Vec<u8> {
        png::file(self)
    }
}
