//! Progress of long work: a bar with time left, on a terminal only.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::{IsTerminal as _, Write as _};

/// A bar, or nothing.
pub(crate) struct Meter {
    bar: ProgressBar,
}

impl Meter {
    fn new(len: Option<u64>, template: &str, label: &str, quiet: bool) -> Meter {
        let hidden = quiet || !std::io::stderr().is_terminal();
        let target = if hidden { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr_with_hz(5) };
        let bar = ProgressBar::with_draw_target(len, target);
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.set_prefix(label.to_owned());
        Meter { bar }
    }

    /// Rows read, of an unknown number.
    pub(crate) fn rows(label: &str, quiet: bool) -> Meter {
        Meter::new(None, "{prefix}: {pos} rows, {per_sec}", label, quiet)
    }

    /// Steps of an epoch.
    pub(crate) fn steps(label: &str, steps: u64, quiet: bool) -> Meter {
        Meter::new(Some(steps), "{prefix} {bar:30} {pos}/{len} steps, {eta} left, {msg}", label, quiet)
    }

    pub(crate) fn set(&self, at: u64) {
        self.bar.set_position(at);
    }

    pub(crate) fn step(&self, loss: f64) {
        self.bar.inc(1);
        if !self.bar.is_hidden() {
            self.bar.set_message(format!("loss {loss:.4}"));
        }
    }

    pub(crate) fn finish(self) {
        self.bar.finish_and_clear();
    }
}

/// A message for people.
pub(crate) fn say(text: &str) {
    // A closed standard error changes nothing.
    let _ = writeln!(std::io::stderr(), "{text}");
}
