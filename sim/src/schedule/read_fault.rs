//! Reads the lines of a schedule that are faults.

use std::borrow::Cow;

use stormglass_node::{About, DiskError, Micros, NodeId};

use super::cursor::{Cursor, ParseError};
use crate::disk::{
    AppendName, CutPlace, Damage, DamageKind, FileChoice, FileLoss, FileRole, Holes, Survival, Tear,
};
use crate::fault::{
    AtRestFault, BarrierFault, Crash, CrashKind, EffectAt, EffectName, Endpoint, Fault, MessageAt,
    MessageFault, SecondDisk, Skew, TimedFault, WriteFault,
};
use crate::ratio::{Permille, Ppm};

/// What a line of a fault begins with.
#[derive(Clone, Copy)]
enum Verb {
    Message(MessageVerb),
    Crash(CrashVerb),
    Disk(DiskVerb),
    Clock,
    At,
}

#[derive(Clone, Copy)]
enum MessageVerb {
    Lose,
    Duplicate,
    Delay,
    Flip,
    Evict,
}

#[derive(Clone, Copy)]
enum CrashVerb {
    Kill,
    PowerCut,
}

#[derive(Clone, Copy)]
enum DiskVerb {
    SyncFails,
    SyncSlow,
    SyncLies,
    WriteFails,
}

const VERBS: [(&str, Verb); 13] = [
    ("lose", Verb::Message(MessageVerb::Lose)),
    ("duplicate", Verb::Message(MessageVerb::Duplicate)),
    ("delay", Verb::Message(MessageVerb::Delay)),
    ("flip", Verb::Message(MessageVerb::Flip)),
    ("evict", Verb::Message(MessageVerb::Evict)),
    ("kill", Verb::Crash(CrashVerb::Kill)),
    ("power-cut", Verb::Crash(CrashVerb::PowerCut)),
    ("sync-fails", Verb::Disk(DiskVerb::SyncFails)),
    ("sync-slow", Verb::Disk(DiskVerb::SyncSlow)),
    ("sync-lies", Verb::Disk(DiskVerb::SyncLies)),
    ("write-fails", Verb::Disk(DiskVerb::WriteFails)),
    ("clock", Verb::Clock),
    ("at", Verb::At),
];

/// The keywords that a fault may begin with.
pub(super) fn keywords() -> impl Iterator<Item = &'static str> {
    VERBS.iter().map(|(word, _)| *word)
}

