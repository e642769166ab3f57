//! Text to schedules: the lines that are faults.

use std::borrow::Cow;

use stormglass::{About, DiskError, NodeId};

use super::cursor::{Cursor, Problem};
use crate::disk::{AppendName, Damage, Harm, Holes, Role, Survival, Tear};
use crate::fault::{
    BarrierFault, Crash, CrashKind, Deed, DeedAt, End, Fault, MessageAt, MessageFault, Skew, Weather,
    WriteFault,
};

/// Every word that a fault may begin with.
pub(super) const VERBS: [&str; 13] = [
    "lose",
    "duplicate",
    "delay",
    "flip",
    "evict",
    "kill",
    "power-cut",
    "fail",
    "slow",
    "lie",
    "break",
    "clock",
    "at",
];

/// What a verb begins.
pub(super) fn read(words: &mut Cursor<'_>) -> Result<Fault, Problem> {
    let verb = words.word("a fault")?;
    match verb {
        "lose" | "duplicate" | "delay" | "flip" | "evict" => read_message(verb, words),
        "kill" | "power-cut" => {
            let (node, life) = life(words)?;
            words.must("after")?;
            let at = deed_at(node, life, words)?;
            words.must(":")?;
            Ok(Fault::Crash(at, read_crash(verb, words)?))
        }
        "fail" | "slow" | "lie" | "break" => {
            let (node, life) = life(words)?;
            words.must("at")?;
            let start = words.clone();
            let at = deed_at(node, life, words)?;
            let is_write =
                matches!(at.deed, Deed::Append(_) | Deed::Rename(_) | Deed::Remove(_) | Deed::Truncate(_));
            if verb == "break" && !is_write {
                return Err(start.problem("an `append`, `rename`, `remove` or `truncate` to break"));
            }
            if verb != "break" && !matches!(at.deed, Deed::Sync(_) | Deed::SyncDir(_)) {
                return Err(start.problem("a `sync` or `sync-dir`"));
            }
            read_disk(verb, at, words)
        }
        "clock" => {
            let (node, life) = life(words)?;
            words.must(":")?;
            words.must("offset")?;
            let offset_us = words.time_us()?;
            words.must(",")?;
            words.must("drift")?;
            let in_range = |ppm: &i32| (-100_000..=100_000).contains(ppm);
            let drift_ppm = words.parsed("a drift (-100000 to 100000)", in_range)?;
            words.must("ppm")?;
            Ok(Fault::Skew { node, life, skew: Skew { offset_us, drift_ppm } })
        }
        _ => {
            let at_us = words.time_us()?;
            Ok(Fault::At(at_us, read_weather(words)?))
        }
    }
}

fn read_message(verb: &str, words: &mut Cursor<'_>) -> Result<Fault, Problem> {
    let number = if verb == "flip" {
        words.must("bit")?;
        let bit = words.number("which bit", 0..=u32::MAX.into())?;
        words.must("of")?;
        bit
    } else if verb == "evict" {
        let victim = words.number("which message of the queue", 0..=1_000_000)?;
        words.must("for")?;
        victim
    } else {
        0
    };
    let nth = words.ordinal()?;
    let about = words.about()?;
    words.must("from")?;
    let from = words.end()?;
    words.must("to")?;
    let start = words.clone();
    let to = words.end()?;
    if from == to || matches!((from, to), (End::Client(_), End::Client(_))) {
        return Err(start.problem("another end of the link, one of them a node"));
    }
    let fault = match verb {
        "lose" => MessageFault::Lose,
        "duplicate" => {
            words.must("again")?;
            words.must("after")?;
            MessageFault::Duplicate { after_us: words.time_us()? }
        }
        "delay" => {
            words.must("by")?;
            MessageFault::Delay { by_us: words.time_us()? }
        }
        "flip" => MessageFault::Flip { bit: number as u32 },
        _ => MessageFault::Evict { victim: number as u32 },
    };
    Ok(Fault::Message(MessageAt { from, to, about, nth }, fault))
}

