//! Merges the lines of many logs into an order that is possible.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use stormglass_node::journal::{self, Entry, EntryBody, EntryOf};
use stormglass_node::{Node, NodeId};

use super::LogCheckError;
use crate::trace::SimulatorFact;

/// A line with its file and number.
pub(super) struct LocatedLine<N: Node> {
    pub(super) line: EntryOf<N>,
    pub(super) place: String,
    /// It comes from `replay --json`: lines of all nodes, in the order in which they happened.
    simulated: bool,
}

/// All logs.
pub(super) struct LogMerger<N: Node> {
    /// One queue of files for each node, the earliest incarnation first.
    sources: Vec<Source<N>>,
    /// Messages that were sent and not received.
    messages_in_flight: BTreeSet<(NodeId, u64)>,
    /// The log to read first: one node continues for as long as it can.
    current: usize,
    nodes: u16,
    empty_incarnations: BTreeSet<(NodeId, u32)>,
}

struct Source<N: Node> {
    node: NodeId,
    files: VecDeque<PathBuf>,
    reader: Option<Reader>,
    head: Option<LocatedLine<N>>,
}

struct Reader {
    path: PathBuf,
    lines: BufReader<File>,
    number: u64,
    simulated: bool,
}

/// The first and last line of a simulator's output: the run, and its result.
#[derive(serde::Deserialize)]
#[serde(untagged, deny_unknown_fields)]
#[expect(dead_code, reason = "to be recognised, not to be read")]
enum RunMetadata {
    Header { options: String, version: String, what: String },
    Footer { fingerprint: String, notes: Vec<String>, verdict: String },
}

impl<N: Node<Event: DeserializeOwned>> LogMerger<N> {
    pub(super) fn open(paths: &[PathBuf]) -> Result<LogMerger<N>, LogCheckError> {
        let mut files: BTreeMap<NodeId, Vec<(u32, PathBuf)>> = BTreeMap::new();
        let mut empty_incarnations = BTreeSet::new();
        let mut greatest = None;
        // The first line of each says whose log it is; the name of a file is only used for an empty
        // one.
        for path in expand(paths)? {
            let Some(first) = Reader::open(&path)?.next::<N>()? else {
                empty_incarnations.extend(node_and_incarnation_of(&path));
                continue;
            };
            greatest = greatest.max(Some(if first.simulated {
                greatest_node::<N>(&path)?
            } else {
                first.line.node
            }));
            files.entry(first.line.node).or_default().push((first.line.incarnation, path));
        }
        let nodes = greatest.ok_or(LogCheckError::NoLogs)?.0.saturating_add(1);
        let mut sources = Vec::new();
        for (node, mut incarnations) in files {
            // By incarnation, which comes first in the pair.
            incarnations.sort();
            let files = incarnations.into_iter().map(|(_, path)| path).collect();
            sources.push(Source { node, files, reader: None, head: None });
        }
        Ok(LogMerger {
            sources,
            messages_in_flight: BTreeSet::new(),
            current: 0,
            nodes,
            empty_incarnations,
        })
    }

    /// Incarnations that were killed before their first line was complete. They did nothing.
    pub(super) fn empty_incarnations(&self) -> &BTreeSet<(NodeId, u32)> {
        &self.empty_incarnations
    }

    /// One more than the greatest node number.
    pub(super) fn nodes(&self) -> u16 {
        self.nodes
    }

    pub(super) fn lost_messages(&self) -> u64 {
        self.messages_in_flight.len() as u64
    }

    /// The next line of a node that waits for no message.
    pub(super) fn next(&mut self) -> Result<Option<LocatedLine<N>>, LogCheckError> {
        for _ in 0..self.sources.len() {
            self.sources[self.current].fill()?;
            if let Some(next) = self.take_ready() {
                return Ok(Some(next));
            }
            // This node waits for a message that another node has yet to send.
            self.current = (self.current + 1) % self.sources.len();
        }
        match self.sources.iter().find_map(|source| source.head.as_ref()) {
            None => Ok(None),
            Some(blocked) => Err(LogCheckError::Incomplete {
                place: blocked.place.clone(),
                what: format!(
                    "the {} received here has no matching send",
                    journal::describe(&blocked.line.body)
                ),
            }),
        }
    }

