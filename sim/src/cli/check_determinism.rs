//! The command `check-determinism`: runs seeds twice and compares fingerprints.

use std::io::IsTerminal;

use indicatif::ProgressBar;

use super::args::CheckDeterminism;
use super::say::say;
use super::{Exit, usage};
use crate::chooser::{Recording, Scripted};
use crate::protocol::{Protocol, draw_run, world};

/// Runs each seed twice, and once more from its recorded faults.
pub(super) fn run<P: Protocol>(protocol: &P, args: &CheckDeterminism) -> Exit {
    let end = match usage::last_seed(args.first_seed, args.seeds) {
        Ok(end) => end,
        Err(exit) => return exit,
    };
    let setup = args.run_args.setup();
    let mut faults = 0;
    let bar = progress(args.seeds);
    for seed in args.first_seed..end {
        let first = world(protocol, draw_run(protocol, &setup, seed), |chooser| chooser, ()).run();
        let mut recorded = world(protocol, draw_run(protocol, &setup, seed), Recording::new, ());
        let second = recorded.run();
        let faults_of_run = recorded.into_chooser().into_faults();
        faults += faults_of_run.len();
        // The third run draws nothing from the seed's chooser: it shows that the record is
        // complete.
        let third = world(
            protocol,
            draw_run(protocol, &setup, seed),
            |_| Scripted::new(&faults_of_run),
            (),
        )
        .run();
        let fingerprints = [first.fingerprint, second.fingerprint, third.fingerprint];
        bar.inc(1);
        // The first difference ends the check: later seeds would only repeat it.
        if fingerprints.iter().any(|fingerprint| *fingerprint != fingerprints[0]) {
            bar.finish_and_clear();
            say!(
                "seed {seed}: fingerprints {fingerprints:016x?} of two runs and the replayed record differ"
            );
            return Exit::Nondeterministic;
        }
    }
    bar.finish_and_clear();
    say!("{} seeds, {faults} recorded faults: all fingerprints agree", args.seeds);
    Exit::Clean
}

fn progress(seeds: u64) -> ProgressBar {
    if std::io::stderr().is_terminal() { ProgressBar::new(seeds) } else { ProgressBar::hidden() }
}
