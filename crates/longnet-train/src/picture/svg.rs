//! SVG.

use super::{Paint, Picture, Step};
use std::fmt::Write;

pub(super) fn document(picture: &Picture) -> String {
    let (width, height) = (picture.width, picture.height);
    let title = escaped(&picture.title);
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" role=\"img\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\">\n\
         <title>{title}</title>\n\
         <rect width=\"{width}\" height=\"{height}\" fill=\"#ffffff\"/>\n"
    );
    for shape in &picture.shapes {
        let [r, g, b] = shape.color;
        let color = format!("#{r:02x}{g:02x}{b:02x}");
        text += "<path d=\"";
        for step in &shape.steps {
            // Writing to a string does not fail.
            let _ = match *step {
                Step::Move(x, y) => write!(text, "M{x:.1} {y:.1}"),
                Step::Line(x, y) => write!(text, "L{x:.1} {y:.1}"),
                Step::Quad(x1, y1, x, y) => write!(text, "Q{x1:.2} {y1:.2} {x:.2} {y:.2}"),
                Step::Cubic(x1, y1, x2, y2, x, y) => {
                    write!(text, "C{x1:.2} {y1:.2} {x2:.2} {y2:.2} {x:.2} {y:.2}")
                }
                Step::Close => write!(text, "Z"),
            };
        }
        text += "\" ";
        let _ = match shape.paint {
            Paint::Fill => write!(text, "fill=\"{color}\""),
            Paint::Line { width, dashed } => {
                let dash = if dashed {
                    " stroke-dasharray=\"4 3\""
                } else {
                    ""
                };
                write!(
                    text,
                    "fill=\"none\" stroke=\"{color}\" stroke-width=\"{width}\" stroke-linejoin=\"round\"{dash}"
                )
            }
        };
        if shape.opacity < 1.0 {
            let _ = write!(text, " opacity=\"{}\"", shape.opacity);
        }
        text += "/>\n";
    }
    text + "</svg>\n"
}

fn escaped(text: &str) -> String {
    // XML has no place for control characters, not even escaped.
    let text: String = text.chars().filter(|c| !c.is_control()).collect();
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}
