//! Same binary, seed and options, same run: twice, from its own record, and on any machine.

use stormglass_sim::chooser::{Recording, Scripted};
use stormglass_sim::commit::Commit;
use stormglass_sim::hunt::{Progress, Quarry, hunt};
use stormglass_sim::play::{Player, record};
use stormglass_sim::profile::{Profile, Setup};
use stormglass_sim::protocol::{Of, drawn, world};
use stormglass_sim::schedule::Schedule;

#[test]
fn a_seed_run_twice_and_from_its_own_record_leaves_one_fingerprint() {
    let setup = Setup::default();
    let mut faults = 0;
    for seed in 0..1_000 {
        let once = world::<Commit, _, _>(drawn::<Commit>(&setup, seed), |chooser| chooser, ()).run();
        let mut recorded = world::<Commit, _, _>(drawn::<Commit>(&setup, seed), Recording::new, ());
        assert_eq!(recorded.run().fingerprint, once.fingerprint, "seed {seed}");
        let record = recorded.into_chooser().into_faults();
        faults += record.len();
        let mut rerun = world::<Commit, _, _>(drawn::<Commit>(&setup, seed), |_| Scripted::new(&record), ());
        assert_eq!(rerun.run().fingerprint, once.fingerprint, "seed {seed} from its record");
        assert_eq!(rerun.chooser().unused().count(), 0, "seed {seed}");
    }
    assert!(faults > 1_000, "only {faults} faults recorded");
}

/// A seed as a text: written down, read back and played, it leaves the seed's fingerprint.
#[test]
fn a_seed_written_as_a_schedule_is_the_same_run() {
    let scene = Of::<Commit>::new();
    let mut player = Player::new(&scene);
    for profile in [Profile::Swarm, Profile::Stormy, Profile::Garbled, Profile::Rotten] {
        for seed in 0..100 {
            let (once, schedule) = record(&scene, &Setup { profile, ..Setup::default() }, seed);
            let text = schedule.write(&scene);
            let read = Schedule::read(&scene, &text).unwrap_or_else(|problem| panic!("{problem}\n{text}"));
            let (again, unreached) = player.play(&read);
            assert_eq!(again.fingerprint, once.fingerprint, "{profile} {seed}");
            assert_eq!(unreached, [], "{profile} {seed}");
        }
    }
}

/// Changes only with the meaning of a seed: a release note, never a surprise. Debug, release and other machines must
/// print the same.
#[test]
fn a_thousand_seeds_have_the_fingerprint_that_they_had_elsewhere() {
    let quarry = Quarry { setup: Setup::default(), seeds: 0..1_000, jobs: 2, keep_going: false };
    let print = hunt::<Commit>(&quarry, &Progress::default()).fingerprint.expect("clean");
    assert_eq!(format!("{print:016x}"), "517b1ec6b3535b12");
}
