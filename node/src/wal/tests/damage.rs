//! Arbitrary damage: never a panic, never a wrong record, and no silent loss below the watermark.

use proptest::prelude::*;

use super::disk::{Disk, KeepUnsynced};
use super::rig::Rig;
use super::{Record, State};
use crate::contract::{BootError, FileId, ReadDisk};
use crate::wal::file_header::{FileHeader, Kind};
use crate::wal::{FORMAT_VERSION, recover};

/// Six records, the first two in a segment of their own; later records prove the first `durable`
/// ones durable.
struct Log {
    rig: Rig,
    ids: Vec<u32>,
}

/// A log with an interrupted compaction: `wal.1` and `wal.2` after `snapshot.1`, every record
/// forced.
fn log() -> Log {
    let mut rig = Rig::started();
    rig.append_durably(20);
    rig.append_durably(30);
    rig.compact();
    // Frames of different lengths, also one with an empty value.
    for len in [10, 0, 25, 40] {
        rig.append_untracked(len);
        rig.force();
        rig.perform_all();
        // All barriers but the snapshot's, which is the first.
        while rig.barriers() > 1 {
            rig.complete(1, Ok(())).expect("fine");
        }
    }
    rig.power_cut(&mut KeepUnsynced);
    let ids = rig.ids();
    assert_eq!(ids, [1, 2, 3, 4, 5, 6]);
    Log { rig, ids }
}

/// Every single bit of both segments: the node refuses, or it finds a prefix that lacks at most the
/// last record, which was durable without a later watermark.
#[test]
fn flipped_bit_is_refused_or_a_torn_tail() {
    let Log { rig, ids } = log();
    let mut refused = 0;
    let mut torn = 0;
    for file in [FileId::Wal(1), FileId::Wal(2)] {
        for bit in 0..rig.disk.bytes(file).len() * 8 {
            let mut rig = rig.clone();
            rig.disk.edit(file, |bytes| bytes[bit / 8] ^= 1 << (bit % 8));
            match rig.recover() {
                Ok(recovered) => {
                    assert!(recovered.torn.is_some(), "{file}, bit {bit}: not noticed");
                    let found =
                        recovered.records.iter().map(|record| record.id).collect::<Vec<_>>();
                    assert_eq!(found, ids[..5], "{file}, bit {bit}");
                    torn += 1;
                }
                Err(BootError::Damaged { file: place, at, .. }) => {
                    assert!(
                        (place, at) <= (file, bit as u64 / 8),
                        "the place is where the log ends: {place} {at}"
                    );
                    refused += 1;
                }
                Err(error) => panic!("{file}, bit {bit}: {error}"),
            }
        }
    }
    assert!(refused > torn && torn > 0);
}

/// A refused log can still be inspected: the frames after the break are listed, the damaged frame
/// is not.
#[test]
fn frames_of_a_refused_log_can_be_scanned() {
    let Log { mut rig, .. } = log();
    let positions = |rig: &Rig| {
        let frames = crate::wal::scan_frames(&rig.disk).expect("readable");
        frames.iter().map(|frame| (frame.file, frame.position)).collect::<Vec<_>>()
    };
    let one = FileId::Wal(1);
    let two = FileId::Wal(2);
    assert_eq!(positions(&rig), [(one, 1), (one, 2), (two, 3), (two, 4), (two, 5), (two, 6)]);
    // Byte 50 is in the header of the first frame, which begins at 44. Byte 0 is in the file
    // header.
    rig.disk.edit(one, |bytes| bytes[50] ^= 1);
    rig.disk.edit(two, |bytes| bytes[0] ^= 1);
    assert!(rig.recover().is_err());
    assert_eq!(positions(&rig), [(one, 2), (two, 3), (two, 4), (two, 5), (two, 6)]);
}

