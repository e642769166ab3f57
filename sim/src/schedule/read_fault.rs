//! Reads the lines of a schedule that are faults.

use std::borrow::Cow;

use stormglass_node::{About, DiskError, Micros, NodeId};

use super::cursor::{Cursor, ParseError};
use crate::disk::{AppendName, Damage, DamageKind, FileRole, Holes, Survival, Tear};
use crate::fault::{
    BarrierFault, Crash, CrashKind, EffectAt, EffectName, Endpoint, Fault, MessageAt, MessageFault,
    Skew, TimedFault, WriteFault,
};
use crate::ratio::{Permille, Ppm};

/// The keywords that a fault may begin with.
pub(super) const VERBS: [&str; 13] = [
    "lose",
    "duplicate",
    "delay",
    "flip",
    "evict",
    "kill",
    "power-cut",
    "sync-fails",
    "sync-slow",
    "sync-lies",
    "write-fails",
    "clock",
    "at",
];

/// Reads one fault.
pub(super) fn read(words: &mut Cursor<'_>) -> Result<Fault, ParseError> {
    let verb = words.word("a fault")?;
    match verb {
        "lose" | "duplicate" | "delay" | "flip" | "evict" => read_message(verb, words),
        "kill" | "power-cut" => {
            let (node, incarnation) = incarnation(words)?;
            words.expect_word("after")?;
            let at = read_effect_at(node, incarnation, words)?;
            words.expect_word(":")?;
            Ok(Fault::Crash(at, read_crash(verb, words)?))
        }
        "sync-fails" | "sync-slow" | "sync-lies" | "write-fails" => {
            let (node, incarnation) = incarnation(words)?;
            words.expect_word("at")?;
            let start = words.clone();
            let at = read_effect_at(node, incarnation, words)?;
            // A fault at an operation of the wrong kind could never be reached.
            let is_write = matches!(
                at.effect_name,
                EffectName::Append(_)
                    | EffectName::Rename(_)
                    | EffectName::Remove(_)
                    | EffectName::Truncate(_)
            );
            if verb == "write-fails" && !is_write {
                return Err(start.error_here("an `append`, `rename`, `remove` or `truncate`"));
            }
            if verb != "write-fails"
                && !matches!(at.effect_name, EffectName::Sync(_) | EffectName::SyncDir(_))
            {
                return Err(start.error_here("a `sync` or `sync-dir`"));
            }
            read_disk(verb, at, words)
        }
        "clock" => {
            let (node, incarnation) = incarnation(words)?;
            words.expect_word(":")?;
            words.expect_word("offset")?;
            let offset = words.time()?;
            words.expect_word(",")?;
            words.expect_word("drift")?;
            let drift = read_drift(words)?;
            words.expect_word("ppm")?;
            Ok(Fault::Skew { node, incarnation, skew: Skew { offset, drift } })
        }
        _ => {
            // The only verb that is left is `at`: the caller has checked that it is one.
            let at = words.time()?;
            Ok(Fault::At(at, read_timed_fault(words)?))
        }
    }
}

fn read_message(verb: &str, words: &mut Cursor<'_>) -> Result<Fault, ParseError> {
    let number = if verb == "flip" {
        words.expect_word("bit")?;
        let bit = words.number("which bit", 0..=u32::MAX.into())?;
        words.expect_word("of")?;
        bit
    } else if verb == "evict" {
        let victim = words.number("which message of the queue", 0..=1_000_000)?;
        words.expect_word("for")?;
        victim
    } else {
        0
    };
    let nth = words.ordinal()?;
    let about = words.about()?;
    words.expect_word("from")?;
    let from = words.end()?;
    words.expect_word("to")?;
    let start = words.clone();
    let to = words.end()?;
    // There is no such link, so the fault could never be reached.
    if from == to || matches!((from, to), (Endpoint::Client(_), Endpoint::Client(_))) {
        return Err(start.error_here("a different end of the link; at least one end is a node"));
    }
    let fault = match verb {
        "lose" => MessageFault::Lose,
        "duplicate" => {
            words.expect_word("again")?;
            words.expect_word("after")?;
            MessageFault::Duplicate { after: words.time()? }
        }
        "delay" => {
            words.expect_word("by")?;
            MessageFault::Delay { by: words.time()? }
        }
        "flip" => MessageFault::Flip { bit: number as u32 },
        _ => MessageFault::Evict { victim: number as u32 },
    };
    Ok(Fault::Message(MessageAt { from, to, about, nth }, fault))
}

