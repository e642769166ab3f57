//! How lives begin, and how they end in the middle of beginning.

use super::Dice;
use super::disk::{Everything, Fate, Hollow, Nothing};
use super::rig::{Rig, files, fold};
use crate::contract::{FileId, ReadDisk};
use crate::wal::recover;

/// An empty disk is the disk of a node that never lived; whatever it had scribbled may go.
#[test]
fn the_first_life_finds_nothing() {
    let mut rig = Rig::new();
    rig.disk.append(FileId::Scratch, b"half a snap");
    let recovered = rig.recover().expect("a leftover is no damage");
    assert_eq!(recovered.snapshot, None);
    assert_eq!(recovered.found.position(), 0);
    rig.start();
    assert_eq!(files(&rig), "snapshot.1");
    assert_eq!(fold(&rig.recover().expect("the disk is fine")).life, 1);
}

/// Each life leaves one snapshot and at most one segment, however many there were before.
#[test]
fn lives_do_not_pile_up() {
    let mut rig = Rig::new();
    for life in 1..20 {
        rig.start();
        assert_eq!(files(&rig), format!("snapshot.{life}"));
        rig.keep(10);
        assert_eq!(files(&rig), format!("wal.{life} snapshot.{life}"));
    }
    assert_eq!(rig.ids().len(), 19);
}

/// The same entropy twice, the same state but for the life's number: the fingerprints differ all the same, so what
/// one life wrote is never taken for the other's.
#[test]
fn lives_with_one_entropy_differ() {
    let mut rig = Rig::started();
    rig.keep(10);
    let first = rig.disk.bytes(FileId::Wal(1))[16..20].to_vec();
    rig.start();
    rig.keep(10);
    let second = rig.disk.bytes(FileId::Wal(2))[16..20].to_vec();
    assert_ne!(first, second);
}

/// Reading changes nothing, and gives the same twice.
#[test]
fn recovering_twice_is_recovering_once() {
    let mut rig = Rig::started();
    rig.keep(600);
    let _torn = rig.append(900);
    rig.perform_all();
    rig.power_cut(&mut Hollow);
    let before = files(&rig);
    let once = recover::<super::State, super::Record>(&rig.disk).expect("a torn tail is legal");
    let twice = recover::<super::State, super::Record>(&rig.disk).expect("a torn tail is legal");
    assert_eq!(once.records, twice.records);
    assert_eq!(once.torn, twice.torn);
    assert_eq!(files(&rig), before);
}

/// Runs `rig` for `moments` operations or completions, whichever is due; false if there was less to do.
fn run(rig: &mut Rig, moments: usize) -> bool {
    (0..moments).all(|_| {
        if rig.perform().is_some() {
            return true;
        }
        rig.barriers() > 0 && rig.complete(0, Ok(())).is_ok()
    })
}

/// Lets `act` begin, ends the process after every number of moments in every way, and looks at what is left.
fn at_every_moment(rig: &Rig, act: impl Fn(&mut Rig), ids: &[u32]) -> usize {
    for moments in 0.. {
        let fates: [Option<&mut dyn Fate>; 5] = [
            None,
            Some(&mut Nothing),
            Some(&mut Everything),
            Some(&mut Hollow),
            Some(&mut Dice(moments as u64)),
        ];
        let mut over = false;
        for fate in fates {
            let mut rig = rig.clone();
            act(&mut rig);
            over = !run(&mut rig, moments);
            match fate {
                Some(fate) => rig.power_cut(fate),
                None => rig.kill(),
            }
            assert_eq!(rig.ids(), ids, "after {moments} moments");
            rig.start();
            assert_eq!(rig.disk.files().len(), 1, "after {moments} moments: {}", files(&rig));
            assert_eq!(rig.ids(), ids, "after {moments} moments and a life");
        }
        if over {
            return moments;
        }
    }
    unreachable!("a boot ends")
}

/// Whenever a boot is cut short, the next one finds all that was there.
#[test]
fn a_crash_at_any_moment_of_a_boot_loses_nothing() {
    let mut rig = Rig::started();
    for _ in 0..20 {
        rig.keep(100);
    }
    rig.stop();
    let moments = at_every_moment(&rig, |rig| rig.boot().expect("the disk is fine"), &rig.ids());
    assert!(moments > 8, "a boot of {moments} moments");
}

/// The same for a compaction.
#[test]
fn a_crash_at_any_moment_of_a_compaction_loses_nothing() {
    let mut rig = Rig::started();
    for _ in 0..20 {
        rig.keep(100);
    }
    assert!(rig.wal().wants_compaction());
    let moments = at_every_moment(&rig, Rig::compact, &rig.ids());
    assert!(moments > 8, "a compaction of {moments} moments");
}
