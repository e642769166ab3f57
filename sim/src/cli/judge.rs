use super::Exit;
use super::args::JudgeLogs;
use super::say::say;
use crate::judge::{Report, judge};
use crate::protocol::Scene;

/// Runs the protocol's judges over event logs.
pub(super) fn run<S: Scene>(scene: &S, args: &JudgeLogs) -> Exit {
    let report = match judge(scene, &args.files) {
        Ok(report) => report,
        Err(error) => {
            eprintln!("error: {error}");
            return Exit::Other;
        }
    };
    say!("{} lines of {} lives", report.lines, report.lives);
    say!(
        "  {} letters were lost, {} disk operations were never performed",
        report.lost_letters,
        report.unperformed
    );
    for (what, times) in report.sometimes.rows() {
        say!("  {times:>9}  {what}");
    }
    say_the_end(&report);
    match &report.broken {
        None => {
            say!("clean");
            Exit::Clean
        }
        Some((broken, place)) => {
            say!("{place}\nbreaks {}\n  {}", broken.claim, broken.why);
            Exit::of(broken)
        }
    }
}

fn say_the_end(report: &Report) {
    if !report.cut_short.is_empty() && report.broken.is_none() {
        let nodes: Vec<String> = report.cut_short.iter().map(ToString::to_string).collect();
        say!(
            "  what must hold in the end is not judged: the last life of {} did not end cleanly",
            nodes.join(", ")
        );
    }
}
