//! The write-ahead log of `stormglass-node` over this file system. Its own rules are stricter than
//! those of every profile: it needs no promise but that of a sync.

use std::io;

use stormglass_crash_test::{CrashFs, CrashTest, Profile, Report, Verdict, models};
use stormglass_node::contract::{Chunk, ReadDisk};
use stormglass_node::wal::recover;
use stormglass_node::{
    About, Boot, BootError, DiskError, DiskOp, Effect, FileId, Input, Label, Node, OpId, Outbox,
    Subject, Time, Wal, WalOptions,
};

/// Stands for a node: the log needs the type of one.
struct Stub;

impl Node for Stub {
    type Config = ();
    type Message = ();
    type Request = ();
    type Response = ();
    type Event = ();

    fn boot((): &(), _: Boot<'_>, _: &mut Outbox<Self>) -> Result<Self, BootError> {
        Ok(Stub)
    }
    fn step(&mut self, _: Time, _: Input<Self>, _: &mut Outbox<Self>) {}
}

/// The record of one commit.
#[derive(serde::Serialize, serde::Deserialize)]
struct Item(u64);

impl Label for Item {
    fn kind(&self) -> &'static str {
        "Item"
    }
    fn subject(&self) -> Option<Subject> {
        Some(Subject::Number(self.0))
    }
}

/// The files of the log as they are at boot.
struct BootDisk(Vec<(FileId, Vec<u8>)>);

impl ReadDisk for BootDisk {
    fn files(&self) -> Vec<FileId> {
        self.0.iter().map(|(file, _)| *file).collect()
    }
    fn read(&self, file: FileId) -> Result<Option<&[u8]>, DiskError> {
        Ok(self.0.iter().find(|(other, _)| *other == file).map(|(_, bytes)| bytes.as_slice()))
    }
}

fn file_of(name: &str) -> Option<FileId> {
    let (role, number) = name.split_once('.').unwrap_or((name, "0"));
    let number = number.parse().ok()?;
    match role {
        "wal" => Some(FileId::Wal(number)),
        "snapshot" => Some(FileId::Snapshot(number)),
        "scratch" => Some(FileId::Scratch),
        _ => None,
    }
}

/// What a driver leaves out: for mutants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Skips {
    Nothing,
    FileSyncs,
    DirectorySyncs,
}

/// A log that is open, with its driver.
struct OpenLog {
    fs: CrashFs,
    skips: Skips,
    wal: Wal,
    items: Vec<u64>,
    outbox: Outbox<Stub>,
}

impl OpenLog {
    fn open(fs: &CrashFs, skips: Skips) -> io::Result<OpenLog> {
        let mut files = Vec::new();
        for name in fs.read_dir("")? {
            files.extend(file_of(&name).map(|file| fs.read(&name).map(|bytes| (file, bytes))));
        }
        let mut files = files.into_iter().collect::<io::Result<Vec<_>>>()?;
        files.sort_by_key(|(file, _)| *file);
        let found = recover::<Vec<u64>, Item>(&BootDisk(files)).map_err(io::Error::other)?;
        let mut items = found.snapshot.unwrap_or_default();
        items.extend(found.records.iter().map(|Item(item)| item));
        let mut outbox = Outbox::default();
        // So small that a few commits need a compaction, and a snapshot has several pieces.
        let options = WalOptions { compact_at: 200, chunk_bytes_max: 16, entropy: 7 };
        let (wal, _) = Wal::begin(found.resume_point, options, &items, &mut outbox);
        let mut log = OpenLog { fs: fs.clone(), skips, wal, items, outbox };
        log.perform()?;
        Ok(log)
    }

    fn append(&mut self, item: u64) -> io::Result<()> {
        self.items.push(item);
        let _ticket = self.wal.append(&Item(item), (), &mut self.outbox);
        self.wal.force(&mut self.outbox);
        if self.wal.needs_compaction() {
            self.wal.compact(&self.items, &mut self.outbox);
        }
        self.perform()
    }

    /// Performs what the log asks for, until it asks for nothing.
    fn perform(&mut self) -> io::Result<()> {
        loop {
            let (effects, bytes) = self.outbox.drain();
            let effects: Vec<_> = effects.collect();
            let bytes = bytes.to_vec();
            let mut completed = Vec::new();
            for effect in &effects {
                let Effect::Disk(op) = effect else { continue };
                completed.extend(perform(&self.fs, self.skips, op, &bytes)?);
            }
            self.outbox.clear();
            if completed.is_empty() {
                return Ok(());
            }
            for op in completed {
                self.wal
                    .on_disk_done(op, Ok(()), &mut self.outbox)
                    .map_err(|error| io::Error::other(error.to_string()))?;
            }
        }
    }
}

/// As the real engine performs it: `fdatasync` for files, `fsync` for the directory.
fn perform(fs: &CrashFs, skips: Skips, op: &DiskOp, buffer: &[u8]) -> io::Result<Option<OpId>> {
    match *op {
        DiskOp::Append { file, bytes, about: About { .. } } => {
            fs.open_or_create(&file.to_string())?.append(slice(bytes, buffer))?;
        }
        DiskOp::Truncate { file, len } => fs.open(&file.to_string())?.set_len(len)?,
        DiskOp::Rename { from, to } => fs.rename(&from.to_string(), &to.to_string())?,
        DiskOp::Remove { file } => match fs.remove_file(&file.to_string()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            removed => removed?,
        },
        DiskOp::Sync { op, file } => {
            if skips != Skips::FileSyncs {
                fs.open(&file.to_string())?.sync_data()?;
            }
            return Ok(Some(op));
        }
        DiskOp::SyncDir { op } => {
            if skips != Skips::DirectorySyncs {
                fs.sync_dir("")?;
            }
            return Ok(Some(op));
        }
    }
    Ok(None)
}

fn slice(chunk: Chunk, buffer: &[u8]) -> &[u8] {
    chunk.of(buffer)
}

fn test_of_the_log(skips: Skips, profile: Profile) -> Report {
    let test = CrashTest::new(move |fs: &CrashFs| {
        let mut log = OpenLog::open(fs, skips)?;
        for item in 1..=8 {
            fs.commit(item, || log.append(item))?;
        }
        Ok(())
    });
    test.recover(move |fs| OpenLog::open(fs, skips).map(|log| log.items))
        .expect(models::log())
        .run(profile)
}

#[test]
fn write_ahead_log_survives_every_profile() {
    for profile in Profile::ALL {
        let report = test_of_the_log(Skips::Nothing, profile);
        assert_eq!(report.verdict(), Verdict::Survived, "{report}");
        assert!(report.distinct_images > 20, "{report}");
    }
}

/// The mutants of its driver are found, each on the weakest profile that shows it. On ext4 the next
/// `fdatasync` of a file that has grown commits the names before it: the directory needs no sync.
#[test]
fn driver_without_syncs_is_found() {
    for (skips, weakest) in
        [(Skips::FileSyncs, Profile::Ext4), (Skips::DirectorySyncs, Profile::OwnName)]
    {
        let found = Profile::ALL
            .into_iter()
            .find(|profile| test_of_the_log(skips, *profile).verdict() == Verdict::Found);
        assert_eq!(found, Some(weakest), "{skips:?}");
    }
}
