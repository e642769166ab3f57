//! Complete traces of hand-written scenarios (`tests/scenarios/*.schedule`), word for word.
//!
//! The rule for updates: a trace changes only together with a change that means to change what a
//! node does, or how a trace shows it, and the commit says which. Look at the difference line by
//! line (`cargo insta review`, or `INSTA_UPDATE=always cargo test --test simulation traces` and
//! `git diff`); a line that you cannot explain is a bug. With `CI=true` nothing is ever written.

use std::path::Path;

use stormglass_commit_sim::Commit;
use stormglass_sim::regress::{files, read};
use stormglass_sim::replay::replay_world;
use stormglass_sim::trace::{Filter, Trace};

#[test]
fn every_scenario_matches_its_golden_trace() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    let scenarios = files(&directory).expect("the directory of scenarios");
    // If the wrong directory were read, the test would check nothing.
    assert!(scenarios.len() >= 12, "{} scenarios", scenarios.len());
    for path in scenarios {
        let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
        let schedule = read(&Commit, &path).unwrap_or_else(|error| panic!("{error}"));
        let mut world = replay_world(&Commit, &schedule, Trace::new(Filter::default(), false));
        let outcome = world.run();
        let unreached: Vec<_> = world.chooser().unused().map(ToString::to_string).collect();
        assert_eq!((outcome.violation, unreached), (None, vec![]), "{name}");
        insta::with_settings!({ omit_expression => true, prepend_module_to_snapshot => false, description => schedule.note.join("\n") }, {
            insta::assert_snapshot!(name, world.checker().0.text());
        });
    }
}
