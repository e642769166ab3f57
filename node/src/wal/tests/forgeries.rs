//! Bytes that look like frames and are not: in values, in holes, in the wrong place.

use super::Record;
use super::disk::{LoseUnsynced, SECTOR};
use super::rig::Rig;
use crate::codec;
use crate::contract::FileId;
use crate::wal::file_header::{FILE_HEADER_BYTES, FileHeader, u32_at};
use crate::wal::frame::{ChecksumSeed, FRAME_BYTES, Frame};

/// A frame for the given place whose watermark says that a million records are durable.
fn forged(fingerprint: u32, number: u32, offset: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    let frame = Frame {
        seed: ChecksumSeed::new(fingerprint, number),
        offset,
        previous_checksum: 0,
        position: 1_000_001,
        watermark: 1_000_000,
    };
    frame.write(&mut bytes, |buffer| buffer.extend_from_slice(b"forged"));
    bytes
}

fn fingerprint_of(rig: &Rig) -> u32 {
    FileHeader::of_segment(rig.disk.bytes(FileId::Wal(1))).expect("a whole header").fingerprint
}

/// 1. A client stores a copy of this very log as a value.
/// 2. The power cut loses the sector with the record's header and keeps the copies after it, which
///    have watermarks. They were made for other offsets.
#[test]
fn copy_of_the_log_inside_a_value_raises_no_watermark() {
    // Every shift puts the copy at another offset, and none of them is that of the original.
    for shift in 0..64 {
        let mut rig = Rig::started();
        rig.append_durably(20);
        rig.append_durably(20);
        let third = rig.disk.bytes(FileId::Wal(1)).len();
        rig.append_durably(20);
        rig.append_durably(20);
        let mut value = vec![0; 2 * SECTOR + shift];
        value.extend_from_slice(rig.disk.bytes(FileId::Wal(1)));
        rig.append_value_untracked(value);
        rig.perform_all();
        // The true frames 3 and 4 are lost with the sector; the copy of 4 still says that 3 had
        // been durable.
        rig.disk.edit(FileId::Wal(1), |bytes| bytes[third..SECTOR].fill(0));
        assert_eq!(rig.ids(), [1, 2]);
    }
}

/// A client that could predict fingerprint, segment and offset might forge a frame. It is not read
/// as long as the true record around it is intact.
#[test]
fn forged_frame_inside_an_intact_record_is_ignored() {
    let mut rig = Rig::started();
    rig.append_durably(20);
    let offset = rig.disk.bytes(FileId::Wal(1)).len() + FRAME_BYTES + 50;
    let fingerprint = fingerprint_of(&rig);
    for at in offset..offset + 50 {
        let mut value = vec![0; 200];
        let place = at - offset + 30;
        let forgery = forged(fingerprint, 1, at as u64);
        value[place..place + forgery.len()].copy_from_slice(&forgery);
        let mut rig = rig.clone();
        rig.append_value_untracked(value);
        rig.flush_and_power_cut();
        assert_eq!(rig.ids(), [1, 2]);
    }
}

/// A forgery with a wrong fingerprint, segment number or offset has no watermark, even after a
/// break; one with all three right would. That is how much a client has to guess.
#[test]
fn forged_frame_needs_the_right_fingerprint_number_and_offset() {
    let mut rig = Rig::started();
    rig.append_durably(20);
    let at = rig.disk.bytes(FileId::Wal(1)).len() + 100;
    let fingerprint = fingerprint_of(&rig);
    let accepted = |fingerprint, number, offset| {
        let mut rig = rig.clone();
        let forgery = forged(fingerprint, number, offset);
        rig.disk.edit(FileId::Wal(1), |bytes| {
            bytes.resize(at, 0);
            bytes.extend_from_slice(&forgery);
        });
        rig.recover().is_err()
    };
    assert!(accepted(fingerprint, 1, at as u64));
    assert!(
        (0..10_000)
            .all(|wrong_guess| wrong_guess == at as u64 || !accepted(fingerprint, 1, wrong_guess))
    );
    assert!(
        (0..1000)
            .all(|wrong_guess| wrong_guess == 1 || !accepted(fingerprint, wrong_guess, at as u64))
    );
    assert!((1..32).all(|bit| !accepted(fingerprint ^ (1 << bit), 1, at as u64)));
}

