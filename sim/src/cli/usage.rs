//! Wrong usage gets a one-line error on standard error, and exit code 2.

use std::fmt::Arguments;
use std::process::ExitCode;

use clap::error::ErrorKind;

use super::Exit;

/// Reports an error in the arguments; help and version are no errors.
pub(super) fn report_parse_error(error: &clap::Error) -> ExitCode {
    let kind = error.kind();
    if matches!(kind, ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        // A closed pipe (`| head`) is no error.
        let _closed = error.print();
        return ExitCode::from(Exit::Clean as u8);
    }
    if matches!(
        kind,
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand | ErrorKind::MissingSubcommand
    ) {
        let commands = "hunt, replay, shrink, diff, check-determinism or profiles";
        eprintln!("error: a command is missing: {commands} (see --help)");
    } else {
        eprintln!("{}", one_line(&error.render().to_string()));
    }
    ExitCode::from(Exit::Usage as u8)
}

/// Prints one line, and returns the exit code of wrong usage.
pub(super) fn usage_error(reason: Arguments<'_>) -> Exit {
    eprintln!("error: {reason}");
    Exit::Usage
}

/// The last of `count` seeds, of which there is at least one.
pub(super) fn last_seed(first: u64, count: u64) -> Result<u64, Exit> {
    first.checked_add(count - 1).ok_or_else(|| {
        usage_error(format_args!(
            "seeds go up to {}: there are fewer than {count} from --first-seed {first} on",
            u64::MAX
        ))
    })
}

/// The first paragraph of the parser's message, which holds the error and a suggestion, without the
/// usage.
fn one_line(text: &str) -> String {
    let lines = text.lines().take_while(|line| !line.trim().is_empty());
    let mut line = lines.map(str::trim).collect::<Vec<_>>().join(" ");
    // The words of the standard library's parser are for programmers.
    line = line.replace("invalid digit found in string", "expected a whole number");
    // clap prints the bound of an open range.
    line = line.replace("..18446744073709551615", " and up");
    // The suggestion of a similar flag comes after an empty line, and is the most useful part.
    for tip in text.lines().filter_map(|line| line.trim().strip_prefix("tip: ")) {
        line += "; ";
        line += tip;
    }
    line
}
