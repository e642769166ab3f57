//! D13-D16: disks that are replaced, emptied or lose files while their node is down, and files that
//! cannot be read.

use super::*;
use crate::disk::{CutPlace, DiskChange, FileChoice, FileLoss, FileRole};

const NEWEST_LOG: FileChoice = FileChoice { role: FileRole::Wal, nth_newest: 0 };

fn cut_at_byte(share: Permille) -> FileLoss {
    FileLoss::Tail { file: NEWEST_LOG, from: CutPlace::Byte(share) }
}

/// D13. The backup has everything that the node could read when it was made, and all of it is
/// durable after it is restored.
#[test]
fn d13_restored_disk_is_as_it_was_at_the_backup() {
    let mut disk = Disk::with_durable_file(LOG, b"old.");
    disk.write(LOG, "New", b"unsynced.");
    let backup = disk.backup();
    assert_eq!(disk.durable_to(LOG), Some(4), "the backup leaves the disk as it is");
    disk.write(LOG, "New", b"later.");
    disk.write(OTHER, "New", b"other");
    disk.kill(usize::MAX);
    assert!(disk.restore(&backup));
    for disk in [disk.clone(), disk.after_power_cut(&Survival::None)] {
        assert_eq!(contents(&disk), [(LOG, b"old.unsynced.".to_vec())]);
    }
}

/// D13, D7. A copy reads the page cache, where the bytes of a failed sync are.
#[test]
fn d13_backup_contains_what_a_failed_sync_left_readable() {
    let mut disk = Disk::with_durable_file(LOG, b"old.");
    disk.write(LOG, "New", b"unsynced.");
    disk.sync(BARRIER, LOG);
    assert_eq!(disk.complete(BARRIER, Err(DiskError::Io)), Err(DiskError::Io));
    assert_eq!(disk.after_power_cut(&Survival::All).text(LOG).as_deref(), Some("old."));
    let backup = disk.backup();
    for disk in [backup.clone(), backup.after_power_cut(&Survival::None)] {
        assert_eq!(disk.text(LOG).as_deref(), Some("old.unsynced."));
    }
}

/// D13. The disk works as before: what is appended and synced after the restore is durable.
#[test]
fn d13_restored_disk_can_be_written() {
    let backup = Disk::with_durable_file(LOG, b"old.").backup();
    let mut disk = Disk::with_durable_file(OTHER, b"other");
    assert!(disk.restore(&backup));
    disk.write(LOG, "New", b"new.");
    disk.sync_now(LOG);
    assert_eq!(disk.after_power_cut(&Survival::None).text(LOG).as_deref(), Some("old.new."));
}

#[test]
fn d13_backup_with_the_same_files_or_without_files_is_not_restored() {
    let mut disk = Disk::with_durable_file(LOG, b"old.");
    let backup = disk.backup();
    assert!(!disk.restore(&backup));
    assert!(!disk.restore(&Disk::default().backup()));
    assert_eq!(disk.text(LOG).as_deref(), Some("old."));
}

/// D14. Everything is gone, unsynced operations included, and stays gone.
#[test]
fn d14_emptied_disk_has_no_files() {
    let mut disk = Disk::with_durable_file(LOG, b"old.");
    disk.write(OTHER, "New", b"unsynced");
    disk.kill(usize::MAX);
    assert_eq!(disk.empty(), Some(DiskChange::Emptied));
    assert_eq!(contents(&disk), []);
    assert_eq!(contents(&disk.after_power_cut(&Survival::All)), []);
    assert_eq!(disk.empty(), None, "nothing is left to lose");
}

