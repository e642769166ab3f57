//! `stormglass wal`: reads a log offline. Reading changes nothing.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use stormglass::commit::{Record, State};
use stormglass_node::runtime::SurvivingFiles;
use stormglass_node::wal::{self, FrameInfo, Recovered};
use stormglass_node::{BootError, FileId, Label, ReadDisk, codec};

use super::say::{StdoutError, say};
use super::{CliError, Exit};

#[derive(Debug, Subcommand)]
#[command(
    after_help = "Examples:\n  stormglass wal verify data/n0\n  stormglass wal dump data/n0 | less\n\
    \nExit codes: 0 no damage found, 5 torn tail (discarded at start), 6 damaged (the node does not start)"
)]
pub(super) enum Wal {
    /// Print every record that can be found, one a line
    Dump(WalArgs),
    /// Check whether a node would start from the log, and what it would discard
    Verify(WalArgs),
}

#[derive(Debug, Args)]
pub(super) struct WalArgs {
    /// The data directory of a node
    directory: PathBuf,
}

pub(super) fn run(command: &Wal) -> Result<Exit, CliError> {
    let (Wal::Dump(of) | Wal::Verify(of)) = command;
    let surviving = read(&of.directory)?;
    let recovered = wal::recover::<State, Record>(&surviving);
    // The dump comes first, so that the summary is the last line of both commands.
    if let Wal::Dump(_) = command {
        dump(&surviving, &recovered)?;
    }
    Ok(print_summary(&of.directory, &recovered)?)
}

fn read(directory: &Path) -> Result<SurvivingFiles, CliError> {
    let surviving = SurvivingFiles::read(directory)?;
    if surviving.files().is_empty() {
        // An empty directory would count as the disk of a first incarnation, and as intact.
        return Err(format!(
            "there is no log in {}; give the data directory of one node",
            directory.display()
        )
        .into());
    }
    Ok(surviving)
}

/// The last line: the result of a boot.
fn print_summary(
    directory: &Path,
    recovered: &Result<Recovered<State, Record>, BootError>,
) -> Result<Exit, StdoutError> {
    let directory = directory.display();
    match recovered {
        Ok(Recovered { torn: None, watermark, resume_point, records, .. }) => {
            say!(
                "{directory}: no damage found; {} records, {} of them after the snapshot; the first {watermark} \
                 are all there, and files cannot show whether others followed the last one",
                resume_point.position(),
                records.len()
            )?;
            Ok(Exit::Success)
        }
        Ok(Recovered { torn: Some(torn), resume_point, .. }) => {
            say!(
                "{directory}: torn tail: {} ends at byte {} with record {} ({}); a start discards {} bytes after it",
                torn.file,
                torn.at,
                resume_point.position(),
                torn.reason,
                torn.dropped_bytes
            )?;
            Ok(Exit::TornTail)
        }
        Err(error) => {
            say!("{directory}: damaged: {error}; the node does not start")?;
            Ok(Exit::Damaged)
        }
    }
}

fn dump(
    surviving: &SurvivingFiles,
    recovered: &Result<Recovered<State, Record>, BootError>,
) -> Result<(), CliError> {
    let files: BTreeMap<FileId, &[u8]> = surviving.iter().collect();
    for (file, bytes) in &files {
        if !matches!(file, FileId::Wal(_)) {
            say!("{file:<12} {} B", bytes.len())?;
        }
    }
    if let Ok(Recovered { snapshot: Some(state), .. }) = recovered {
        say!(
            "  state of the newest: {}, {} values, {} in doubt, {} outcomes, {} committing, {} clients",
            state.incarnation,
            state.values.len(),
            state.prepared.len(),
            state.outcomes.len(),
            state.committing.len(),
            state.clients.len()
        )?;
    }
    let torn = recovered.as_ref().ok().and_then(|recovered| recovered.torn);
    let newest = files
        .keys()
        .filter_map(|file| if let FileId::Snapshot(k) = file { Some(*k) } else { None })
        .max();
    say!("{:<12} {:>8}  {:>7} {:>7}  record", "file", "byte", "number", "durable")?;
    for record_at in wal::scan_frames(surviving)? {
        // Its segment waits for its removal; the snapshot contains what it did.
        let old = matches!((record_at.file, newest), (FileId::Wal(k), Some(newest)) if k < newest);
        let lost = torn.is_some_and(|torn| (record_at.file, record_at.at) >= (torn.file, torn.at));
        let note = match (old, lost) {
            (true, _) => "  (older than the snapshot)",
            (false, true) => "  (torn tail)",
            (false, false) => "",
        };
        let what = describe(&record_at, files.get(&record_at.file).copied().unwrap_or_default());
        say!(
            "{:<12} {:>8}  {:>7} {:>7}  {what}{note}",
            record_at.file.to_string(),
            record_at.at,
            record_at.position,
            record_at.watermark
        )?;
    }
    Ok(())
}

/// The text without control characters: a key may hold any, and must not steer the terminal.
fn printable(text: &str) -> String {
    let mut printable = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() {
            printable.extend(c.escape_default());
        } else {
            printable.push(c);
        }
    }
    printable
}

fn describe(record_at: &FrameInfo, segment: &[u8]) -> String {
    // The header of the frame is intact, so position and watermark are shown nevertheless.
    let Some(len) = record_at.payload_bytes else { return "damaged payload".to_owned() };
    let payload =
        usize::try_from(record_at.at).ok().and_then(|at| wal::payload(segment.get(at..)?));
    let payload = payload.and_then(|rest| rest.get(..usize::try_from(len).ok()?));
    match payload.map(codec::decode_checksummed::<Record>) {
        Some(Ok(record)) => {
            let mut text = format!("{} {} ", record.about(), record.header().tx);
            record.detail(&mut text).expect("writing to a string");
            printable(text.trim_end())
        }
        Some(Err(error)) => format!("not a record: {error}"),
        None => "damaged payload".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_of_a_key_are_escaped() {
        assert_eq!(printable("a\u{1b}[31mé\n"), "a\\u{1b}[31mé\\n");
    }
}
