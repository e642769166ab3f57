//! Equal binary, seed and options give an equal run: twice, from its own record, and on any
//! machine.

use stormglass_commit_sim::Commit;
use stormglass_sim::chooser::{Recording, Scripted};
use stormglass_sim::hunt::{HuntOptions, Progress, hunt};
use stormglass_sim::profile::{Profile, Setup};
use stormglass_sim::protocol::{draw_run, world};
use stormglass_sim::replay::{Replayer, record};
use stormglass_sim::schedule::Schedule;

#[test]
fn seed_run_twice_and_from_its_recorded_faults_has_one_fingerprint() {
    let setup = Setup::default();
    let mut faults = 0;
    for seed in 0..1_000 {
        let once = world(&Commit, draw_run(&Commit, &setup, seed), |chooser| chooser, ()).run();
        let mut recorded = world(&Commit, draw_run(&Commit, &setup, seed), Recording::new, ());
        assert_eq!(recorded.run().fingerprint, once.fingerprint, "seed {seed}");
        let record = recorded.into_chooser().into_faults();
        faults += record.len();
        let mut rerun =
            world(&Commit, draw_run(&Commit, &setup, seed), |_| Scripted::new(&record), ());
        assert_eq!(rerun.run().fingerprint, once.fingerprint, "seed {seed} from its record");
        // Every recorded fault has happened again: equal fingerprints alone could hide a harmless
        // one.
        assert_eq!(rerun.chooser().unused().count(), 0, "seed {seed}");
    }
    // A run without faults would replay trivially.
    assert!(faults > 1_000, "only {faults} faults recorded");
}

/// A seed that is written as text, read back and run has the fingerprint of the seed.
#[test]
fn schedule_written_from_a_seed_has_the_fingerprint_of_the_seed() {
    let protocol = Commit;
    let mut replayer = Replayer::new(&protocol);
    // Together they have all faults that a schedule can state, apart from lying syncs.
    for profile in [Profile::Swarm, Profile::Everything, Profile::Garbled, Profile::BitRot] {
        for seed in 0..100 {
            let (once, schedule) = record(&protocol, &Setup { profile, ..Setup::default() }, seed);
            let text = schedule.write(&protocol);
            let read = Schedule::read(&protocol, &text)
                .unwrap_or_else(|problem| panic!("{problem}\n{text}"));
            let (again, unreached) = replayer.replay(&read);
            assert_eq!(again.fingerprint, once.fingerprint, "{profile} {seed}");
            assert_eq!(unreached, [], "{profile} {seed}");
        }
    }
}

/// Changes only with the meaning of a seed, which is a release note. Debug, release and other
/// machines must print the same.
#[test]
fn fingerprint_of_a_thousand_seeds_is_the_same_on_every_machine() {
    let options = HuntOptions { jobs: 2, ..HuntOptions::new(Setup::default(), 0..=999) };
    let fingerprint = hunt(&Commit, &options, &Progress::default()).fingerprint.expect("clean");
    assert_eq!(format!("{fingerprint:016x}"), "230c32d92acd599c");
}