/// D15. A file ends at any byte, on the platter and in the page cache; at least one byte is lost.
#[test]
fn d15_file_is_cut_short_at_any_byte() {
    for (share, len) in [(0, 0), (250, 2), (500, 5), (999, 9), (1000, 9)] {
        let mut disk = Disk::with_durable_file(LOG, b"0123456789");
        let change = disk.lose(&cut_at_byte(permille(share)));
        let lost = 10 - len;
        assert_eq!(change, Some(DiskChange::CutShort { file: LOG, len, lost }));
        let left = &b"0123456789"[..len as usize];
        assert_eq!(contents(&disk), [(LOG, left.to_vec())]);
        assert_eq!(contents(&disk.after_power_cut(&Survival::All)), [(LOG, left.to_vec())]);
    }
}

/// D15. What was in the page cache of a killed process is on the platter before the file is cut.
#[test]
fn d15_file_with_unsynced_bytes_is_cut_short() {
    let mut disk = Disk::with_durable_file(LOG, b"old.");
    disk.write(LOG, "New", b"unsynced");
    disk.truncate(LOG, 10);
    disk.kill(usize::MAX);
    let change = disk.lose(&cut_at_byte(permille(700)));
    assert_eq!(change, Some(DiskChange::CutShort { file: LOG, len: 7, lost: 3 }));
    assert_eq!(disk.after_power_cut(&Survival::None).text(LOG).as_deref(), Some("old.uns"));
}

/// D15. In a file without frames, a cut at a frame is one at a byte. (The litmus test of a log is
/// `d15_log_cut_at_a_frame_lacks_whole_records` in `tests/litmus.rs`.)
#[test]
fn d15_file_without_frames_is_cut_at_the_byte() {
    let mut disk = Disk::with_durable_file(LOG, b"0123456789");
    let from = CutPlace::Frame(permille(500));
    let change = disk.lose(&FileLoss::Tail { file: NEWEST_LOG, from });
    assert_eq!(change, Some(DiskChange::CutShort { file: LOG, len: 5, lost: 5 }));
}

/// D15. A file or a generation is gone by name; the others stay.
#[test]
fn d15_files_are_gone_by_name() {
    let mut disk = Disk::with_durable_file(LOG, b"log 0");
    for file in [OTHER, SNAPSHOT, SCRATCH] {
        disk.write(file, "New", b"new");
        disk.sync_now(file);
    }
    disk.sync_dir_now();
    let lost = |loss| {
        let mut disk = disk.clone();
        let change = disk.lose(&loss);
        // Before and after a power cut the same names are left.
        assert_eq!(contents(&disk), contents(&disk.after_power_cut(&Survival::All)));
        (change, disk.files())
    };
    let newest = Some(DiskChange::Lost(vec![OTHER]));
    assert_eq!(lost(FileLoss::File(NEWEST_LOG)), (newest, vec![LOG, SNAPSHOT, SCRATCH]));
    let generation = Some(DiskChange::Lost(vec![OTHER, SNAPSHOT]));
    assert_eq!(lost(FileLoss::Generation { nth_newest: 0 }), (generation, vec![LOG, SCRATCH]));
    let third = FileChoice { nth_newest: 2, ..NEWEST_LOG };
    assert_eq!(lost(FileLoss::File(third)), (None, vec![LOG, OTHER, SNAPSHOT, SCRATCH]));
}

/// D16. One file cannot be read, the others can; the bytes are there.
#[test]
fn d16_unreadable_file_is_listed_and_its_read_fails() {
    let mut disk = Disk::with_durable_file(LOG, b"log 0");
    disk.write(OTHER, "New", b"log 1");
    assert_eq!(disk.find(NEWEST_LOG), Some(OTHER));
    let view = disk.with_unreadable(OTHER);
    assert_eq!(view.files(), [LOG, OTHER]);
    assert_eq!(view.read(OTHER), Err(DiskError::Io));
    assert_eq!(view.read(LOG), Ok(Some(&b"log 0"[..])));
    assert_eq!(view.read(SCRATCH), Ok(None));
    assert_eq!(disk.with_unreadable(SCRATCH).read(SCRATCH), Ok(None), "there is no such file");
    assert_eq!(disk.text(OTHER).as_deref(), Some("log 1"));
}
