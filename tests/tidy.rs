//! The style rules of the repository that a program can check.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use stormglass_sim::tally::Rule;

/// The private vocabulary of earlier versions. The field's terms are in `docs/glossary.md`.
const PRIVATE_WORDS: [&str; 17] = [
    "weather", "deed", "deeds", "wish", "wishes", "bury", "mourn", "mourns", "whoever", "told",
    "telling", "oracle", "oracles", "storm", "storms", "liar", "liars",
];

/// Words of files that earlier versions wrote, and the sources that still name them.
const EARLIER_FORMATS: [(&str, &str); 3] = [
    ("sim/src/schedule", "storm"),
    ("tests/schedule_format.rs", "storm"),
    ("sim/src/trace.rs", "weather"),
];

/// Where a package has Rust sources.
const DIRECTORIES: [&str; 4] = ["src", "benches", "examples", "tests"];

/// Longer comment lines do not fit beside a diff.
const COMMENT_COLUMNS_MAX: usize = 100;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every file below these directories with this extension, but for this file, in order.
fn files(directories: &[&str], extension: &str) -> Vec<PathBuf> {
    let mut pending: Vec<PathBuf> = directories.iter().map(|name| root().join(name)).collect();
    let mut found = Vec::new();
    while let Some(directory) = pending.pop() {
        for entry in fs::read_dir(directory).expect("a directory of the repository") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                pending.push(path);
            } else if path.extension().is_some_and(|found| found == extension)
                && !path.ends_with("tests/tidy.rs")
            {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn source_files() -> Vec<PathBuf> {
    let packages = ["", "node/", "node/derive/", "sim/", "commit-sim/", "crash-test/", "tools/"];
    let directories: Vec<String> = packages
        .iter()
        .flat_map(|package| DIRECTORIES.map(|directory| format!("{package}{directory}")))
        .filter(|directory| root().join(directory).is_dir())
        .collect();
    files(&directories.iter().map(String::as_str).collect::<Vec<_>>(), "rs")
}

/// Every document of the repository: those of the root, and those below its directories.
fn documents() -> Vec<PathBuf> {
    let directories = [
        ".github",
        "commit-sim",
        "crash-test",
        "docs",
        "node",
        "regressions",
        "sim",
        "src",
        "tests",
        "tools",
    ];
    let mut found = files(&directories, "md");
    for entry in fs::read_dir(root()).expect("the repository") {
        let path = entry.expect("an entry").path();
        if path.extension().is_some_and(|extension| extension == "md") {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// Every line of these files that `is_wrong`, as `path:line: text`.
fn lines_where(files: &[PathBuf], is_wrong: impl Fn(&str, &str) -> bool) -> Vec<String> {
    let mut wrong = Vec::new();
    for file in files {
        let text = fs::read_to_string(file).expect("a text file");
        let name = file.strip_prefix(root()).expect("a file of the repository");
        let name = name.to_str().expect("a name in ASCII");
        for (index, line) in text.lines().enumerate().filter(|(_, line)| is_wrong(name, line)) {
            wrong.push(format!("{name}:{}: {line}", index + 1));
        }
    }
    wrong
}

fn has_private_word(file: &str, line: &str) -> bool {
    line.split(|c: char| !c.is_alphanumeric() && c != '_').map(str::to_lowercase).any(|word| {
        PRIVATE_WORDS.contains(&word.as_str())
            && !EARLIER_FORMATS
                .iter()
                .any(|(source, kept)| file.starts_with(source) && word == *kept)
    })
}

#[test]
fn code_and_documents_use_no_private_words() {
    let mut checked = source_files();
    checked.extend(documents());
    checked.extend(files(&["regressions", "tests/scenarios"], "schedule"));
    checked.extend(files(&["tools/mutants"], "patch"));
    assert!(checked.len() > 200, "only {} files were checked", checked.len());
    let wrong = lines_where(&checked, has_private_word);
    assert!(wrong.is_empty(), "see docs/glossary.md for the terms:\n{}", wrong.join("\n"));
    assert!(
        has_private_word("src/lib.rs", "/// Told by whoever asks."),
        "the check finds such a word"
    );
}

#[test]
fn comments_have_at_most_100_columns() {
    let is_long = |_: &str, line: &str| {
        line.trim_start().starts_with("//") && line.chars().count() > COMMENT_COLUMNS_MAX
    };
    // A row of a Markdown table cannot be broken.
    let is_table =
        |line: &str| line.trim_start().trim_start_matches(['/', '!']).trim().starts_with('|');
    let wrong = lines_where(&source_files(), |file, line| is_long(file, line) && !is_table(line));
    assert!(wrong.is_empty(), "break these comments:\n{}", wrong.join("\n"));
    assert!(is_long("", &format!("    // {}", "x".repeat(100))), "the check finds such a line");
}

#[test]
fn every_source_file_begins_with_its_documentation() {
    let undocumented = source_files().into_iter().filter(|file| {
        let text = fs::read_to_string(file).expect("a text file");
        !text.starts_with("//!")
    });
    let undocumented: Vec<_> = undocumented.map(|file| file.display().to_string()).collect();
    assert!(undocumented.is_empty(), "no module documentation:\n{}", undocumented.join("\n"));
}

/// An invariant of ARCHITECTURE.md that no crate boundary keeps: these words do not occur in the
/// sources whose paths begin so, outside of comments.
struct Wall {
    below: &'static [&'static str],
    forbidden: &'static [&'static str],
    because: &'static str,
}

const WALLS: [Wall; 5] = [
    Wall {
        below: &[
            "src/commit/",
            "src/store.rs",
            "node/src/contract",
            "node/src/codec",
            "node/src/wal",
            "node/src/wire.rs",
            "sim/src/world",
            "sim/src/disk",
            "sim/src/chooser",
        ],
        forbidden: &["std::fs", "std::net", "std::env", "std::thread", "tokio", "rustix"],
        because: "a node performs no I/O, and neither does the simulated world",
    },
    Wall {
        below: &["sim/src/world", "sim/src/disk"],
        forbidden: &["Rng", "rand::", "rand_chacha"],
        because: "every deviation is a decision of the chooser: the world draws no random numbers",
    },
    Wall {
        below: &["sim/src/world", "sim/src/disk", "sim/src/chooser", "sim/src/plan.rs"],
        forbidden: &["f32", "f64"],
        because: "floats may differ between machines",
    },
    Wall {
        below: &[
            "node/src/",
            "src/",
            "sim/src/",
            "commit-sim/src/",
            "crash-test/src/",
            "tools/src/",
        ],
        forbidden: &["bincode"],
        because: "one module knows the encoding: node/src/codec",
    },
    Wall {
        below: &["sim/src/", "node/src/"],
        forbidden: &["CommitNode", "two-phase", "PREPARED"],
        because: "the simulator and the contract know no protocol",
    },
];

/// Sources that may pass a wall.
const GATES: [(&str, &str); 2] = [
    ("node/src/codec", "bincode"),
    // The front page says where the protocol is.
    ("node/src/lib.rs", "two-phase"),
];

fn breaks_wall(wall: &Wall, file: &str, line: &str) -> bool {
    let code = line.trim_start();
    wall.below.iter().any(|below| file.starts_with(below))
        && !code.starts_with("//")
        && wall.forbidden.iter().any(|word| {
            code.contains(word)
                && !GATES.iter().any(|(gate, kept)| file.starts_with(gate) && kept == word)
        })
}

#[test]
fn no_source_uses_what_an_invariant_forbids_it() {
    for wall in &WALLS {
        let wrong = lines_where(&source_files(), |file, line| breaks_wall(wall, file, line));
        assert!(wrong.is_empty(), "{}:\n{}", wall.because, wrong.join("\n"));
        for below in wall.below {
            let mut guarded = source_files().into_iter().filter(|file| {
                let name = file.strip_prefix(root()).expect("a file of the repository");
                name.to_string_lossy().starts_with(below)
            });
            assert!(guarded.next().is_some(), "no source begins with {below}");
            for word in wall.forbidden.iter().filter(|word| !GATES.contains(&(*below, **word))) {
                let line = format!("use {word};");
                assert!(breaks_wall(wall, &format!("{below}x.rs"), &line), "{below}: {line}");
            }
        }
    }
}

fn is_test(file: &Path) -> bool {
    file.ends_with("tests.rs") || file.components().any(|part| part.as_os_str() == "tests")
}

/// Fields of the types of one file that other files may touch. A type whose fields are open to
/// many files is one room with many doors: nothing keeps its invariants.
const SHARED_FIELDS_MAX: usize = 3;

fn is_shared_field(line: &str) -> bool {
    let field = ["pub(super) ", "pub(crate) "]
        .iter()
        .find_map(|visibility| line.trim_start().strip_prefix(visibility));
    field.is_some_and(|field| {
        let name = field.split(':').next().unwrap_or_default();
        field.contains(": ") && name.chars().all(|c| c.is_ascii_lowercase() || c == '_')
    })
}

#[test]
fn types_keep_their_fields_to_themselves() {
    for file in source_files() {
        // The rig of a test is its only user.
        if is_test(&file) {
            continue;
        }
        let text = fs::read_to_string(&file).expect("a text file");
        let shared = text.lines().filter(|line| is_shared_field(line)).count();
        assert!(shared <= SHARED_FIELDS_MAX, "{}: {shared} shared fields", file.display());
    }
    assert!(is_shared_field("    pub(super) node: NodeId,"), "the check finds such a field");
    assert!(!is_shared_field("    pub(super) fn new(node: NodeId) -> Host {"), "a method is none");
}

/// Closures that are bound to a name. Most are used once, and a reader has to jump: this number
/// only goes down.
const NAMED_CLOSURES_MAX: usize = 23;

#[test]
fn named_closures_do_not_become_more() {
    let mut count = 0;
    for file in source_files().into_iter().filter(|file| !is_test(file)) {
        let text = fs::read_to_string(file).expect("a text file");
        let words: Vec<&str> = text.split_whitespace().collect();
        count += words
            .windows(2)
            .filter(|pair| pair[0] == "=" && (pair[1].starts_with('|') || pair[1] == "move"))
            .count();
    }
    assert!(count <= NAMED_CLOSURES_MAX, "{count} named closures");
    assert!(count > 0, "the check finds them");
}

/// The ids in a text: words that consist of one of these groups and a number.
fn ids_in(text: &str, groups: &[&str]) -> BTreeSet<String> {
    let mut ids = BTreeSet::new();
    for word in text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_') {
        let group = word.trim_end_matches(|c: char| c.is_ascii_digit());
        if groups.contains(&group) && group != word {
            ids.insert(word.to_owned());
        }
    }
    ids
}

/// The ids that have a section of their own in a document: `### D7 Sync failed`.
fn ids_with_section(document: &str) -> BTreeSet<String> {
    let text = fs::read_to_string(root().join(document)).expect("a document");
    let headings = text.lines().filter_map(|line| line.strip_prefix("### "));
    headings.filter_map(|heading| heading.split(' ').next()).map(str::to_owned).collect()
}

#[test]
fn every_fault_rule_has_a_section_in_the_fault_model() {
    let ids: BTreeSet<String> =
        Rule::TABLE.iter().map(|(rule, _, _)| rule.id().to_owned()).collect();
    assert_eq!(ids_with_section("docs/faults.md"), ids);
}

#[test]
fn every_property_has_a_section_in_the_protocol_document() {
    let mut ids = BTreeSet::new();
    for file in files(&["commit-sim/src", "sim/src/log_check"], "rs") {
        let text = fs::read_to_string(file).expect("a text file");
        ids.extend(ids_in(&text, &["AC", "W", "I", "L", "K"]));
    }
    assert!(ids.len() > 20, "the ids are read from the sources of the checkers: {ids:?}");
    let sections = ids_with_section("docs/protocol.md");
    let missing: Vec<&String> = ids.difference(&sections).collect();
    assert!(missing.is_empty(), "no section in docs/protocol.md: {missing:?}");
}

/// The targets of the links in a Markdown text, without those in code and without anchors.
fn link_targets(text: &str) -> Vec<String> {
    let mut prose = String::new();
    let mut in_code = false;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
        } else if !in_code {
            prose.push_str(line);
            prose.push('\n');
        }
    }
    let mut targets = Vec::new();
    for rest in prose.split("](").skip(1) {
        let target = rest.split(')').next().unwrap_or_default();
        let file = target.split('#').next().unwrap_or_default();
        // `https://...` is on another machine, `crate::schedule` a link of rustdoc.
        if !file.is_empty() && !file.contains("://") && !file.contains("::") {
            targets.push(file.to_owned());
        }
    }
    targets
}

#[test]
fn every_link_between_documents_leads_to_a_file() {
    let mut broken = Vec::new();
    let mut count = 0;
    for document in documents() {
        let text = fs::read_to_string(&document).expect("a text file");
        let directory = document.parent().expect("a directory of the repository");
        for target in link_targets(&text) {
            count += 1;
            if !directory.join(&target).exists() {
                broken.push(format!("{}: {target}", document.display()));
            }
        }
    }
    assert!(count > 100, "only {count} links were checked");
    assert!(broken.is_empty(), "these links lead nowhere:\n{}", broken.join("\n"));
    let text = "[a](x.md#y), [b](https://z), [c](#d)\n```\n[e](f)\n```\n";
    assert_eq!(link_targets(text), ["x.md"]);
}
