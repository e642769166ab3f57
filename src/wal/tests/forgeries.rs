//! Bytes that look like a log and are none: in holes, in values, in the wrong place.

use super::disk::{Disk, Hollow, SECTOR};
use super::rig::Rig;
use crate::contract::FileId;

const WAL: FileId = FileId::Wal(1);
const HEAD: usize = 44;
const RECORD: usize = 48;

/// A size without data is a hole of zeros, and zeros are no record.
#[test]
fn zeros_are_no_record() {
    let mut rig = Rig::started();
    rig.keep(10);
    for len in 1..100 {
        let mut rig = rig.clone();
        rig.disk.append(WAL, &vec![0; len]);
        rig.kill();
        let torn = rig.recover().expect("a torn tail is legal").torn.expect("zeros are no end");
        assert_eq!((torn.at, torn.dropped_bytes), ((HEAD + RECORD) as u64, len as u64));
        assert_eq!(rig.ids(), [1]);
    }
}

/// 1. A client foretells this very log, even how it will go on, and writes it into a value: same life, same segment,
///    watermarks that are still to come.
/// 2. The power cut takes the first sector of the record that carries it.
/// 3. The frames in the value are looked at now, at places that are not their own: if one told its watermark, the
///    node would refuse to start; if one continued the log, it would make up records.
#[test]
fn a_log_in_a_value_is_no_log() {
    let mut rig = Rig::started();
    for _ in 0..21 {
        rig.keep(10);
    }
    let start = rig.disk.bytes(WAL).len();
    let mut future = rig.clone();
    for _ in 0..21 {
        future.keep(10);
    }
    let _unsynced = rig.append_value(future.disk.bytes(WAL).to_vec());
    rig.perform_all();
    let lost = start..(start / SECTOR + 1) * SECTOR;
    assert!(lost.len() > 36, "the true header must be lost");
    rig.disk.edit(WAL, |bytes| bytes[lost].fill(0));
    rig.kill();
    assert_eq!(rig.recover().expect("a torn tail is legal").torn.map(|torn| torn.at), Some(start as u64));
    assert_eq!(rig.ids().len(), 21);
}

/// As long as its own header stands, what is in a value is not even looked at.
#[test]
fn a_log_in_a_value_comes_back_as_a_value() {
    let mut rig = Rig::started();
    rig.keep(10);
    let log = rig.disk.bytes(WAL).to_vec();
    let _ticket = rig.append_value(log.clone());
    rig.force();
    rig.settle();
    rig.stop();
    assert_eq!(rig.recover().expect("the disk is fine").records[1].value, log);
}

/// The last record once more behind itself, and the first one in the place of the second.
#[test]
fn a_frame_holds_in_one_place_only() {
    let mut rig = Rig::started();
    rig.keep(10);
    rig.keep(10);
    rig.stop();
    let first = rig.disk.bytes(WAL)[HEAD..HEAD + RECORD].to_vec();
    let second = rig.disk.bytes(WAL)[HEAD + RECORD..].to_vec();
    let mut again = rig.clone();
    again.disk.append(WAL, &second);
    assert_eq!(again.ids(), [1, 2]);
    rig.disk.edit(WAL, |bytes| bytes[HEAD + RECORD..].copy_from_slice(&first));
    assert_eq!(rig.ids(), [1]);
}

/// Two runs from one disk write segments of one number; the second reads blocks of the first in its hole. They are of
/// the same length, in the same place, intact, and of another life.
#[test]
fn blocks_of_a_dead_life_are_not_ours() {
    let fork = |entropy| {
        let mut rig = Rig::new();
        rig.options.entropy = entropy;
        rig.start();
        rig.keep(10);
        rig
    };
    let dead = fork(1);
    for from in [0, HEAD] {
        let mut rig = fork(2);
        rig.disk.edit(WAL, |bytes| bytes[from..].copy_from_slice(&dead.disk.bytes(WAL)[from..]));
        rig.kill();
        assert!(rig.recover().expect("nobody says that it was durable").torn.is_some());
        assert_eq!(rig.ids(), []);
    }
}

/// The snapshot of a life that lost its name is only scratch: it is removed before a new one is written, so the two
/// never mix.
#[test]
fn a_leftover_scratch_is_not_continued() {
    let mut rig = Rig::started();
    rig.keep(10);
    rig.compact();
    rig.perform_all();
    rig.power_cut(&mut Hollow);
    let leftover = |disk: &Disk| disk.bytes(FileId::Scratch).to_vec();
    assert!(!leftover(&rig.disk).is_empty());
    rig.boot().expect("a leftover is no damage");
    rig.perform_all();
    assert_eq!(leftover(&rig.disk)[..4], *b"SGsn");
    rig.settle();
    assert_eq!(rig.ids(), [1]);
}
