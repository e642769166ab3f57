//! A short hunt in each profile: the node violates no property, and the opt-in faults are detected.

use stormglass_commit_sim::Commit;
use stormglass_sim::hunt::{HuntOptions, HuntReport, Progress, hunt};
use stormglass_sim::profile::{Profile, Setup};
use stormglass_sim::protocol::Protocol;
use stormglass_sim::tally::Rule;

fn hunt_profile(profile: Profile, jobs: usize) -> HuntReport {
    let setup = Setup { profile, ..Setup::default() };
    hunt(&Commit, &HuntOptions { jobs, ..HuntOptions::new(setup, 0..=999) }, &Progress::default())
}

#[test]
fn node_violates_no_property_in_any_supported_profile() {
    // Those that are absent break what the node relies on, and have tests below.
    let supported = Profile::ALL
        .into_iter()
        .filter(|profile| !matches!(profile, Profile::LyingDisk | Profile::ReplacedDisk));
    for profile in supported {
        let report = hunt_profile(profile, 2);
        assert_eq!(report.failures, [], "{profile}");
        assert_eq!(report.seeds, 1_000);
    }
}

#[test]
fn swarm_profile_reaches_every_sometimes_counter_and_every_kind() {
    let options = HuntOptions { jobs: 2, ..HuntOptions::new(Setup::default(), 0..=4_999) };
    let report = hunt(&Commit, &options, &Progress::default());
    let never_counted: Vec<_> = report.sometimes.never().collect();
    assert_eq!(never_counted, [""; 0], "never counted in 5,000 runs");
    let never_seen: Vec<_> = report.coverage.never_seen(Commit.kinds()).collect();
    // This node truncates no file, and drops only messages that no node of this version sends.
    assert_eq!(never_seen, ["truncate", "Dropped"]);
}

/// AC4: without faults and with enough time, every abort has a participant's No (or an invalid
/// transaction) as its cause.
#[test]
fn calm_profile_aborts_only_on_a_no_vote() {
    let report = hunt_profile(Profile::Calm, 2);
    let times = |counter_name: &str| {
        report
            .sometimes
            .rows()
            .iter()
            .find(|counter| counter.0 == counter_name)
            .map(|counter| counter.1)
    };
    for reason in [
        "abort: timeout",
        "abort: coordinator restarted",
        "abort: aborted earlier by a participant",
    ] {
        assert_eq!(times(reason), Some(0), "{reason}");
    }
    // Otherwise a run without any transaction would pass.
    assert!(times("abort: conflict") > Some(0) && times("commit") > Some(10_000));
}

/// Damage that is distinguishable from a torn tail prevents a boot, which is checked: most runs
/// with damage are checked to the end.
#[test]
fn boot_refuses_damage_at_rest_and_most_damaged_runs_are_checked_to_the_end() {
    let report = hunt_profile(Profile::BitRot, 2);
    let times = |counter_name: &str| {
        report
            .sometimes
            .rows()
            .iter()
            .find(|counter| counter.0 == counter_name)
            .map_or(0, |counter| counter.1)
    };
    // Half of the runs at least.
    assert!(times("boot refused: damaged disk") > 500);
    // At least one, or it is not tested that the checks stop.
    assert!((1..350).contains(&times("damage indistinguishable from a torn tail, checks stopped")));
}

/// Sixty-four nodes and their clients are more endpoints than a `u64` has bits.
#[test]
fn cluster_of_64_nodes_survives_partitions() {
    for profile in [Profile::Lossy, Profile::Everything] {
        // Few transactions, since each involves dozens of nodes.
        let setup = Setup { profile, nodes: Some(64), txns: Some(5), ..Setup::default() };
        let options = HuntOptions { jobs: 2, ..HuntOptions::new(setup, 0..=39) };
        let report = hunt(&Commit, &options, &Progress::default());
        assert_eq!(report.failures, [], "{profile}");
        assert!(report.tally.hits(Rule::Partitioned) > 0, "{profile}");
    }
}

#[test]
fn every_seed_of_the_crashy_profile_has_a_crash() {
    let setup = Setup { profile: Profile::Crashy, ..Setup::default() };
    // Each seed by itself: all of them together would have a crash in any case.
    for seed in 0..300 {
        let options = HuntOptions::new(setup, seed..=seed);
        let tally = hunt(&Commit, &options, &Progress::default()).tally;
        assert!(tally.hits(Rule::ProcessKilled) + tally.hits(Rule::PowerCut) > 0, "seed {seed}");
    }
}

#[test]
fn lying_disk_is_detected() {
    // No node tolerates this, so a hunt without a failure would mean that the checkers miss it.
    let report = hunt_profile(Profile::LyingDisk, 2);
    assert!(!report.failures.is_empty());
}

/// A node whose disk is not its own refuses to boot, or is refused by its peers, and a second
/// process serves nobody. What a peer has not seen of a log that was cut may be lost in silence.
#[test]
fn node_with_a_replaced_disk_or_a_second_process_serves_nobody() {
    let setup = Setup { profile: Profile::ReplacedDisk, ..Setup::default() };
    let options = HuntOptions { jobs: 2, keep_going: true, ..HuntOptions::new(setup, 0..=1_999) };
    let report = hunt(&Commit, &options, &Progress::default());
    assert_eq!(report.failures, []);
    for rule in [Rule::DiskReplaced, Rule::DiskEmptied, Rule::FileLost, Rule::SecondProcess] {
        assert!(report.tally.hits(rule) > 100, "{rule}");
    }
    let mut counters = report.sometimes.rows().iter();
    let refused = counters.find(|counter| counter.0 == "incarnation refused by its peers");
    assert!(refused.is_some_and(|counter| counter.1 > 500), "{refused:?}");
    assert!(report.judged_in_part < 200, "{}", report.judged_in_part);
}

/// The node refuses the boot that cannot read a file, and the next one recovers everything.
#[test]
fn unreadable_file_prevents_one_boot_and_not_the_next() {
    let report = hunt_profile(Profile::UnreadableDisk, 2);
    assert_eq!(report.failures, []);
    assert!(report.tally.hits(Rule::FileUnreadable) > 500);
    // In a run whose node stayed down, the probe would be skipped.
    let probes = report.sometimes.rows().iter().find(|counter| counter.0 == "probe committed");
    assert!(probes.is_some_and(|counter| counter.1 > 500), "{probes:?}");
}

#[test]
fn hunt_result_is_independent_of_the_number_of_jobs() {
    let one = hunt_profile(Profile::Everything, 1);
    let two = hunt_profile(Profile::Everything, 2);
    assert_eq!(
        (one.fingerprint, one.tally, one.sometimes),
        (two.fingerprint, two.tally, two.sometimes)
    );
    assert_eq!(
        // Hunts that fail, too: the lowest failing seed is the same.
        hunt_profile(Profile::LyingDisk, 1).failures[0],
        hunt_profile(Profile::LyingDisk, 2).failures[0]
    );
}
