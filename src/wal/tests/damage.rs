//! What was durable and is not any more: the node refuses to start, and says where.

use super::disk::Everything;
use super::rig::Rig;
use crate::contract::{BootError, DiskError, FileId, ReadDisk};
use crate::wal::{FORMAT_VERSION, recover};

const WAL: FileId = FileId::Wal(1);
const SNAPSHOT: FileId = FileId::Snapshot(1);

/// Three records in three barriers; each frame tells that the ones before it were durable.
fn three_records() -> Rig {
    let mut rig = Rig::started();
    for _ in 0..3 {
        rig.keep(10);
    }
    rig.stop();
    rig
}

fn place(rig: &Rig) -> Option<(FileId, u64)> {
    match rig.recover() {
        Err(BootError::Damaged { file, at, .. }) => Some((file, at)),
        Err(BootError::Version { .. } | BootError::Unreadable { .. }) | Ok(_) => None,
    }
}

/// Any flipped bit of the log is either damage, told with the place where the log breaks off, or in the last synced
/// group, of which nothing says that it was durable: then the rest is there. Never does another record appear.
#[test]
fn no_flipped_bit_goes_unnoticed() {
    let whole = three_records();
    for bit in 0..whole.disk.bytes(WAL).len() * 8 {
        let mut rig = whole.clone();
        rig.disk.edit(WAL, |bytes| bytes[bit / 8] ^= 1 << (bit % 8));
        let expected = match bit / 8 {
            0..44 => Some((WAL, 0)),
            44..92 => Some((WAL, 44)),
            92..140 => Some((WAL, 92)),
            _ => None,
        };
        assert_eq!(place(&rig), expected, "bit {bit}");
        if expected.is_none() {
            let recovered = rig.recover().expect("not to be told from a torn tail");
            assert_eq!(recovered.records.len(), 2, "bit {bit}");
            assert_eq!(recovered.torn.map(|torn| torn.at), Some(140), "bit {bit}");
        }
    }
}

/// A snapshot was synced before it got its name, so every bit of it counts.
#[test]
fn no_flipped_bit_of_a_snapshot_goes_unnoticed() {
    let whole = three_records();
    for bit in 0..whole.disk.bytes(SNAPSHOT).len() * 8 {
        let mut rig = whole.clone();
        rig.disk.edit(SNAPSHOT, |bytes| bytes[bit / 8] ^= 1 << (bit % 8));
        assert!(matches!(place(&rig), Some((SNAPSHOT, _))), "bit {bit}");
    }
}

/// A snapshot that has lost its end, or gained one.
#[test]
fn a_snapshot_has_one_length() {
    let whole = three_records();
    for len in 0..whole.disk.bytes(SNAPSHOT).len() + 3 {
        let mut rig = whole.clone();
        let intact = rig.disk.bytes(SNAPSHOT).len() == len;
        rig.disk.edit(SNAPSHOT, |bytes| bytes.resize(len, 0));
        assert_eq!(place(&rig).is_none(), intact, "{len} bytes");
    }
}

/// A refusal is an answer, and changes nothing: the operator finds all as it was.
#[test]
fn damage_is_told_in_plain_words() {
    let mut rig = three_records();
    rig.disk.edit(WAL, |bytes| bytes[50] ^= 1);
    let error = rig.boot().expect_err("record 1 was durable");
    assert_eq!(
        error.to_string(),
        "wal.1 is damaged at byte 44: there is no frame; the log ends with record 0, 2 were durable"
    );
}

/// The watermark behind a break is a fact, even in the next segment; and so is a segment that is gone.
#[test]
fn a_later_segment_knows_what_was_durable() {
    let mut rig = Rig::started();
    rig.keep(10);
    rig.keep(10);
    rig.compact();
    rig.perform_all();
    let _ticket = rig.append(10);
    rig.perform_all();
    rig.power_cut(&mut Everything);
    assert_eq!(rig.ids(), [1, 2, 3]);
    let mut broken = rig.clone();
    broken.disk.edit(WAL, |bytes| bytes[100] ^= 1);
    assert_eq!(place(&broken), Some((WAL, 92)));
    rig.disk.lose(WAL);
    assert!(place(&rig).is_some());
}

/// A segment without the snapshot it stands on; and one that another life has begun, with that life's snapshot gone.
#[test]
fn a_lost_snapshot_is_missed() {
    let mut rig = three_records();
    let old = rig.disk.clone();
    rig.start();
    rig.keep(10);
    rig.disk.lose(FileId::Snapshot(2));
    assert_eq!(place(&rig), Some((FileId::Snapshot(2), 0)));
    rig.disk.append(SNAPSHOT, old.bytes(SNAPSHOT));
    rig.disk.append(WAL, old.bytes(WAL));
    assert_eq!(place(&rig), Some((FileId::Snapshot(2), 0)));
}

/// A file under another number than its own is no file of ours.
#[test]
fn a_snapshot_knows_its_number() {
    let mut rig = three_records();
    rig.disk.rename(SNAPSHOT, FileId::Snapshot(4));
    assert_eq!(place(&rig), Some((FileId::Snapshot(4), 0)));
    let mut rig = Rig::started();
    rig.disk.append(FileId::Snapshot(u32::MAX), b"");
    assert_eq!(place(&rig), Some((FileId::Snapshot(u32::MAX), 0)));
}

/// Another format is not damage: the operator needs another program, not another disk.
#[test]
fn another_version_is_refused_by_its_name() {
    for file in [WAL, SNAPSHOT] {
        let mut rig = three_records();
        rig.disk.edit(file, |bytes| {
            bytes[4..6].copy_from_slice(&(FORMAT_VERSION + 1).to_le_bytes());
            let checksum = crc32c::crc32c(&bytes[..8]);
            bytes[8..12].copy_from_slice(&checksum.to_le_bytes());
        });
        let version = BootError::Version { file, found: FORMAT_VERSION + 1, readable: FORMAT_VERSION };
        assert_eq!(rig.boot(), Err(version));
    }
}

/// What cannot be read is not therefore empty.
#[test]
fn an_unreadable_file_is_refused() {
    struct Scratched(super::disk::Disk, FileId);
    impl ReadDisk for Scratched {
        fn files(&self) -> Vec<FileId> {
            self.0.files()
        }
        fn read(&self, file: FileId) -> Result<Option<&[u8]>, DiskError> {
            if file == self.1 { Err(DiskError::Io) } else { self.0.read(file) }
        }
    }
    for file in [WAL, SNAPSHOT] {
        let disk = Scratched(three_records().disk, file);
        let error = recover::<super::State, super::Record>(&disk).expect_err("it cannot be read");
        assert_eq!(error, BootError::Unreadable { file, error: DiskError::Io });
    }
}