fn read_disk(verb: &str, at: EffectAt, words: &mut Cursor<'_>) -> Result<Fault, ParseError> {
    if verb == "sync-lies" {
        return Ok(Fault::Barrier(at, BarrierFault::Lie));
    }
    words.expect_word(":")?;
    let errors = [("io", DiskError::Io), ("no-space", DiskError::NoSpace)];
    Ok(match verb {
        "sync-fails" => Fault::Barrier(at, BarrierFault::Fail(words.one_of(&errors)?)),
        "sync-slow" => Fault::Barrier(at, BarrierFault::Slow { by: words.time()? }),
        _ => {
            let error = words.one_of(&errors)?;
            words.expect_word(",")?;
            words.expect_word("keeps")?;
            let keep = read_permille(words)?;
            words.expect_word(",")?;
            words.expect_word("for")?;
            Fault::Write(at, WriteFault { error, keep, lasts: words.time()? })
        }
    })
}

fn incarnation(words: &mut Cursor<'_>) -> Result<(NodeId, u32), ParseError> {
    let node = words.node()?;
    let incarnation = if words.take("incarnation") {
        words.number("which incarnation", 1..=1_000_000)? as u32
    } else if words.peek() == "life" {
        return Err(words.error_here("`incarnation`, which replaces `life` of format 1"));
    } else {
        1
    };
    Ok((node, incarnation))
}

fn read_effect_at(
    node: NodeId,
    incarnation: u32,
    words: &mut Cursor<'_>,
) -> Result<EffectAt, ParseError> {
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
    let effect_name = match verb {
        0 => {
            let about = words.about()?;
            words.expect_word("to")?;
            EffectName::Send(about, words.node()?)
        }
        1 => EffectName::Append(words.about()?),
        2 => EffectName::Sync(read_preceding_append(words)?),
        3 => EffectName::SyncDir(read_preceding_append(words)?),
        4 => EffectName::Rename(read_preceding_append(words)?),
        5 => EffectName::Remove(read_preceding_append(words)?),
        6 => EffectName::Truncate(read_preceding_append(words)?),
        _ => EffectName::Reply(words.request()?),
    };
    Ok(EffectAt { node, incarnation, effect_name, nth })
}

fn read_preceding_append(words: &mut Cursor<'_>) -> Result<Option<About>, ParseError> {
    if words.one_of(&[("following", true), ("before", false)])? {
        words.expect_word("append")?;
        return words.about().map(Some);
    }
    words.expect_word("any")?;
    words.expect_word("append")?;
    Ok(None)
}

fn read_permille(words: &mut Cursor<'_>) -> Result<Permille, ParseError> {
    let expected = "a fraction in thousandths (0/1000 to 1000/1000)";
    let number = words.peek().strip_suffix("/1000").and_then(|number| number.parse().ok());
    let share = number.and_then(Permille::new).ok_or_else(|| words.error_here(expected))?;
    words.word(expected)?;
    Ok(share)
}

fn read_drift(words: &mut Cursor<'_>) -> Result<Ppm, ParseError> {
    let expected = "a drift (-100000 to 100000)";
    let number = words.peek().parse().ok();
    let drift = number.and_then(Ppm::new).ok_or_else(|| words.error_here(expected))?;
    words.word(expected)?;
    Ok(drift)
}

fn read_crash(verb: &str, words: &mut Cursor<'_>) -> Result<Crash, ParseError> {
    words.expect_word("keeps")?;
    let how = if verb == "kill" {
        CrashKind::Kill { keep: read_permille(words)? }
    } else {
        CrashKind::PowerCut(read_survival(words)?)
    };
    words.expect_word(",")?;
    words.expect_word("down")?;
    let down_for = if words.take("for") {
        words.expect_word("good")?;
        None
    } else {
        Some(words.time()?)
    };
    let damage = if words.take(",") { Some(read_damage(words)?) } else { None };
    Ok(Crash { how, down_for, damage })
}

