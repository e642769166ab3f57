//! Puts all mutants into one copy of the sources, each behind a number.
//!
//! A patch changes the bodies of a few functions. The body of each such function becomes a `match`
//! on the number of the mutant that is switched on: one arm for each mutant that changes it, and
//! the original body for all others. So one build serves every mutant, and without a number the
//! copy behaves as the original.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use proc_macro2::TokenStream;
use quote::ToTokens;
use syn::spanned::Spanned;

use super::{Change, Mutant};
use crate::CliError;

/// The module that the copy of `stormglass-node` gets.
const SWITCH: &str = "
/// The mutant that is switched on.
#[doc(hidden)]
pub mod mutant {
    use std::sync::OnceLock;

    /// Its number from STORMGLASS_MUTANT; 0 for none.
    #[inline]
    pub fn number() -> u32 {
        static NUMBER: OnceLock<u32> = OnceLock::new();
        *NUMBER.get_or_init(|| {
            let number = std::env::var(\"STORMGLASS_MUTANT\").ok();
            number.and_then(|number| number.parse().ok()).unwrap_or(0)
        })
    }
}
";

/// Begins the line before the arm of a mutant; its number follows, or 0.
const ARM: &str = "// mutant ";

/// The mutant in whose arm this line of a combined file is, the first being 1; `None` if it is in
/// no arm of a mutant.
pub(super) fn mutant_at(text: &str, line: usize) -> Option<u32> {
    let above: Vec<&str> = text.lines().take(line).collect();
    let number = above.iter().rev().find_map(|line| line.strip_prefix(ARM))?;
    number.parse().ok().filter(|number| *number != 0)
}

/// A function with a body.
struct Function {
    /// Names it within its file: the headers of the blocks around it, then its own.
    key: String,
    /// The whole item, in bytes of the file.
    item: Range<usize>,
    /// Its body, with both braces.
    body: Range<usize>,
}

/// What the mutants do to one file.
#[derive(Default)]
struct Edits {
    /// For each function, by its place in the file: the mutants that change it, with their bodies.
    bodies: BTreeMap<usize, Vec<(u32, String)>>,
    /// Functions that mutants add, by the offset at which they are inserted.
    added: BTreeMap<usize, String>,
}

/// Writes all mutants into `copy`, a copy of the repository.
///
/// # Errors
/// If a patch does not apply, or changes anything but functions.
pub(super) fn combine(copy: &Path, mutants: &[Mutant]) -> Result<(), CliError> {
    let mut edits: BTreeMap<PathBuf, Edits> = BTreeMap::new();
    for mutant in mutants {
        for (file, patched) in changed_files(copy, &mutant.change)? {
            let original = fs::read_to_string(copy.join(&file))?;
            let edits = edits.entry(file.clone()).or_default();
            add_edits(&original, &patched, mutant.number, edits)
                .map_err(|reason| format!("{}: {}: {reason}", mutant.name, file.display()))?;
        }
    }
    for (file, edits) in edits {
        let path = copy.join(&file);
        let in_node = file.starts_with("node");
        let text = apply(&fs::read_to_string(&path)?, &edits, in_node)?;
        fs::write(&path, text)?;
    }
    let library = copy.join("node/src/lib.rs");
    let text = fs::read_to_string(&library)? + SWITCH;
    Ok(fs::write(library, text)?)
}

/// # Errors
/// If [`combine`] cannot put this mutant into the copy.
pub(super) fn check(copy: &Path, mutant: &Mutant) -> Result<(), CliError> {
    for (file, changed) in changed_files(copy, &mutant.change)? {
        let original = fs::read_to_string(copy.join(&file))?;
        add_edits(&original, &changed, mutant.number, &mut Edits::default())?;
    }
    Ok(())
}

/// The files that a mutant changes, with their contents afterwards.
fn changed_files(copy: &Path, change: &Change) -> Result<Vec<(PathBuf, String)>, CliError> {
    match change {
        Change::Nothing => Ok(Vec::new()),
        Change::Patch(patch) => patched_files(copy, patch),
        Change::Text { file, range, replacement } => {
            let mut text = fs::read_to_string(copy.join(file))?;
            text.replace_range(range.clone(), replacement);
            Ok(vec![(file.clone(), text)])
        }
    }
}

fn patched_files(copy: &Path, patch: &Path) -> Result<Vec<(PathBuf, String)>, CliError> {
    let scratch = tempfile::tempdir()?;
    let text = fs::read_to_string(patch)?;
    let names: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("+++ b/")).collect();
    for name in &names {
        let to = scratch.path().join(name);
        fs::create_dir_all(to.parent().expect("a file in a directory"))?;
        fs::copy(copy.join(name), to)?;
    }
    let applied = Command::new("git")
        .current_dir(scratch.path())
        .args(["apply", "--recount"])
        .arg(patch)
        .stderr(Stdio::inherit())
        .status()?;
    if !applied.success() {
        return Err(format!("{} does not apply", patch.display()).into());
    }
    let mut files = Vec::new();
    for name in names {
        files.push((PathBuf::from(name), fs::read_to_string(scratch.path().join(name))?));
    }
    Ok(files)
}

