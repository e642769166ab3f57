//! Whole traces of hand-written stories (`tests/stories/*.storm`), word for word.
//!
//! The rule for updates: a trace changes only together with a change that means to change what a node does, or how a
//! trace says it, and the commit says which. Look at the difference line by line (`cargo insta review`, or
//! `INSTA_UPDATE=always cargo test --test storms traces` and `git diff`); a line that you cannot explain is a bug. With
//! `CI=true` nothing is ever written.

use std::path::Path;

use stormglass_sim::commit::Commit;
use stormglass_sim::play::stage;
use stormglass_sim::protocol::Of;
use stormglass_sim::regress::{files, read};
use stormglass_sim::trace::{Filter, Trace};

#[test]
fn every_story_happens_as_it_is_told() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/stories");
    let stories = files(&directory).expect("the stories are there");
    assert!(stories.len() >= 12, "{} stories", stories.len());
    for path in stories {
        let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
        let schedule = read(&Of::<Commit>::new(), &path).unwrap_or_else(|why| panic!("{why}"));
        let mut glass = stage(&Of::<Commit>::new(), &schedule, Trace::new(Filter::default(), false));
        let ending = glass.run();
        let unreached: Vec<_> = glass.chooser().unused().map(ToString::to_string).collect();
        assert_eq!((ending.broken, unreached), (None, vec![]), "{name}");
        insta::with_settings!({ omit_expression => true, prepend_module_to_snapshot => false, description => schedule.why.join("\n") }, {
            insta::assert_snapshot!(name, glass.judge().0.text());
        });
    }
}
