//! A short hunt of each kind of storm: the node is clean, and the opt-in storms are noticed.

use stormglass_sim::commit::Commit;
use stormglass_sim::hunt::{Catch, Progress, Quarry, hunt};
use stormglass_sim::profile::{Profile, Setup};
use stormglass_sim::tally::Rule;

fn caught(profile: Profile, jobs: usize) -> Catch {
    let setup = Setup { profile, ..Setup::default() };
    hunt::<Commit>(&Quarry { setup, seeds: 0..1_000, jobs, keep_going: false }, &Progress::default())
}

#[test]
fn no_claim_breaks_in_any_storm_that_the_node_promises_to_survive() {
    use Profile::{Calm, Crashy, FaultyDisk, Garbled, Lossy, Rotten, Skewed, Stormy, Swarm};
    for profile in [Swarm, Calm, Lossy, Crashy, FaultyDisk, Skewed, Stormy, Garbled, Rotten] {
        let catch = caught(profile, 2);
        assert_eq!(catch.failures, [], "{profile}");
        assert_eq!(catch.seeds, 1_000);
    }
}

#[test]
fn the_swarm_sees_everything_that_should_sometimes_happen() {
    let quarry = Quarry { setup: Setup::default(), seeds: 0..5_000, jobs: 2, keep_going: false };
    let never: Vec<_> = hunt::<Commit>(&quarry, &Progress::default()).sometimes.never().collect();
    assert_eq!(never, [""; 0], "never seen in five thousand storms");
}

/// AC4: with no fault at all and time enough, nothing aborts but for a participant's No (and what is no transaction).
#[test]
fn in_calm_weather_nothing_aborts_without_a_no() {
    let catch = caught(Profile::Calm, 2);
    let times = |what: &str| catch.sometimes.rows().iter().find(|row| row.0 == what).map(|row| row.1);
    for why in ["abort: timeout", "abort: coordinator restarted", "abort: aborted earlier by a participant"] {
        assert_eq!(times(why), Some(0), "{why}");
    }
    assert!(times("abort: conflict") > Some(0) && times("commit") > Some(10_000));
}

/// Damage that can be told from a torn tail keeps a node from starting, and that is judged: most storms with damage
/// are judged to the end.
#[test]
fn damage_at_rest_is_refused_and_rarely_beyond_judging() {
    let catch = caught(Profile::Rotten, 2);
    let times = |what: &str| catch.sometimes.rows().iter().find(|row| row.0 == what).map_or(0, |row| row.1);
    assert!(times("refused to start: damaged") > 500);
    assert!((1..350).contains(&times("damage like a torn tail, judged no further")));
}

/// Sixty-four nodes and their clients are more ends than a number has bits.
#[test]
fn the_largest_cluster_weathers_partitions_too() {
    for profile in [Profile::Lossy, Profile::Stormy] {
        let setup = Setup { profile, nodes: Some(64), txns: Some(5) };
        let quarry = Quarry { setup, seeds: 0..40, jobs: 2, keep_going: false };
        let catch = hunt::<Commit>(&quarry, &Progress::default());
        assert_eq!(catch.failures, [], "{profile}");
        assert!(catch.tally.of(Rule::N6) > 0, "{profile}");
    }
}

#[test]
fn where_there_are_crashes_at_all_every_seed_has_one() {
    let setup = Setup { profile: Profile::Crashy, ..Setup::default() };
    for seed in 0..300 {
        let quarry = Quarry { setup, seeds: seed..seed + 1, jobs: 1, keep_going: false };
        let tally = hunt::<Commit>(&quarry, &Progress::default()).tally;
        assert!(tally.of(Rule::P1) + tally.of(Rule::P2) > 0, "seed {seed}");
    }
}

#[test]
fn a_drive_that_lies_does_not_go_unnoticed() {
    let catch = caught(Profile::Lying, 2);
    assert!(!catch.failures.is_empty());
}

#[test]
fn a_hunt_finds_the_same_whatever_the_number_of_hunters() {
    let (one, two) = (caught(Profile::Stormy, 1), caught(Profile::Stormy, 2));
    assert_eq!((one.fingerprint, one.tally, one.sometimes), (two.fingerprint, two.tally, two.sometimes));
    assert_eq!(caught(Profile::Lying, 1).failures[0], caught(Profile::Lying, 2).failures[0]);
}
