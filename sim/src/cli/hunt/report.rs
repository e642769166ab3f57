//! The report of a hunt, for people and as JSON. What matters comes first: a failure before any
//! counter.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::{Verdict, print_saved};
use crate::cli::args::Hunt;
use crate::cli::replay_line;
use crate::cli::say::say;
use crate::coverage::{Coverage, KindCount, PropertyCoverage};
use crate::hunt::{HuntOptions, HuntReport};
use crate::property::Violation;
use crate::protocol::Protocol;
use crate::schedule::plural;
use crate::tally::Rule;

/// The greatest number of failing seeds that are listed, of each property: a rare violation must
/// not hide behind a frequent one.
const LISTED: usize = 20;

/// A hunt that is over.
pub(super) struct FinishedHunt<'a, P> {
    pub protocol: &'a P,
    pub args: &'a Hunt,
    pub options: &'a HuntOptions,
    pub report: HuntReport,
    pub wall: Duration,
    pub interrupted: bool,
    pub verdict: Verdict,
}

/// The number of seeds in a range; of the whole range one fewer.
pub(super) fn count(seeds: &RangeInclusive<u64>) -> u64 {
    (seeds.end() - seeds.start()).saturating_add(1)
}

impl<P: Protocol> FinishedHunt<'_, P> {
    /// Prints all that is known.
    pub(super) fn print(&self) {
        if self.args.json {
            self.print_json();
            return;
        }
        match &self.verdict {
            Verdict::Violated(_, Some(saved)) => print_saved(self.protocol, saved),
            Verdict::NotDeterministic(Some(nondeterminism)) => say!("{nondeterminism}"),
            Verdict::Violated(_, None)
            | Verdict::NotDeterministic(None)
            | Verdict::Clean
            | Verdict::JudgedInPart
            | Verdict::Inconclusive(_) => {}
        }
        self.print_summary();
        if matches!(self.verdict, Verdict::Clean | Verdict::JudgedInPart) {
            self.print_counters();
        }
        // Without `--keep-going` the hunt stops soon after the first failure, and others are chance
        // finds.
        if self.args.keep_going {
            self.list_other_failures();
        }
        if let Some(print) = self.report.fingerprint {
            say!("fingerprint {print:016x}");
        }
        // Last, where it is found without scrolling.
        if let Some((seed, _)) = self.report.failures.first() {
            say!("replay the seed with");
            say!("  {}", replay_line(self.protocol, *seed, &self.options.setup));
        }
    }

    /// How the hunt ended, in a few words.
    fn status(&self) -> String {
        let verdict = match &self.verdict {
            Verdict::Clean => "clean".to_string(),
            Verdict::JudgedInPart => {
                format!("no violation, {} judged only in part", self.report.judged_in_part)
            }
            Verdict::Violated(..) => "VIOLATED".to_string(),
            Verdict::NotDeterministic(_) => "NOT DETERMINISTIC".to_string(),
            Verdict::Inconclusive(why) => (*why).to_string(),
        };
        if !self.interrupted {
            return verdict;
        }
        let all = match (self.args.seeds, self.args.seconds) {
            (None, Some(seconds)) => format!("{seconds} s"),
            _ => count(&self.options.seeds).to_string(),
        };
        format!("{verdict} so far, interrupted ({all} requested)")
    }

    fn print_summary(&self) {
        let HuntReport { seeds, tally, .. } = &self.report;
        // A hunt of one seed may take less than a millisecond.
        let ms = self.wall.as_millis().max(1) as u64;
        let status = self.status();
        say!("{} in {}.{:03} s: {status}", plural(*seeds, "seed"), ms / 1000, ms % 1000);
        if let Some((seed, until)) = &self.report.first_judged_in_part {
            say!("  seed {seed}, for example, until {until}");
        }
        say!("  {} seeds/s, {} events/s", seeds * 1000 / ms, tally.events * 1000 / ms);
    }

    fn print_counters(&self) {
        let HuntReport { tally, sometimes, coverage, .. } = &self.report;
        let ms = self.wall.as_millis().max(1) as u64;
        say!(
            "  {} s of virtual time, {} times real time",
            tally.virtual_time.0 / 1_000_000,
            tally.virtual_time.0 / 1000 / ms
        );
        say!(
            "  {} events, {} messages ({} copies, {} after a crash), {} boots",
            tally.events,
            tally.delivered,
            tally.duplicates,
            tally.arrived_after_crash,
            tally.boots
        );
        say!("  {} requests, {} answers, resent ones included", tally.requests, tally.answers);
        let compared = plural(self.report.compared, "seed");
        say!("  {compared} run twice, with equal results");
        coverage.lines(self.protocol.kinds()).iter().for_each(|line| say!("  {line}"));
        say!("faults");
        for (rule, meaning, _) in Rule::TABLE {
            say!("  {:>9}  {rule:<4} {meaning}", tally.hits(rule));
        }
        say!("sometimes");
        for (what, times) in sometimes.rows() {
            let times = if *times == 0 { "never".to_string() } else { times.to_string() };
            say!("  {times:>9}  {what}");
        }
        for (what, measure) in sometimes.peaks() {
            say!("  {measure:>9}  at most: {what}");
        }
    }

    fn list_other_failures(&self) {
        let failures = &self.report.failures;
        for (seed, violation) in listed(failures).skip(1) {
            eprintln!("also seed {seed}: {violation}");
        }
        if failures.len() > 1 {
            for (property, seeds) in failed_seeds_by_property(failures) {
                eprintln!("{seeds} of {} failed seeds violate {property}", failures.len());
            }
        }
    }

    fn print_json(&self) {
        let FinishedHunt { protocol, options, report, verdict, .. } = self;
        let saved = if let Verdict::Violated(_, saved) = verdict { saved.as_ref() } else { None };
        let nondeterminism =
            if let Verdict::NotDeterministic(found) = verdict { found.as_ref() } else { None };
        let HuntReport { tally, sometimes, .. } = report;
        let rules: serde_json::Map<_, _> = Rule::TABLE
            .iter()
            .map(|(rule, ..)| (rule.to_string(), tally.hits(*rule).into()))
            .collect();
        let times: serde_json::Map<_, _> = sometimes
            .rows()
            .iter()
            .map(|(what, times)| ((*what).to_string(), (*times).into()))
            .collect();
        let peaks: serde_json::Map<_, _> = sometimes
            .peaks()
            .iter()
            .map(|(what, most)| ((*what).to_string(), (*most).into()))
            .collect();
        let mut failures = Vec::new();
        for (seed, violation) in listed(&report.failures) {
            failures.push(serde_json::json!({
                "seed": seed,
                "property": violation.property,
                "reason": violation.reason,
                "liveness": violation.liveness,
                "replay": replay_line(*protocol, *seed, &options.setup),
            }));
        }
        let text = serde_json::json!({
            "version": env!("CARGO_PKG_VERSION"),
            "seeds": report.seeds,
            "ended": self.status(),
            "wall_ms": self.wall.as_millis() as u64,
            "virtual_ms": tally.virtual_time.0 / 1000,
            "events": tally.events,
            "messages": tally.delivered,
            "requests": tally.requests,
            "answers": tally.answers,
            "run_twice": report.compared,
            "nondeterminism": nondeterminism.map(ToString::to_string),
            "judged_in_part": report.judged_in_part,
            "first_judged_in_part": report.first_judged_in_part.as_ref().map(|(seed, until)| {
                serde_json::json!({"seed": seed, "until": until.to_string()})
            }),
            "faults": rules,
            "seen": seen(&report.coverage, protocol.kinds()),
            "sometimes": times,
            "at_most": peaks,
            "failed_seeds": report.failures.len(),
            "failed_seeds_by_property": failed_seeds_by_property(&report.failures),
            "failures": failures,
            "schedule": saved.map(|saved| saved.text.as_str()),
            "saved": saved.and_then(|saved| saved.file.as_ref()),
            "fingerprint": report.fingerprint.map(|print| format!("{print:016x}")),
        });
        say!("{text}");
    }
}

