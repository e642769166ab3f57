//! Text to schedules: the lines that are no faults.

use super::cursor::{Cursor, Limits, Problem};
use super::{Claim, Schedule, base_plan, read_fault};
use crate::plan::Plan;
use crate::protocol::Scene;
use crate::workload::Wish;
use crate::world::OF_THE_WORLD;

/// Every word that a line may begin with, but for the faults.
const HEADS: [&str; 18] = [
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

pub(super) fn read<S: Scene>(scene: &S, text: &str) -> Result<Schedule<S::Order>, Problem> {
    let claim = Claim::Holds(None);
    let mut schedule =
        Schedule { why: Vec::new(), claim, plan: base_plan(0, 0), wishes: Vec::new(), faults: Vec::new() };
    let (mut last, mut said) = (1, Vec::new());
    // Some editors begin a file with a mark of its encoding.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    for (at, line) in text.lines().enumerate() {
        last = at + 1;
        let plan = &schedule.plan;
        let limits = Limits { nodes: plan.nodes, clients: plan.clients, kinds: scene.kinds() };
        let mut words = Cursor::new(line, at + 1, limits);
        if !words.peek().is_empty() {
            said_once(&mut said, &words)?;
            read_line(scene, &mut schedule, &mut words)?;
            words.done()?;
        }
    }
    if schedule.plan.nodes == 0 {
        let expected = "a line `cluster 3 nodes, 1 client`".to_string();
        return Err(Problem { line: last, column: 1, expected, found: "the end of the file".to_string() });
    }
    Ok(schedule)
}

/// Two lines of the frame that say different things are a mistake, whichever is meant.
fn said_once<'a>(said: &mut Vec<&'a str>, words: &Cursor<'a>) -> Result<(), Problem> {
    let head = words.peek();
    let head = if head == "breaks" { "holds" } else { head };
    if !HEADS.contains(&head) || matches!(head, "why" | "request" | "dead") {
        return Ok(());
    }
    if said.contains(&head) {
        return Err(words.problem(&format!("one line `{}` and no more", words.peek())));
    }
    said.push(head);
    Ok(())
}

fn read_line<S: Scene>(
    scene: &S,
    schedule: &mut Schedule<S::Order>,
    words: &mut Cursor<'_>,
) -> Result<(), Problem> {
    let head = words.peek();
    let is_fault = read_fault::VERBS.contains(&head);
    if is_fault || head == "request" || head == "dead" {
        if schedule.plan.nodes == 0 {
            return Err(words.problem("a line `cluster 3 nodes, 1 client` before what happens in it"));
        }
    } else if !HEADS.contains(&head) {
        let all = [&HEADS[..], &read_fault::VERBS].concat().join(", ");
        return Err(words.problem(&format!("a line that begins with one of {all}")));
    }
    if is_fault {
        schedule.faults.push(read_fault::read(words)?);
        return Ok(());
    }
    words.take(head);
    match head {
        "why" => schedule.why.push(words.rest().to_string()),
        "breaks" => {
            let name = claim(scene, words)?.ok_or_else(|| words.problem("the name of a claim"))?;
            schedule.claim = Claim::Breaks(name);
        }
        "holds" => schedule.claim = Claim::Holds(claim(scene, words)?),
        "stormglass" => words.must("1")?,
        "protocol" => {
            let place = words.clone();
            if words.rest() != scene.name() {
                return Err(place.problem(&format!("`{}`, whose command this is", scene.name())));
            }
        }
        "request" => {
            let start = words.clone();
            let wish = read_wish(scene, words)?;
            if schedule.wishes.iter().any(|other| other.id == wish.id) {
                return Err(start.problem("a name that no other request has"));
            }
            let before = schedule.wishes.iter().rev().find(|other| other.id.client == wish.id.client);
            if let Some(before) = before.filter(|before| before.id.serial >= wish.id.serial) {
                let expected = format!("a request of c{} behind its {}", wish.id.client, before.id);
                return Err(start.problem(&expected));
            }
            schedule.wishes.push(wish);
        }
        _ => read_plan(head, &mut schedule.plan, words)?,
    }
    Ok(())
}

