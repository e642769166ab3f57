use std::io::IsTerminal;

use indicatif::ProgressBar;

use super::args::Check;
use super::say::say;
use super::{Exit, usage};
use crate::chooser::{Recording, Scripted};
use crate::protocol::{Scene, drawn_in, world_in};

/// Runs each seed twice, and once more from the record of its own faults.
pub(super) fn run<S: Scene>(scene: &S, args: &Check) -> Exit {
    let end = match usage::last_seed(args.first_seed, args.seeds) {
        Ok(end) => end,
        Err(exit) => return exit,
    };
    let setup = args.storm.setup();
    let mut faults = 0;
    let bar = progress(args.seeds);
    for seed in args.first_seed..end {
        let once = world_in(scene, drawn_in(scene, &setup, seed), |chooser| chooser, ()).run();
        let mut recorded = world_in(scene, drawn_in(scene, &setup, seed), Recording::new, ());
        let again = recorded.run();
        let record = recorded.into_chooser().into_faults();
        faults += record.len();
        let rerun = world_in(scene, drawn_in(scene, &setup, seed), |_| Scripted::new(&record), ()).run();
        let prints = [once.fingerprint, again.fingerprint, rerun.fingerprint];
        bar.inc(1);
        if prints.iter().any(|print| *print != prints[0]) {
            bar.finish_and_clear();
            say!("seed {seed}: fingerprints {prints:016x?} of two runs and of the record differ");
            return Exit::Undetermined;
        }
    }
    bar.finish_and_clear();
    say!("{} seeds, {faults} recorded faults: two runs and the record of each agree", args.seeds);
    Exit::Clean
}

fn progress(seeds: u64) -> ProgressBar {
    if std::io::stderr().is_terminal() { ProgressBar::new(seeds) } else { ProgressBar::hidden() }
}
