//! The checkers of the simulator over the event logs of real nodes.
//!
//! A real node writes a line before each input and each effect ([`stormglass_node::journal`]).
//! [`check_logs`] merges the lines of all nodes and incarnations by causality, never by clocks: a
//! message is received after it was sent, an incarnation begins after the one before. Every disk
//! operation is performed again on the disk of the simulator, so that "durable" means the same as
//! in a hunt: it survives the worst power cut. Each incarnation must find the files as a kill of
//! the one before could have left them. The last line of a log need not have happened: a killed
//! process may have written one line of an event that did not follow.
//!
//! A property that looks at the disks of other nodes (`Observation::disks`) sees them as far as
//! their lines have been merged: at least what the fact depends on.
//!
//! Liveness within a time bound is not checked, since the end of the faults is unknown.

mod merge;
mod replay;

use std::path::PathBuf;

use serde::de::DeserializeOwned;
use stormglass_node::Node;

use crate::property::{Sometimes, Violation};
use crate::protocol::Protocol;

/// The result of a check.
#[derive(Debug, Default)]
pub struct LogCheckReport {
    /// Lines checked.
    pub lines: u64,
    /// Incarnations checked.
    pub incarnations: u64,
    /// Messages sent and not received.
    pub lost_messages: u64,
    /// Disk operations logged and not performed: the last ones of a killed incarnation.
    pub unperformed: u64,
    /// Nodes whose last incarnation did not end cleanly. If there are any, end-of-run properties
    /// are not checked.
    pub unclean_nodes: Vec<stormglass_node::NodeId>,
    /// The `sometimes` counters.
    pub sometimes: Sometimes,
    /// The first violation, and the line at which it was found.
    pub violation: Option<(Violation, String)>,
}

/// Why logs cannot be checked.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the names say it")]
#[non_exhaustive]
pub enum LogCheckError {
    /// A file cannot be read.
    #[error("cannot read {}: {error}", path.display())]
    Io { path: PathBuf, error: std::io::Error },
    /// A line is not an event.
    #[error("{place}: {what}")]
    Line { place: String, what: String },
    /// There is no log.
    #[error("no event logs found in the given paths; `serve --events DIR` makes a node write them")]
    NoLogs,
    /// An incarnation is missing.
    #[error("{place}: {what}; pass the logs of all nodes and all their incarnations")]
    Incomplete { place: String, what: String },
}

/// A protocol's check of event logs: [`check_logs`], for one whose events can be read back.
pub type LogCheck<P> = fn(&P, &[PathBuf]) -> Result<LogCheckReport, LogCheckError>;

/// Checks event logs: files, or directories with `*.jsonl` in them, in any order.
///
/// # Errors
/// [`LogCheckError`] if they cannot be read, or are incomplete.
pub fn check_logs<P>(protocol: &P, paths: &[PathBuf]) -> Result<LogCheckReport, LogCheckError>
where
    P: Protocol<Node: Node<Event: DeserializeOwned>>,
{
    let mut merge = merge::LogMerger::<P::Node>::open(paths)?;
    let mut replay =
        replay::LogReplayer::new(protocol, merge.nodes(), merge.empty_incarnations().clone());
    // One line at a time: the logs of a campaign may be larger than the memory.
    while let Some(next) = merge.next()? {
        if let Err(violation) = replay.on_line(next.line, &next.place)? {
            return Ok(replay.report(merge.lost_messages(), Some((violation, next.place))));
        }
    }
    let violation =
        replay.end().err().map(|violation| (violation, "at the end of all logs".to_owned()));
    Ok(replay.report(merge.lost_messages(), violation))
}