fn claim<S: Scene>(scene: &S, words: &mut Cursor<'_>) -> Result<Option<String>, Problem> {
    let (start, mut name) = (words.clone(), Vec::new());
    while !words.peek().is_empty() {
        name.push(words.word("the name of a claim")?);
    }
    let (id, name) = (name.first().copied().unwrap_or_default(), name.join(" "));
    let known = scene.claims();
    if name.is_empty() || known.is_empty() || known.iter().chain(OF_THE_WORLD).any(|claim| *claim == name) {
        return Ok((!name.is_empty()).then_some(name));
    }
    // Its number or its name alone.
    let is_part = |claim: &&&str| claim.split(' ').any(|part| part == id || part == name);
    let of_that_id: Vec<_> = known.iter().filter(is_part).collect();
    let likely = if of_that_id.is_empty() { known.iter().collect() } else { of_that_id };
    let likely: Vec<_> = likely.into_iter().copied().collect();
    Err(start.problem(&format!("the name of a claim: {}", likely.join(", "))))
}

fn read_wish<S: Scene>(scene: &S, words: &mut Cursor<'_>) -> Result<Wish<S::Order>, Problem> {
    let start = words.clone();
    let id = words.request()?;
    if id.attempt > 0 {
        return Err(start.problem("a request without an attempt, like c1.4"));
    }
    if !(1..=SERIAL_MAX).contains(&id.serial) {
        return Err(start.problem(&format!("a request of number 1 to {SERIAL_MAX}, like c1.4")));
    }
    words.must("to")?;
    let node = words.node()?;
    let after_us = if words.take("after") { words.time_us()? } else { 0 };
    words.must(":")?;
    Ok(Wish { id, node, after_us, what: scene.read_order(words)? })
}

fn read_plan(head: &str, plan: &mut Plan, words: &mut Cursor<'_>) -> Result<(), Problem> {
    let positive = |words: &mut Cursor<'_>| {
        let start = words.clone();
        let us = words.time_us()?;
        if us == 0 { Err(start.problem("a time above zero")) } else { Ok(us) }
    };
    match head {
        "cluster" => {
            plan.nodes = words.number("how many nodes", 1..=64)? as u16;
            words.one_of(&[("nodes", ()), ("node", ())])?;
            words.must(",")?;
            plan.clients = words.number("how many clients", 1..=64)? as u32;
            words.one_of(&[("clients", ()), ("client", ())])?;
        }
        "storm" => plan.storm_us = positive(words)?,
        "log" => {
            plan.log_bytes = words.number("how many bytes", 1..=1_000_000_000)?;
            words.must("B")?;
        }
        "patience" => plan.patience_us = positive(words)?,
        "timing" => {
            let key = |words: &mut Cursor<'_>| {
                let expected = "`base` or a key of up to 16 hexadecimal digits";
                let key = u64::from_str_radix(words.peek(), 16).map_err(|_| words.problem(expected))?;
                words.word(expected)?;
                Ok(Some(key))
            };
            plan.timing.key = if words.take("base") { None } else { key(words)? };
        }
        "latency" => plan.timing.latency_us = span(words)?,
        "client-latency" => plan.timing.client_us = span(words)?,
        "sync" => plan.timing.sync_us = span(words)?,
        "tail" => plan.timing.tail_us = words.time_us()?,
        "reboot" => plan.timing.reboot_us = positive(words)?,
        "wire" => {
            words.must("bytes")?;
            plan.wire = true;
        }
        "dead" => {
            plan.dead.push(words.node()?);
            while !words.peek().is_empty() {
                plan.dead.push(words.node()?);
            }
        }
        other => unreachable!("`{other}` is a head that nobody reads"),
    }
    Ok(())
}

fn span(words: &mut Cursor<'_>) -> Result<(u64, u64), Problem> {
    let low = if let Some(number) = bare(words) { number? } else { words.time_us()? };
    words.must("to")?;
    let start = words.clone();
    let high = words.time_us()?;
    if high < low { Err(start.problem("a time not below the first")) } else { Ok((low, high)) }
}

/// `0.5 to 5 ms`: the first of two times may do without its unit.
fn bare(words: &mut Cursor<'_>) -> Option<Result<u64, Problem>> {
    let mut ahead = words.clone();
    let number = ahead.word("").ok()?;
    if ahead.peek() != "to" {
        return None;
    }
    let place = words.clone();
    *words = ahead;
    let limits = Limits { nodes: 0, clients: 0, kinds: &[] };
    let text = format!("{number} ms");
    Some(Cursor::new(&text, 1, limits).time_us().map_err(|_| place.problem("a time in ms")))
}
