//! Text to schedules: the lines that are no faults.

use super::cursor::{Cursor, Limits, ParseError};
use super::{Expectation, Schedule, base_plan, read_fault};
use crate::plan::Plan;
use crate::protocol::Scene;
use crate::workload::PlannedRequest;
use crate::world::WORLD_PROPERTIES;

/// Every word that a line may begin with, but for the faults.
const KEYWORDS: [&str; 18] = [
    "stormglass",
    "protocol",
    "why",
    "breaks",
    "holds",
    "cluster",
    "storm",
    "log",
    "patience",
    "timing",
    "latency",
    "client-latency",
    "sync",
    "tail",
    "reboot",
    "wire",
    "dead",
    "request",
];

/// The greatest number of a request of a client.
const SERIAL_MAX: u32 = 1_000_000_000;

pub(super) fn read<S: Scene>(scene: &S, text: &str) -> Result<Schedule<S::Request>, ParseError> {
    let property = Expectation::MustHold(None);
    let mut schedule = Schedule {
        note: Vec::new(),
        property,
        plan: base_plan(0, 0),
        requests: Vec::new(),
        faults: Vec::new(),
    };
    let (mut last, mut seen_keywords) = (1, Vec::new());
    // Some editors begin a file with a mark of its encoding.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    for (at, line) in text.lines().enumerate() {
        last = at + 1;
        let plan = &schedule.plan;
        let limits = Limits { nodes: plan.nodes, clients: plan.clients, kinds: scene.kinds() };
        let mut words = Cursor::new(line, at + 1, limits);
        if !words.peek().is_empty() {
            check_not_repeated(&mut seen_keywords, &words)?;
            read_line(scene, &mut schedule, &mut words)?;
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

/// Two lines of the frame that say different things are a mistake, whichever is meant.
fn check_not_repeated<'a>(
    seen_keywords: &mut Vec<&'a str>,
    words: &Cursor<'a>,
) -> Result<(), ParseError> {
    let keyword = words.peek();
    let keyword = if keyword == "breaks" { "holds" } else { keyword };
    if !KEYWORDS.contains(&keyword) || matches!(keyword, "why" | "request" | "dead") {
        return Ok(());
    }
    if seen_keywords.contains(&keyword) {
        return Err(words.error_here(&format!("one line `{}` and no more", words.peek())));
    }
    seen_keywords.push(keyword);
    Ok(())
}

fn read_line<S: Scene>(
    scene: &S,
    schedule: &mut Schedule<S::Request>,
    words: &mut Cursor<'_>,
) -> Result<(), ParseError> {
    let keyword = words.peek();
    let is_fault = read_fault::VERBS.contains(&keyword);
    if is_fault || keyword == "request" || keyword == "dead" {
        if schedule.plan.nodes == 0 {
            return Err(
                words.error_here("a line `cluster 3 nodes, 1 client` before what happens in it")
            );
        }
    } else if !KEYWORDS.contains(&keyword) {
        let all = [&KEYWORDS[..], &read_fault::VERBS].concat().join(", ");
        return Err(words.error_here(&format!("a line that begins with one of {all}")));
    }
    if is_fault {
        schedule.faults.push(read_fault::read(words)?);
        return Ok(());
    }
    words.take(keyword);
    match keyword {
        "why" => schedule.note.push(words.rest().to_string()),
        "breaks" => {
            let name =
                property(scene, words)?.ok_or_else(|| words.error_here("the name of a claim"))?;
            schedule.property = Expectation::MustViolate(name);
        }
        "holds" => schedule.property = Expectation::MustHold(property(scene, words)?),
        "stormglass" => words.expect_word("1")?,
        "protocol" => {
            let place = words.clone();
            if words.rest() != scene.name() {
                return Err(place.error_here(&format!("`{}`, whose command this is", scene.name())));
            }
        }
        "request" => {
            let start = words.clone();
            let planned = read_planned_request(scene, words)?;
            if schedule.requests.iter().any(|other| other.id == planned.id) {
                return Err(start.error_here("a name that no other request has"));
            }
            let before =
                schedule.requests.iter().rev().find(|other| other.id.client == planned.id.client);
            if let Some(before) = before.filter(|before| before.id.serial >= planned.id.serial) {
                let expected =
                    format!("a request of c{} behind its {}", planned.id.client, before.id);
                return Err(start.error_here(&expected));
            }
            schedule.requests.push(planned);
        }
        _ => read_plan(keyword, &mut schedule.plan, words)?,
    }
    Ok(())
}

fn property<S: Scene>(scene: &S, words: &mut Cursor<'_>) -> Result<Option<String>, ParseError> {
    let (start, mut name) = (words.clone(), Vec::new());
    while !words.peek().is_empty() {
        name.push(words.word("the name of a claim")?);
    }
    let (id, name) = (name.first().copied().unwrap_or_default(), name.join(" "));
    let known = scene.properties();
    if name.is_empty()
        || known.is_empty()
        || known.iter().chain(WORLD_PROPERTIES).any(|property| *property == name)
    {
        return Ok((!name.is_empty()).then_some(name));
    }
    // Its number or its name alone.
    let is_part = |property: &&&str| property.split(' ').any(|part| part == id || part == name);
    let matching: Vec<_> = known.iter().filter(is_part).collect();
    let candidates = if matching.is_empty() { known.iter().collect() } else { matching };
    let candidates: Vec<_> = candidates.into_iter().copied().collect();
    Err(start.error_here(&format!("the name of a claim: {}", candidates.join(", "))))
}

fn read_planned_request<S: Scene>(
    scene: &S,
    words: &mut Cursor<'_>,
) -> Result<PlannedRequest<S::Request>, ParseError> {
    let start = words.clone();
    let id = words.request()?;
    if id.attempt > 0 {
        return Err(start.error_here("a request without an attempt, like c1.4"));
    }
    if !(1..=SERIAL_MAX).contains(&id.serial) {
        return Err(start.error_here(&format!("a request of number 1 to {SERIAL_MAX}, like c1.4")));
    }
    words.expect_word("to")?;
    let node = words.node()?;
    let after_us = if words.take("after") { words.time_us()? } else { 0 };
    words.expect_word(":")?;
    Ok(PlannedRequest { id, node, after_us, what: scene.read_request(words)? })
}

fn read_plan(keyword: &str, plan: &mut Plan, words: &mut Cursor<'_>) -> Result<(), ParseError> {
    let positive = |words: &mut Cursor<'_>| {
        let start = words.clone();
        let us = words.time_us()?;
        if us == 0 { Err(start.error_here("a time above zero")) } else { Ok(us) }
    };
    match keyword {
        "cluster" => {
            plan.nodes = words.number("how many nodes", 1..=64)? as u16;
            words.one_of(&[("nodes", ()), ("node", ())])?;
            words.expect_word(",")?;
            plan.clients = words.number("how many clients", 1..=64)? as u32;
            words.one_of(&[("clients", ()), ("client", ())])?;
        }
        "storm" => plan.fault_phase_us = positive(words)?,
        "log" => {
            plan.log_bytes = words.number("how many bytes", 1..=1_000_000_000)?;
            words.expect_word("B")?;
        }
        "patience" => plan.recovery_timeout_us = positive(words)?,
        "timing" => {
            let key = |words: &mut Cursor<'_>| {
                let expected = "`base` or a key of up to 16 hexadecimal digits";
                let key = u64::from_str_radix(words.peek(), 16)
                    .map_err(|_| words.error_here(expected))?;
                words.word(expected)?;
                Ok(Some(key))
            };
            plan.timing.key = if words.take("base") { None } else { key(words)? };
        }
        "latency" => plan.timing.latency_us = read_time_range(words)?,
        "client-latency" => plan.timing.client_us = read_time_range(words)?,
        "sync" => plan.timing.sync_us = read_time_range(words)?,
        "tail" => plan.timing.tail_us = words.time_us()?,
        "reboot" => plan.timing.reboot_us = positive(words)?,
        "wire" => {
            words.expect_word("bytes")?;
            plan.wire = true;
        }
        "dead" => {
            plan.permanently_down.push(words.node()?);
            while !words.peek().is_empty() {
                plan.permanently_down.push(words.node()?);
            }
        }
        other => unreachable!("`{other}` is a head that nobody reads"),
    }
    Ok(())
}

fn read_time_range(words: &mut Cursor<'_>) -> Result<(u64, u64), ParseError> {
    let low =
        if let Some(number) = read_number_before_to(words) { number? } else { words.time_us()? };
    words.expect_word("to")?;
    let start = words.clone();
    let high = words.time_us()?;
    if high < low { Err(start.error_here("a time not below the first")) } else { Ok((low, high)) }
}

/// `0.5 to 5 ms`: the first of two times may do without its unit.
fn read_number_before_to(words: &mut Cursor<'_>) -> Option<Result<u64, ParseError>> {
    let mut ahead = words.clone();
    let number = ahead.word("").ok()?;
    if ahead.peek() != "to" {
        return None;
    }
    let place = words.clone();
    *words = ahead;
    let limits = Limits { nodes: 0, clients: 0, kinds: &[] };
    let text = format!("{number} ms");
    Some(Cursor::new(&text, 1, limits).time_us().map_err(|_| place.error_here("a time in ms")))
}
