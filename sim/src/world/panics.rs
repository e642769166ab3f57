//! Panics inside a run: caught, and kept from standard error.

use std::cell::{Cell, RefCell};
use std::panic::{self, AssertUnwindSafe, PanicHookInfo};
use std::sync::Once;

/// A panic that ended a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CaughtPanic {
    /// On one line, as a reason of a violation is.
    pub(crate) message: String,
    /// `file:line:column`; empty if another hook has replaced this one.
    pub(crate) place: String,
}

thread_local! {
    static IN_RUN: Cell<bool> = const { Cell::new(false) };
    static PLACE: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Runs `run`. A panic in it is returned, and nothing is printed: a hunt for a panic and the shrink
/// after it run into the same one thousands of times.
pub(crate) fn catch<T>(run: impl FnOnce() -> T) -> Result<T, CaughtPanic> {
    static INSTALL_HOOK: Once = Once::new();
    INSTALL_HOOK.call_once(install_hook);
    PLACE.with_borrow_mut(String::clear);
    let was_in_run = IN_RUN.replace(true);
    // After a panic only the monitor of a world is read, and no caller runs that world again, so it
    // does not matter what the unwinding has left half done.
    let outcome = panic::catch_unwind(AssertUnwindSafe(run));
    // An altered fact is offered to a property within a run.
    IN_RUN.set(was_in_run);
    outcome.map_err(|cause| {
        // A panic with a literal carries a `&str`, one with arguments a `String`.
        let text = cause.downcast_ref::<&str>().map(ToString::to_string);
        let text = text.or_else(|| cause.downcast_ref::<String>().cloned()).unwrap_or_default();
        let lines: Vec<_> = text.lines().map(str::trim).collect();
        CaughtPanic { message: lines.join(", "), place: PLACE.take() }
    })
}

/// Panics outside of runs, of a test for example, still reach the hook that was there before.
fn install_hook() {
    let earlier_hook = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        if IN_RUN.get() {
            PLACE.set(place(info));
        } else {
            earlier_hook(info);
        }
    }));
}

fn place(info: &PanicHookInfo<'_>) -> String {
    let Some(location) = info.location() else { return String::new() };
    // Schedules note the place. Where a machine keeps the sources of dependencies does not belong
    // there, so for these the path begins with the package.
    let file = location.file();
    let in_package = file.split_once("/registry/src/").and_then(|(_, rest)| rest.split_once('/'));
    let file = in_package.map_or(file, |(_, rest)| rest);
    format!("{file}:{}:{}", location.line(), location.column())
}