/// Every length to which a segment can be truncated, and every hole of zeros to its end.
#[test]
fn truncated_segment_is_refused_or_a_torn_tail() {
    let Log { rig, ids } = log();
    for file in [FileId::Wal(1), FileId::Wal(2)] {
        for kept in 0..rig.disk.bytes(file).len() {
            for hole in [false, true] {
                let mut rig = rig.clone();
                rig.disk.edit(file, |bytes| {
                    if hole { bytes[kept..].fill(0) } else { bytes.truncate(kept) }
                });
                let Ok(recovered) = rig.recover() else { continue };
                let found = recovered.records.iter().map(|record| record.id).collect::<Vec<_>>();
                assert!(ids.starts_with(&found));
                // A loss without a remaining watermark cannot be detected, but the other segment
                // has all its watermarks.
                assert!(file == FileId::Wal(2) && found.len() >= 2);
            }
        }
    }
}

/// An intact file of another version is distinguished from a damaged one; a torn version is not
/// another version.
#[test]
fn other_format_version_is_reported_as_such() {
    let Log { rig, .. } = log();
    let mut checked = 0;
    for (file, kind) in [(FileId::Wal(2), Kind::Segment), (FileId::Snapshot(1), Kind::Snapshot)] {
        let header = match kind {
            Kind::Segment => FileHeader::of_segment(rig.disk.bytes(file)),
            Kind::Snapshot => {
                FileHeader::of_snapshot(rig.disk.bytes(file)).map(|(header, _)| header)
            }
        };
        assert!(header.is_ok(), "{file} is whole");
        let mut rig = rig.clone();
        rig.disk.edit(file, |bytes| {
            // The version has a checksum of its own, which must fit: a torn version is damage.
            bytes[4] += 1;
            let preamble = crc32c::crc32c(&bytes[..8]);
            bytes[8..12].copy_from_slice(&preamble.to_le_bytes());
        });
        let found = FORMAT_VERSION + 1;
        let error = BootError::Version { file, found, readable: FORMAT_VERSION };
        assert_eq!(rig.recover().err(), Some(error));
        checked += 1;
    }
    assert_eq!(checked, 2);
}

/// An intact record that does not decode is an error of its writer, not of the disk, and no torn
/// tail.
#[test]
fn an_intact_record_that_does_not_decode_is_refused() {
    #[derive(serde::Deserialize, serde::Serialize, Debug)]
    struct Other(u32, u64, u64, u64, String);
    impl crate::contract::Label for Other {
        fn kind(&self) -> &'static str {
            "Other"
        }
        fn subject(&self) -> Option<crate::contract::Subject> {
            None
        }
    }
    let Log { rig, .. } = log();
    let error = recover::<State, Other>(&rig.disk).expect_err("it decodes");
    assert!(
        error.to_string().contains("frame 1 is intact, but its payload does not decode"),
        "{error}"
    );
}

fn disk_of(files: &[(FileId, Vec<u8>)]) -> Disk {
    let mut disk = Disk::default();
    for (file, bytes) in files {
        disk.append(*file, bytes);
    }
    disk
}

fn any_file() -> impl Strategy<Value = FileId> {
    // The greatest number, too, as no file can have the next one.
    let number = prop_oneof![0..4u32, Just(u32::MAX)];
    prop_oneof![
        number.clone().prop_map(FileId::Wal),
        number.prop_map(FileId::Snapshot),
        Just(FileId::Scratch)
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Random bytes: refused or read, never a panic.
    #[test]
    fn arbitrary_files_never_panic(
        files in prop::collection::vec((any_file(), prop::collection::vec(any::<u8>(), 0..200)), 0..5)
    ) {
        drop(recover::<State, Record>(&disk_of(&files)));
    }

    /// A genuine log with arbitrary runs of bytes overwritten, removed or inserted: refused, or a
    /// prefix.
    #[test]
    fn arbitrary_edits_never_make_a_record(
        edits in prop::collection::vec((0..4usize, any::<u16>(), 0..40usize, any::<Vec<u8>>()), 1..4)
    ) {
        let Log { mut rig, ids } = log();
        let files = rig.disk.files();
        for (which, at, cut, put) in edits {
            rig.disk.edit(files[which % files.len()], |bytes| {
                let at = usize::from(at) % (bytes.len() + 1);
                let end = (at + cut).min(bytes.len());
                bytes.splice(at..end, put);
            });
        }
        if let Ok(recovered) = rig.recover() {
            let found = recovered.records.iter().map(|record| record.id).collect::<Vec<_>>();
            prop_assert!(ids.starts_with(&found));
        }
    }
}
