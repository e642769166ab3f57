//! Writes a schedule as text.

use std::fmt::{self, Display};

use stormglass_node::{DiskError, Micros};

use super::{Expectation, Schedule, ordinal};
use crate::disk::{
    AppendName, CutPlace, Damage, DamageKind, FileChoice, FileLoss, FileRole, Holes, Survival, Tear,
};
use crate::fault::{
    AtRestFault, BarrierFault, Crash, CrashKind, EffectAt, Fault, MessageAt, MessageFault,
    SecondDisk, TimedFault, WriteFault, endpoint_list,
};
use crate::plan::{LOG_BYTES, Plan};
use crate::protocol::{Protocol, ScheduledRequest};

/// The column of the values: one more than the longest keyword, `recovery-timeout`.
const WIDTH: usize = 16;

pub(super) fn write<P: Protocol>(protocol: &P, schedule: &Schedule<P::Request>) -> String {
    let mut text = String::from("stormglass 2\n");
    push_header(protocol.name(), schedule, &mut text);
    if !schedule.requests.is_empty() {
        text.push('\n');
    }
    for planned in &schedule.requests {
        let request = planned.request.write(schedule.plan.nodes);
        let after = match planned.after {
            Micros::ZERO => String::new(),
            after => format!(" after {}", ms(after)),
        };
        push_line(
            &mut text,
            "request",
            &format_args!("{} to {}{after}: {request}", planned.id, planned.node),
        );
    }
    if !schedule.faults.is_empty() {
        text.push('\n');
    }
    for fault in &schedule.faults {
        let fault_text = fault_text(fault);
        let (verb, rest) = fault_text.split_once(' ').expect("a verb and more");
        push_line(&mut text, verb, &rest);
    }
    text
}

fn push_line(text: &mut String, verb: &str, rest: &dyn Display) {
    let line = format!("{verb:<WIDTH$} {rest}");
    // An empty note would leave spaces at the end of its line.
    text.push_str(line.trim_end());
    text.push('\n');
}

fn push_header<O>(name: &str, schedule: &Schedule<O>, text: &mut String) {
    let plan = &schedule.plan;
    push_line(text, "protocol", &name);
    for note in &schedule.note {
        push_line(text, "note", note);
    }
    // Written even if it is the default: it is the first question about a schedule.
    push_line(text, "expect", &schedule.expectation);
    let nodes = plural(plan.nodes.into(), "node");
    let clients = plural(plan.clients.into(), "client");
    push_line(text, "cluster", &format_args!("{nodes}, {clients}"));
    push_line(text, "fault-phase", &ms(plan.fault_phase));
    // Defaults are left out: a person reads what is special about a run.
    if plan.log_bytes != LOG_BYTES {
        push_line(text, "log-limit", &format_args!("{} B", plan.log_bytes));
    }
    push_timing(plan, text);
}

/// Writes only the settings that differ from their defaults.
fn push_timing(plan: &Plan, text: &mut String) {
    // The reader begins with the same plan, so a setting that equals it can be left out.
    let base = Plan::base(plan.nodes, plan.clients);
    let timing = &plan.timing;
    if plan.recovery_timeout != base.recovery_timeout {
        push_line(text, "recovery-timeout", &ms(plan.recovery_timeout));
    }
    match timing.key {
        None => push_line(text, "timing", &"base"),
        // All sixteen digits, so that a key of the same length is easy to recognise.
        Some(key) => push_line(text, "timing", &format_args!("{key:016x}")),
    }
    push_time_range(text, "latency", timing.latency, base.timing.latency);
    push_time_range(text, "client-latency", timing.client_latency, base.timing.client_latency);
    push_time_range(text, "sync-time", timing.sync_time, base.timing.sync_time);
    if timing.latency_tail != base.timing.latency_tail {
        push_line(text, "latency-tail", &ms(timing.latency_tail));
    }
    if timing.reboot_time != base.timing.reboot_time {
        push_line(text, "reboot-time", &ms(timing.reboot_time));
    }
    if plan.encode_messages {
        push_line(text, "messages", &"encoded");
    }
    if !plan.permanently_down.is_empty() {
        let permanently_down: Vec<_> =
            plan.permanently_down.iter().map(ToString::to_string).collect();
        push_line(text, "never-restarts", &permanently_down.join(" "));
    }
}

