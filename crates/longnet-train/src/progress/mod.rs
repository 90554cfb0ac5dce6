//! What a run shows while it goes, the TUI on a terminal and lines elsewhere, and what it leaves behind.

mod events;
mod lines;
mod record;

pub use lines::{Lines, duration};
pub use record::{Record, first_lines, has_final};

use burn_train::Interrupter;
use burn_train::logger::MetricLogger;
use burn_train::metric::store::{EpochSummary, MetricsUpdate, Split};
use burn_train::metric::{MetricDefinition, NumericEntry};
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
    /// Whether this is the full-screen display, here.
    pub fn is_tui(self) -> bool {
        let terminal = stdout().is_terminal() && stdin().is_terminal();
        self == Self::Tui || (self == Self::Auto && terminal)
    }

    /// The renderer of a run of `steps`, of which `done` are done.
    pub fn renderer(
        self,
        interrupter: &Interrupter,
        done: usize,
        steps: usize,
        period: Duration,
    ) -> Box<dyn MetricsRenderer> {
        match self.is_tui() {
            true => Box::new(TuiMetricsRendererWrapper::new(interrupter.clone(), None)),
            false => Box::new(Lines::new(std::io::stdout(), done, steps, period)),
        }
    }
}

/// In the place of burn-train's own files of metrics, which [`Record`] makes needless: it is written by the
/// loop itself, so that a checkpoint never knows of a step that the log does not.
pub struct NoFiles;

impl MetricLogger for NoFiles {
    fn log(&mut self, _: MetricsUpdate, _: usize, _: &Split) {}

    fn read_numeric(&mut self, _: &str, _: usize, _: &Split) -> Result<Vec<NumericEntry>, String> {
        // Only early stopping and summaries of burn-train ask, and neither is used.
        Ok(Vec::new())
    }

    fn log_metric_definition(&mut self, _: MetricDefinition) {}

    fn log_epoch_summary(&mut self, _: EpochSummary) {}
}
