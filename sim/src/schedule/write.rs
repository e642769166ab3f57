//! Schedules to text.

use std::fmt::{self, Display, Write};

use stormglass::{About, DiskError};

use super::{Claim, Schedule, base_plan, ordinal};
use crate::disk::{AppendName, Damage, Harm, Holes, Role, Survival, Tear};
use crate::fault::{
    BarrierFault, Crash, CrashKind, Deed, DeedAt, End, Fault, MessageAt, MessageFault, Weather, WriteFault,
};
use crate::plan::{LOG_BYTES, Plan};
use crate::protocol::Scene;

pub(super) fn write<S: Scene>(scene: &S, schedule: &Schedule<S::Order>) -> String {
    let mut text = String::from("stormglass 1\n");
    header(scene.name(), schedule, &mut text).expect("writing to a string");
    if !schedule.wishes.is_empty() {
        text.push('\n');
    }
    for wish in &schedule.wishes {
        let what = scene.write_order(&wish.what, schedule.plan.nodes);
        let after = match wish.after_us {
            0 => String::new(),
            us => format!(" after {}", ms(us)),
        };
        line(&mut text, "request", &format_args!("{} to {}{after}: {what}", wish.id, wish.node));
    }
    if !schedule.faults.is_empty() {
        text.push('\n');
    }
    for fault in &schedule.faults {
        let said = said(fault);
        let (verb, rest) = said.split_once(' ').expect("a verb and more");
        line(&mut text, verb, &rest);
    }
    text
}

fn line(text: &mut String, verb: &str, rest: &dyn Display) {
    writeln!(text, "{verb:<10} {rest}").expect("writing to a string");
}

fn header<O>(name: &str, schedule: &Schedule<O>, text: &mut String) -> fmt::Result {
    let plan = &schedule.plan;
    line(text, "protocol", &name);
    for why in &schedule.why {
        writeln!(text, "{}", format!("{:<10} {why}", "why").trim_end())?;
    }
    match &schedule.claim {
        Claim::Breaks(claim) => line(text, "breaks", claim),
        Claim::Holds(Some(claim)) => line(text, "holds", claim),
        Claim::Holds(None) => text.push_str("holds\n"),
    }
    let plural = |count: u32, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
    let (nodes, clients) = (plural(plan.nodes.into(), "node"), plural(plan.clients, "client"));
    line(text, "cluster", &format_args!("{nodes}, {clients}"));
    line(text, "storm", &ms(plan.storm_us));
    if plan.log_bytes != LOG_BYTES {
        line(text, "log", &format_args!("{} B", plan.log_bytes));
    }
    timing(plan, text);
    Ok(())
}

/// Only what differs from what one would have without saying so.
fn timing(plan: &Plan, text: &mut String) {
    let (base, timing) = (base_plan(plan.nodes, plan.clients), &plan.timing);
    if plan.patience_us != base.patience_us {
        line(text, "patience", &ms(plan.patience_us));
    }
    match timing.key {
        None => line(text, "timing", &"base"),
        Some(key) => line(text, "timing", &format_args!("{key:016x}")),
    }
    let mut span = |verb, (low, high): (u64, u64), usual| {
        if (low, high) != usual {
            line(text, verb, &format_args!("{} to {}", ms(low), ms(high)));
        }
    };
    span("latency", timing.latency_us, base.timing.latency_us);
    span("client-latency", timing.client_us, base.timing.client_us);
    span("sync", timing.sync_us, base.timing.sync_us);
    if timing.tail_us != base.timing.tail_us {
        line(text, "tail", &ms(timing.tail_us));
    }
    if timing.reboot_us != base.timing.reboot_us {
        line(text, "reboot", &ms(timing.reboot_us));
    }
    if plan.wire {
        line(text, "wire", &"bytes");
    }
    if !plan.dead.is_empty() {
        let dead: Vec<_> = plan.dead.iter().map(ToString::to_string).collect();
        line(text, "dead", &dead.join(" "));
    }
}

/// A time without needless zeros.
pub(super) fn ms(us: u64) -> String {
    let (whole, part) = (us / 1000, us % 1000);
    if part == 0 {
        return format!("{whole} ms");
    }
    format!("{whole}.{} ms", format!("{part:03}").trim_end_matches('0'))
}

/// A fault as a line of a schedule, without padding.
fn said(fault: &Fault) -> String {
    match fault {
        Fault::Message(at, fault) => said_message(at, fault),
        Fault::Crash(at, crash) => {
            let (verb, how) = said_crash(crash);
            format!("{verb} {} life {} after {}: {how}", at.node, at.life, deed(at))
        }
        Fault::Barrier(at, fault) => {
            let place = format!("{} life {} at {}", at.node, at.life, deed(at));
            match fault {
                BarrierFault::Fail(error) => format!("fail {place}: {}", said_error(*error)),
                BarrierFault::Slow { by_us } => format!("slow {place}: {}", ms(*by_us)),
                BarrierFault::Lie => format!("lie {place}"),
            }
        }
        Fault::Write(at, WriteFault { error, keep_permille, lasts_us }) => format!(
            "break {} life {} at {}: {}, keeps {keep_permille}/1000, for {}",
            at.node,
            at.life,
            deed(at),
            said_error(*error),
            ms(*lasts_us)
        ),
        Fault::Skew { node, life, skew } => {
            format!("clock {node} life {life}: offset {}, drift {} ppm", ms(skew.offset_us), skew.drift_ppm)
        }
        Fault::At(at_us, weather) => format!("at {} {}", ms(*at_us), said_weather(weather)),
    }
}