fn by_kind(counts: &[KindCount]) -> serde_json::Value {
    let rows = counts.iter().map(|count| {
        let KindCount { kind, made, arrived, .. } = *count;
        (kind.to_string(), serde_json::json!({"made": made, "arrived": arrived}))
    });
    serde_json::Value::Object(rows.collect())
}

/// What was counted in some of the seeds.
fn seen(coverage: &Coverage, kinds: &[&'static str]) -> serde_json::Value {
    let facts: serde_json::Map<_, _> =
        coverage.facts().map(|(fact, times)| (fact.to_string(), times.into())).collect();
    let properties = coverage.properties().iter().map(|property| {
        let PropertyCoverage { name, runs, objected_in, .. } = *property;
        serde_json::json!({"name": name, "seeds": runs, "objected_in": objected_in})
    });
    serde_json::json!({
        "seeds": coverage.runs(),
        "facts": facts,
        "messages": by_kind(coverage.messages()),
        "requests": by_kind(coverage.requests()),
        "answers": by_kind(coverage.responses()),
        "records": by_kind(coverage.records()),
        "reports": by_kind(coverage.reports()),
        "never": coverage.never_seen(kinds).collect::<Vec<_>>(),
        "properties": properties.collect::<Vec<_>>(),
    })
}

/// The first failures of each property, in the order of their seeds.
fn listed(failures: &[(u64, Violation)]) -> impl Iterator<Item = &(u64, Violation)> {
    let mut listed: BTreeMap<&str, usize> = BTreeMap::new();
    failures.iter().filter(move |(_, violation)| {
        let of_property = listed.entry(violation.property).or_default();
        *of_property += 1;
        *of_property <= LISTED
    })
}

/// How many seeds violate each property, in the order of the names.
fn failed_seeds_by_property(failures: &[(u64, Violation)]) -> BTreeMap<&'static str, usize> {
    let mut seeds = BTreeMap::new();
    for (_, violation) in failures {
        *seeds.entry(violation.property).or_default() += 1;
    }
    seeds
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rare_violation_is_listed_beside_a_frequent_one() {
        let mut failures = Vec::new();
        for seed in 0..100 {
            failures.push((seed, Violation::liveness("Frequent", "late")));
        }
        failures.push((100, Violation::safety("Rare", "wrong")));
        let seeds: Vec<u64> = listed(&failures).map(|(seed, _)| *seed).collect();
        let expected: Vec<u64> = (0..20).chain([100]).collect();
        assert_eq!(seeds, expected);
        let by_property = failed_seeds_by_property(&failures);
        assert_eq!(by_property, BTreeMap::from([("Frequent", 100), ("Rare", 1)]));
    }
}
