//! Ctrl-C: the first ends a command with what it has so far, the second ends the process.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::Exit;
use crate::hunt::in_progress::remove_files_of_this_process;

/// A flag that the first Ctrl-C sets, together with `stop`.
pub(super) fn flag(stop: &Arc<AtomicBool>) -> Arc<AtomicBool> {
    let interrupted = Arc::new(AtomicBool::new(false));
    let stop = Arc::clone(stop);
    let set = Arc::clone(&interrupted);
    // Without a handler the first Ctrl-C ends the process, which does no harm.
    let _handler = ctrlc::set_handler(move || {
        stop.store(true, Ordering::Relaxed);
        if set.swap(true, Ordering::Relaxed) {
            remove_files_of_this_process();
            std::process::exit(Exit::Interrupted as i32);
        }
    });
    interrupted
}
