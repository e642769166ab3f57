//! Kinds of faults that a simulation excludes.

use super::{AllIsWell, Copier, Courier, NobodyWaits, copiers, couriers, panic_message};
use crate::chooser::Chooser;
use crate::fault::{FaultKind, FaultKinds};
use crate::hunt::{HuntOptions, Progress, hunt};
use crate::profile::{Profile, Setup};
use crate::property::Checker;
use crate::protocol::{Protocol, draw_run};
use crate::simulation::Simulation;
use crate::tally::Tally;

/// What a hunt of these seeds has injected.
fn tally<C: Checker<Copier> + Sync>(simulation: &Simulation<Copier, C>, seeds: u64) -> Tally {
    let options = HuntOptions::new(simulation.setup(), 0..=seeds - 1);
    let report = hunt(simulation, &options, &Progress::default());
    assert_eq!((report.seeds, report.failures.first()), (seeds, None));
    report.tally
}

/// The kinds that happened at least once. In a cluster of two or more nodes, a kill is a kill and a
/// power cut a power cut.
fn seen(tally: &Tally) -> FaultKinds {
    FaultKind::ALL.into_iter().filter(|kind| tally.hits(kind.rule()) > 0).collect()
}

#[test]
fn an_excluded_kind_never_happens_and_the_others_still_do() {
    let all = || copiers().property(AllIsWell).detects_lost_history();
    // D15 is the only one of these kinds that the default profile does not draw.
    let drawn = Profile::Swarm.fault_kinds().without(FaultKind::LostFile);
    assert_eq!(seen(&tally(&all(), 2_000)), drawn);
    for kind in drawn.iter() {
        // What a kind brings with it is excluded as well.
        let mut without = FaultKinds::from(kind);
        if kind == FaultKind::Kill {
            // The process of a failed disk is killed when the fault phase ends.
            without = without.with(FaultKinds::DISK);
        }
        if kind == FaultKind::PowerCut {
            without = without.with([FaultKind::ClusterPowerCut, FaultKind::PermanentlyDown]);
        }
        let tally = tally(&all().without(without), 500);
        assert!(!seen(&tally).contains(kind), "{kind:?} happens although it is excluded");
        assert_eq!(seen(&tally), drawn.without(without), "without {kind:?}");
    }
}

#[test]
fn opt_in_kinds_can_be_excluded_from_their_profiles() {
    for (profile, kind) in [
        (Profile::Garbled, FaultKind::MessageCorruption),
        (Profile::BitRot, FaultKind::DamageAtRest),
        (Profile::LyingDisk, FaultKind::LyingSync),
        (Profile::ReplacedDisk, FaultKind::LostFile),
    ] {
        let simulation = || copiers().property(AllIsWell).profile(profile);
        assert!(seen(&tally(&simulation(), 200)).contains(kind), "{kind:?}");
        let without = tally(&simulation().without(kind), 200);
        assert!(!seen(&without).contains(kind), "{kind:?}");
        assert!(!seen(&without).is_empty(), "the other faults of {profile} happen");
    }
}

/// Excluding a kind masks it, and moves no other fault: the timed faults, which share one sequence
/// of random numbers, are where they were.
#[test]
fn the_other_faults_of_a_seed_stay_where_they_are() {
    let timed_faults = |simulation: &Simulation<Copier>, seed| {
        let mut chooser = draw_run(simulation, &Setup::default(), seed).chooser;
        chooser.timed_faults()
    };
    let all = copiers().detects_lost_history();
    let mut excluded = 0;
    for kind in FaultKind::ALL {
        // A crash of one kind becomes one of the other, and P3 is several crashes at one time.
        if FaultKinds::CRASHES.contains(kind) {
            continue;
        }
        let without = copiers().detects_lost_history().without(kind);
        for seed in 0..200 {
            let mut expected = timed_faults(&all, seed);
            let before = expected.len();
            expected.retain(|(_, fault)| FaultKind::of_timed(fault) != kind);
            excluded += before - expected.len();
            let mut actual = timed_faults(&without, seed);
            // The disk after a crash, and the crashes that a run has for it, are tested above.
            for faults in [&mut expected, &mut actual] {
                faults
                    .retain(|(_, fault)| !FaultKinds::CRASHES.contains(FaultKind::of_timed(fault)));
            }
            assert_eq!(actual, expected, "seed {seed} without {kind:?}");
        }
    }
    assert!(excluded > 1_000, "{excluded} timed faults are excluded");
}

/// All faults that a courier survives, and lost messages.
fn crashing_couriers() -> Simulation<Courier, impl Checker<Courier> + Sync> {
    couriers()
        .only([
            FaultKind::Kill,
            FaultKind::PowerCut,
            FaultKind::ClusterPowerCut,
            FaultKind::Pause,
            FaultKind::MessageDelay,
            FaultKind::MessageDuplication,
            FaultKind::MessageLoss,
        ])
        .property(NobodyWaits::default())
        .seeds(500)
}

#[test]
fn a_protocol_that_survives_crashes_only_passes_without_lost_messages() {
    crashing_couriers().without(FaultKind::MessageLoss).check();
    let message = panic_message(|| crashing_couriers().check());
    assert!(message.contains("violates NobodyWaits"), "{message}");
    assert!(message.contains("\n    lose "), "{message}");
}

/// The shrinker replaces faults by simpler ones: a partition by a lost message, for example.
#[test]
fn a_shrunk_schedule_has_no_excluded_kind() {
    let partitioned =
        couriers().only(FaultKind::Partition).property(NobodyWaits::default()).seeds(500);
    let message = panic_message(|| partitioned.check());
    assert!(message.contains(" cut ") && !message.contains("\n    lose "), "{message}");
}

#[test]
fn a_schedule_with_an_excluded_kind_still_replays() {
    crashing_couriers().without(FaultKind::MessageLoss).replay(
        "
        expect   violation of NobodyWaits
        cluster  2 nodes, 1 client
        request  c1.1 to n0 after 10 ms: null
        lose     1st Copy c1.1 from n0 to n1
        ",
    );
}

#[test]
fn a_simulation_that_excludes_every_fault_of_its_profile_fails() {
    let lossy = || couriers().profile(Profile::Lossy).property(NobodyWaits::default());
    let message = panic_message(|| lossy().without(FaultKinds::NETWORK).check());
    assert!(message.contains("excludes every fault of profile lossy"), "{message}");
    lossy().without(FaultKinds::NETWORK).profile(Profile::Calm).check();
}