fn push_time_range(
    text: &mut String,
    verb: &str,
    range: (Micros, Micros),
    default: (Micros, Micros),
) {
    if range != default {
        push_line(text, verb, &format_args!("{} to {}", ms(range.0), ms(range.1)));
    }
}

/// `1 node`, `2 nodes`.
pub(crate) fn plural(count: u64, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// A time in milliseconds without trailing zeros.
pub(super) fn ms(time: Micros) -> String {
    let whole = time.0 / 1000;
    let part = time.0 % 1000;
    if part == 0 {
        return format!("{whole} ms");
    }
    format!("{whole}.{} ms", format!("{part:03}").trim_end_matches('0'))
}

/// A fault as a line of a schedule, without padding.
fn fault_text(fault: &Fault) -> String {
    match fault {
        Fault::Message(at, fault) => message_fault_text(at, fault),
        Fault::Crash(at, crash) => {
            let (verb, how) = crash_text(crash);
            format!(
                "{verb} {} incarnation {} after {}: {how}",
                at.node,
                at.incarnation,
                effect_text(at)
            )
        }
        Fault::Barrier(at, fault) => {
            let place =
                format!("{} incarnation {} at {}", at.node, at.incarnation, effect_text(at));
            match fault {
                BarrierFault::Fail(error) => {
                    format!("sync-fails {place}: {}", disk_error_text(*error))
                }
                BarrierFault::Slow { by } => format!("sync-slow {place}: {}", ms(*by)),
                BarrierFault::Lie => format!("sync-lies {place}"),
            }
        }
        Fault::Write(at, WriteFault { error, keep, lasts }) => format!(
            "write-fails {} incarnation {} at {}: {}, keeps {keep}/1000, for {}",
            at.node,
            at.incarnation,
            effect_text(at),
            disk_error_text(*error),
            ms(*lasts)
        ),
        Fault::Skew { node, incarnation, skew } => {
            format!(
                "clock {node} incarnation {incarnation}: offset {}, drift {} ppm",
                ms(skew.offset),
                skew.drift
            )
        }
        Fault::At(at, timed_fault) => {
            format!("at {} {}", ms(*at), timed_fault_text(timed_fault))
        }
    }
}

impl Display for Expectation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Expectation::Violation(property) => write!(f, "violation of {property}"),
            Expectation::NoViolation(Some(property)) => write!(f, "no violation of {property}"),
            Expectation::NoViolation(None) => f.write_str("no violation"),
        }
    }
}

impl Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&fault_text(self))
    }
}

fn message_fault_text(at: &MessageAt, fault: &MessageFault) -> String {
    let MessageAt { from, to, about, nth } = at;
    let message = format!("{} {about} from {from} to {to}", ordinal(*nth));
    match fault {
        MessageFault::Lose => format!("lose {message}"),
        MessageFault::Duplicate { after } => {
            format!("duplicate {message} again after {}", ms(*after))
        }
        MessageFault::Delay { by } => format!("delay {message} by {}", ms(*by)),
        MessageFault::Flip { bit } => format!("flip bit {bit} of {message}"),
        MessageFault::Evict { victim } => format!("evict {victim} for {message}"),
    }
}

fn effect_text(at: &EffectAt) -> String {
    format!("{} {}", ordinal(at.nth), at.effect_name)
}

fn disk_error_text(error: DiskError) -> &'static str {
    match error {
        DiskError::Io => "io",
        DiskError::NoSpace => "no-space",
    }
}

fn crash_text(crash: &Crash) -> (&'static str, String) {
    let (verb, kept) = match &crash.how {
        CrashKind::Kill { keep } => ("kill", format!("{keep}/1000")),
        CrashKind::PowerCut(survival) => ("power-cut", survival_text(survival)),
    };
    let down = match crash.down_for {
        Some(down_for) => ms(down_for),
        None => "for good".to_string(),
    };
    let at_rest = match &crash.at_rest {
        Some(fault) => format!(", {}", at_rest_text(fault)),
        None => String::new(),
    };
    (verb, format!("keeps {kept}, down {down}{at_rest}"))
}

fn append_name_text(at: &AppendName) -> String {
    // Disks count unsynced appends from 0, and schedules count everything from 1.
    match at.subject {
        Some(subject) => format!("{} {} {subject}", ordinal(at.nth + 1), at.kind),
        None => format!("{} {}", ordinal(at.nth + 1), at.kind),
    }
}