/// Adds the functions in which the two texts differ.
fn add_edits(
    original: &str,
    patched: &str,
    mutant: u32,
    edits: &mut Edits,
) -> Result<(), CliError> {
    let before = functions(original)?;
    let after = functions(patched)?;
    let mut changed = false;
    let mut insert_at = None;
    for function in &after {
        let Some(place) = before.iter().position(|other| other.key == function.key) else {
            let at = insert_at.ok_or("an added function follows no function of the original")?;
            let text = &patched[function.item.clone()];
            write!(edits.added.entry(at).or_default(), "\n\n{text}")?;
            changed = true;
            continue;
        };
        insert_at = Some(before[place].item.end);
        let body = &patched[function.body.clone()];
        if tokens(body)? != tokens(&original[before[place].body.clone()])? {
            edits.bodies.entry(place).or_default().push((mutant, body.to_owned()));
            changed = true;
        }
    }
    if tokens(&without(original, &before, &after))? != tokens(&without(patched, &after, &before))? {
        return Err("it changes more than functions".into());
    }
    if changed { Ok(()) } else { Err("it changes no function".into()) }
}

/// The text without the bodies of its functions, and without functions that `others` lack.
fn without(text: &str, functions: &[Function], others: &[Function]) -> String {
    let mut rest = String::new();
    let mut from = 0;
    for function in functions {
        let known = others.iter().any(|other| other.key == function.key);
        let cut = if known { &function.body } else { &function.item };
        // A function inside another one is part of its body.
        if cut.start >= from {
            rest += &text[from..cut.start];
            rest += if known { "{}" } else { "" };
            from = cut.end;
        }
    }
    rest + &text[from..]
}

/// The text with all edits.
fn apply(original: &str, edits: &Edits, in_node: bool) -> Result<String, CliError> {
    let switch = if in_node { "crate" } else { "stormglass_node" };
    let functions = functions(original)?;
    let mut replacements: Vec<(Range<usize>, String)> =
        edits.added.iter().map(|(at, text)| (*at..*at, text.clone())).collect();
    for (place, bodies) in &edits.bodies {
        let body = functions[*place].body.clone();
        let numbers: Vec<u32> = bodies.iter().map(|(mutant, _)| *mutant).collect();
        // The original first, so that errors in types are those of mutants.
        let mut text = format!(
            "{{ match {switch}::mutant::number() {{\n{ARM}0\n\
             switched_on if !{numbers:?}.contains(&switched_on) => {}\n",
            &original[body.clone()]
        );
        for (mutant, body) in bodies {
            writeln!(text, "{ARM}{mutant}\n{mutant} => {body}")?;
        }
        text += "_ => unreachable!() } }";
        replacements.push((body, text));
    }
    replacements.sort_by_key(|(range, _)| range.start);
    let mut result = String::new();
    let mut from = 0;
    for (range, text) in replacements {
        result += &original[from..range.start];
        result += &text;
        from = range.end;
    }
    Ok(result + &original[from..])
}

/// Without comments and layout.
fn tokens(text: &str) -> Result<String, CliError> {
    let tokens: TokenStream = text.parse().map_err(|error| format!("not Rust: {error}"))?;
    Ok(tokens.to_string())
}

/// The functions of a file that are in no other function, in order.
fn functions(text: &str) -> Result<Vec<Function>, CliError> {
    let mut found = Vec::new();
    collect(&syn::parse_file(text)?.items, "", &mut found);
    found.sort_by_key(|function| function.item.start);
    Ok(found)
}

fn collect(items: &[syn::Item], within: &str, found: &mut Vec<Function>) {
    for item in items {
        if let syn::Item::Fn(function) = item {
            found.push(Function::new(within, item, &function.sig, &function.block));
        } else if let syn::Item::Impl(block) = item {
            let self_type = block.self_ty.to_token_stream();
            let of_trait =
                block.trait_.as_ref().map(|(_, path, _)| path.to_token_stream().to_string());
            let within = format!("{within} impl {} {self_type}", of_trait.unwrap_or_default());
            for inner in &block.items {
                if let syn::ImplItem::Fn(function) = inner {
                    found.push(Function::new(&within, inner, &function.sig, &function.block));
                }
            }
        } else if let syn::Item::Mod(module) = item {
            let inner = module.content.as_ref().map_or(&[][..], |(_, items)| items);
            collect(inner, &format!("{within} mod {}", module.ident), found);
        }
    }
}

impl Function {
    fn new(
        within: &str,
        item: &impl Spanned,
        signature: &syn::Signature,
        block: &syn::Block,
    ) -> Function {
        Function {
            key: format!("{within} {}", signature.to_token_stream()),
            item: item.span().byte_range(),
            body: block.span().byte_range(),
        }
    }
}
