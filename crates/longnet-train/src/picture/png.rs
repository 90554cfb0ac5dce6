//! PNG.

use super::{Paint, Picture, Shape, Step};
use tiny_skia::{FillRule, LineJoin, PathBuilder, Pixmap, Stroke, StrokeDash, Transform};

/// Pixels of the file for one of the picture.
const SCALE: u32 = 2;

pub(super) fn file(picture: &Picture) -> Vec<u8> {
    let pixels = Pixmap::new(picture.width * SCALE, picture.height * SCALE);
    let mut pixels = pixels.expect("a picture has a size");
    pixels.fill(tiny_skia::Color::WHITE);
    for shape in &picture.shapes {
        draw(&mut pixels, shape);
    }
    pixels.encode_png().expect("memory takes any file")
}

fn draw(pixels: &mut Pixmap, shape: &Shape) {
    let mut path = PathBuilder::new();
    for step in &shape.steps {
        match *step {
            Step::Move(x, y) => path.move_to(x, y),
            Step::Line(x, y) => path.line_to(x, y),
            Step::Quad(x1, y1, x, y) => path.quad_to(x1, y1, x, y),
            Step::Cubic(x1, y1, x2, y2, x, y) => path.cubic_to(x1, y1, x2, y2, x, y),
            Step::Close => path.close(),
        }
    }
    // None: nothing to see, such as a line of one point.
    let Some(path) = path.finish() else {
        return;
    };
    let [r, g, b] = shape.color;
    let mut paint = tiny_skia::Paint {
        anti_alias: true,
        ..Default::default()
    };
    paint.set_color_rgba8(r, g, b, (255.0 * shape.opacity).round() as u8);
    let scale = Transform::from_scale(SCALE as f32, SCALE as f32);
    match shape.paint {
        Paint::Fill => pixels.fill_path(&path, &paint, FillRule::Winding, scale, None),
        Paint::Line { width, dashed } => {
            let dash = dashed.then(|| StrokeDash::new(vec![4.0, 3.0], 0.0));
            let stroke = Stroke {
                width,
                line_join: LineJoin::Round,
                dash: dash.flatten(),
                ..Default::default()
            };
            pixels.stroke_path(&path, &paint, &stroke, scale, None);
        }
    }
}