fn survival_text(survival: &Survival) -> String {
    match survival {
        Survival::None => "none".to_string(),
        Survival::All => "all".to_string(),
        Survival::Prefix(n) => format!("first {n}"),
        Survival::AllBut(at) => format!("all but {}", append_name_text(at)),
        Survival::Torn { at, how, hole } => {
            let how = match how {
                Tear::Header => "header",
                Tear::Half => "half",
                Tear::LastSectorMissing => "last-sector",
            };
            let hole = hole.map(|hole| format!(" with {}", holes_text(hole))).unwrap_or_default();
            format!("torn {} {how}{hole}", append_name_text(at))
        }
        Survival::Subset { key, keep, tear, holes } => {
            let tear = if *tear { " torn" } else { "" };
            format!("some {keep}/1000 key {key:x}{tear} with {}", holes_text(*holes))
        }
    }
}

fn holes_text(holes: Holes) -> &'static str {
    match holes {
        Holes::Zeros => "zeros",
        Holes::Garbage => "garbage",
        Holes::OldBlocks => "old-blocks",
        Holes::Mixed => "mixed",
    }
}

fn at_rest_text(fault: &AtRestFault) -> String {
    match fault {
        AtRestFault::Damaged(damage) => damage_text(damage),
        AtRestFault::Restored { incarnations_back } => {
            format!("disk {} old", plural(u64::from(*incarnations_back), "incarnation"))
        }
        AtRestFault::OfNode(node) => format!("disk of {node}"),
        AtRestFault::Emptied => "disk empty".to_string(),
        AtRestFault::Lost(loss) => match loss {
            FileLoss::Tail { file, from: CutPlace::Byte(at) } => {
                format!("cut {} at {at}/1000", file_text(file))
            }
            FileLoss::Tail { file, from: CutPlace::Frame(at) } => {
                format!("cut {} at frame {at}/1000", file_text(file))
            }
            FileLoss::File(file) => format!("lose {}", file_text(file)),
            FileLoss::Generation { nth_newest } => format!("lose generation {nth_newest}"),
        },
        AtRestFault::Unreadable(file) => format!("unreadable {}", file_text(file)),
    }
}

fn file_text(file: &FileChoice) -> String {
    format!("{} {}", role_text(file.role), file.nth_newest)
}

fn role_text(role: FileRole) -> &'static str {
    match role {
        FileRole::Wal => "wal",
        FileRole::Snapshot => "snapshot",
        FileRole::Scratch => "scratch",
    }
}

fn damage_text(damage: &Damage) -> String {
    let Damage { role, nth_newest, at, kind } = damage;
    let role = role_text(*role);
    let kind = match kind {
        DamageKind::FlippedBit(bit) => format!("flips {bit}"),
        DamageKind::ZeroedSector => "zeroes".to_string(),
        DamageKind::WrongPlace { meant } => format!("misplaces {meant}/1000"),
        DamageKind::NeverWritten => "unwrites".to_string(),
    };
    format!("damage {role} {nth_newest} at {at}/1000 {kind}")
}

fn timed_fault_text(timed_fault: &TimedFault) -> String {
    match timed_fault {
        TimedFault::Cut { from, to, duration } => {
            format!("cut {} -> {} for {}", endpoint_list(from), endpoint_list(to), ms(*duration))
        }
        TimedFault::Clog { from, to, duration, swizzle } => {
            format!(
                "{} {from} -> {to} for {}",
                if *swizzle { "swizzle" } else { "clog" },
                ms(*duration)
            )
        }
        TimedFault::Pause { node, duration } => format!("pause {node} for {}", ms(*duration)),
        TimedFault::ClockJump { node, by } => format!("jump {node} by {}", ms(*by)),
        TimedFault::SecondProcess { node, disk, duration } => {
            let disk = match disk {
                SecondDisk::Empty => "empty",
                SecondDisk::Copy => "copy",
            };
            format!("second-process {node} {disk} for {}", ms(*duration))
        }
        TimedFault::DiskHang { node, duration } => format!("hang {node} for {}", ms(*duration)),
        TimedFault::Wake { node } => format!("wake {node}"),
        TimedFault::Crash { node, crash } => {
            let (verb, how) = crash_text(crash);
            format!("{verb} {node}: {how}")
        }
    }
}
