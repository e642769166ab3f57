//! `cargo tools instructions`: counts the processor instructions of a hunt and of the benchmark.
//!
//! A count varies by a few in a million from run to run, where a time varies by a tenth: a change
//! that makes every seed slower by a few per cent shows in the count on any machine, also a busy
//! one. The count comes from callgrind; the figures it is compared with are in the last line of
//! `tools/instructions.txt`.

#![allow(clippy::float_arithmetic, reason = "figures of a report")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use clap::Args;

use crate::program::{build, repository};
use crate::{CliError, Exit, say};

/// The arguments.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  cargo tools instructions\n  \
    cargo tools instructions --record \"The checker compares every read twice\"\n\n\
    Exit code 1 if a figure is more than 3 % above the last line of tools/instructions.txt.\n\
    Without valgrind (Debian package valgrind) nothing is counted, and the exit code is 0.")]
pub(crate) struct Instructions {
    /// Append the figures to `tools/instructions.txt`, with the reason why they changed: one line
    #[arg(long, value_name = "REASON", value_parser = parse_reason)]
    record: Option<String>,
    /// Count those of this program instead of building `commit-sim`
    #[arg(long, value_name = "PATH")]
    commit_sim: Option<PathBuf>,
}

/// A figure may be this much above the recorded one, in thousandths.
// Another version of the compiler, with other decisions about inlining, moves a figure by 1 %.
const RISE_MAX_PERMILLE: f64 = 30.0;

/// Instructions per unit of work.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Figures {
    /// Of a hunt with default options, per event.
    per_event: f64,
    /// Of the benchmark with default options, per message delivered.
    per_message: f64,
}

/// One run under callgrind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Counted {
    instructions: u64,
    /// Events or messages.
    units: u64,
}

/// Counts, prints, and compares.
pub(crate) fn run(args: &Instructions) -> Result<Exit, CliError> {
    if Command::new("valgrind").arg("--version").stdout(Stdio::null()).status().is_err() {
        say!("skipped: no instructions are counted without the Debian package valgrind")?;
        return Ok(Exit::Success);
    }
    let program = match &args.commit_sim {
        Some(path) => path.clone(),
        None => build("stormglass-commit-sim", "commit-sim")?,
    };
    let measured = measure(&program)?;
    let path = repository().join("tools/instructions.txt");
    let text = fs::read_to_string(&path)
        .map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    let recorded = last_recorded(&text)?;
    let mut has_risen = false;
    for (name, before, now) in [
        ("event of a default hunt", recorded.per_event, measured.per_event),
        ("message of the benchmark", recorded.per_message, measured.per_message),
    ] {
        let change = (now / before - 1.0) * 1_000.0;
        has_risen |= change > RISE_MAX_PERMILLE;
        say!("{now:8.1} instructions per {name}: {:+.1} % of {before:.1}", change / 10.0)?;
    }
    if let Some(reason) = &args.record {
        fs::write(&path, format!("{text}{}\n", line(measured, reason)))?;
        say!("recorded in {}", path.display())?;
        return Ok(Exit::Success);
    }
    if has_risen {
        return Err(
            "more than 3 % above the last line of tools/instructions.txt: make it faster, \
                    or give the reason with `cargo tools instructions --record REASON`"
                .into(),
        );
    }
    Ok(Exit::Success)
}

/// # Errors
/// If a run fails, or prints no count.
fn measure(program: &Path) -> Result<Figures, CliError> {
    // The difference of two runs, so that starting the program does not count, nor the first seeds,
    // whose memory the later ones reuse.
    Ok(Figures {
        per_event: per_unit(hunt(program, "50")?, hunt(program, "300")?),
        per_message: per_unit(bench(program, "10")?, bench(program, "60")?),
    })
}

fn hunt(program: &Path, seeds: &str) -> Result<Counted, CliError> {
    count(program, &["hunt", "--jobs", "1", "--no-shrink", "--seeds", seeds])
}

fn bench(program: &Path, seeds: &str) -> Result<Counted, CliError> {
    count(program, &["bench", "--seeds", seeds])
}

