//! The event log of a real node: one file for each life, `nID.LIFE.jsonl`, a line before each thing that happens.
//!
//! Each line goes to the kernel before what it tells of is done, so a killed process leaves at most one line of
//! something that it did not do. Lines are not synced: the log is for judging kills, not power cuts.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::files::Survived;
use super::tap::{Tap, Then};
use crate::contract::{Effect, Input, Node};
use crate::id::{NodeId, Time};
use crate::journal::{Found, Line, What, WhatRef, line, of_effect, of_input};

/// Writes the event log of one life.
#[derive(Debug)]
pub struct Journal {
    directory: PathBuf,
    node: NodeId,
    life: u32,
    // Opened at boot.
    file: Option<File>,
    text: Vec<u8>,
}

impl Journal {
    /// Will write into this directory, and create it if need be.
    pub fn new(directory: &Path) -> Journal {
        let directory = directory.to_path_buf();
        Journal { directory, node: NodeId(0), life: 0, file: None, text: Vec::new() }
    }

    fn open(&mut self) -> io::Result<()> {
        // The system's errors say what, and not to which file.
        let at = |path: &Path| {
            let path = path.display().to_string();
            move |error: io::Error| io::Error::new(error.kind(), format!("{path}: {error}"))
        };
        let directory = || at(&self.directory);
        fs::create_dir_all(&self.directory).map_err(directory())?;
        let mut last = 0;
        for entry in fs::read_dir(&self.directory).map_err(directory())? {
            let name = entry?.file_name();
            last = last.max(name.to_str().and_then(|name| life_of(name, self.node)).unwrap_or(0));
        }
        self.life = last + 1;
        let path = self.directory.join(format!("{}.{:05}.jsonl", self.node, self.life));
        self.file = Some(OpenOptions::new().append(true).create_new(true).open(&path).map_err(at(&path))?);
        Ok(())
    }

    fn write<W: Serialize>(&mut self, now: Time, what: W) -> io::Result<()> {
        self.text.clear();
        let line: Line<W> = line(now, self.node, self.life, what);
        serde_json::to_writer(&mut self.text, &line)?;
        self.text.push(b'\n');
        let file = self.file.as_mut().ok_or_else(|| io::Error::other("the life has not begun"))?;
        file.write_all(&self.text)
    }
}

fn life_of(name: &str, node: NodeId) -> Option<u32> {
    name.strip_prefix(&format!("{node}."))?.strip_suffix(".jsonl")?.parse().ok()
}

impl<N: Node> Tap<N> for Journal {
    fn boot(&mut self, node: NodeId, survived: &Survived) -> io::Result<()> {
        self.node = node;
        self.open()?;
        let files = survived.iter().map(|(file, bytes)| Found::new(file, bytes)).collect();
        let what: WhatRef<'_, N> = What::Boot { files };
        self.write(Time(0), what)
    }

    fn input(&mut self, now: Time, input: &Input<N>, letter: u64) -> io::Result<Then> {
        self.write(now, of_input(input, letter)).map(|()| Then::GoOn)
    }

    fn effect(&mut self, now: Time, effect: &Effect<N>, bytes: &[u8], letter: u64) -> io::Result<Then> {
        self.write(now, of_effect(effect, bytes, letter)).map(|()| Then::GoOn)
    }

    fn stopped(&mut self, now: Time) -> io::Result<()> {
        let what: WhatRef<'_, N> = What::Stopped;
        self.write(now, what)
    }
}
