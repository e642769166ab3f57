//! P1, P2, D12: crashes, and the reuse of disks.

use super::*;

/// P1. The process dies. Operations issued since the last completed barrier reached the page cache
/// as a prefix, here without the last one.
#[test]
fn p1_a_kill_keeps_a_prefix_since_the_last_completed_barrier() {
    let mut disk = Disk::default();
    disk.write(LOG, "First", b"first.");
    disk.sync(OpId(1), LOG);
    // After the barrier was issued, so its completion does not cover this append.
    disk.write(LOG, "Second", b"second.");
    disk.complete(OpId(1), Ok(())).expect("nothing has failed");
    disk.write(SCRATCH, "State", b"state");
    disk.rename(SCRATCH, SNAPSHOT);
    assert_eq!(disk.in_driver_queue(), 4, "an append, a creation, an append, a rename");
    let left = |keep| {
        let mut disk = disk.clone();
        let report = disk.kill(keep);
        assert_eq!((report.in_driver_queue, report.kept), (4, keep));
        contents(&disk)
    };
    assert_eq!(left(0), [(LOG, b"first.".to_vec())]);
    assert_eq!(left(1), [(LOG, b"first.second.".to_vec())]);
    assert_eq!(left(2), [(LOG, b"first.second.".to_vec()), (SCRATCH, vec![])]);
    assert_eq!(left(3), [(LOG, b"first.second.".to_vec()), (SCRATCH, b"state".to_vec())]);
    assert_eq!(left(4), [(LOG, b"first.second.".to_vec()), (SNAPSHOT, b"state".to_vec())]);
}

/// P1. Truncations, removals and replacing renames that did not happen have no effect.
#[test]
fn p1_operations_cut_by_a_kill_have_no_effect() {
    let mut disk = Disk::with_durable_file(LOG, b"head and tail");
    disk.write(SNAPSHOT, "State", b"old");
    disk.write(SCRATCH, "State", b"new");
    disk.sync_dir_now();
    let before = contents(&disk);
    disk.truncate(LOG, 4);
    disk.write(LOG, "New", b" and new");
    disk.truncate(LOG, 6);
    disk.rename(SCRATCH, SNAPSHOT);
    disk.remove(LOG);
    disk.write(LOG, "New", b"another");
    disk.kill(0);
    assert_eq!(contents(&disk), before);
    assert_eq!(disk.after_power_cut(&Survival::All).bytes(LOG), Some(b"head and tail".to_vec()));
}

/// P1. After a kill the page cache shows unsynced data; the next power cut removes it. A second
/// kill cannot cut what the first has left.
#[test]
fn p1_operations_that_survive_a_kill_are_not_durable() {
    let mut disk = Disk::with_durable_file(LOG, b"old.");
    disk.write(LOG, "New", b"new.");
    disk.sync(OpId(1), LOG);
    disk.kill(usize::MAX);
    assert_eq!(disk.in_driver_queue(), 0);
    assert_eq!(disk.text(LOG).as_deref(), Some("old.new."));
    // Everything has left the driver's queue, so this kill has nothing to cut.
    disk.kill(0);
    assert_eq!(disk.text(LOG).as_deref(), Some("old.new."));
    assert!(disk.in_flight());
    assert!(!disk.is_durable(LOG, 5));
    assert_eq!(disk.after_power_cut(&Survival::None).text(LOG).as_deref(), Some("old."));
}

/// P2. Only synced data is sure to survive; data that has survived is durable from then on.
#[test]
fn p2_operations_that_survive_a_power_cut_are_durable() {
    let mut disk = Disk::with_durable_file(LOG, b"old.");
    disk.write(LOG, "New", b"new.");
    let report = disk.power_cut(&Survival::All);
    assert_eq!(report.files()[0].kept, 4);
    assert!(disk.is_durable(LOG, 8));
    assert!(!disk.in_flight());
}

/// D12. A crash during a barrier keeps any subset of what it covers, and the barrier is no longer
/// pending.
#[test]
fn d12_a_crash_during_a_barrier_leaves_any_subset() {
    let mut disk = Disk::with_durable_file(LOG, b"");
    // Two sectors, so that either can survive alone.
    disk.write(LOG, "New", &[7; 1024]);
    disk.sync(OpId(1), LOG);
    assert!(some_subset(&disk, |disk| disk.len(LOG) == Some(0)));
    let halves = |disk: &Disk| {
        disk.bytes(LOG).is_some_and(|bytes| bytes.len() == 1024 && bytes[0] != bytes[1023])
    };
    assert!(some_subset(&disk, halves));
    assert!(some_subset(&disk, |disk| disk.bytes(LOG) == Some(vec![7; 1024])));
    assert!(!disk.after_power_cut(&Survival::None).in_flight());
}

/// A disk is reused for the next seed. It behaves like a new one, including the blocks in its
/// holes.
#[test]
fn a_reset_disk_behaves_like_a_new_disk() {
    let scenario = |disk: &mut Disk| {
        let mut found = 0;
        disk.write(SNAPSHOT, "Old", &[3; 2000]);
        disk.sync_now(SNAPSHOT);
        disk.power_cut(&Survival::None);
        // So many power cuts that some leave a hole with an old block, which the next assertion
        // needs.
        for (key, file) in [LOG, OTHER, SCRATCH].into_iter().cycle().take(12).enumerate() {
            disk.write(file, "New", &[8 + key as u8; 1500]);
            disk.sync_now(file);
            disk.write(file, "Next", &[28 + key as u8; 1500]);
            let survival = Survival::Subset {
                key: key as u64,
                keep: permille(500),
                tear: true,
                holes: Holes::OldBlocks,
            };
            found += disk.power_cut(&survival).holes_with_old_blocks;
        }
        disk.fail_sync(LOG);
        (found, contents(disk))
    };
    let mut disk = Disk::default();
    let first = scenario(&mut disk);
    assert!(first.0 > 0);
    disk.remove(LOG);
    disk.sync_dir_now();
    // A barrier that is pending at the reset must not be pending after it.
    disk.sync_dir(OpId(9));
    assert!(disk.in_flight(), "a barrier is under way, though it covers nothing");
    disk.reset();
    assert!(!disk.in_flight());
    assert_eq!(contents(&disk), []);
    assert_eq!(scenario(&mut disk), first);
}
