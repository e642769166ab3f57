//! The event log of a real node: one file per incarnation, `nID.INCARNATION.jsonl`, one line per
//! input and effect.
//!
//! Each line is written to the kernel before its input or effect happens, so a killed process
//! leaves at most one line of something that did not happen. Lines are not synced: the log serves
//! to check runs with kills, not with power cuts.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::files::SurvivingFiles;
use super::observer::{Continuation, Observer};
use crate::contract::{Effect, Input, Node};
use crate::id::{NodeId, Time};
use crate::journal::{
    Entry, EntryBody, EntryBodyRef, FileSummary, body_of_effect, body_of_input, entry,
};

/// Writes the event log of one incarnation.
#[derive(Debug)]
pub struct Journal {
    directory: PathBuf,
    node: NodeId,
    incarnation: u32,
    // Opened at boot.
    file: Option<File>,
    text: Vec<u8>,
}

impl Journal {
    /// A log in this directory, which is created at boot if it does not exist.
    pub fn new(directory: &Path) -> Journal {
        let directory = directory.to_path_buf();
        Journal { directory, node: NodeId(0), incarnation: 0, file: None, text: Vec::new() }
    }

    fn open(&mut self) -> io::Result<()> {
        let directory = &self.directory;
        fs::create_dir_all(directory).map_err(|error| with_path(error, directory))?;
        let mut last = 0;
        for entry in fs::read_dir(directory).map_err(|error| with_path(error, directory))? {
            let name = entry?.file_name();
            // Numbered by the driver and not by the node: a boot that crashes before its
            // incarnation is durable has a log too.
            last = last
                .max(name.to_str().and_then(|name| incarnation_of(name, self.node)).unwrap_or(0));
        }
        self.incarnation = last + 1;
        let path = self.directory.join(format!("{}.{:05}.jsonl", self.node, self.incarnation));
        // `create_new`: a log of an earlier incarnation is never continued.
        let file = OpenOptions::new().append(true).create_new(true).open(&path);
        self.file = Some(file.map_err(|error| with_path(error, &path))?);
        Ok(())
    }

    fn write<W: Serialize>(&mut self, now: Time, body: W) -> io::Result<()> {
        self.text.clear();
        let entry: Entry<W> = entry(now, self.node, self.incarnation, body);
        // The whole line first, then one write: a kill leaves a complete line or an incomplete last
        // one.
        serde_json::to_writer(&mut self.text, &entry)?;
        self.text.push(b'\n');
        let file =
            self.file.as_mut().ok_or_else(|| io::Error::other("the event log is not open"))?;
        file.write_all(&self.text)
    }
}

/// Names the file, which the errors of the operating system do not.
fn with_path(error: io::Error, path: &Path) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

fn incarnation_of(name: &str, node: NodeId) -> Option<u32> {
    name.strip_prefix(&format!("{node}."))?.strip_suffix(".jsonl")?.parse().ok()
}

impl<N: Node<Event: Serialize>> Observer<N> for Journal {
    fn boot(&mut self, node: NodeId, surviving: &SurvivingFiles) -> io::Result<()> {
        self.node = node;
        self.open()?;
        let files = surviving.iter().map(|(file, bytes)| FileSummary::new(file, bytes)).collect();
        let body: EntryBodyRef<'_, N> = EntryBody::Boot { files };
        // The clock of the incarnation starts after the boot entry.
        self.write(Time(0), body)
    }

    fn input(
        &mut self,
        now: Time,
        input: &Input<N>,
        message_number: u64,
    ) -> io::Result<Continuation> {
        let body: EntryBodyRef<'_, N> = body_of_input(input, message_number);
        self.write(now, body).map(|()| Continuation::Proceed)
    }

    fn effect(
        &mut self,
        now: Time,
        effect: &Effect<N>,
        bytes: &[u8],
        message_number: u64,
    ) -> io::Result<Continuation> {
        let body = body_of_effect(effect, bytes, message_number, |event| event);
        self.write(now, body).map(|()| Continuation::Proceed)
    }

    fn stopped(&mut self, now: Time) -> io::Result<()> {
        let body: EntryBodyRef<'_, N> = EntryBody::Stopped;
        self.write(now, body)
    }
}
