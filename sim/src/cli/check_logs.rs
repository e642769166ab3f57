//! The command `check-logs`: the checkers over the event logs of real nodes.

use super::args::CheckLogsArgs;
use super::say::say;
use super::{Exit, usage};
use crate::log_check::LogCheckReport;
use crate::protocol::Protocol;

/// Runs the protocol's checkers over event logs.
pub(super) fn run<P: Protocol>(protocol: &P, args: &CheckLogsArgs) -> Exit {
    let Some(check_logs) = protocol.log_check() else {
        let name = protocol.name();
        return usage::usage_error(format_args!("{name} has no checker for event logs"));
    };
    let report = match check_logs(protocol, &args.files) {
        Ok(report) => report,
        Err(error) => {
            eprintln!("error: {error}");
            return Exit::Other;
        }
    };
    say!("{} lines, {} incarnations", report.lines, report.incarnations);
    say!(
        "  {} messages lost, {} disk operations not performed",
        report.lost_messages,
        report.unperformed
    );
    for (what, times) in report.sometimes.rows() {
        say!("  {times:>9}  {what}");
    }
    print_unclean_nodes(&report);
    match &report.violation {
        None => {
            say!("clean");
            Exit::Clean
        }
        Some((violation, place)) => {
            say!("{place}\nviolates {}\n  {}", violation.property, violation.reason);
            Exit::of(violation)
        }
    }
}

fn print_unclean_nodes(report: &LogCheckReport) {
    if !report.unclean_nodes.is_empty() && report.violation.is_none() {
        let nodes: Vec<String> = report.unclean_nodes.iter().map(ToString::to_string).collect();
        say!(
            "  end-of-run properties are not checked: the last incarnation of {} did not end cleanly",
            nodes.join(", ")
        );
    }
}