/// Two incarnations happen to share a fingerprint, and an old block of one appears in the other's
/// segment, where it has the right offset and position. Its previous checksum is not that of the
/// record before it.
#[test]
fn a_frame_with_another_previous_checksum_does_not_continue_the_log() {
    let mut rig = Rig::started();
    rig.append_durably(20);
    let genuine = rig.disk.bytes(FileId::Wal(1)).to_vec();
    let last_checksum = u32_at(&genuine, FILE_HEADER_BYTES + 4);
    let follow = |previous_checksum, position| {
        let seed = ChecksumSeed::new(fingerprint_of(&rig), 1);
        let frame =
            Frame { seed, offset: genuine.len() as u64, previous_checksum, position, watermark: 1 };
        let mut bytes = genuine.clone();
        frame.write(&mut bytes, |buffer| {
            codec::encode_into(&Record { id: 9, value: Vec::new() }, buffer)
        });
        let mut rig = rig.clone();
        rig.disk.edit(FileId::Wal(1), |file| *file = bytes);
        rig.ids()
    };
    assert_eq!(follow(last_checksum, 2), [1, 9]);
    assert_eq!(follow(last_checksum ^ 1, 2), [1]);
    assert_eq!(follow(last_checksum, 3), [1]);
}

/// Incarnations that begin from the same state at the same number differ in their entropy, and
/// thereby in all checksums.
#[test]
fn different_entropy_gives_different_fingerprints() {
    let fingerprint = |entropy| {
        let mut rig = Rig::new();
        rig.options().entropy = entropy;
        rig.start();
        rig.append_durably(20);
        fingerprint_of(&rig)
    };
    assert_eq!(fingerprint(1), fingerprint(1));
    assert!((2..1000).all(|entropy| fingerprint(entropy) != fingerprint(1)));
}

/// 1. Incarnation 1 compacts, and appends record 2 to wal.2; the power cut removes the file, whose
///    name was never durable.
/// 2. Incarnation 2 begins with number 2, at the same position, and appends record 3 to a wal.2 of
///    its own.
/// 3. The power cut keeps its header, which was synced, and the old block appears where record 3
///    was.
#[test]
fn stale_block_of_an_earlier_incarnation_does_not_continue_the_log() {
    let mut rig = Rig::started();
    rig.options().entropy = 7;
    rig.append_durably(20);
    rig.compact();
    rig.append_untracked(20);
    rig.perform_all();
    let old_segment = rig.disk.bytes(FileId::Wal(2)).to_vec();
    rig.power_cut(&mut LoseUnsynced);
    rig.start();
    rig.append_untracked(20);
    rig.flush_and_power_cut();
    let new_len = rig.disk.bytes(FileId::Wal(2)).len();
    assert_eq!(new_len, old_segment.len());
    let mut hole = rig.clone();
    hole.disk.edit(FileId::Wal(2), |bytes| {
        bytes[FILE_HEADER_BYTES..].copy_from_slice(&old_segment[FILE_HEADER_BYTES..])
    });
    assert_eq!(hole.ids(), [1]);
    hole.disk.edit(FileId::Wal(2), |bytes| bytes.copy_from_slice(&old_segment));
    assert_eq!(hole.ids(), [1]);
    assert_eq!(rig.ids(), [1, 3]);
}

/// A block of wal.2 appears in the first sector of wal.3, header included: it proves neither a
/// record nor that a snapshot is missing.
#[test]
fn stale_head_of_another_segment_is_ignored() {
    let mut rig = Rig::started();
    rig.append_durably(20);
    let old = rig.disk.bytes(FileId::Wal(1)).to_vec();
    rig.start();
    rig.append_durably(20);
    rig.compact();
    rig.append_untracked(20);
    rig.flush_and_power_cut();
    rig.disk.edit(FileId::Wal(3), |bytes| {
        let len = old.len().min(bytes.len());
        bytes[..len].copy_from_slice(&old[..len]);
    });
    assert_eq!(rig.ids(), [1, 2]);
}