fn read_survival(words: &mut Cursor<'_>) -> Result<Survival, ParseError> {
    match words.one_of(&[("none", 0), ("all", 1), ("first", 2), ("torn", 3), ("some", 4)])? {
        0 => Ok(Survival::None),
        1 if words.take("but") => Ok(Survival::AllBut(read_append_name(words)?)),
        1 => Ok(Survival::All),
        2 => Ok(Survival::Prefix(words.number("how many operations", 0..=1_000_000)? as u32)),
        3 => {
            let at = read_append_name(words)?;
            let tears = [
                ("header", Tear::Header),
                ("half", Tear::Half),
                ("last-sector", Tear::LastSectorMissing),
            ];
            let how = words.one_of(&tears)?;
            let hole = if words.take("with") { Some(holes(words)?) } else { None };
            Ok(Survival::Torn { at, how, hole })
        }
        _ => {
            let keep = read_permille(words)?;
            words.expect_word("key")?;
            let key = words.key("a key of up to 16 hexadecimal digits")?;
            let tear = words.take("torn");
            words.expect_word("with")?;
            Ok(Survival::Subset { key, keep, tear, holes: holes(words)? })
        }
    }
}

fn read_append_name(words: &mut Cursor<'_>) -> Result<AppendName, ParseError> {
    let nth = words.ordinal()?;
    let About { kind, subject } = words.about()?;
    // From 1 in the text, from 0 in the code; `ordinal` is at least 1.
    Ok(AppendName { kind: Cow::Borrowed(kind), subject, nth: nth - 1 })
}

fn holes(words: &mut Cursor<'_>) -> Result<Holes, ParseError> {
    words.one_of(&[
        ("zeros", Holes::Zeros),
        ("garbage", Holes::Garbage),
        ("old-blocks", Holes::OldBlocks),
        ("mixed", Holes::Mixed),
    ])
}

fn read_damage(words: &mut Cursor<'_>) -> Result<Damage, ParseError> {
    words.expect_word("damage")?;
    let role = words.one_of(&[
        ("wal", FileRole::Wal),
        ("snapshot", FileRole::Snapshot),
        ("scratch", FileRole::Scratch),
    ])?;
    let nth_newest = words.number("how many files back", 0..=1_000_000)? as u32;
    words.expect_word("at")?;
    let at = read_permille(words)?;
    let kind =
        match words.one_of(&[("flips", 0), ("zeroes", 1), ("misplaces", 2), ("unwrites", 3)])? {
            0 => DamageKind::FlippedBit(words.number("which bit", 0..=7)? as u8),
            1 => DamageKind::ZeroedSector,
            2 => DamageKind::WrongPlace { meant: read_permille(words)? },
            _ => DamageKind::NeverWritten,
        };
    Ok(Damage { role, nth_newest, at, kind })
}

fn read_timed_fault(words: &mut Cursor<'_>) -> Result<TimedFault, ParseError> {
    let verbs = [
        ("cut", 0),
        ("clog", 1),
        ("swizzle", 2),
        ("pause", 3),
        ("jump", 4),
        ("kill", 5),
        ("power-cut", 6),
    ];
    Ok(match words.one_of(&verbs)? {
        0 => {
            let from = read_partition_side(words, "->")?;
            words.expect_word("->")?;
            let to = read_partition_side(words, "for")?;
            TimedFault::Cut { from, to, duration: read_duration(words)? }
        }
        // The lines of a swizzle are clogs with a mark, one for each link.
        kind @ (1 | 2) => {
            let from = words.end()?;
            words.expect_word("->")?;
            let to = words.end()?;
            TimedFault::Clog { from, to, duration: read_duration(words)?, swizzle: kind == 2 }
        }
        3 => TimedFault::Pause { node: words.node()?, duration: read_duration(words)? },
        4 => {
            let node = words.node()?;
            words.expect_word("by")?;
            TimedFault::ClockJump { node, by: words.time()? }
        }
        kind => {
            let node = words.node()?;
            words.expect_word(":")?;
            TimedFault::Crash {
                node,
                crash: read_crash(if kind == 5 { "kill" } else { "power-cut" }, words)?,
            }
        }
    })
}

fn read_partition_side(words: &mut Cursor<'_>, until: &str) -> Result<Vec<Endpoint>, ParseError> {
    let mut ends = Vec::new();
    // This ends with the line: `end` refuses the empty word there.
    while words.peek() != until {
        ends.push(words.end()?);
    }
    Ok(ends)
}

fn read_duration(words: &mut Cursor<'_>) -> Result<Micros, ParseError> {
    words.expect_word("for")?;
    words.time()
}
