//! D1-D4: sectors, sizes, tears and holes.

use super::*;
use crate::disk::{HEADER_BYTES, SECTOR_BYTES, Tear};

/// D1. One append of three sectors; the first and the last reach the platter, the one between does
/// not. Only a barrier orders them.
#[test]
fn d1_a_later_sector_can_survive_an_earlier_one() {
    let mut disk = Disk::with_durable_file(LOG, b"");
    disk.write(LOG, "New", &[7; 3 * SECTOR_BYTES]);
    // Byte 1300 lies in the third sector, which begins at 1024.
    assert!(some_subset(&disk, |disk| {
        let bytes = disk.bytes(LOG).expect("synced name");
        bytes.len() == 3 * SECTOR_BYTES
            && bytes[0] == 7
            && bytes[SECTOR_BYTES] == 0
            && bytes[1300] == 7
    }));
}

/// D1. Two appends to two files, no barrier between them; only the later one survives.
#[test]
fn d1_only_a_barrier_orders_writes_to_two_files() {
    let mut disk = Disk::with_durable_file(LOG, b"");
    disk.write(OTHER, "Old", b"");
    disk.sync_dir_now();
    disk.write(LOG, "First", b"first");
    disk.write(OTHER, "Second", b"second");
    let second_only =
        |disk: &Disk| disk.len(LOG) == Some(0) && disk.text(OTHER).as_deref() == Some("second");
    assert!(some_subset(&disk, second_only));
}

/// D1. Two appends share a sector. Without tearing, the sector is as it was before the first,
/// between the two, or after the second; never does it have the second and not the first.
#[test]
fn d1_writes_to_one_sector_keep_their_order() {
    let mut disk = Disk::with_durable_file(LOG, b"");
    disk.write(LOG, "First", b"first");
    disk.write(LOG, "Second", b"second");
    let mut outcomes: Vec<String> =
        (0..300).filter_map(|key| disk.after_power_cut(&subset(key)).text(LOG)).collect();
    outcomes.sort();
    outcomes.dedup();
    assert!(
        outcomes.iter().all(|text| !text.contains("second") || text.starts_with("first")),
        "{outcomes:?}"
    );
    // In the third one the size of the second append has survived, and its data has not.
    for reachable in ["", "first", "first\0\0\0\0\0\0", "firstsecond"] {
        assert!(
            outcomes.iter().any(|text| text == reachable),
            "{reachable:?} is not in {outcomes:?}"
        );
    }
}

/// D2. Every kind of survival, on the same disk.
#[test]
fn d2_each_survival_keeps_its_documented_bytes() {
    let mut disk = Disk::with_durable_file(LOG, b"old.");
    disk.write(LOG, "First", b"first.");
    disk.write(LOG, "New", b"a new record.");
    disk.write(LOG, "Last", b"last.");
    let left = |survival: Survival| disk.after_power_cut(&survival).text(LOG).expect("synced name");
    assert_eq!(left(Survival::None), "old.");
    assert_eq!(left(Survival::All), "old.first.a new record.last.");
    assert_eq!(left(Survival::Prefix(2)), "old.first.a new record.");
    assert_eq!(
        left(Survival::AllBut(append_named("New"))),
        "old.first.\0\0\0\0\0\0\0\0\0\0\0\0\0last."
    );
    assert_eq!(left(Survival::AllBut(append_named("Last"))), "old.first.a new record.");
}

/// D2. A tear is described by structure: header, half, all but the last sector. The file ends
/// there, or continues with a hole.
#[test]
fn d2_a_tear_leaves_a_part_of_one_append() {
    let mut disk = Disk::with_durable_file(LOG, b"old.");
    disk.write(LOG, "New", &[7; 2 * SECTOR_BYTES]);
    let torn = |how, hole| {
        disk.after_power_cut(&Survival::Torn { at: append_named("New"), how, hole })
            .bytes(LOG)
            .expect("synced name")
    };
    assert_eq!(torn(Tear::Header, None).len(), 4 + HEADER_BYTES);
    assert_eq!(torn(Tear::Half, None).len(), 4 + SECTOR_BYTES);
    assert_eq!(torn(Tear::LastSectorMissing, None).len(), 2 * SECTOR_BYTES);
    let holed = torn(Tear::Header, Some(Holes::Zeros));
    assert_eq!(holed.len(), 4 + 2 * SECTOR_BYTES);
    assert!(holed[4..4 + HEADER_BYTES].iter().all(|byte| *byte == 7));
    assert!(holed[4 + HEADER_BYTES..].iter().all(|byte| *byte == 0));
    assert!(
        torn(Tear::Header, Some(Holes::Garbage))[4 + HEADER_BYTES..].iter().any(|byte| *byte != 0)
    );
}

