//! What a run shows while it goes: the TUI on a terminal, lines elsewhere, and a log file.

mod jsonl;
mod lines;

pub use jsonl::{JsonLines, first_lines};
pub use lines::Lines;

use burn_train::Interrupter;
use burn_train::renderer::{MetricsRenderer, tui::TuiMetricsRendererWrapper};
use std::io::{IsTerminal, stdin, stdout};
use std::time::Duration;

/// How progress is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Progress {
    /// The TUI on a terminal, lines elsewhere.
    #[default]
    Auto,
    /// burn-train's full-screen display.
    Tui,
    /// One line a period.
    Plain,
}

impl Progress {
    /// The renderer of a run of `steps`, of which `done` are done.
    pub fn renderer(
        self,
        interrupter: &Interrupter,
        done: usize,
        steps: usize,
        period: Duration,
    ) -> Box<dyn MetricsRenderer> {
        let terminal = stdout().is_terminal() && stdin().is_terminal();
        match self {
            Self::Tui => Box::new(TuiMetricsRendererWrapper::new(interrupter.clone(), None)),
            Self::Auto if terminal => Self::Tui.renderer(interrupter, done, steps, period),
            _ => Box::new(Lines::new(std::io::stdout(), done, steps, period)),
        }
    }
}
