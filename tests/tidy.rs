//! The style rules of the repository that a program can check.

use std::fs;
use std::path::{Path, PathBuf};

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
    let packages = ["", "node/", "sim/", "commit-sim/", "tools/"];
    let directories: Vec<String> = packages
        .iter()
        .flat_map(|package| DIRECTORIES.map(|directory| format!("{package}{directory}")))
        .filter(|directory| root().join(directory).is_dir())
        .collect();
    files(&directories.iter().map(String::as_str).collect::<Vec<_>>(), "rs")
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
    checked.extend(files(&["docs", "sim/src", "regressions"], "md"));
    checked.extend(files(&["regressions", "tests/scenarios"], "schedule"));
    checked.extend(files(&["tools/mutants"], "patch"));
    checked.extend(["README.md", "ARCHITECTURE.md"].map(|name| root().join(name)));
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
