//! Standard output, whose reader may close it early.

use std::fmt::Arguments;
use std::io::{ErrorKind, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use super::Exit;

/// Whether output was lost for another reason than a closed pipe.
static OUTPUT_LOST: AtomicBool = AtomicBool::new(false);

/// Like `println!`; but a closed pipe (`| head`) is no error, and any other failure is reported
/// once.
macro_rules! say {
    ($($what:tt)*) => { $crate::cli::say::text(format_args!("{}\n", format_args!($($what)*))) };
}
pub(super) use say;

/// Writes the text.
pub(super) fn text(what: Arguments<'_>) {
    let mut out = std::io::stdout().lock();
    // Flushed at each line: a trace must be complete up to the point where a run hangs.
    let Err(error) = out.write_fmt(what).and_then(|()| out.flush()) else { return };
    if error.kind() != ErrorKind::BrokenPipe && !OUTPUT_LOST.swap(true, Ordering::Relaxed) {
        eprintln!("error: cannot write to standard output: {error}");
    }
}

/// The exit code of a command after its output: failure, if output was lost.
pub(super) fn exit_after_output(exit: Exit) -> Exit {
    if exit == Exit::Clean && OUTPUT_LOST.load(Ordering::Relaxed) { Exit::Other } else { exit }
}