/// D2. Within one sector a subset can tear a write: its first bytes, its last bytes, or garbage. So
/// an intact record can follow a broken one.
#[test]
fn d2_a_subset_tears_inside_a_sector() {
    let mut disk = Disk::with_durable_file(LOG, b"");
    disk.write(LOG, "New", b"abcdefgh");
    disk.write(LOG, "Next", b"intact");
    let tears = |wanted: &dyn Fn(&str, &[u8]) -> bool| {
        // More keys than elsewhere: one append is torn in one of three ways, and the other must be
        // whole.
        (0..2000).any(|key| {
            let survival =
                Survival::Subset { key, keep: permille(500), tear: true, holes: Holes::Zeros };
            let bytes = disk.after_power_cut(&survival).bytes(LOG).expect("synced name");
            bytes.len() == 14 && wanted(&String::from_utf8_lossy(&bytes[..8]), &bytes[8..])
        })
    };
    assert!(tears(&|new, _| new.starts_with("abc") && new.ends_with('\0')), "a prefix");
    assert!(tears(&|new, _| new.starts_with('\0') && new.ends_with("fgh")), "a suffix");
    assert!(tears(&|new, _| !new.contains(['\0', 'a', 'h'])), "garbage");
    assert!(tears(&|new, next| new != "abcdefgh" && next == b"intact"), "broken, then intact");
}

/// D2, power-safe overwrite. A record is synced; the next one shares its sector and is torn, lost,
/// or garbage. The first is never affected.
#[test]
fn d2_a_synced_byte_in_a_shared_sector_is_never_destroyed() {
    let mut disk = Disk::with_durable_file(LOG, b"synced");
    // 506 of these bytes share the sector of the synced ones, the others lie in the next.
    disk.write(LOG, "New", &[7; 700]);
    for survival in all_survivals(500) {
        let text = disk.after_power_cut(&survival).text(LOG).expect("synced name");
        assert!(text.starts_with("synced"), "{survival:?}");
    }
}

/// D3. The size reaches the platter, the data does not: zeros, or garbage.
#[test]
fn d3_a_size_can_survive_without_its_data() {
    let mut disk = Disk::with_durable_file(LOG, b"old.");
    disk.write(LOG, "New", b"abcd");
    assert!(some_subset(&disk, |disk| disk.bytes(LOG).as_deref() == Some(b"old.\0\0\0\0")));
    assert!((0..300).any(|key| {
        let survival =
            Survival::Subset { key, keep: permille(500), tear: false, holes: Holes::Garbage };
        let bytes = disk.after_power_cut(&survival).bytes(LOG).expect("synced name");
        bytes.len() == 8 && &bytes[4..] != b"abcd" && &bytes[4..] != b"\0\0\0\0"
    }));
}

/// D3. The data reaches the platter, the size does not: there is nothing to read.
#[test]
fn d3_data_without_its_size_is_lost() {
    let mut disk = Disk::with_durable_file(LOG, b"old.");
    disk.write(LOG, "New", b"abcd");
    let mut kept = 0;
    let mut lost = 0;
    for key in 0..300 {
        let mut disk = disk.clone();
        let report = disk.power_cut(&subset(key));
        if report.lost_sectors == 0 && disk.len(LOG) == Some(8) {
            kept += 1;
        } else if report.lost_sectors == 0 {
            lost += 1;
            assert_eq!(report.appends[0].kept, 0);
            assert_eq!(disk.text(LOG).as_deref(), Some("old."));
        }
    }
    assert!(kept > 0);
    assert!(lost > 0);
}

/// D3.
/// 1. An incarnation writes its log; the file is synced, its name is not.
/// 2. The power fails, and the creation is lost with the name.
/// 3. The next incarnation writes a log of the same name; the power fails again, and only its size
///    survives.
/// 4. The hole shows the frames of the first incarnation.
#[test]
fn d3_a_hole_can_show_a_block_of_a_file_whose_creation_was_lost() {
    let mut disk = Disk::default();
    disk.write(LOG, "Old", &[3; 2 * SECTOR_BYTES]);
    disk.sync_now(LOG);
    disk.power_cut(&Survival::None);
    assert!(shows_old_block(&mut disk));
}

/// D3. The same with a file that was removed, durably.
#[test]
fn d3_a_hole_can_show_a_block_of_a_file_that_was_removed() {
    let mut disk = Disk::with_durable_file(LOG, &[3; 2 * SECTOR_BYTES]);
    disk.remove(LOG);
    assert!(!shows_old_block(&mut disk.clone()), "its blocks are not free yet");
    disk.sync_dir_now();
    assert!(shows_old_block(&mut disk));
}

