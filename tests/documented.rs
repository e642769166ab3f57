//! Ids lead to code: every fault rule and every property is named in a doc comment beside the code
//! that injects or checks it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use stormglass_commit_sim::PROPERTIES as PROPERTIES_OF_COMMIT;

/// The families of ids, and how many there are of each.
// Counts and not lists: an id that is skipped or added without its code fails the test.
const RULES: [(&str, usize); 4] = [("N", 8), ("P", 6), ("C", 3), ("D", 12)];
const PROPERTIES: [(&str, usize); 4] = [("AC", 5), ("W", 11), ("I", 5), ("L", 3)];

fn sources(below: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join(below)];
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(&dir).expect("a directory of this repository") {
            let path = entry.expect("readable").path();
            match path.extension() {
                None if path.is_dir() => open.push(path),
                Some(kind) if kind == "rs" => found.push(path),
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
    let fault_sources = fault_sources
        .into_iter()
        .filter(|path| !path.components().any(|part| part.as_os_str() == "tests"));
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

#[test]
fn properties_of_commit_are_those_in_the_checker_code() {
    let names_in_line = |text: &str| -> BTreeSet<String> {
        let quoted = text.split('"').skip(1).step_by(2);
        let is_property_name = |quoted: &&str| {
            let Some((id, name)) = quoted.split_once(' ') else { return false };
            let family = id.trim_end_matches(|c: char| c.is_ascii_digit());
            PROPERTIES.iter().any(|(known, _)| *known == family)
                && id != family
                && name.chars().all(|c| c.is_ascii_alphabetic())
        };
        quoted.filter(is_property_name).map(str::to_owned).collect()
    };
    let property_names_in =
        |text: String| text.lines().map(names_in_line).reduce(|a, b| &a | &b).unwrap_or_default();
    let checker_file = Path::new(env!("CARGO_MANIFEST_DIR")).join("commit-sim/src/checker.rs");
    let checked = property_names_in(concatenate(
        sources("commit-sim/src/checker").into_iter().chain([checker_file]),
    ));
    assert!(
        // Against a change of the source after which this test would find no names, and pass.
        checked.len() > 25,
        "the property names are read from the source of the checker: {checked:?}"
    );
    let named: BTreeSet<String> =
        PROPERTIES_OF_COMMIT.iter().map(|property| (*property).to_owned()).collect();
    assert_eq!(checked, named, "stormglass_commit_sim::PROPERTIES lists exactly these");
}