    fn take_ready(&mut self) -> Option<LocatedLine<N>> {
        let source = &mut self.sources[self.current];
        match &source.head.as_ref()?.line.body {
            // 0: the lines of a simulator are in their original order.
            EntryBody::Received { from, message_number, .. } if *message_number != 0 => {
                if !self.messages_in_flight.remove(&(*from, *message_number)) {
                    return None;
                }
            }
            EntryBody::Sent { message_number, .. } if *message_number != 0 => {
                self.messages_in_flight.insert((source.node, *message_number));
            }
            EntryBody::Boot { .. }
            | EntryBody::Received { .. }
            | EntryBody::Requested { .. }
            | EntryBody::Connected { .. }
            | EntryBody::Disconnected { .. }
            | EntryBody::BarrierCompleted { .. }
            | EntryBody::Wake
            | EntryBody::Sent { .. }
            | EntryBody::Append { .. }
            | EntryBody::Truncate { .. }
            | EntryBody::Rename { .. }
            | EntryBody::Remove { .. }
            | EntryBody::Sync { .. }
            | EntryBody::SyncDir { .. }
            | EntryBody::Replied { .. }
            | EntryBody::Reported { .. }
            | EntryBody::Halted { .. }
            | EntryBody::Stopped => {}
        }
        source.head.take()
    }
}

impl<N: Node<Event: DeserializeOwned>> Source<N> {
    fn fill(&mut self) -> Result<(), LogCheckError> {
        while self.head.is_none() {
            match &mut self.reader {
                None => match self.files.pop_front() {
                    None => return Ok(()),
                    Some(path) => self.reader = Some(Reader::open(&path)?),
                },
                Some(reader) => match reader.next::<N>()? {
                    None => self.reader = None,
                    Some(next) => self.head = Some(next),
                },
            }
        }
        Ok(())
    }
}

impl Reader {
    fn open(path: &Path) -> Result<Reader, LogCheckError> {
        let file = File::open(path).map_err(|error| io_error(path, error))?;
        Ok(Reader {
            path: path.to_path_buf(),
            lines: BufReader::new(file),
            number: 0,
            simulated: false,
        })
    }

    /// The next line; `None` at the end. An incomplete last line was being written when the process
    /// was killed.
    fn next<N: Node<Event: DeserializeOwned>>(
        &mut self,
    ) -> Result<Option<LocatedLine<N>>, LogCheckError> {
        loop {
            let mut text = String::new();
            self.lines.read_line(&mut text).map_err(|error| io_error(&self.path, error))?;
            self.number += 1;
            // Also at the end of the file, where nothing is read.
            if !text.ends_with('\n') {
                return Ok(None);
            }
            let place = format!("{}, line {}", self.path.display(), self.number);
            match serde_json::from_str(&text) {
                Ok(line) => {
                    return Ok(Some(LocatedLine { line, place, simulated: self.simulated }));
                }
                // The head of a simulator's output; all lines after it are of one run.
                Err(_) if serde_json::from_str::<RunMetadata>(&text).is_ok() => {
                    self.simulated = true
                }
                // What only a simulator observes is not checked: a real node does not log it.
                Err(_) if serde_json::from_str::<Entry<SimulatorFact>>(&text).is_ok() => {}
                Err(error) => {
                    return Err(LogCheckError::Line {
                        place,
                        what: format!("not an event: {error}"),
                    });
                }
            }
        }
    }
}

fn io_error(path: &Path, error: io::Error) -> LogCheckError {
    LogCheckError::Io { path: path.to_path_buf(), error }
}

/// The greatest node number in a simulator's output.
fn greatest_node<N: Node<Event: DeserializeOwned>>(path: &Path) -> Result<NodeId, LogCheckError> {
    let mut reader = Reader::open(path)?;
    let mut greatest = NodeId(0);
    while let Some(next) = reader.next::<N>()? {
        greatest = greatest.max(next.line.node);
    }
    Ok(greatest)
}

/// The node and incarnation of a log, from its name: `n0.00007.jsonl`.
fn node_and_incarnation_of(path: &Path) -> Option<(NodeId, u32)> {
    let (node, incarnation) = path.file_stem()?.to_str()?.strip_prefix('n')?.split_once('.')?;
    Some((NodeId(node.parse().ok()?), incarnation.parse().ok()?))
}

fn expand(paths: &[PathBuf]) -> Result<Vec<PathBuf>, LogCheckError> {
    let mut files = Vec::new();
    for path in paths {
        if !path.is_dir() {
            files.push(path.clone());
            continue;
        }
        for entry in fs::read_dir(path).map_err(|error| io_error(path, error))? {
            let file = entry.map_err(|error| io_error(path, error))?.path();
            if file.extension().is_some_and(|extension| extension == "jsonl") {
                files.push(file);
            }
        }
    }
    files.sort();
    // A file may be named, and its directory too.
    files.dedup();
    Ok(files)
}
