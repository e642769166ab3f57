//! The command `check-determinism`: runs seeds again and compares the runs, contents included.

use super::args::CheckDeterminism;
use super::progress::ProgressDisplay;
use super::say::say;
use super::{Exit, usage};
use crate::chooser::{Recording, Scripted};
use crate::determinism::run_seed_twice;
use crate::protocol::{Protocol, draw_run, world};

/// Runs each seed twice, and twice more: once recorded, and once from its recorded faults.
pub(super) fn run<P: Protocol>(protocol: &P, args: &CheckDeterminism) -> Exit {
    let last = match usage::last_seed(args.first_seed, args.seeds) {
        Ok(last) => last,
        Err(exit) => return exit,
    };
    let setup = args.run_args.setup(protocol);
    let mut faults = 0;
    let mut display = ProgressDisplay::new(Some(args.seeds));
    for seed in args.first_seed..=last {
        let (plain, nondeterminism) = run_seed_twice(protocol, &setup, seed);
        // The first difference ends the check: later seeds would only repeat it.
        if let Some(nondeterminism) = nondeterminism {
            display.finish();
            say!("{nondeterminism}");
            return Exit::Nondeterministic;
        }
        let mut recorded = world(protocol, draw_run(protocol, &setup, seed), Recording::new, ());
        // Recording must not disturb the run.
        let first = recorded.run().fingerprint;
        let faults_of_run = recorded.into_chooser().into_faults();
        faults += faults_of_run.len();
        // This run draws nothing from the seed's chooser: it shows that the record is complete.
        let drawn = draw_run(protocol, &setup, seed);
        let mut replayed = world(protocol, drawn, |_| Scripted::new(&faults_of_run), ());
        let second = replayed.run().fingerprint;
        let plain = plain.fingerprint;
        if plain != first || first != second {
            display.finish();
            say!(
                "seed {seed}: the fingerprints {plain:016x} of a run, {first:016x} of a recorded run \
                 and {second:016x} of a run from the record differ"
            );
            return Exit::Nondeterministic;
        }
        let done = seed - args.first_seed + 1;
        display.update(done, format!("{done} of {} seeds", args.seeds));
    }
    display.finish();
    say!("{} seeds, {faults} recorded faults: all fingerprints agree", args.seeds);
    Exit::Clean
}
