//! The judges of the simulator over the event logs of real nodes.
//!
//! A real node writes a line before each input and each effect ([`stormglass::journal`]). [`check_logs`] merges the lines of all
//! nodes and lives by causality, never by clocks: a letter is received after it was sent, a life begins after the one
//! before. It performs every disk operation again, on the disk of the simulator, so that "durable" means what it means in
//! a hunt: what the worst power cut would leave; and it demands that each life finds the files as a kill of the life before
//! could have left them. What a log ends with need not have happened any more: a killed process may have written one
//! line of something that it did not do.
//!
//! What it cannot judge: that something happens in time, since nobody knows when the storm was over.

mod merge;
mod replay;

use std::path::PathBuf;

use serde::{Serialize, de::DeserializeOwned};

use crate::property::{Sometimes, Violation};
use crate::protocol::Scene;

/// What the judges say.
#[derive(Debug, Default)]
pub struct LogCheckReport {
    /// Lines judged.
    pub lines: u64,
    /// Lives among them.
    pub incarnations: u64,
    /// Letters sent that nobody received.
    pub lost_messages: u64,
    /// Disk operations that were written down and not performed: the last ones of a killed life.
    pub unperformed: u64,
    /// Nodes whose last life did not end cleanly: then nothing is said of what must hold in the end.
    pub unclean_nodes: Vec<stormglass::NodeId>,
    /// What was sometimes seen.
    pub sometimes: Sometimes,
    /// The first claim that does not hold, and the line at which that shows.
    pub violation: Option<(Violation, String)>,
}

/// Why logs cannot be judged.
#[derive(Debug, thiserror::Error)]
pub enum LogCheckError {
    /// A file cannot be read.
    #[error("cannot read {}: {error}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why not.
        error: std::io::Error,
    },
    /// A line is no event.
    #[error("{place}: {what}")]
    Line {
        /// File and line.
        place: String,
        /// What is wrong with it.
        what: String,
    },
    /// There is nothing to judge.
    #[error("no event logs in what was given; a node writes them with `serve --events DIR`")]
    NoLogs,
    /// A life is missing.
    #[error("{place}: {what}; give the logs of all nodes and of all their lives")]
    Incomplete {
        /// File and line.
        place: String,
        /// What is missing.
        what: String,
    },
}

/// Judges event logs: files, or directories with `*.jsonl` in them, in any order.
///
/// # Errors
/// [`LogCheckError`] if they cannot be read, or are not all there.
pub fn check_logs<S>(scene: &S, paths: &[PathBuf]) -> Result<LogCheckReport, LogCheckError>
where
    S: Scene,
    <S::Node as stormglass::Node>::Message: Serialize + DeserializeOwned,
{
    let mut merge = merge::LogMerger::<S::Node>::open(paths)?;
    let mut replay =
        replay::LogReplayer::new(scene, merge.nodes(), merge.empty_incarnations().clone());
    while let Some(next) = merge.next()? {
        if let Err(violation) = replay.on_line(next.line, &next.place)? {
            return Ok(replay.report(&merge, Some((violation, next.place))));
        }
    }
    let violation =
        replay.end().err().map(|violation| (violation, "at the end of all logs".to_owned()));
    Ok(replay.report(&merge, violation))
}