impl Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&said(self))
    }
}

fn said_message(at: &MessageAt, fault: &MessageFault) -> String {
    let MessageAt { from, to, about, nth } = at;
    let message = format!("{} {about} from {from} to {to}", ordinal(*nth));
    match fault {
        MessageFault::Lose => format!("lose {message}"),
        MessageFault::Duplicate { after_us } => format!("duplicate {message} again after {}", ms(*after_us)),
        MessageFault::Delay { by_us } => format!("delay {message} by {}", ms(*by_us)),
        MessageFault::Flip { bit } => format!("flip bit {bit} of {message}"),
        MessageFault::Evict { victim } => format!("evict {victim} for {message}"),
    }
}

fn deed(at: &DeedAt) -> String {
    let following = |what: &str, after: &Option<About>| match after {
        Some(about) => format!("{what} following append {about}"),
        None => format!("{what} before any append"),
    };
    let deed = match &at.deed {
        Deed::Send(about, to) => format!("send {about} to {to}"),
        Deed::Append(about) => format!("append {about}"),
        Deed::Sync(after) => following("sync", after),
        Deed::SyncDir(after) => following("sync-dir", after),
        Deed::Rename(after) => following("rename", after),
        Deed::Remove(after) => following("remove", after),
        Deed::Truncate(after) => following("truncate", after),
        Deed::Reply(id) => format!("reply {id}"),
    };
    format!("{} {deed}", ordinal(at.nth))
}

fn said_error(error: DiskError) -> &'static str {
    match error {
        DiskError::Io => "io",
        DiskError::NoSpace => "no-space",
    }
}

fn said_crash(crash: &Crash) -> (&'static str, String) {
    let (verb, kept) = match &crash.how {
        CrashKind::Kill { keep_permille } => ("kill", format!("{keep_permille}/1000")),
        CrashKind::PowerCut(survival) => ("power-cut", said_survival(survival)),
    };
    let down = match crash.down_us {
        Some(us) => ms(us),
        None => "for good".to_string(),
    };
    let damage = crash.damage.as_ref().map(said_damage).unwrap_or_default();
    (verb, format!("keeps {kept}, down {down}{damage}"))
}

fn said_survival(survival: &Survival) -> String {
    let named = |at: &AppendName| match at.subject {
        Some(subject) => format!("{} {} {subject}", ordinal(at.nth + 1), at.kind),
        None => format!("{} {}", ordinal(at.nth + 1), at.kind),
    };
    match survival {
        Survival::None => "none".to_string(),
        Survival::All => "all".to_string(),
        Survival::Prefix(n) => format!("first {n}"),
        Survival::AllBut(at) => format!("all but {}", named(at)),
        Survival::Torn { at, how, hole } => {
            let how = match how {
                Tear::Header => "header",
                Tear::Half => "half",
                Tear::LastSectorMissing => "last-sector",
            };
            let hole = hole.map(|hole| format!(" with {}", said_holes(hole))).unwrap_or_default();
            format!("torn {} {how}{hole}", named(at))
        }
        Survival::Subset { key, keep_permille, tear, holes } => {
            let tear = if *tear { " torn" } else { "" };
            format!("some {keep_permille}/1000 key {key:x}{tear} with {}", said_holes(*holes))
        }
    }
}

fn said_holes(holes: Holes) -> &'static str {
    match holes {
        Holes::Zeros => "zeros",
        Holes::Garbage => "garbage",
        Holes::OldBlocks => "old-blocks",
        Holes::Mixed => "mixed",
    }
}

fn said_damage(damage: &Damage) -> String {
    let Damage { role, back, at_permille, harm } = damage;
    let role = match role {
        Role::Wal => "wal",
        Role::Snapshot => "snapshot",
        Role::Scratch => "scratch",
    };
    let harm = match harm {
        Harm::FlippedBit(bit) => format!("flips {bit}"),
        Harm::ZeroedSector => "zeroes".to_string(),
        Harm::WrongPlace { meant_permille } => format!("misplaces {meant_permille}/1000"),
        Harm::NeverWritten => "unwrites".to_string(),
    };
    format!(", damage {role} {back} at {at_permille}/1000 {harm}")
}

fn said_weather(weather: &Weather) -> String {
    let side = |ends: &[End]| ends.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
    match weather {
        Weather::Cut { from, to, for_us } => {
            format!("cut {} -> {} for {}", side(from), side(to), ms(*for_us))
        }
        Weather::Clog { from, to, for_us, swizzle } => {
            format!("{} {from} -> {to} for {}", if *swizzle { "swizzle" } else { "clog" }, ms(*for_us))
        }
        Weather::Pause { node, for_us } => format!("pause {node} for {}", ms(*for_us)),
        Weather::Jump { node, by_us } => format!("jump {node} by {}", ms(*by_us)),
        Weather::Crash { node, crash } => {
            let (verb, how) = said_crash(crash);
            format!("{verb} {node}: {how}")
        }
    }
}
