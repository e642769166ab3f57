//! Log messages on standard error, and error messages.
//!
//! They are written by a thread of their own, from a queue. A program must not stop because its
//! standard error is closed or on a full disk, and must not wait because nobody reads it: then the
//! queue fills up, and lines are lost and counted.
// tracing-appender does the same, but its guard prints to standard output when the queue is full at
// the end, and that may be the same pipe.

use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use super::CliError;

/// Why a text is not a filter of log messages.
#[derive(Debug, thiserror::Error)]
pub(super) enum ParseFilterError {
    #[error(
        "{0:?} is not a level; expected off, error, warn, info, debug or trace, or WHERE=LEVEL like stormglass=debug"
    )]
    NotALevel(String),
    #[error(transparent)]
    Filter(#[from] tracing_subscriber::filter::ParseError),
}

/// A valid filter. A single word that is not a level would be taken for a module name, and all
/// other messages would be suppressed.
pub(super) fn filter(text: &str) -> Result<String, ParseFilterError> {
    // With `=` or `[` a part names a module or a span; without, only a level makes sense.
    let mut bare_words = text.split(',').filter(|part| !part.contains(['=', '[']));
    if let Some(word) = bare_words.find(|word| word.parse::<LevelFilter>().is_err()) {
        return Err(ParseFilterError::NotALevel(word.to_owned()));
    }
    EnvFilter::try_new(text)?;
    Ok(text.to_owned())
}

/// How many lines wait to be written.
// About a megabyte.
const QUEUED_LINES_MAX: usize = 8_192;

/// How long the end of the program waits until the lines are written.
const PATIENCE: Duration = Duration::from_secs(1);

static LOG: OnceLock<Log> = OnceLock::new();

/// The queue.
#[derive(Clone, Debug)]
struct Log {
    queue: SyncSender<Entry>,
    /// Lines that found the queue full, and were not reported so far.
    lost: Arc<AtomicU64>,
}

#[derive(Debug)]
enum Entry {
    Line(Vec<u8>),
    /// Everything before it is written.
    Flushed(SyncSender<()>),
}

/// Logs messages that pass this filter, for the rest of the process.
pub(super) fn start(filter: &str, json: bool) -> Result<(), CliError> {
    let filter = EnvFilter::try_new(filter)?;
    let (queue, entries) = sync_channel(QUEUED_LINES_MAX);
    let log = Log { queue, lost: Arc::default() };
    let lost = Arc::clone(&log.lost);
    std::thread::Builder::new()
        .name("log".to_owned())
        .spawn(move || write_all(&entries, &lost))
        .map_err(|error| format!("cannot log: {error}"))?;
    let to_queue =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(LOG.get_or_init(|| log));
    let started = if json {
        to_queue.json().try_init()
    } else {
        // Standard output is for results. Colours would be bytes in a log file.
        to_queue.with_target(false).with_ansi(false).try_init()
    };
    started.map_err(|error| format!("cannot log: {error}").into())
}

/// Prints an error message after the lines logged so far, and waits until it is written, though not
/// for ever.
pub(super) fn print_error(text: &str) {
    let line = format!("{text}\n").into_bytes();
    let Some(log) = LOG.get() else {
        // If standard error is closed, only the exit code remains.
        let _ = io::stderr().lock().write_all(&line);
        return;
    };
    log.push(line);
    flush();
}

/// Waits until everything is written that was logged so far, though not for ever.
pub(super) fn flush() {
    let Some(log) = LOG.get() else { return };
    let (written, is_written) = sync_channel(1);
    // A queue that is full is not read, or only slowly.
    if log.queue.try_send(Entry::Flushed(written)).is_ok() {
        let _ = is_written.recv_timeout(PATIENCE);
    }
}

impl Log {
    fn push(&self, line: Vec<u8>) {
        if let Err(TrySendError::Full(_)) = self.queue.try_send(Entry::Line(line)) {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// The thread.
fn write_all(entries: &Receiver<Entry>, lost: &AtomicU64) {
    for entry in entries {
        match entry {
            // What cannot be written is lost, and there is no other place to say so.
            Entry::Line(line) => drop(io::stderr().write_all(&line)),
            Entry::Flushed(written) => drop(written.try_send(())),
        }
        let count = lost.swap(0, Ordering::Relaxed);
        if count > 0 {
            let line = format!("{count} log lines were lost: standard error is read too slowly\n");
            drop(io::stderr().write_all(line.as_bytes()));
        }
    }
}

impl<'a> MakeWriter<'a> for &'static Log {
    type Writer = &'static Log;

    fn make_writer(&'a self) -> &'static Log {
        self
    }
}

/// Each call is one line: the formatter writes an event at once.
impl Write for &Log {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.push(line.to_vec());
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_log_level_is_refused() {
        for text in [
            "off",
            "WARN",
            "info,stormglass=debug",
            "stormglass_node::runtime=trace",
            "warn,tokio=off",
        ] {
            assert_eq!(filter(text).expect("a filter"), text);
        }
        for text in ["banana", "info,banana", "stormglass", "stormglass=banana"] {
            filter(text).expect_err(text);
        }
    }
}
