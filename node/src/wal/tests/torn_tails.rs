//! Where a log ends: torn tails are legal and dropped, damage is refused, and only the watermark
//! distinguishes them.

use super::disk::{KeepLengthsOnly, LoseBytesFrom, LoseUnsynced, SECTOR, SurvivalPolicy};
use super::rig::Rig;
use crate::contract::{BootError, FileId};
use crate::wal::frame::{ChecksumSeed, FRAME_BYTES, ParsedFrame};

/// A power cut during an append, at any byte. Forced records stay; the torn record is neither taken
/// for one nor a reason to refuse.
#[test]
fn torn_append_is_dropped() {
    let mut rig = Rig::started();
    rig.append_durably(20);
    let whole = rig.disk.bytes(FileId::Wal(1)).len();
    // Longer than a sector, so that it is also torn at the border of one.
    rig.append_untracked(700);
    rig.perform_all();
    let torn = rig.disk.bytes(FileId::Wal(1)).len();
    for kept in whole..torn {
        let mut rig = rig.clone();
        rig.disk.edit(FileId::Wal(1), |bytes| bytes.truncate(kept));
        assert_eq!(rig.ids(), [1]);
        let tail = rig.recover().expect("a torn tail is legal").torn;
        assert_eq!(
            tail.map(|tail| (tail.at, tail.dropped_bytes)),
            (kept > whole).then_some((whole as u64, (kept - whole) as u64))
        );
    }
}

/// 1. A power cut tears record two.
/// 2. The next incarnation appends record 3 and forces it.
/// 3. Another power cut: if record 3 had been written after the torn bytes, it would be lost now.
#[test]
fn new_records_are_not_written_behind_a_torn_tail() {
    let mut rig = Rig::started();
    rig.append_durably(20);
    rig.append_untracked(700);
    rig.perform_all();
    rig.power_cut(&mut LoseBytesFrom(SECTOR));
    assert_eq!(
        // 44 bytes of file header, 32 of frame header, and a payload of 22: id, length, and 20
        // bytes.
        rig.recover().expect("legal").torn.expect("it is torn").to_string(),
        "wal.1 torn at 98"
    );
    rig.start();
    rig.append_durably(20);
    rig.power_cut(&mut LoseUnsynced);
    assert_eq!(rig.ids(), [1, 3]);
}

/// One bit of record 2 flips; that record 3 was forced after it proves that it had been durable.
#[test]
fn boot_fails_on_damage_before_durable_records() {
    let mut rig = Rig::started();
    rig.append_durably(20);
    let second = rig.disk.bytes(FileId::Wal(1)).len();
    rig.append_durably(20);
    rig.append_durably(20);
    // In the payload: the header stays valid, and with it the watermark.
    rig.disk.edit(FileId::Wal(1), |bytes| bytes[second + FRAME_BYTES + 5] ^= 8);
    let Err(BootError::Damaged { file, at, reason }) = rig.boot() else { panic!("boot must fail") };
    assert_eq!((file, at), (FileId::Wal(1), second as u64));
    assert_eq!(
        reason,
        "the frame's payload is not intact; the log ends with record 1, 2 were durable"
    );
}

/// The first sectors of an unforced record are lost, those after it survive with two intact records
/// in them. No watermark covers them: a legal torn tail.
#[test]
fn intact_records_behind_a_lost_one_are_a_legal_torn_tail() {
    let mut rig = Rig::started();
    rig.append_durably(20);
    rig.append_untracked(3 * SECTOR);
    rig.append_untracked(20);
    rig.append_untracked(20);
    rig.force();
    rig.perform_all();
    rig.disk.edit(FileId::Wal(1), |bytes| bytes[SECTOR..2 * SECTOR].fill(0));
    assert_eq!(rig.ids(), [1]);
    rig.start();
}

/// 1. Record 1 is forced, its barrier is in flight.
/// 2. Record 2 is appended.
/// 3. A power cut keeps the second record and not the first.
///
/// A watermark that is raised when the barrier is *issued* would call this damage.
#[test]
fn incomplete_barrier_raises_no_watermark() {
    let mut rig = Rig::started();
    rig.append_untracked(3 * SECTOR);
    rig.force();
    rig.append_untracked(20);
    rig.perform_all();
    rig.disk.edit(FileId::Wal(1), |bytes| bytes[SECTOR..2 * SECTOR].fill(0));
    assert_eq!(rig.ids(), [0; 0]);
    rig.start();
}

