//! The rules, each with a test that fails if the rule is switched off, and properties of all
//! histories.

mod at_rest;
mod crashes;
mod data;
mod failures;
mod history;
mod names;

use stormglass_node::{About, DiskError, FileId, OpId, ReadDisk};

use super::{AppendName, Disk, Holes, Survival};
use crate::ratio::Permille;

const LOG: FileId = FileId::Wal(0);
const OTHER: FileId = FileId::Wal(1);
const SCRATCH: FileId = FileId::Scratch;
const SNAPSHOT: FileId = FileId::Snapshot(1);

// No test counts as far, so the shortcuts never meet a barrier of the scenario itself.
const BARRIER: OpId = OpId(u64::MAX);

/// Shortcuts for scenarios.
impl Disk {
    fn write(&mut self, file: FileId, kind: &'static str, bytes: &[u8]) {
        self.append(file, about(kind), bytes);
    }

    fn sync_now(&mut self, file: FileId) {
        self.sync(BARRIER, file);
        self.complete(BARRIER, Ok(())).expect("nothing has failed");
    }

    fn sync_dir_now(&mut self) {
        self.sync_dir(BARRIER);
        self.complete(BARRIER, Ok(())).expect("nothing has failed");
    }

    fn fail_sync(&mut self, file: FileId) {
        self.sync(BARRIER, file);
        self.complete(BARRIER, Err(DiskError::Io)).expect_err("it fails");
    }

    /// A disk with one durable file.
    fn with_durable_file(file: FileId, bytes: &[u8]) -> Disk {
        let mut disk = Disk::default();
        disk.write(file, "Old", bytes);
        disk.sync_now(file);
        disk.sync_dir_now();
        disk
    }

    /// The disk after a power cut.
    fn after_power_cut(&self, survival: &Survival) -> Disk {
        let mut disk = self.clone();
        disk.power_cut(survival);
        disk
    }

    fn text(&self, file: FileId) -> Option<String> {
        self.bytes(file).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
    }

    fn bytes(&self, file: FileId) -> Option<Vec<u8>> {
        self.read(file).expect("it can be read").map(<[u8]>::to_vec)
    }
}

fn about(kind: &'static str) -> About {
    About { kind, subject: None }
}

fn append_named(kind: &'static str) -> AppendName {
    AppendName::new(about(kind), 0)
}

/// Every file, by name.
fn contents(disk: &impl ReadDisk) -> Vec<(FileId, Vec<u8>)> {
    let read =
        |file: FileId| (file, disk.read(file).expect("readable").expect("it exists").to_vec());
    disk.files().into_iter().map(read).collect()
}

fn permille(n: u16) -> Permille {
    Permille::new(n).expect("at most 1000")
}

fn subset(key: u64) -> Survival {
    Survival::Subset { key, keep: permille(500), tear: false, holes: Holes::Zeros }
}

/// Whether some of a few hundred subsets leaves a disk that `wanted` accepts.
fn some_subset(disk: &Disk, wanted: impl Fn(&Disk) -> bool) -> bool {
    // Every wanted outcome depends on a few decisions with even chances, so some key has it.
    (0..300).any(|key| wanted(&disk.after_power_cut(&subset(key))))
}

/// Every kind of survival, several times.
fn all_survivals(keys: u64) -> Vec<Survival> {
    let mut all = vec![Survival::None, Survival::All];
    all.extend((0..8).map(Survival::Prefix));
    all.push(Survival::AllBut(append_named("New")));
    for how in [super::Tear::Header, super::Tear::Half, super::Tear::LastSectorMissing] {
        for hole in [None, Some(Holes::Zeros), Some(Holes::Garbage)] {
            all.push(Survival::Torn { at: append_named("New"), how, hole });
        }
    }
    for key in 0..keys {
        let holes =
            [Holes::Zeros, Holes::Garbage, Holes::OldBlocks, Holes::Mixed][key as usize % 4];
        // Even chances, most lost, and most kept.
        let keep = permille([500, 100, 900][key as usize % 3]);
        all.push(Survival::Subset { key, keep, tear: key & 1 == 0, holes });
    }
    all
}
