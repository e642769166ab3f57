//! Reads a schedule: every line but those of faults, which `read_fault` reads.

use stormglass_node::Micros;

use super::cursor::{Cursor, Limits, ParseError};
use super::{Expectation, Schedule, read_fault};
use crate::plan::Plan;
use crate::protocol::{Protocol, ScheduledRequest};
use crate::workload::PlannedRequest;
use crate::world::WORLD_PROPERTIES;

/// The keywords that a line may begin with, apart from those of faults.
const KEYWORDS: [&str; 17] = [
    "stormglass",
    "protocol",
    "note",
    "expect",
    "cluster",
    "fault-phase",
    "recovery-timeout",
    "log-limit",
    "timing",
    "latency",
    "client-latency",
    "latency-tail",
    "sync-time",
    "reboot-time",
    "messages",
    "never-restarts",
    "request",
];

/// The keywords of format 1 that format 2 renamed, so that the error for an old file is precise.
const RENAMED: [(&str, &str); 15] = [
    ("why", "note"),
    ("breaks", "expect violation of"),
    ("holds", "expect no violation of"),
    ("storm", "fault-phase"),
    ("patience", "recovery-timeout"),
    ("log", "log-limit"),
    ("tail", "latency-tail"),
    ("sync", "sync-time"),
    ("reboot", "reboot-time"),
    ("wire", "messages"),
    ("dead", "never-restarts"),
    ("fail", "sync-fails"),
    ("slow", "sync-slow"),
    ("lie", "sync-lies"),
    ("break", "write-fails"),
];

/// The greatest serial of a request. Far below `u32::MAX`: probes have serials above it.
const SERIAL_MAX: u32 = 1_000_000_000;

pub(super) fn read<P: Protocol>(
    protocol: &P,
    text: &str,
) -> Result<Schedule<P::Request>, ParseError> {
    let expectation = Expectation::NoViolation(None);
    let mut schedule = Schedule {
        note: Vec::new(),
        expectation,
        plan: Plan::base(0, 0),
        requests: Vec::new(),
        faults: Vec::new(),
    };
    // The line of the error about a missing `cluster`: even an empty file has a first line.
    let mut last = 1;
    let mut seen_keywords = Vec::new();
    // Some editors begin a file with a byte order mark.
    // Otherwise the first keyword would be unknown, for a reason that no editor shows.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    for (at, line) in text.lines().enumerate() {
        last = at + 1;
        let plan = &schedule.plan;
        // Anew for each line: `cluster` sets them.
        let limits = Limits { nodes: plan.nodes, clients: plan.clients, kinds: protocol.kinds() };
        let mut words = Cursor::new(line, at + 1, limits);
        if !words.peek().is_empty() {
            check_not_repeated(&mut seen_keywords, &words)?;
            read_line(protocol, &mut schedule, &mut words)?;
            // A word too many is an error: the author meant something that the reader would ignore.
            words.expect_end()?;
        }
    }
    if schedule.plan.nodes == 0 {
        let expected = "a line `cluster 3 nodes, 1 client`".to_string();
        return Err(ParseError {
            line: last,
            column: 1,
            expected,
            found: "the end of the file".to_string(),
        });
    }
    Ok(schedule)
}

/// A setting that is given twice is an error, even if both lines agree.
fn check_not_repeated<'a>(
    seen_keywords: &mut Vec<&'a str>,
    words: &Cursor<'a>,
) -> Result<(), ParseError> {
    let keyword = words.peek();
    if !KEYWORDS.contains(&keyword) || matches!(keyword, "note" | "request" | "never-restarts") {
        return Ok(());
    }
    if seen_keywords.contains(&keyword) {
        return Err(words.error_here(&format!("at most one line `{keyword}`")));
    }
    seen_keywords.push(keyword);
    Ok(())
}

fn unknown_keyword(keyword: &str, words: &Cursor<'_>) -> ParseError {
    match RENAMED.iter().find(|(old, _)| *old == keyword) {
        Some((old, new)) => {
            words.error_here(&format!("`{new}`, which replaces `{old}` of format 1"))
        }
        None => {
            let all: Vec<_> = KEYWORDS.into_iter().chain(read_fault::keywords()).collect();
            let all = all.join(", ");
            words.error_here(&format!("a line that begins with one of {all}"))
        }
    }
}

