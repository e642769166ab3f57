//! Ids lead to code: every fault rule and every property is named in a doc comment beside the code
//! that injects or checks it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use stormglass_commit_sim::Property;

/// The families of ids, and how many there are of each.
// Counts and not lists: an id that is skipped or added without its code fails the test.
const RULES: [(&str, usize); 4] = [("N", 8), ("P", 6), ("C", 3), ("D", 17)];
const PROPERTIES: [(&str, usize); 4] = [("AC", 5), ("W", 14), ("I", 6), ("L", 4)];

/// The sources of a module, `below` without an ending: its file and those of the directory beside
/// it, but for tests.
fn sources(below: &str) -> Vec<PathBuf> {
    let module = Path::new(env!("CARGO_MANIFEST_DIR")).join(below);
    let mut found = vec![module.with_extension("rs")];
    let mut open = vec![module];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(&dir).expect("a directory of this repository") {
            let path = entry.expect("readable").path();
            match path.extension() {
                None if path.ends_with("tests") => {}
                None if path.is_dir() => open.push(path),
                Some(kind) if kind == "rs" && !path.ends_with("tests.rs") => found.push(path),
                Some(_) | None => {}
            }
        }
    }
    found
}

fn concatenate(paths: impl IntoIterator<Item = PathBuf>) -> String {
    paths.into_iter().map(|path| fs::read_to_string(path).expect("a source file") + "\n").collect()
}

/// The words of all doc comments; a range `N1-N4` includes the ids between.
fn ids_in_doc_comments(text: &str) -> BTreeSet<String> {
    let docs = text
        .lines()
        .map(str::trim_start)
        .filter(|line| line.starts_with("///") || line.starts_with("//!"));
    let mut named = BTreeSet::new();
    for token in docs.flat_map(|line| line.split(|c: char| !c.is_ascii_alphanumeric() && c != '-'))
    {
        named.extend(token.split('-').map(str::to_owned));
        if let Some((from, to)) = token.split_once('-') {
            let family = from.trim_end_matches(|c: char| c.is_ascii_digit());
            let number =
                |id: &str| id.strip_prefix(family).and_then(|digits| digits.parse::<usize>().ok());
            if let (Some(low), Some(high)) = (number(from), number(to)) {
                named.extend((low..=high).map(|n| format!("{family}{n}")));
            }
        }
    }
    named
}

fn missing(families: [(&str, usize); 4], named: &BTreeSet<String>) -> Vec<String> {
    let ids = families
        .into_iter()
        .flat_map(|(family, count)| (1..=count).map(move |n| format!("{family}{n}")));
    ids.filter(|id| !named.contains(id)).collect()
}

#[test]
fn every_fault_rule_is_named_in_the_fault_injection_code() {
    let fault_sources = ["sim/src/world", "sim/src/disk", "sim/src/chooser"].map(sources).concat();
    assert_eq!(missing(RULES, &ids_in_doc_comments(&concatenate(fault_sources))), [""; 0]);
}

#[test]
fn every_property_is_named_in_the_checker_code() {
    // The heads of files are tables of contents; they do not count here.
    let text = concatenate(sources("commit-sim/src/checker")).replace("//!", "//");
    let module_docs = concatenate(sources("commit-sim/src/checker"));
    let checker_file = |id: &str| module_docs.contains(&format!("//! {id}:"));
    let mut missing = missing(PROPERTIES, &ids_in_doc_comments(&text));
    missing.retain(|id| !checker_file(id));
    assert_eq!(missing, [""; 0]);
}

/// Statements that are checked under the id of another one, which implies them.
const CHECKED_AS: [(&str, &str); 3] = [("AC5", "L1"), ("W7", "W6"), ("I1", "I2")];

#[test]
fn every_id_of_the_specification_has_a_property() {
    let mut checked: BTreeSet<String> =
        Property::ALL.iter().map(|property| property.id().to_owned()).collect();
    for (id, other) in CHECKED_AS {
        assert!(checked.contains(other), "{id} is checked as {other}");
        assert!(checked.insert(id.to_owned()), "{id} has a property of its own");
    }
    assert_eq!(missing(PROPERTIES, &checked), [""; 0]);
    let specified: usize = PROPERTIES.iter().map(|(_, count)| count).sum();
    assert_eq!(checked.len(), specified, "no property has another id: {checked:?}");
}

#[test]
fn every_property_has_a_name_of_its_own() {
    let names: BTreeSet<&str> = Property::NAMES.iter().copied().collect();
    assert_eq!(names.len(), Property::ALL.len());
    for property in Property::ALL {
        assert_eq!(property.name(), format!("{} {property:?}", property.id()));
        assert_eq!(property.is_liveness(), property.id().starts_with('L'), "{property:?}");
    }
}