/// Reads one fault.
pub(super) fn read(words: &mut Cursor<'_>) -> Result<Fault, ParseError> {
    match words.one_of(&VERBS)? {
        Verb::Message(verb) => read_message(verb, words),
        Verb::Crash(verb) => {
            let (node, incarnation) = incarnation(words)?;
            words.expect_word("after")?;
            let at = read_effect_at(node, incarnation, words)?;
            words.expect_word(":")?;
            Ok(Fault::Crash(at, read_crash(verb, words)?))
        }
        Verb::Disk(verb) => {
            let (node, incarnation) = incarnation(words)?;
            words.expect_word("at")?;
            let start = words.clone();
            let at = read_effect_at(node, incarnation, words)?;
            check_operation(verb, &at.effect_name, &start)?;
            read_disk(verb, at, words)
        }
        Verb::Clock => {
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
        Verb::At => {
            let at = words.time()?;
            Ok(Fault::At(at, read_timed_fault(words)?))
        }
    }
}

/// A fault at an operation of the wrong kind could never be reached.
fn check_operation(
    verb: DiskVerb,
    effect_name: &EffectName,
    start: &Cursor<'_>,
) -> Result<(), ParseError> {
    let is_barrier = matches!(effect_name, EffectName::Sync(_) | EffectName::SyncDir(_));
    let is_write = matches!(
        effect_name,
        EffectName::Append(_)
            | EffectName::Rename(_)
            | EffectName::Remove(_)
            | EffectName::Truncate(_)
    );
    match verb {
        DiskVerb::WriteFails if !is_write => {
            Err(start.error_here("an `append`, `rename`, `remove` or `truncate`"))
        }
        DiskVerb::SyncFails | DiskVerb::SyncSlow | DiskVerb::SyncLies if !is_barrier => {
            Err(start.error_here("a `sync` or `sync-dir`"))
        }
        DiskVerb::WriteFails | DiskVerb::SyncFails | DiskVerb::SyncSlow | DiskVerb::SyncLies => {
            Ok(())
        }
    }
}

fn read_message(verb: MessageVerb, words: &mut Cursor<'_>) -> Result<Fault, ParseError> {
    let number = match verb {
        MessageVerb::Flip => {
            words.expect_word("bit")?;
            let bit = words.number("which bit", 0..=u32::MAX.into())?;
            words.expect_word("of")?;
            bit
        }
        MessageVerb::Evict => {
            let victim = words.number("which message of the queue", 0..=1_000_000)?;
            words.expect_word("for")?;
            victim
        }
        MessageVerb::Lose | MessageVerb::Duplicate | MessageVerb::Delay => 0,
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
        MessageVerb::Lose => MessageFault::Lose,
        MessageVerb::Duplicate => {
            words.expect_word("again")?;
            words.expect_word("after")?;
            MessageFault::Duplicate { after: words.time()? }
        }
        MessageVerb::Delay => {
            words.expect_word("by")?;
            MessageFault::Delay { by: words.time()? }
        }
        MessageVerb::Flip => MessageFault::Flip { bit: number as u32 },
        MessageVerb::Evict => MessageFault::Evict { victim: number as u32 },
    };
    Ok(Fault::Message(MessageAt { from, to, about, nth }, fault))
}

fn read_disk(verb: DiskVerb, at: EffectAt, words: &mut Cursor<'_>) -> Result<Fault, ParseError> {
    let errors = [("io", DiskError::Io), ("no-space", DiskError::NoSpace)];
    Ok(match verb {
        DiskVerb::SyncLies => Fault::Barrier(at, BarrierFault::Lie),
        DiskVerb::SyncFails => {
            words.expect_word(":")?;
            Fault::Barrier(at, BarrierFault::Fail(words.one_of(&errors)?))
        }
        DiskVerb::SyncSlow => {
            words.expect_word(":")?;
            Fault::Barrier(at, BarrierFault::Slow { by: words.time()? })
        }
        DiskVerb::WriteFails => {
            words.expect_word(":")?;
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

#[derive(Clone, Copy)]
enum Operation {
    Send,
    Append,
    Sync,
    SyncDir,
    Rename,
    Remove,
    Truncate,
    Reply,
}

const OPERATIONS: [(&str, Operation); 8] = [
    ("send", Operation::Send),
    ("append", Operation::Append),
    ("sync", Operation::Sync),
    ("sync-dir", Operation::SyncDir),
    ("rename", Operation::Rename),
    ("remove", Operation::Remove),
    ("truncate", Operation::Truncate),
    ("reply", Operation::Reply),
];

fn read_effect_at(
    node: NodeId,
    incarnation: u32,
    words: &mut Cursor<'_>,
) -> Result<EffectAt, ParseError> {
    let nth = words.ordinal()?;
    let effect_name = match words.one_of(&OPERATIONS)? {
        Operation::Send => {
            let about = words.about()?;
            words.expect_word("to")?;
            EffectName::Send(about, words.node()?)
        }
        Operation::Append => EffectName::Append(words.about()?),
        Operation::Sync => EffectName::Sync(read_preceding_append(words)?),
        Operation::SyncDir => EffectName::SyncDir(read_preceding_append(words)?),
        Operation::Rename => EffectName::Rename(read_preceding_append(words)?),
        Operation::Remove => EffectName::Remove(read_preceding_append(words)?),
        Operation::Truncate => EffectName::Truncate(read_preceding_append(words)?),
        Operation::Reply => EffectName::Reply(words.request()?),
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

fn read_crash(verb: CrashVerb, words: &mut Cursor<'_>) -> Result<Crash, ParseError> {
    words.expect_word("keeps")?;
    let how = match verb {
        CrashVerb::Kill => CrashKind::Kill { keep: read_permille(words)? },
        CrashVerb::PowerCut => CrashKind::PowerCut(read_survival(words)?),
    };
    words.expect_word(",")?;
    words.expect_word("down")?;
    let down_for = if words.take("for") {
        words.expect_word("good")?;
        None
    } else {
        Some(words.time()?)
    };
    let at_rest = if words.take(",") { Some(read_at_rest(words)?) } else { None };
    Ok(Crash { how, down_for, at_rest })
}

/// What a power cut leaves, by the word that its description begins with.
#[derive(Clone, Copy)]
enum SurvivalWord {
    None,
    All,
    First,
    Torn,
    Some,
}

const SURVIVAL_WORDS: [(&str, SurvivalWord); 5] = [
    ("none", SurvivalWord::None),
    ("all", SurvivalWord::All),
    ("first", SurvivalWord::First),
    ("torn", SurvivalWord::Torn),
    ("some", SurvivalWord::Some),
];

fn read_survival(words: &mut Cursor<'_>) -> Result<Survival, ParseError> {
    match words.one_of(&SURVIVAL_WORDS)? {
        SurvivalWord::None => Ok(Survival::None),
        SurvivalWord::All if words.take("but") => Ok(Survival::AllBut(read_append_name(words)?)),
        SurvivalWord::All => Ok(Survival::All),
        SurvivalWord::First => {
            Ok(Survival::Prefix(words.number("how many operations", 0..=1_000_000)? as u32))
        }
        SurvivalWord::Torn => {
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
        SurvivalWord::Some => {
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

/// What happens to a disk while its node is down, by the word that its description begins with.
#[derive(Clone, Copy)]
enum AtRestVerb {
    Damage,
    Disk,
    Cut,
    Lose,
    Unreadable,
}

const AT_REST_VERBS: [(&str, AtRestVerb); 5] = [
    ("damage", AtRestVerb::Damage),
    ("disk", AtRestVerb::Disk),
    ("cut", AtRestVerb::Cut),
    ("lose", AtRestVerb::Lose),
    ("unreadable", AtRestVerb::Unreadable),
];

fn read_at_rest(words: &mut Cursor<'_>) -> Result<AtRestFault, ParseError> {
    Ok(match words.one_of(&AT_REST_VERBS)? {
        AtRestVerb::Damage => AtRestFault::Damaged(read_damage(words)?),
        AtRestVerb::Disk if words.take("empty") => AtRestFault::Emptied,
        AtRestVerb::Disk if words.take("of") => AtRestFault::OfNode(words.node()?),
        AtRestVerb::Disk => {
            let expected = "`empty`, `of` a node, or the age in incarnations";
            let incarnations_back = words.number(expected, 1..=1_000_000)? as u32;
            // As `1 node` and `2 nodes`: both are read with every number.
            words.one_of(&[("incarnation", ()), ("incarnations", ())])?;
            words.expect_word("old")?;
            AtRestFault::Restored { incarnations_back }
        }
        AtRestVerb::Cut => {
            let file = read_file_choice(words)?;
            words.expect_word("at")?;
            let at_frame = words.take("frame");
            let share = read_permille(words)?;
            let from = if at_frame { CutPlace::Frame(share) } else { CutPlace::Byte(share) };
            AtRestFault::Lost(FileLoss::Tail { file, from })
        }
        AtRestVerb::Lose if words.take("generation") => {
            AtRestFault::Lost(FileLoss::Generation { nth_newest: read_nth_newest(words)? })
        }
        AtRestVerb::Lose => AtRestFault::Lost(FileLoss::File(read_file_choice(words)?)),
        AtRestVerb::Unreadable => AtRestFault::Unreadable(read_file_choice(words)?),
    })
}

fn read_file_choice(words: &mut Cursor<'_>) -> Result<FileChoice, ParseError> {
    let role = words.one_of(&[
        ("wal", FileRole::Wal),
        ("snapshot", FileRole::Snapshot),
        ("scratch", FileRole::Scratch),
    ])?;
    Ok(FileChoice { role, nth_newest: read_nth_newest(words)? })
}

fn read_nth_newest(words: &mut Cursor<'_>) -> Result<u32, ParseError> {
    Ok(words.number("how many files back", 0..=1_000_000)? as u32)
}

#[derive(Clone, Copy)]
enum DamageVerb {
    Flips,
    Zeroes,
    Misplaces,
    Unwrites,
}

const DAMAGE_VERBS: [(&str, DamageVerb); 4] = [
    ("flips", DamageVerb::Flips),
    ("zeroes", DamageVerb::Zeroes),
    ("misplaces", DamageVerb::Misplaces),
    ("unwrites", DamageVerb::Unwrites),
];

fn read_damage(words: &mut Cursor<'_>) -> Result<Damage, ParseError> {
    let FileChoice { role, nth_newest } = read_file_choice(words)?;
    words.expect_word("at")?;
    let at = read_permille(words)?;
    let kind = match words.one_of(&DAMAGE_VERBS)? {
        DamageVerb::Flips => DamageKind::FlippedBit(words.number("which bit", 0..=7)? as u8),
        DamageVerb::Zeroes => DamageKind::ZeroedSector,
        DamageVerb::Misplaces => DamageKind::WrongPlace { meant: read_permille(words)? },
        DamageVerb::Unwrites => DamageKind::NeverWritten,
    };
    Ok(Damage { role, nth_newest, at, kind })
}

#[derive(Clone, Copy)]
enum TimedVerb {
    Cut,
    Clog,
    Swizzle,
    Pause,
    Jump,
    SecondProcess,
    Wake,
    Hang,
    Crash(CrashVerb),
}

const SECOND_DISKS: [(&str, SecondDisk); 2] =
    [("empty", SecondDisk::Empty), ("copy", SecondDisk::Copy)];

const TIMED_VERBS: [(&str, TimedVerb); 10] = [
    ("cut", TimedVerb::Cut),
    ("clog", TimedVerb::Clog),
    ("swizzle", TimedVerb::Swizzle),
    ("pause", TimedVerb::Pause),
    ("jump", TimedVerb::Jump),
    ("second-process", TimedVerb::SecondProcess),
    ("wake", TimedVerb::Wake),
    ("hang", TimedVerb::Hang),
    ("kill", TimedVerb::Crash(CrashVerb::Kill)),
    ("power-cut", TimedVerb::Crash(CrashVerb::PowerCut)),
];

fn read_timed_fault(words: &mut Cursor<'_>) -> Result<TimedFault, ParseError> {
    Ok(match words.one_of(&TIMED_VERBS)? {
        TimedVerb::Cut => {
            let from = read_partition_side(words, "->")?;
            words.expect_word("->")?;
            let to = read_partition_side(words, "for")?;
            TimedFault::Cut { from, to, duration: read_duration(words)? }
        }
        TimedVerb::Clog => read_clog(words, false)?,
        // The lines of a swizzle are clogs with a mark, one for each link.
        TimedVerb::Swizzle => read_clog(words, true)?,
        TimedVerb::Pause => {
            TimedFault::Pause { node: words.node()?, duration: read_duration(words)? }
        }
        TimedVerb::Jump => {
            let node = words.node()?;
            words.expect_word("by")?;
            TimedFault::ClockJump { node, by: words.time()? }
        }
        TimedVerb::SecondProcess => TimedFault::SecondProcess {
            node: words.node()?,
            disk: words.one_of(&SECOND_DISKS)?,
            duration: read_duration(words)?,
        },
        TimedVerb::Wake => TimedFault::Wake { node: words.node()? },
        TimedVerb::Hang => {
            TimedFault::DiskHang { node: words.node()?, duration: read_duration(words)? }
        }
        TimedVerb::Crash(verb) => {
            let node = words.node()?;
            words.expect_word(":")?;
            TimedFault::Crash { node, crash: read_crash(verb, words)? }
        }
    })
}

fn read_clog(words: &mut Cursor<'_>, swizzle: bool) -> Result<TimedFault, ParseError> {
    let from = words.end()?;
    words.expect_word("->")?;
    let to = words.end()?;
    Ok(TimedFault::Clog { from, to, duration: read_duration(words)?, swizzle })
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