/// The same at boot:
/// 1. Record 1 is never forced; a kill leaves it in the page cache.
/// 2. The next incarnation reads it and crashes before its snapshot is durable.
/// 3. The power cut removes record 1: reading it had raised no watermark.
#[test]
fn reading_at_boot_raises_no_watermark() {
    let mut rig = Rig::started();
    rig.append_untracked(20);
    rig.perform_all();
    rig.boot().expect("fine");
    assert_eq!(rig.state.ids, [1]);
    rig.append_untracked(20);
    rig.perform_all();
    rig.power_cut(&mut KeepLengthsOnly);
    rig.start();
    assert_eq!(rig.state.ids, [0; 0]);
}

/// The size survived, the data did not: a hole of zeros, of any length, holds no record and no
/// watermark.
#[test]
fn hole_of_zeros_contains_no_record() {
    let mut rig = Rig::started();
    rig.append_durably(20);
    for zeros in 0..3 * SECTOR {
        let mut rig = rig.clone();
        rig.disk.edit(FileId::Wal(1), |bytes| bytes.resize(bytes.len() + zeros, 0));
        assert_eq!(rig.ids(), [1]);
    }
    // Without any watermark nothing says that record 1 was durable.
    rig.disk.edit(FileId::Wal(1), |bytes| bytes.fill(0));
    assert_eq!(rig.ids(), [0; 0]);
}

/// For every seed and offset: not by chance, but because a frame begins with a magic number.
#[test]
fn zeros_are_not_a_frame_under_any_seed() {
    let zeros = [0; 4096];
    for number in 0..5000u32 {
        // Multiplied, so that the fingerprints are spread over all 32 bits.
        let seed = ChecksumSeed::new(number.wrapping_mul(0x9E37_79B9), number);
        assert!((0..64).all(|at| ParsedFrame::parse(&zeros, at, seed).is_none()));
    }
}

/// A torn header: every other value of each byte of a frame's length is detected, whether the frame
/// is the last or not.
#[test]
fn frame_checksum_covers_the_length() {
    let mut rig = Rig::started();
    rig.append_durably(20);
    let second = rig.disk.bytes(FileId::Wal(1)).len();
    rig.append_untracked(300);
    rig.flush_and_power_cut();
    assert_eq!(rig.ids(), [1, 2]);
    // A frame has its length in these four bytes.
    for byte in second + 16..second + 20 {
        for flip in 1..=255 {
            let mut rig = rig.clone();
            rig.disk.edit(FileId::Wal(1), |bytes| bytes[byte] ^= flip);
            assert_eq!(rig.ids(), [1]);
        }
    }
}

/// The first sector of a segment is lost, with its header: legal as long as nothing in it was
/// forced.
#[test]
fn a_segment_without_its_head_is_a_torn_tail() {
    let mut rig = Rig::started();
    rig.append_untracked(20);
    rig.append_untracked(2 * SECTOR);
    rig.append_untracked(20);
    rig.perform_all();
    rig.power_cut(&mut LoseBytesBelow(SECTOR));
    assert_eq!(rig.ids(), [0; 0]);
    assert_eq!(rig.recover().expect("legal").torn.expect("it is torn").at, 0);
    rig.start();
}

/// The same sector is lost after a barrier: the records after it prove that, although the header
/// with their checksum seed is lost.
#[test]
fn a_lost_head_before_durable_records_is_damage() {
    let mut rig = Rig::started();
    rig.append_durably(2 * SECTOR);
    rig.append_durably(20);
    rig.disk.edit(FileId::Wal(1), |bytes| bytes[..SECTOR].fill(0));
    let Err(BootError::Damaged { file, at, .. }) = rig.boot() else { panic!("boot must fail") };
    assert_eq!((file, at), (FileId::Wal(1), 0));
}

/// A whole segment is missing, and the next one proves that it had been durable.
#[test]
fn a_missing_segment_is_damage() {
    let mut rig = Rig::started();
    rig.append_durably(20);
    rig.append_untracked(20);
    rig.compact();
    rig.perform_all();
    rig.append_untracked(20);
    rig.perform_all();
    rig.disk.delete_silently(FileId::Wal(1));
    let Err(BootError::Damaged { file, .. }) = rig.boot() else { panic!("boot must fail") };
    assert_eq!(file, FileId::Wal(2));
}

/// All bytes below this offset of any file are lost.
struct LoseBytesBelow(usize);

impl SurvivalPolicy for LoseBytesBelow {
    fn keeps_name(&mut self, _: FileId) -> bool {
        true
    }
    fn keeps_size(&mut self, _: FileId) -> bool {
        true
    }
    fn keeps_bytes(&mut self, _: FileId, at: usize, len: usize) -> usize {
        if at >= self.0 { len } else { 0 }
    }
    fn hole_contents(&mut self, _: usize, _: &[(usize, Vec<u8>)]) -> Vec<u8> {
        vec![0; SECTOR]
    }
}
