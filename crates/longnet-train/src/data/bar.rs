//! How far a preparation is.

use super::Watch;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::{IsTerminal, Write, stderr};
use std::sync::atomic::Ordering;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// Time between two looks.
const LOOK: Duration = Duration::from_millis(100);
/// Time between two lines, where there is no terminal.
const LINE: Duration = Duration::from_secs(10);

/// Does `work` and shows on standard error how far it is: as a bar on a terminal, else as a line from
/// time to time.
pub fn with_progress<T>(watch: &Watch, work: impl FnOnce() -> T) -> T {
    let (done, is_done) = channel::<()>();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let bar = stderr().is_terminal().then(bar);
            let started = Instant::now();
            let mut line = started;
            while is_done.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout) {
                match &bar {
                    Some(bar) => show(watch, bar),
                    None if line.elapsed() >= LINE => {
                        line = Instant::now();
                        // A reader that went away must not end the work.
                        let _ = writeln!(stderr(), "{}", text(watch, started.elapsed()));
                    }
                    None => {}
                }
            }
            if let Some(bar) = bar {
                bar.finish_and_clear();
            }
        });
        let result = work();
        drop(done);
        result
    })
}

/// Without colours, so that `NO_COLOR` changes nothing.
fn bar() -> ProgressBar {
    let style = "{wide_bar} {bytes}/{total_bytes}  {msg}  {bytes_per_sec}  left {eta}";
    let style = ProgressStyle::with_template(style).expect("the template is right");
    ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr()).with_style(style)
}

fn show(watch: &Watch, bar: &ProgressBar) {
    bar.set_length(watch.bytes.load(Ordering::Relaxed));
    bar.set_position(watch.bytes_done.load(Ordering::Relaxed));
    bar.set_message(files(watch));
}

fn files(watch: &Watch) -> String {
    let done = watch.files_done.load(Ordering::Relaxed);
    format!("{done}/{} files", watch.files.load(Ordering::Relaxed))
}

/// "3/10 files, 12.3 of 45.6 MB, 2.1 MB/s".
fn text(watch: &Watch, spent: Duration) -> String {
    let mega = |bytes: u64| bytes as f64 / 1e6;
    let done = mega(watch.bytes_done.load(Ordering::Relaxed));
    format!(
        "{}, {done:.1} of {:.1} MB, {:.1} MB/s",
        files(watch),
        mega(watch.bytes.load(Ordering::Relaxed)),
        done / spent.as_secs_f64()
    )
}
