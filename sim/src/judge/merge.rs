//! Lines of many logs, in an order that could have been.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use stormglass::journal::{self, LineOf, What};
use stormglass::{Node, NodeId};

use super::JudgeError;

/// A line, and where it stands.
pub(super) struct Next<N: Node> {
    pub(super) line: LineOf<N>,
    pub(super) place: String,
    /// It comes from `replay --json`: lines of all nodes, in the order in which it was.
    simulated: bool,
}

/// All logs.
pub(super) struct Merge<N: Node> {
    /// One queue of files for each node, the earliest life first.
    sources: Vec<Source<N>>,
    /// Letters that are on their way.
    letters: BTreeSet<(NodeId, u64)>,
    /// Where to look first: a node goes on for as long as it can.
    at: usize,
    nodes: u16,
    mute: BTreeSet<(NodeId, u32)>,
}

struct Source<N: Node> {
    node: NodeId,
    files: VecDeque<PathBuf>,
    reader: Option<Reader>,
    head: Option<Next<N>>,
}

struct Reader {
    path: PathBuf,
    lines: BufReader<File>,
    number: u64,
    simulated: bool,
}

/// The first and last line of what a simulator prints: what was run, and what came of it.
#[derive(serde::Deserialize)]
#[serde(untagged, deny_unknown_fields)]
#[expect(dead_code, reason = "to be recognised, not to be read")]
enum Frame {
    Head { options: String, version: String, what: String },
    Tail { fingerprint: String, notes: Vec<String>, verdict: String },
}

impl<N: Node> Merge<N> {
    pub(super) fn open(paths: &[PathBuf]) -> Result<Merge<N>, JudgeError> {
        let mut files: BTreeMap<NodeId, Vec<(u32, PathBuf)>> = BTreeMap::new();
        let mut mute = BTreeSet::new();
        let mut most = None;
        for path in expand(paths)? {
            let Some(first) = Reader::open(&path)?.next::<N>()? else {
                mute.extend(named(&path));
                continue;
            };
            most = most.max(Some(if first.simulated { greatest_node::<N>(&path)? } else { first.line.node }));
            files.entry(first.line.node).or_default().push((first.line.life, path));
        }
        let nodes = most.ok_or(JudgeError::Nothing)?.0.saturating_add(1);
        let mut sources = Vec::new();
        for (node, mut lives) in files {
            lives.sort();
            let files = lives.into_iter().map(|(_, path)| path).collect();
            sources.push(Source { node, files, reader: None, head: None });
        }
        Ok(Merge { sources, letters: BTreeSet::new(), at: 0, nodes, mute })
    }

    /// Lives that were killed before their first line was whole. They did nothing.
    pub(super) fn mute(&self) -> &BTreeSet<(NodeId, u32)> {
        &self.mute
    }

    /// One more than the greatest number of a node.
    pub(super) fn nodes(&self) -> u16 {
        self.nodes
    }

    pub(super) fn lost_letters(&self) -> u64 {
        self.letters.len() as u64
    }

    /// The next line of some node that waits for nothing.
    pub(super) fn next(&mut self) -> Result<Option<Next<N>>, JudgeError> {
        for _ in 0..self.sources.len() {
            self.sources[self.at].fill()?;
            if let Some(next) = self.take_ready() {
                return Ok(Some(next));
            }
            self.at = (self.at + 1) % self.sources.len();
        }
        match self.sources.iter().find_map(|source| source.head.as_ref()) {
            None => Ok(None),
            Some(stuck) => Err(JudgeError::Incomplete {
                place: stuck.place.clone(),
                what: format!("{} was never sent", journal::kind(&stuck.line.what)),
            }),
        }
    }

    fn take_ready(&mut self) -> Option<Next<N>> {
        let source = &mut self.sources[self.at];
        match &source.head.as_ref()?.line.what {
            // 0: the lines of a simulator are in an order that was.
            What::Received { from, letter, .. } if *letter != 0 => {
                if !self.letters.remove(&(*from, *letter)) {
                    return None;
                }
            }
            What::Sent { letter, .. } if *letter != 0 => {
                self.letters.insert((source.node, *letter));
            }
            What::Boot { .. }
            | What::Received { .. }
            | What::Asked { .. }
            | What::Done { .. }
            | What::Wake
            | What::Sent { .. }
            | What::Append { .. }
            | What::Truncate { .. }
            | What::Rename { .. }
            | What::Remove { .. }
            | What::Sync { .. }
            | What::SyncDir { .. }
            | What::Replied { .. }
            | What::Reported { .. }
            | What::Halted { .. }
            | What::Stopped
            | What::Weather { .. } => {}
        }
        source.head.take()
    }
}

impl<N: Node> Source<N> {
    fn fill(&mut self) -> Result<(), JudgeError> {
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
    fn open(path: &Path) -> Result<Reader, JudgeError> {
        let file = File::open(path).map_err(|error| JudgeError::Io { path: path.to_path_buf(), error })?;
        Ok(Reader { path: path.to_path_buf(), lines: BufReader::new(file), number: 0, simulated: false })
    }

    /// The next line; `None` at the end. A last line without an end was being written when the process was killed.
    fn next<N: Node>(&mut self) -> Result<Option<Next<N>>, JudgeError> {
        loop {
            let mut text = String::new();
            let failed = |error| JudgeError::Io { path: self.path.clone(), error };
            self.lines.read_line(&mut text).map_err(failed)?;
            self.number += 1;
            if !text.ends_with('\n') {
                return Ok(None);
            }
            let place = format!("{}, line {}", self.path.display(), self.number);
            match serde_json::from_str(&text) {
                Ok(line) => return Ok(Some(Next { line, place, simulated: self.simulated })),
                Err(_) if serde_json::from_str::<Frame>(&text).is_ok() => self.simulated = true,
                Err(error) => {
                    return Err(JudgeError::Line { place, what: format!("this is no event: {error}") });
                }
            }
        }
    }
}

/// The greatest number of a node in what a simulator has printed.
fn greatest_node<N: Node>(path: &Path) -> Result<NodeId, JudgeError> {
    let mut reader = Reader::open(path)?;
    let mut greatest = NodeId(0);
    while let Some(next) = reader.next::<N>()? {
        greatest = greatest.max(next.line.node);
    }
    Ok(greatest)
}

/// Whose log it is, and of which life, by its name: `n0.00007.jsonl`.
fn named(path: &Path) -> Option<(NodeId, u32)> {
    let (node, life) = path.file_stem()?.to_str()?.strip_prefix('n')?.split_once('.')?;
    Some((NodeId(node.parse().ok()?), life.parse().ok()?))
}

fn expand(paths: &[PathBuf]) -> Result<Vec<PathBuf>, JudgeError> {
    let mut files = Vec::new();
    for path in paths {
        if !path.is_dir() {
            files.push(path.clone());
            continue;
        }
        let failed = |error| JudgeError::Io { path: path.clone(), error };
        for entry in fs::read_dir(path).map_err(failed)? {
            let file = entry.map_err(failed)?.path();
            if file.extension().is_some_and(|extension| extension == "jsonl") {
                files.push(file);
            }
        }
    }
    files.sort();
    files.dedup();
    Ok(files)
}