fn read_disk(verb: &str, at: DeedAt, words: &mut Cursor<'_>) -> Result<Fault, Problem> {
    if verb == "lie" {
        return Ok(Fault::Barrier(at, BarrierFault::Lie));
    }
    words.must(":")?;
    let errors = [("io", DiskError::Io), ("no-space", DiskError::NoSpace)];
    Ok(match verb {
        "fail" => Fault::Barrier(at, BarrierFault::Fail(words.one_of(&errors)?)),
        "slow" => Fault::Barrier(at, BarrierFault::Slow { by_us: words.time_us()? }),
        _ => {
            let error = words.one_of(&errors)?;
            words.must(",")?;
            words.must("keeps")?;
            let keep_permille = permille(words)?;
            words.must(",")?;
            words.must("for")?;
            Fault::Write(at, WriteFault { error, keep_permille, lasts_us: words.time_us()? })
        }
    })
}

fn life(words: &mut Cursor<'_>) -> Result<(NodeId, u32), Problem> {
    let node = words.node()?;
    let life = if words.take("life") { words.number("which life", 1..=1_000_000)? as u32 } else { 1 };
    Ok((node, life))
}

fn deed_at(node: NodeId, life: u32, words: &mut Cursor<'_>) -> Result<DeedAt, Problem> {
    let nth = words.ordinal()?;
    let verbs = [
        ("send", 0),
        ("append", 1),
        ("sync", 2),
        ("sync-dir", 3),
        ("rename", 4),
        ("remove", 5),
        ("truncate", 6),
        ("reply", 7),
    ];
    let verb = words.one_of(&verbs)?;
    let deed = match verb {
        0 => {
            let about = words.about()?;
            words.must("to")?;
            Deed::Send(about, words.node()?)
        }
        1 => Deed::Append(words.about()?),
        2 => Deed::Sync(following(words)?),
        3 => Deed::SyncDir(following(words)?),
        4 => Deed::Rename(following(words)?),
        5 => Deed::Remove(following(words)?),
        6 => Deed::Truncate(following(words)?),
        _ => Deed::Reply(words.request()?),
    };
    Ok(DeedAt { node, life, deed, nth })
}

fn following(words: &mut Cursor<'_>) -> Result<Option<About>, Problem> {
    if words.one_of(&[("following", true), ("before", false)])? {
        words.must("append")?;
        return words.about().map(Some);
    }
    words.must("any")?;
    words.must("append")?;
    Ok(None)
}

fn permille(words: &mut Cursor<'_>) -> Result<u16, Problem> {
    let expected = "so many thousandths (0/1000 to 1000/1000)";
    let number = words.peek().strip_suffix("/1000").and_then(|number| number.parse().ok());
    let number = number.filter(|number| *number <= 1000).ok_or_else(|| words.problem(expected))?;
    words.word(expected)?;
    Ok(number)
}

fn read_crash(verb: &str, words: &mut Cursor<'_>) -> Result<Crash, Problem> {
    words.must("keeps")?;
    let how = if verb == "kill" {
        CrashKind::Kill { keep_permille: permille(words)? }
    } else {
        CrashKind::PowerCut(read_survival(words)?)
    };
    words.must(",")?;
    words.must("down")?;
    let down_us = if words.take("for") {
        words.must("good")?;
        None
    } else {
        Some(words.time_us()?)
    };
    let damage = if words.take(",") { Some(read_damage(words)?) } else { None };
    Ok(Crash { how, down_us, damage })
}

