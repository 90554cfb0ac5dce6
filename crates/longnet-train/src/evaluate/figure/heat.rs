//! Shares as a table of colours.

use super::svg::{Anchor, Svg, WIDTH};

/// A panel with a share, 0 to 1, in each cell that is known.
pub struct Heat {
    pub title: String,
    pub x: &'static str,
    pub y: &'static str,
    pub columns: Vec<String>,
    pub rows: Vec<String>,
    pub cells: Vec<Vec<Option<f64>>>,
}

const LEFT: f64 = 100.0;
const ROW: f64 = 34.0;

impl Heat {
    /// Adds the panel to `svg`, unless there is no cell.
    pub fn draw(&self, svg: &mut Svg) {
        if self.columns.is_empty() || self.rows.is_empty() {
            return;
        }
        let height = ROW * self.rows.len() as f64;
        let top = svg.panel(height + 100.0) + 40.0;
        let column = ((WIDTH - 24.0 - LEFT) / self.columns.len() as f64).min(96.0);
        let title = (LEFT - 24.0, top - 16.0);
        svg.text(title, Anchor::Start, "font-weight=\"bold\"", &self.title);
        for (r, row) in self.rows.iter().enumerate() {
            let y = top + ROW * r as f64;
            svg.text((LEFT - 8.0, y + ROW / 2.0 + 4.5), Anchor::End, "", row);
            for (c, share) in self.cells[r].iter().enumerate() {
                let x = LEFT + column * c as f64;
                let (fill, ink, label) = match share {
                    Some(share) => {
                        let ink = if *share > 0.5 { "#fff" } else { "#000" };
                        (colour(*share), ink, format!("{:.0} %", share * 100.0))
                    }
                    None => ("#eee".into(), "#777", "no room".into()),
                };
                svg.rectangle((x, y), (column, ROW), &fill);
                let middle = (x + column / 2.0, y + ROW / 2.0 + 4.5);
                svg.text(middle, Anchor::Middle, &format!("fill=\"{ink}\""), label);
            }
        }
        let bottom = top + height;
        for (c, name) in self.columns.iter().enumerate() {
            let middle = LEFT + column * (c as f64 + 0.5);
            svg.text((middle, bottom + 20.0), Anchor::Middle, "", name);
        }
        let middle = LEFT + column * self.columns.len() as f64 / 2.0;
        svg.text((middle, bottom + 40.0), Anchor::Middle, "", self.x);
        svg.upward_text((20.0, top + height / 2.0), self.y);
    }
}

/// From a light to a dark blue.
fn colour(share: f64) -> String {
    let mix = |light: f64, dark: f64| (light + (dark - light) * share.clamp(0.0, 1.0)).round();
    format!(
        "rgb({},{},{})",
        mix(232.0, 0.0),
        mix(241.0, 84.0),
        mix(250.0, 140.0)
    )
}

#[cfg(test)]
mod tests {
    use super::colour;

    #[test]
    fn more_is_darker() {
        assert_eq!(colour(0.0), "rgb(232,241,250)");
        assert_eq!(colour(1.0), "rgb(0,84,140)");
        assert_eq!(colour(2.0), colour(1.0));
    }
}
