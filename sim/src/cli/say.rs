//! Standard output, whose reader may have seen enough.

use std::fmt::Arguments;
use std::io::{ErrorKind, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use super::Exit;

/// Whether something could not be written that somebody still wanted to read.
static OUTPUT_LOST: AtomicBool = AtomicBool::new(false);

/// As `println!`; but a reader that has gone away (`| head`) is no error, and any other failure is told once.
macro_rules! say {
    ($($what:tt)*) => { $crate::cli::say::text(format_args!("{}\n", format_args!($($what)*))) };
}
pub(super) use say;

/// Writes this.
pub(super) fn text(what: Arguments<'_>) {
    let mut out = std::io::stdout().lock();
    let Err(error) = out.write_fmt(what).and_then(|()| out.flush()) else { return };
    if error.kind() != ErrorKind::BrokenPipe && !OUTPUT_LOST.swap(true, Ordering::Relaxed) {
        eprintln!("error: cannot write to standard output: {error}");
    }
}

/// How a command ends that has said all it had to say: not well, if that was lost.
pub(super) fn exit_after_output(exit: Exit) -> Exit {
    if exit == Exit::Clean && OUTPUT_LOST.load(Ordering::Relaxed) { Exit::Other } else { exit }
}
