//! The message of a failing test, for a cluster that sends heartbeats: causes, trace and state.

use std::fmt::Write as _;
use std::ops::RangeInclusive;
use std::panic::{AssertUnwindSafe, catch_unwind};

use stormglass_node::Node;
use stormglass_sim::property::Checker;
use stormglass_sim::simulation::Simulation;

use crate::lease;

/// n0 holds the lease by the promise of n2, the clock of n2 jumps, and n2 promises it to n1.
const JUMP: &str = "
    cluster   3 nodes, 2 clients
    timing    base
    request   c1.1 to n0 after 100 ms: \"Acquire\"
    request   c2.1 to n1 after 160 ms: \"Acquire\"
    lose      1st AskPromise from n0 to n1
    at 130 ms jump n2 by 300 ms
    at 140 ms cut n1 -> n0 for 300 ms
";

/// The same, but n2 forgets its promise in a restart.
const RESTART: &str = "
    cluster   3 nodes, 2 clients
    timing    base
    request   c1.1 to n0 after 100 ms: \"Acquire\"
    request   c2.1 to n1 after 160 ms: \"Acquire\"
    lose      1st AskPromise from n0 to n1
    at 130 ms kill n2: keeps 1000/1000, down 5 ms
    at 140 ms cut n1 -> n0 for 300 ms
";

/// The schedule with requests of these clients that have nothing to do with a lease.
fn with_pings(schedule: &str, clients: RangeInclusive<u32>, count: u32) -> String {
    let mut schedule = schedule.replace("2 clients", &format!("{} clients", clients.end()));
    for client in clients {
        for serial in 1..=count {
            writeln!(schedule, "request c{client}.{serial} to n2: \"Ping\"").expect("a string");
        }
    }
    schedule
}

/// The message of the panic with which this schedule fails.
fn failure<N, C>(simulation: &Simulation<N, C>, schedule: &str) -> String
where
    N: Node,
    N::Request: Send + Sync,
    C: Checker<N> + Sync,
{
    let panic = catch_unwind(AssertUnwindSafe(|| simulation.replay(schedule)));
    panic.expect_err("a violation").downcast_ref::<String>().expect("a text").clone()
}

/// The lines of the section with this heading, up to an empty line.
fn section<'a>(message: &'a str, heading: &str) -> Vec<&'a str> {
    let mut lines = message.lines().skip_while(|line| !line.starts_with(heading));
    lines.next().unwrap_or_else(|| panic!("no {heading} in\n{message}"));
    lines.skip_while(|line| line.is_empty()).take_while(|line| !line.is_empty()).collect()
}

#[track_caller]
fn assert_in_order(lines: &[&str], expected: &[&str]) {
    let mut rest = lines.iter();
    for wanted in expected {
        let is_there = rest.any(|line| line.ends_with(wanted));
        assert!(is_there, "no `{wanted}` in its place in\n{}", lines.join("\n"));
    }
}

#[test]
fn causes_of_two_leases_are_both_grants_and_the_jump_between_them() {
    let message = failure(&lease::simulation(), &with_pings(JUMP, 3..=3, 20));
    assert!(message.contains("n0 and n1 hold a lease"), "{message}");
    let causes = section(&message, "causes: ");
    assert_in_order(
        &causes,
        &[
            "n0  <- c1     Acquire c1.1",
            "n0  -> n2     AskPromise",
            "n2  <- n0     AskPromise",
            "n2  -> n0     Promise",
            "n0  <- n2     Promise",
            "n0  -> c1     Granted c1.1",
            "FAULT     clock of n2 jumps by 300.000 ms",
            "n1  <- c2     Acquire c2.1",
            "n1  -> n2     AskPromise",
            "n2  <- n1     AskPromise",
            "n2  -> n1     Promise",
            "n1  <- n2     Promise",
            "n1  -> c2     Granted c2.1",
        ],
    );
    assert!(!causes.iter().any(|line| line.contains("Beat")), "{}", causes.join("\n"));
    // Of 530 facts.
    assert!(causes.len() <= 20, "{}", causes.join("\n"));
}

#[test]
fn causes_of_two_leases_are_both_grants_and_the_restart_between_them() {
    let message = failure(&lease::simulation(), &with_pings(RESTART, 3..=3, 20));
    let causes = section(&message, "causes: ");
    assert_in_order(
        &causes,
        &[
            "n2  -> n0     Promise",
            "n0  -> c1     Granted c1.1",
            "n2  KILLED    the page cache kept 0 of 0 operations",
            "n2  boot",
            "n2  <- n1     AskPromise",
            "n2  -> n1     Promise",
            "n1  -> c2     Granted c2.1",
        ],
    );
}

#[test]
fn trace_leaves_out_heartbeats_and_says_so() {
    let message = failure(&lease::simulation(), JUMP);
    let trace = section(&message, "trace:");
    let text = trace.join("\n");
    assert!(!text.contains("-> n1     Beat"), "{text}");
    assert!(!text.contains("  wake"), "{text}");
    assert!(
        text.contains(" BeatAck, ") && text.contains("STORMGLASS_TRACE=all shows all"),
        "{text}"
    );
    assert_in_order(&trace, &["-> n2     AskPromise", "c2     Granted c2.1"]);
    let golden = lease::simulation().trace(JUMP);
    assert!(!golden.contains("Beat ") && golden.contains("AskPromise"), "{golden}");
    assert!(golden.ends_with("VIOLATED OneHolder: n0 and n1 hold a lease\n"), "{golden}");
}

/// The second half of the trace has more lines than are shown, and what it names comes before.
#[test]
fn shortened_trace_keeps_what_the_reason_names() {
    let message = failure(&lease::simulation(), &with_pings(JUMP, 3..=6, 100));
    let trace = section(&message, "trace:");
    assert!(trace.iter().any(|line| line.ends_with(" lines are omitted ...")), "{message}");
    assert_in_order(&trace, &["n0  -> c1     Granted c1.1", "n1  -> c2     Granted c2.1"]);
}

#[test]
fn message_has_the_state_of_the_node_at_the_violation() {
    let message = failure(&lease::simulation(), JUMP);
    let state = section(&message, "state of n1 at the violation:");
    assert_in_order(&state, &["LeaseNode {", "id: n1,", "promises: ["]);
    assert!(message.contains("state of n0 at the violation:"), "{message}");
}

#[test]
fn trace_of_a_bad_schedule_panics_with_its_error() {
    let message = panic_of_trace("cluster 3 nodes, 1 client\njump n2");
    assert!(message.starts_with("line 2, column "), "{message}");
    let message = panic_of_trace("cluster 3 nodes, 1 client\nlose 9th Promise from n0 to n1");
    assert!(message.contains("9th Promise"), "{message}");
}

fn panic_of_trace(schedule: &str) -> String {
    let panic = catch_unwind(AssertUnwindSafe(|| lease::simulation().trace(schedule)));
    panic.expect_err("no trace").downcast_ref::<String>().expect("a text").clone()
}
