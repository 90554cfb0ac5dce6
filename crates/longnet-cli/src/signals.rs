//! Ctrl-C and SIGTERM.

use longnet_train::trainer::Stop;

/// Lets Ctrl-C and SIGTERM ask `stop` while `run` runs; a second one, and any later one, ends the program at
/// once with 128 plus the number of the signal. The terminal is touched only if `is_tui`: the full-screen
/// display has it then, and no process in the background is stopped for it.
#[cfg(unix)]
pub fn stopping<T>(stop: &Stop, is_tui: bool, run: impl FnOnce() -> T) -> T {
    use crate::out::note;
    use rustix::termios::tcgetattr;
    use signal_hook::consts::{SIGINT, SIGTERM};
    use signal_hook::iterator::Signals;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    let Ok(mut signals) = Signals::new([SIGINT, SIGTERM]) else {
        // The signals then do what they do by default.
        return run();
    };
    let running = Arc::new(AtomicBool::new(true));
    let before = tcgetattr(std::io::stdin()).ok().filter(|_| is_tui);
    if let Some(before) = before.clone() {
        let running = running.clone();
        std::thread::spawn(move || ctrl_c_in_raw_mode(&before, &running));
    }
    let (asked, still) = (stop.clone(), running.clone());
    std::thread::spawn(move || {
        for signal in signals.forever() {
            if !still.load(Ordering::Relaxed) || asked.is_asked() {
                leave(before.as_ref());
                std::process::exit(128 + signal);
            }
            asked.ask(if signal == SIGINT {
                "Ctrl-C"
            } else {
                "SIGTERM"
            });
            note("stopping after this pass, with a checkpoint; once more to end at once");
        }
    });
    let result = run();
    running.store(false, Ordering::Relaxed);
    result
}

/// Elsewhere the signals do what they do by default.
#[cfg(not(unix))]
pub fn stopping<T>(_stop: &Stop, _is_tui: bool, run: impl FnOnce() -> T) -> T {
    run()
}

/// The full-screen display switches the terminal to raw mode some time after the start, where Ctrl-C is a
/// letter that nobody reads: it becomes a signal again.
#[cfg(unix)]
fn ctrl_c_in_raw_mode(before: &rustix::termios::Termios, running: &std::sync::atomic::AtomicBool) {
    use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
    use std::sync::atomic::Ordering;
    use std::time::Duration;

    if !before.local_modes.contains(LocalModes::ISIG) {
        return;
    }
    while running.load(Ordering::Relaxed) {
        let Ok(mut now) = tcgetattr(std::io::stdin()) else {
            return;
        };
        if !now.local_modes.contains(LocalModes::ISIG) {
            now.local_modes |= LocalModes::ISIG;
            let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, &now);
            return;
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// Leaves the terminal as it was, which the display has no time to do.
#[cfg(unix)]
fn leave(before: Option<&rustix::termios::Termios>) {
    use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};
    use std::io::{IsTerminal, Write, stdin, stdout};

    let Some(before) = before else { return };
    let raw = tcgetattr(stdin()).is_ok_and(|now| now.local_modes != before.local_modes);
    if raw && stdout().is_terminal() {
        // The main screen, the cursor, no reports of the mouse.
        let mut out = stdout();
        let _ = out.write_all(b"\x1b[?1049l\x1b[?25h\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1006l");
        let _ = out.flush();
    }
    let _ = tcsetattr(stdin(), OptionalActions::Now, before);
}