fn per_unit(short: Counted, long: Counted) -> f64 {
    (long.instructions - short.instructions) as f64 / (long.units - short.units) as f64
}

/// Runs the program once under callgrind.
fn count(program: &Path, args: &[&str]) -> Result<Counted, CliError> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(program)
        .args(args)
        .stdin(Stdio::null())
        .output()?;
    let printed = String::from_utf8_lossy(&output.stdout);
    let of_valgrind = String::from_utf8_lossy(&output.stderr);
    let counted = number_after(&of_valgrind, "Collected :").zip(units(&printed));
    match counted {
        Some((instructions, units)) if output.status.success() => {
            Ok(Counted { instructions, units })
        }
        Some(_) | None => Err(format!(
            "valgrind {} {} failed: {}",
            program.display(),
            args.join(" "),
            of_valgrind.trim()
        )
        .into()),
    }
}

/// The events of a hunt, from `123 events, 45 messages`, or the messages of a benchmark, from its
/// JSON.
fn units(printed: &str) -> Option<u64> {
    match printed.split_once(" events, ") {
        Some((before, _)) => before.split_whitespace().last()?.parse().ok(),
        None => number_after(printed, "\"messages_delivered\":"),
    }
}

fn number_after(text: &str, label: &str) -> Option<u64> {
    let (_, rest) = text.split_once(label)?;
    let rest = rest.trim_start();
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    rest[..digits].parse().ok()
}

/// A line of the file.
fn line(figures: Figures, reason: &str) -> String {
    format!("{:.1} {:.1} {reason}", figures.per_event, figures.per_message)
}

/// The figures in the last line of the file.
///
/// # Errors
/// If there is no line, or the last one does not begin with two numbers above 0.
fn last_recorded(text: &str) -> Result<Figures, CliError> {
    let last = text.lines().rfind(|line| !line.trim().is_empty() && !line.starts_with('#'));
    let Some(last) = last else {
        return Err("tools/instructions.txt has no figures: add a line with --record".into());
    };
    let mut numbers = last.split_whitespace().map_while(|word| word.parse::<f64>().ok());
    match (numbers.next(), numbers.next()) {
        (Some(per_event), Some(per_message)) if per_event > 0.0 && per_message > 0.0 => {
            Ok(Figures { per_event, per_message })
        }
        _ => Err(format!(
            "tools/instructions.txt, last line: instructions per event and per message are \
             expected, then the reason, not {last:?}"
        )
        .into()),
    }
}

fn parse_reason(text: &str) -> Result<String, String> {
    match text.trim() {
        "" => Err("the reason is empty".to_owned()),
        reason if reason.lines().count() > 1 => Err("the reason has more than one line".to_owned()),
        reason => Ok(reason.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_events_of_a_hunt_and_messages_of_a_benchmark() {
        let hunt = "1500 seeds in 47.6 s: clean\n  21511 events, 13094 messages (4 copies)\n";
        assert_eq!(units(hunt), Some(21_511));
        assert_eq!(units(r#"{"events":21888,"messages_delivered":12191,"nodes":4}"#), Some(12_191));
        assert_eq!(units("no such number"), None);
        assert_eq!(number_after("==7== Collected : 732 ", "Collected :"), Some(732));
    }

    #[test]
    fn start_of_the_program_does_not_count() {
        let short = Counted { instructions: 1_500, units: 10 };
        let long = Counted { instructions: 3_500, units: 30 };
        assert!((per_unit(short, long) - 100.0).abs() < 1e-9);
    }

    #[test]
    fn last_line_counts_and_a_recorded_line_is_read_again() {
        let figures = Figures { per_event: 3_800.5, per_message: 4_400.0 };
        let text = format!("# comment\n9.0 9.0 first\n{}\n\n", line(figures, "second"));
        assert_eq!(last_recorded(&text).unwrap(), figures);
        for wrong in ["", "# only a comment\n", "12.0 reason\n", "0 1 x\n", "reason\n"] {
            assert!(last_recorded(wrong).is_err(), "{wrong:?}");
        }
    }
}
