//! Text as outlines of DejaVu Sans.

use super::Step;
use std::sync::LazyLock;
use ttf_parser::{Face, GlyphId, OutlineBuilder};

static FACE: LazyLock<Face<'static>> =
    LazyLock::new(|| Face::parse(dejavu::sans::regular(), 0).expect("the crate's font is whole"));

fn glyph(c: char) -> GlyphId {
    // Glyph 0 is the box of what the font lacks.
    FACE.glyph_index(c).unwrap_or(GlyphId(0))
}

fn advance(glyph: GlyphId, size: f32) -> f32 {
    f32::from(FACE.glyph_hor_advance(glyph).unwrap_or(0)) * size / f32::from(FACE.units_per_em())
}

/// The width of `text`.
pub(super) fn width(text: &str, size: f32) -> f32 {
    text.chars().map(|c| advance(glyph(c), size)).sum()
}

/// The outlines of `text` from `(x, y)` on its baseline.
pub(super) fn outline(text: &str, (x, y): (f32, f32), size: f32) -> Vec<Step> {
    let mut pen = Pen {
        steps: Vec::new(),
        x,
        y,
        scale: size / f32::from(FACE.units_per_em()),
    };
    for c in text.chars() {
        let glyph = glyph(c);
        FACE.outline_glyph(glyph, &mut pen);
        pen.x += advance(glyph, size);
    }
    pen.steps
}

struct Pen {
    steps: Vec<Step>,
    x: f32,
    y: f32,
    scale: f32,
}

impl Pen {
    /// From the font's units, whose y grows upwards.
    fn at(&self, x: f32, y: f32) -> (f32, f32) {
        (self.x + x * self.scale, self.y - y * self.scale)
    }
}

impl OutlineBuilder for Pen {
    fn move_to(&mut self, x: f32, y: f32) {
        let (x, y) = self.at(x, y);
        self.steps.push(Step::Move(x, y));
    }

    fn line_to(&mut self, x: f32, y: f32) {
        let (x, y) = self.at(x, y);
        self.steps.push(Step::Line(x, y));
    }

    fn quad_to(&mut self, x1: f32, y1: f32, x: f32, y: f32) {
        let ((x1, y1), (x, y)) = (self.at(x1, y1), self.at(x, y));
        self.steps.push(Step::Quad(x1, y1, x, y));
    }

    fn curve_to(&mut self, x1: f32, y1: f32, x2: f32, y2: f32, x: f32, y: f32) {
        let ((x1, y1), (x2, y2), (x, y)) = (self.at(x1, y1), self.at(x2, y2), self.at(x, y));
        self.steps.push(Step::Cubic(x1, y1, x2, y2, x, y));
    }

    fn close(&mut self) {
        self.steps.push(Step::Close);
    }
}