/// D3. A record of a removed file appears exactly behind the last record that has survived, in the
/// middle of a sector and over more than one.
#[test]
fn d3_a_hole_can_show_an_old_record_exactly_behind_the_last_one() {
    let old_record = [b"Rec:".as_slice(), &[5; 2 * SECTOR_BYTES]].concat();
    let mut disk = Disk::with_durable_file(LOG, &[b"header".as_slice(), &old_record].concat());
    disk.remove(LOG);
    disk.sync_dir_now();
    disk.write(OTHER, "New", b"a header of another length");
    disk.sync_now(OTHER);
    disk.sync_dir_now();
    let synced = disk.len(OTHER).expect("it was written") as usize;
    disk.write(OTHER, "New", &[b"Rec:".as_slice(), &[6; 2 * SECTOR_BYTES]].concat());
    let shows_old_record = |key| {
        let survival =
            Survival::Subset { key, keep: permille(500), tear: false, holes: Holes::OldBlocks };
        disk.after_power_cut(&survival).bytes(OTHER).is_some_and(|bytes| {
            bytes.len() == synced + old_record.len() && bytes[synced..] == old_record
        })
    };
    assert!((0..300).any(shows_old_record));
}

fn shows_old_block(disk: &mut Disk) -> bool {
    disk.write(OTHER, "Header", b"");
    disk.sync_dir(BARRIER);
    let mut disk = disk.clone();
    disk.write(OTHER, "New", &[4; 2 * SECTOR_BYTES]);
    (0..300).any(|key| {
        let survival =
            Survival::Subset { key, keep: permille(500), tear: false, holes: Holes::OldBlocks };
        let mut disk = disk.clone();
        let report = disk.power_cut(&survival);
        let bytes = disk.bytes(OTHER).unwrap_or_default();
        assert_eq!(
            report.holes_with_old_blocks > 0 && disk.len(OTHER).is_some(),
            bytes.contains(&3)
        );
        bytes.contains(&3)
    })
}

/// D4. `Sync` covers data, size and truncations of its file and of no other, and not the name.
#[test]
fn d4_sync_covers_one_file_and_not_its_name() {
    let mut disk = Disk::with_durable_file(LOG, b"a long old tail");
    disk.write(OTHER, "Other", b"other");
    disk.truncate(LOG, 2);
    disk.write(LOG, "New", b"bc");
    disk.sync_now(LOG);
    disk.write(SCRATCH, "New", b"nameless");
    disk.sync_now(SCRATCH);
    assert!(disk.is_durable(LOG, 4));
    assert!(!disk.is_durable(SCRATCH, 0));
    assert!(!disk.name_is_durable(SCRATCH));
    disk.power_cut(&Survival::None);
    assert_eq!(contents(&disk), [(LOG, b"a bc".to_vec())]);
}

/// D4. A sync covers the operations issued before it, not those issued while it is pending.
#[test]
fn d4_a_sync_does_not_cover_bytes_appended_after_its_issue() {
    let mut disk = Disk::with_durable_file(LOG, b"old.");
    disk.write(LOG, "First", b"first.");
    disk.sync(OpId(1), LOG);
    disk.write(LOG, "Second", b"second.");
    assert_eq!(disk.complete(OpId(1), Ok(())), Ok(()));
    assert!(disk.is_durable(LOG, 10));
    assert!(!disk.is_durable(LOG, 11));
    assert_eq!(disk.after_power_cut(&Survival::None).text(LOG).as_deref(), Some("old.first."));
}

/// A survival identifies an append by kind and subject: the second of two alike, whatever is
/// appended before. If there is none, the report says so.
#[test]
fn an_append_is_identified_by_kind_subject_and_ordinal() {
    let mut disk = Disk::with_durable_file(LOG, b"");
    disk.write(LOG, "New", b"one.");
    disk.write(LOG, "Noise", b"noise.");
    disk.write(LOG, "New", b"two.");
    let second = AppendName { nth: 1, ..append_named("New") };
    assert_eq!(
        disk.unsynced_appends(),
        [append_named("New"), append_named("Noise"), second.clone()]
    );
    assert_eq!(
        disk.after_power_cut(&Survival::AllBut(second)).text(LOG).as_deref(),
        Some("one.noise.")
    );
    let report = disk.power_cut(&Survival::AllBut(AppendName { nth: 2, ..append_named("New") }));
    assert!(report.unmatched);
    assert_eq!(disk.text(LOG).as_deref(), Some("one.noise.two."));
}

/// The decision of a subset about one append does not depend on its offset, the length of similar
/// appends, or the number of the file.
#[test]
fn a_subset_keeps_the_same_operations_when_records_grow() {
    let kept_bytes_by_key = |file: FileId, before: usize, len: usize| {
        let mut disk = Disk::with_durable_file(file, &vec![1; before]);
        disk.write(file, "Prepared", &vec![2; len]);
        disk.write(OTHER, "Other", &vec![2; len]);
        let kept = |key| {
            let report = disk.clone().power_cut(&subset(key));
            report.appends.iter().map(|outcome| outcome.kept > 0).collect::<Vec<_>>()
        };
        (0..200).map(kept).collect::<Vec<_>>()
    };
    // Another file number, another offset and other lengths; the kinds and the role are the same.
    assert_eq!(kept_bytes_by_key(LOG, 10, 40), kept_bytes_by_key(FileId::Wal(7), 100, 90));
}