fn read_version(words: &mut Cursor<'_>) -> Result<(), ParseError> {
    // The only other version that files have gets instructions, not just a refusal.
    if words.peek() == "1" {
        let renamed: Vec<_> = RENAMED.iter().map(|(old, new)| format!("{old} -> {new}")).collect();
        let renamed = renamed.join(", ");
        return Err(words.error_here(&format!(
            "`2`, the version of this format; to convert a file of format 1, rename its keywords \
             ({renamed}), write `life N` as `incarnation N`, and then this line"
        )));
    }
    words.expect_word("2")
}

/// `violation of NAME`, `no violation` or `no violation of NAME`.
fn read_expectation<P: Protocol>(
    protocol: &P,
    words: &mut Cursor<'_>,
) -> Result<Expectation, ParseError> {
    let is_none = words.take("no");
    words.expect_word("violation")?;
    if is_none && words.peek().is_empty() {
        return Ok(Expectation::NoViolation(None));
    }
    words.expect_word("of")?;
    let property = read_property_name(protocol, words)?;
    Ok(if is_none {
        Expectation::NoViolation(Some(property))
    } else {
        Expectation::Violation(property)
    })
}

fn read_line<P: Protocol>(
    protocol: &P,
    schedule: &mut Schedule<P::Request>,
    words: &mut Cursor<'_>,
) -> Result<(), ParseError> {
    let keyword = words.peek();
    let is_fault = read_fault::keywords().any(|fault| fault == keyword);
    // These lines name nodes and clients, and cannot be checked before their numbers are known.
    if is_fault || keyword == "request" || keyword == "never-restarts" {
        if schedule.plan.nodes == 0 {
            return Err(
                words.error_here("a line `cluster 3 nodes, 1 client` before any request or fault")
            );
        }
    } else if !KEYWORDS.contains(&keyword) {
        return Err(unknown_keyword(keyword, words));
    }
    if is_fault {
        schedule.faults.push(read_fault::read(words)?);
        return Ok(());
    }
    words.take(keyword);
    match keyword {
        "note" => schedule.note.push(words.rest().to_string()),
        "expect" => schedule.expectation = read_expectation(protocol, words)?,
        "stormglass" => read_version(words)?,
        "protocol" => {
            // The words are taken before they are compared, and the error must point at the first.
            let place = words.clone();
            if words.rest() != protocol.name() {
                return Err(place.error_here(&format!(
                    "`{}`, the protocol of this command line",
                    protocol.name()
                )));
            }
        }
        "request" => {
            let start = words.clone();
            let planned = read_planned_request(words)?;
            // Faults name requests by their ids, so an id that occurs twice would be ambiguous.
            if schedule.requests.iter().any(|other| other.id == planned.id) {
                return Err(start.error_here("a request id that no earlier line has"));
            }
            let before =
                schedule.requests.iter().rev().find(|other| other.id.client == planned.id.client);
            // Nodes deduplicate by serial: a request below an earlier one would be refused as old.
            if let Some(before) = before.filter(|before| before.id.serial >= planned.id.serial) {
                let expected = format!(
                    "a request of c{} with a number above that of {}",
                    planned.id.client, before.id
                );
                return Err(start.error_here(&expected));
            }
            schedule.requests.push(planned);
        }
        _ => read_plan(keyword, &mut schedule.plan, words)?,
    }
    Ok(())
}

fn read_property_name<P: Protocol>(
    protocol: &P,
    words: &mut Cursor<'_>,
) -> Result<String, ParseError> {
    let start = words.clone();
    let mut parts = vec![words.word("the name of a property")?];
    // A name is an id and a word, or, for the properties of every protocol, one word.
    while !words.peek().is_empty() {
        parts.push(words.word("the name of a property")?);
    }
    let id = parts[0];
    let name = parts.join(" ");
    let known = protocol.properties();
    if known.is_empty() || known.iter().chain(WORLD_PROPERTIES).any(|property| *property == name) {
        return Ok(name);
    }
    // The id or the name alone is not enough, but it tells which property was meant.
    let matching: Vec<_> = known
        .iter()
        .filter(|property| property.split(' ').any(|part| part == id || part == name))
        .collect();
    let candidates = if matching.is_empty() { known.iter().collect() } else { matching };
    let candidates: Vec<_> = candidates.into_iter().copied().collect();
    Err(start.error_here(&format!("the name of a property: {}", candidates.join(", "))))
}