fn read_survival(words: &mut Cursor<'_>) -> Result<Survival, Problem> {
    match words.one_of(&[("none", 0), ("all", 1), ("first", 2), ("torn", 3), ("some", 4)])? {
        0 => Ok(Survival::None),
        1 if words.take("but") => Ok(Survival::AllBut(append_name(words)?)),
        1 => Ok(Survival::All),
        2 => Ok(Survival::Prefix(words.number("how many operations", 0..=1_000_000)? as u32)),
        3 => {
            let at = append_name(words)?;
            let tears =
                [("header", Tear::Header), ("half", Tear::Half), ("last-sector", Tear::LastSectorMissing)];
            let how = words.one_of(&tears)?;
            let hole = if words.take("with") { Some(holes(words)?) } else { None };
            Ok(Survival::Torn { at, how, hole })
        }
        _ => {
            let keep_permille = permille(words)?;
            words.must("key")?;
            let expected = "a key of up to 16 hexadecimal digits";
            let key = u64::from_str_radix(words.peek(), 16).map_err(|_| words.problem(expected))?;
            words.word(expected)?;
            let tear = words.take("torn");
            words.must("with")?;
            Ok(Survival::Subset { key, keep_permille, tear, holes: holes(words)? })
        }
    }
}

fn append_name(words: &mut Cursor<'_>) -> Result<AppendName, Problem> {
    let nth = words.ordinal()?;
    let About { kind, subject } = words.about()?;
    Ok(AppendName { kind: Cow::Borrowed(kind), subject, nth: nth - 1 })
}

fn holes(words: &mut Cursor<'_>) -> Result<Holes, Problem> {
    words.one_of(&[
        ("zeros", Holes::Zeros),
        ("garbage", Holes::Garbage),
        ("old-blocks", Holes::OldBlocks),
        ("mixed", Holes::Mixed),
    ])
}

fn read_damage(words: &mut Cursor<'_>) -> Result<Damage, Problem> {
    words.must("damage")?;
    let role =
        words.one_of(&[("wal", Role::Wal), ("snapshot", Role::Snapshot), ("scratch", Role::Scratch)])?;
    let back = words.number("how many files back", 0..=1_000_000)? as u32;
    words.must("at")?;
    let at_permille = permille(words)?;
    let harm = match words.one_of(&[("flips", 0), ("zeroes", 1), ("misplaces", 2), ("unwrites", 3)])? {
        0 => Harm::FlippedBit(words.number("which bit", 0..=7)? as u8),
        1 => Harm::ZeroedSector,
        2 => Harm::WrongPlace { meant_permille: permille(words)? },
        _ => Harm::NeverWritten,
    };
    Ok(Damage { role, back, at_permille, harm })
}

fn read_weather(words: &mut Cursor<'_>) -> Result<Weather, Problem> {
    let verbs =
        [("cut", 0), ("clog", 1), ("swizzle", 2), ("pause", 3), ("jump", 4), ("kill", 5), ("power-cut", 6)];
    Ok(match words.one_of(&verbs)? {
        0 => {
            let from = side(words, "->")?;
            words.must("->")?;
            let to = side(words, "for")?;
            Weather::Cut { from, to, for_us: lasting(words)? }
        }
        kind @ (1 | 2) => {
            let from = words.end()?;
            words.must("->")?;
            let to = words.end()?;
            Weather::Clog { from, to, for_us: lasting(words)?, swizzle: kind == 2 }
        }
        3 => Weather::Pause { node: words.node()?, for_us: lasting(words)? },
        4 => {
            let node = words.node()?;
            words.must("by")?;
            Weather::Jump { node, by_us: words.time_us()? }
        }
        kind => {
            let node = words.node()?;
            words.must(":")?;
            Weather::Crash { node, crash: read_crash(if kind == 5 { "kill" } else { "power-cut" }, words)? }
        }
    })
}

fn side(words: &mut Cursor<'_>, until: &str) -> Result<Vec<End>, Problem> {
    let mut ends = Vec::new();
    while words.peek() != until {
        ends.push(words.end()?);
    }
    Ok(ends)
}

fn lasting(words: &mut Cursor<'_>) -> Result<u64, Problem> {
    words.must("for")?;
    words.time_us()
}
