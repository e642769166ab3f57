//! What a power cut may legally do to the end of a log, and what must not come of it.

use super::disk::{Hollow, LostFrom, SECTOR};
use super::rig::{Rig, files};
use crate::contract::FileId;

const WAL: FileId = FileId::Wal(1);
/// A record with ten bytes: a frame of 36, an id and a length.
const RECORD: usize = 48;
const HEAD: usize = 44;

/// Two records are durable, one is written and not synced. Wherever the power cut tears it, it is gone as a whole
/// or there as a whole, and the node starts.
#[test]
fn a_record_torn_anywhere_is_forgotten() {
    let mut rig = Rig::started();
    rig.keep(10);
    rig.keep(10);
    let _unsynced = rig.append(2 * SECTOR);
    rig.perform_all();
    let (start, end) = (HEAD + 2 * RECORD, rig.disk.bytes(WAL).len());
    for cut in start..=end {
        let mut rig = rig.clone();
        rig.power_cut(&mut LostFrom(cut));
        let recovered = rig.recover().expect("a torn tail is legal");
        assert_eq!(recovered.torn.map(|torn| torn.at), (cut < end).then_some(start as u64), "torn at {cut}");
        assert_eq!(rig.ids().len(), 2 + usize::from(cut == end), "torn at {cut}");
    }
}

/// The head comes with the first record and is no more durable than that.
#[test]
fn a_torn_head_is_a_torn_tail() {
    let mut rig = Rig::started();
    let _unsynced = rig.append(10);
    rig.perform_all();
    for cut in 0..HEAD {
        let mut rig = rig.clone();
        rig.power_cut(&mut LostFrom(cut));
        let torn = rig.recover().expect("a torn tail is legal").torn.expect("it is torn");
        assert_eq!((torn.file, torn.at), (WAL, 0), "torn at {cut}");
        rig.start();
        assert_eq!(files(&rig), "snapshot.2");
    }
}

/// 1. Two records are written, over sectors of their own, and not synced.
/// 2. The power cut takes the first one's sectors and leaves the second's.
/// 3. The second is intact, and yet the log ends before it: nobody was promised either.
/// 4. It never comes back, not even when the log has grown over its place.
#[test]
fn an_intact_record_behind_a_broken_one_is_a_legal_tail() {
    let mut rig = Rig::started();
    rig.keep(10);
    let _broken = rig.append(2 * SECTOR);
    let _intact = rig.append(2 * SECTOR);
    rig.perform_all();
    rig.disk.edit(WAL, |bytes| bytes[HEAD + RECORD..2 * SECTOR].fill(0));
    rig.kill();
    let torn = rig.recover().expect("a torn tail is legal").torn.expect("it is torn");
    assert_eq!(torn.at, (HEAD + RECORD) as u64);
    assert_eq!(torn.to_string(), "wal.1 torn at 92");
    assert_eq!(rig.ids(), [1]);
    rig.start();
    rig.keep(10);
    rig.stop();
    assert_eq!(rig.ids(), [1, 4]);
}

/// A torn tail is cut off by leaving it behind: a second crash finds no trace of it.
#[test]
fn a_torn_tail_is_torn_once() {
    let mut rig = Rig::started();
    rig.keep(10);
    let _unsynced = rig.append(700);
    rig.perform_all();
    rig.power_cut(&mut Hollow);
    assert!(rig.recover().expect("a torn tail is legal").torn.is_some());
    rig.start();
    rig.keep(10);
    rig.power_cut(&mut Hollow);
    assert_eq!(rig.recover().expect("the disk is fine").torn, None);
    assert_eq!(rig.ids(), [1, 3]);
}

/// A compaction has begun wal.2 and its data is lost in a power cut, so the log ends with wal.1. The next life is
/// number 3 and leaves both behind.
#[test]
fn a_hollow_segment_of_a_cut_compaction_is_a_torn_tail() {
    let mut rig = Rig::started();
    rig.keep(10);
    rig.compact();
    let _unsynced = rig.append(10);
    rig.perform_all();
    rig.power_cut(&mut Hollow);
    assert_eq!(files(&rig), "wal.1 wal.2 snapshot.1 scratch");
    let torn = rig.recover().expect("a torn tail is legal").torn.expect("it is torn");
    assert_eq!((torn.file, torn.at), (FileId::Wal(2), 0));
    rig.start();
    assert_eq!(files(&rig), "snapshot.3");
    assert_eq!(rig.ids(), [1]);
}

/// A regression.
/// 1. A life compacts to wal.2 and dies; the creation of wal.2 is lost, its blocks remain on the platter.
/// 2. The next life begins with snapshot.2, compacts to wal.3 and appends.
/// 3. A power cut keeps name and size of wal.3, but not its data: the hole shows the head of the old wal.2.
/// 4. Recovery took it for proof that another life had begun at 3, whose snapshot was missing, and refused.
#[test]
fn an_old_head_in_a_hole_is_no_lost_snapshot() {
    let mut rig = Rig::started();
    rig.keep(10);
    let mut first = rig.clone();
    first.compact();
    let _lost = first.append(10);
    first.perform_all();
    let old_block = first.disk.bytes(FileId::Wal(2)).to_vec();
    rig.start();
    rig.keep(10);
    rig.compact();
    let _lost = rig.append(10);
    rig.perform_all();
    rig.disk.edit(FileId::Wal(3), |bytes| bytes.copy_from_slice(&old_block));
    rig.kill();
    assert_eq!(files(&rig), "wal.2 wal.3 snapshot.2 scratch");
    let torn = rig.recover().expect("a torn tail is legal").torn.expect("it is torn");
    assert_eq!((torn.file, torn.reason), (FileId::Wal(3), "the head is that of another segment"));
    assert_eq!(rig.ids(), [1, 2]);
}