fn read_planned_request<O: ScheduledRequest>(
    words: &mut Cursor<'_>,
) -> Result<PlannedRequest<O>, ParseError> {
    let start = words.clone();
    let id = words.request()?;
    // Attempts are numbered by the client when it retries, and are no part of the plan.
    if id.attempt > 0 {
        return Err(start.error_here("a request without an attempt, like c1.4"));
    }
    if !(1..=SERIAL_MAX).contains(&id.serial) {
        return Err(start.error_here(&format!("a request of number 1 to {SERIAL_MAX}, like c1.4")));
    }
    words.expect_word("to")?;
    let node = words.node()?;
    let after = if words.take("after") { words.time()? } else { Micros::ZERO };
    words.expect_word(":")?;
    Ok(PlannedRequest { id, node, after, request: O::read(words)? })
}

fn read_plan(keyword: &str, plan: &mut Plan, words: &mut Cursor<'_>) -> Result<(), ParseError> {
    match keyword {
        "cluster" => {
            // At most 64, since checkers hold a set of nodes in one 64-bit word.
            plan.nodes = words.number("how many nodes", 1..=64)? as u16;
            words.one_of(&[("nodes", ()), ("node", ())])?;
            words.expect_word(",")?;
            plan.clients = words.number("how many clients", 1..=64)? as u32;
            words.one_of(&[("clients", ()), ("client", ())])?;
        }
        "fault-phase" => plan.fault_phase = read_positive_time(words)?,
        "log-limit" => {
            plan.log_bytes = words.number("how many bytes", 1..=1_000_000_000)?;
            words.expect_word("B")?;
        }
        "recovery-timeout" => plan.recovery_timeout = read_positive_time(words)?,
        "timing" => {
            plan.timing.key = if words.take("base") {
                None
            } else {
                Some(words.key("`base` or a key of up to 16 hexadecimal digits")?)
            };
        }
        "latency" => plan.timing.latency = read_time_range(words)?,
        "client-latency" => plan.timing.client_latency = read_time_range(words)?,
        "sync-time" => plan.timing.sync_time = read_time_range(words)?,
        "latency-tail" => plan.timing.latency_tail = words.time()?,
        "reboot-time" => plan.timing.reboot_time = read_positive_time(words)?,
        "messages" => {
            words.expect_word("encoded")?;
            plan.encode_messages = true;
        }
        "never-restarts" => {
            plan.permanently_down.push(words.node()?);
            while !words.peek().is_empty() {
                plan.permanently_down.push(words.node()?);
            }
        }
        // `read_line` has refused every word that is no keyword.
        other => unreachable!("keyword `{other}` has no reader"),
    }
    Ok(())
}

fn read_positive_time(words: &mut Cursor<'_>) -> Result<Micros, ParseError> {
    let start = words.clone();
    let time = words.time()?;
    if time == Micros::ZERO { Err(start.error_here("a time above zero")) } else { Ok(time) }
}

fn read_time_range(words: &mut Cursor<'_>) -> Result<(Micros, Micros), ParseError> {
    let low =
        if let Some(number) = read_number_before_to(words) { number? } else { words.time()? };
    words.expect_word("to")?;
    let start = words.clone();
    let high = words.time()?;
    if high < low { Err(start.error_here("a time not below the first")) } else { Ok((low, high)) }
}

/// In `0.5 to 5 ms` the first time has no unit of its own.
fn read_number_before_to(words: &mut Cursor<'_>) -> Option<Result<Micros, ParseError>> {
    // On a copy: if no `to` follows, the words are a time with a unit and are read again as one.
    let mut ahead = words.clone();
    let number = ahead.word("").ok()?;
    if ahead.peek() != "to" {
        return None;
    }
    let place = words.clone();
    *words = ahead;
    let limits = Limits { nodes: 0, clients: 0, kinds: &[] };
    // Read with the unit that it lacks, so that the checks of a complete time apply.
    let text = format!("{number} ms");
    Some(Cursor::new(&text, 1, limits).time().map_err(|_| place.error_here("a time in ms")))
}
