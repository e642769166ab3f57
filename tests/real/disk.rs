//! The same scripts on a real directory and on the simulated disk read back the same files in every
//! incarnation, and fail at the same operation. The effect of a kill is checked in `campaign`:
//! every incarnation of every node logs the files that it found. Power cuts cannot be caused from
//! user space.

use proptest::prelude::*;
use stormglass::commit::CommitNode;
use stormglass_node::runtime::{DataFiles, SurvivingFiles};
use stormglass_node::{About, DiskOp, Effect, FileId, OpId, Outbox, ReadDisk};
use stormglass_sim::disk::Disk;

use super::program::TestDir;

#[derive(Clone, Debug)]
enum Step {
    Append(FileId, Vec<u8>),
    /// To this many thousandths of its length.
    Truncate(FileId, u64),
    Rename(FileId, FileId),
    Remove(FileId),
    Sync(FileId),
    SyncDir,
    Restart,
}

fn file() -> impl Strategy<Value = FileId> {
    prop_oneof![
        (0u32..2).prop_map(FileId::Wal),
        (0u32..2).prop_map(FileId::Snapshot),
        Just(FileId::Scratch)
    ]
}

fn step() -> impl Strategy<Value = Step> {
    // Up to nearly three sectors, so that appends begin and end within one and cross others.
    let bytes = prop::collection::vec(any::<u8>(), 0..1500);
    prop_oneof![
        // Weighted as a log behaves: mostly appends, and seldom a restart.
        8 => (file(), bytes).prop_map(|(file, bytes)| Step::Append(file, bytes)),
        2 => (file(), 0u64..=1000).prop_map(|(file, len)| Step::Truncate(file, len)),
        3 => (file(), file()).prop_map(|(from, to)| Step::Rename(from, to)),
        2 => file().prop_map(Step::Remove),
        3 => file().prop_map(Step::Sync),
        2 => Just(Step::SyncDir),
        1 => Just(Step::Restart),
    ]
}

/// Both disks.
struct DiskPair {
    dir: TestDir,
    real: DataFiles,
    model: Disk,
    ops: u64,
}

impl DiskPair {
    fn new() -> DiskPair {
        let dir = TestDir::new("disk");
        let real = DataFiles::open(&dir.0).expect("a directory");
        DiskPair { dir, real, model: Disk::default(), ops: 0 }
    }

    fn perform(&mut self, step: &Step) {
        let op = OpId(self.ops);
        self.ops += 1;
        match step {
            Step::Append(file, bytes) => {
                let mut outbox = Outbox::<CommitNode>::default();
                outbox.append(*file, About { kind: "Piece", subject: None }, bytes);
                let [Effect::Disk(op)] = outbox.effects() else { panic!("one append, one effect") };
                self.apply_to_both(op, bytes);
            }
            Step::Truncate(file, permille) => {
                let len = self.model.len(*file).unwrap_or(0) * permille / 1000;
                self.apply_to_both(&DiskOp::Truncate { file: *file, len }, &[]);
            }
            // A node never renames a file to its own name.
            Step::Rename(from, to) if from == to => {}
            Step::Rename(from, to) => {
                self.apply_to_both(&DiskOp::Rename { from: *from, to: *to }, &[])
            }
            Step::Remove(file) => self.apply_to_both(&DiskOp::Remove { file: *file }, &[]),
            Step::Sync(file) => self.apply_to_both(&DiskOp::Sync { op, file: *file }, &[]),
            Step::SyncDir => self.apply_to_both(&DiskOp::SyncDir { op }, &[]),
            Step::Restart => {
                self.real = DataFiles::open(&self.dir.0).expect("it is still there");
                // A kill keeps all operations, as the kernel does: only a power cut loses any.
                self.model.kill(usize::MAX);
            }
        }
    }

    fn apply_to_both(&mut self, op: &DiskOp, bytes: &[u8]) {
        self.model.issue(op, bytes);
        let done = self.real.issue(op, bytes);
        let (DiskOp::Sync { op, .. } | DiskOp::SyncDir { op }) = op else {
            return assert!(done.is_none());
        };
        let done = done.expect("a barrier completes");
        assert_eq!(
            (done.op, done.result),
            (*op, self.model.complete(*op, Ok(()))),
            "{:?}",
            done.detail
        );
    }

    fn compare(&self) {
        let real = SurvivingFiles::read(&self.dir.0).expect("it can be read");
        assert_eq!(real.files(), self.model.files());
        for file in real.files() {
            assert_eq!(real.read(file), self.model.read(file), "{file}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn real_directory_and_simulated_disk_read_back_the_same(steps in prop::collection::vec(step(), 0..40)) {
        let mut pair = DiskPair::new();
        for step in &steps {
            pair.perform(step);
            pair.compare();
        }
    }
}

/// A full disk: data written earlier stays, the latch holds, and every barrier reports the error.
/// `/dev/full` is a device that is always full.
#[test]
fn a_full_disk_latches_and_no_later_barrier_succeeds() {
    let dir = TestDir::new("full");
    std::os::unix::fs::symlink("/dev/full", dir.0.join("wal.1")).expect("a link");
    let mut files = DataFiles::open(&dir.0).expect("a directory");
    let mut outbox = Outbox::<CommitNode>::default();
    for file in [FileId::Wal(0), FileId::Wal(1), FileId::Wal(2)] {
        outbox.append(file, About { kind: "Piece", subject: None }, b"piece");
    }
    for effect in outbox.effects() {
        let Effect::Disk(op) = effect else { panic!("appends only") };
        assert!(files.issue(op, b"piece").is_none());
    }
    let done = files
        .issue(&DiskOp::Sync { op: OpId(1), file: FileId::Wal(0) }, &[])
        .expect("a barrier completes");
    assert_eq!(done.result, Err(stormglass_node::DiskError::NoSpace));
    assert!(done.detail.is_some_and(|detail| detail.contains("writing wal.1")));
    let again = files.issue(&DiskOp::SyncDir { op: OpId(2) }, &[]).expect("a barrier completes");
    assert_eq!(again.result, Err(stormglass_node::DiskError::NoSpace));
    let exists = |name: &str| dir.0.join(name).exists();
    assert!(exists("wal.0") && !exists("wal.2"), "operations after a failure are not performed");
}
