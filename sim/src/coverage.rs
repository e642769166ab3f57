//! What the runs of a hunt have shown to its properties: which kinds of facts, messages, records,
//! requests and reports, and whether each property looks at anything.
//!
//! Of a hunt, the first 64 seeds are counted and one in 32 of the others, so that it takes no
//! longer; faults, requests and answers are counted in every seed ([`Tally`](crate::tally::Tally)).
//!
//! A property that returns `Ok` has either judged a fact or ignored it, and nothing tells which. So
//! in the first seeds, copies of each property are offered *altered* facts (module `alterations`):
//! the answer of another request, a flipped bit, an empty disk. A property that objects to one of
//! them looks at something. One that objects to none may look at nothing, or at what is not
//! altered, as the contents of reports: that is a note, and no violation.

mod alterations;

use std::fmt;

use stormglass_node::{DiskOp, Effect, Input, Label, Node};

use crate::property::{Checker, ClientFact, Fact, FaultFact, Observation, ProcessFact, RunFact};
use alterations::Alterations;

/// How often something with a [kind](Label::kind) was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct KindCount {
    /// Its kind.
    pub kind: &'static str,
    /// How often a node or client has sent it, or written it.
    pub made: u64,
    /// How often it has arrived at a node or client; 0 for what does not travel.
    pub arrived: u64,
}

/// How one property reacted to altered facts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PropertyCoverage {
    /// The property.
    pub name: &'static str,
    /// In how many runs it was offered altered facts.
    pub runs: u64,
    /// In how many of these it objected to one.
    pub objected_in: u64,
}

/// What some runs have shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Coverage {
    runs: u64,
    facts: Kinds,
    messages: Kinds,
    requests: Kinds,
    responses: Kinds,
    records: Kinds,
    reports: Kinds,
    properties: Vec<PropertyCoverage>,
}

/// What a node can do, and which a protocol may never do.
const EFFECTS: [&str; 10] = [
    "send", "reply", "report", "append", "sync", "sync-dir", "truncate", "rename", "remove", "halt",
];

impl Coverage {
    /// How many runs were counted.
    pub fn runs(&self) -> u64 {
        self.runs
    }

    /// The facts, by one or two words for each kind, in the order of these.
    pub fn facts(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        self.facts.0.iter().map(|count| (count.kind, count.made))
    }

    /// The messages between nodes.
    pub fn messages(&self) -> &[KindCount] {
        &self.messages.0
    }

    /// The requests of clients.
    pub fn requests(&self) -> &[KindCount] {
        &self.requests.0
    }

    /// The responses to them.
    pub fn responses(&self) -> &[KindCount] {
        &self.responses.0
    }

    /// What nodes have appended.
    pub fn records(&self) -> &[KindCount] {
        &self.records.0
    }

    /// What nodes have reported to an operator.
    pub fn reports(&self) -> &[KindCount] {
        &self.reports.0
    }

    /// Each [`Property`](crate::property::Property), in the order of their checks. A
    /// [`Checker`] of another type has none here, unless it implements [`Checker::challenge`].
    pub fn properties(&self) -> &[PropertyCoverage] {
        &self.properties
    }

    /// The effects that no node has had, and those of `kinds` that nothing had.
    pub fn never_seen<'a>(
        &'a self,
        kinds: &'a [&'static str],
    ) -> impl Iterator<Item = &'static str> + 'a {
        let effects = EFFECTS.iter().filter(|effect| !self.facts.contain(effect));
        let all = [&self.messages, &self.requests, &self.responses, &self.records, &self.reports];
        let kinds = kinds.iter().filter(move |kind| !all.iter().any(|seen| seen.contain(kind)));
        effects.chain(kinds).copied()
    }

    /// Whether nodes ran and had no effect at all: then no property can have judged one.
    pub fn has_no_effects(&self) -> bool {
        self.runs > 0 && !EFFECTS.iter().any(|effect| self.facts.contain(effect))
    }

    /// The properties that may look at nothing: they were offered altered facts and objected to
    /// none.
    pub fn without_objection(&self) -> impl Iterator<Item = &PropertyCoverage> {
        self.properties.iter().filter(|property| property.objected_in == 0)
    }

    /// Adds the runs of another hunt.
    pub fn merge(&mut self, other: &Coverage) {
        self.runs += other.runs;
        self.facts.merge(&other.facts);
        self.messages.merge(&other.messages);
        self.requests.merge(&other.requests);
        self.responses.merge(&other.responses);
        self.records.merge(&other.records);
        self.reports.merge(&other.reports);
        for theirs in &other.properties {
            self.note_property(*theirs);
        }
    }

    /// A few lines for a person, without indentation. `kinds` are those that the protocol lists.
    pub fn lines(&self, kinds: &[&'static str]) -> Vec<String> {
        if self.runs == 0 {
            return Vec::new();
        }
        let seeds = crate::schedule::plural(self.runs, "seed");
        let mut lines = vec![format!("seen in {seeds}, of each kind:")];
        for (what, counts) in [
            ("messages", &self.messages),
            ("requests", &self.requests),
            ("answers", &self.responses),
            ("records", &self.records),
            ("reports", &self.reports),
        ] {
            lines.push(format!("  {what:<9} {}", counts.text()));
        }
        let never: Vec<_> = self.never_seen(kinds).collect();
        if !never.is_empty() {
            lines.push(format!("  {:<9} {}", "never", never.join(", ")));
        }
        for PropertyCoverage { name, runs, objected_in } in &self.properties {
            let of = crate::schedule::plural(*runs, "seed");
            lines.push(format!("  {name} objects to altered facts in {objected_in} of {of}"));
        }
        for property in self.without_objection() {
            lines.push(format!(
                "note: {} accepts the answers of other requests, flipped bits, empty disks and a run \
                 that ends early; only a deliberate bug can show that it looks at anything",
                property.name
            ));
        }
        lines
    }

    fn note_property(&mut self, theirs: PropertyCoverage) {
        match self.properties.iter_mut().find(|property| property.name == theirs.name) {
            Some(property) => {
                property.runs += theirs.runs;
                property.objected_in += theirs.objected_in;
            }
            None => self.properties.push(theirs),
        }
    }
}

/// Where the properties of a run note whether they object to altered facts.
#[derive(Debug)]
pub struct Objections<'a>(&'a mut Vec<PropertyCoverage>);

impl Objections<'_> {
    /// Whether the property has objected in this run. Then it need not look at further facts.
    pub fn has_objected(&self, property: &'static str) -> bool {
        self.0.iter().any(|known| known.name == property && known.objected_in > 0)
    }

    /// Whether no property is left that may object: all have, or none has looked.
    fn are_complete(&self) -> bool {
        self.0.iter().all(|known| known.objected_in > 0)
    }

    /// The property was offered altered facts, and objects or not.
    pub fn note(&mut self, property: &'static str, objects: bool) {
        let known = self.0.iter().position(|known| known.name == property);
        let at = known.unwrap_or_else(|| {
            self.0.push(PropertyCoverage { name: property, runs: 1, objected_in: 0 });
            self.0.len() - 1
        });
        if objects {
            self.0[at].objected_in = 1;
        }
    }
}

/// Counts the facts of one run.
#[derive(Clone, Debug)]
pub(crate) struct CoverageRecorder {
    facts: KindCounter,
    messages: KindCounter,
    requests: KindCounter,
    responses: KindCounter,
    records: KindCounter,
    reports: KindCounter,
    properties: Vec<PropertyCoverage>,
    /// `None` in runs whose properties are not offered altered facts.
    alterations: Option<Alterations>,
}

impl CoverageRecorder {
    /// A run of so many nodes, whose properties are offered altered facts if `alters` says so.
    pub(crate) fn new(nodes: u16, alters: bool) -> CoverageRecorder {
        CoverageRecorder {
            facts: KindCounter::default(),
            messages: KindCounter::default(),
            requests: KindCounter::default(),
            responses: KindCounter::default(),
            records: KindCounter::default(),
            reports: KindCounter::default(),
            properties: Vec::new(),
            alterations: alters.then(|| Alterations::new(nodes)),
        }
    }

    /// Counts a fact before the checker sees it.
    pub(crate) fn record<N: Node, K: Checker<N>>(
        &mut self,
        checker: &K,
        observation: &Observation<'_, N>,
    ) {
        self.count(observation.fact);
        if let Some(alterations) = &mut self.alterations {
            alterations.offer(checker, observation, &mut Objections(&mut self.properties));
        }
    }

    pub(crate) fn into_coverage(self) -> Coverage {
        Coverage {
            runs: 1,
            facts: self.facts.kinds,
            messages: self.messages.kinds,
            requests: self.requests.kinds,
            responses: self.responses.kinds,
            records: self.records.kinds,
            reports: self.reports.kinds,
            properties: self.properties,
        }
    }

    fn count<N: Node>(&mut self, fact: &Fact<'_, N>) {
        self.facts.count_made(name_of(fact));
        match fact {
            Fact::Input(Input::Message { message, .. }) => {
                self.messages.count_arrived(message.kind());
            }
            Fact::Input(Input::Request { request, .. }) => {
                self.requests.count_arrived(request.kind());
            }
            Fact::Effect(effect, _) => match effect {
                Effect::Send { message, .. } => self.messages.count_made(message.kind()),
                Effect::Reply { response, .. } => self.responses.count_made(response.kind()),
                Effect::Report(event) => self.reports.count_made(event.kind()),
                Effect::Disk(DiskOp::Append { about, .. }) => self.records.count_made(about.kind),
                Effect::Disk(_) | Effect::Halt(_) => {}
            },
            Fact::Client(ClientFact::Asked { request, .. }) => {
                self.requests.count_made(request.kind());
            }
            Fact::Client(ClientFact::Answered { response, .. }) => {
                self.responses.count_arrived(response.kind());
            }
            Fact::Input(
                Input::DiskDone { .. }
                | Input::Wake
                | Input::Connected { .. }
                | Input::Disconnected { .. },
            )
            | Fact::Process(_)
            | Fact::Fault(_)
            | Fact::Lost { .. }
            | Fact::Run(_) => {}
        }
    }
}

/// A counter by kind that finds a kind by the address of its text.
#[derive(Clone, Debug)]
struct KindCounter {
    kinds: Kinds,
    /// For each address, modulo their number, the place of the kind that was last there.
    places: [u8; PLACES],
}

/// More than most protocols have kinds, so that few share a place.
const PLACES: usize = 64;

impl Default for KindCounter {
    fn default() -> KindCounter {
        KindCounter { kinds: Kinds::default(), places: [0; PLACES] }
    }
}

impl KindCounter {
    #[inline]
    fn count_made(&mut self, kind: &'static str) {
        self.entry(kind).made += 1;
    }

    #[inline]
    fn count_arrived(&mut self, kind: &'static str) {
        self.entry(kind).arrived += 1;
    }

    /// Addresses differ between two builds; no count depends on them.
    #[inline]
    fn entry(&mut self, kind: &'static str) -> &mut KindCount {
        let place = &mut self.places[kind.as_ptr().addr() % PLACES];
        let known = self.kinds.0.get(usize::from(*place));
        if !known.is_some_and(|count| std::ptr::eq(count.kind, kind)) {
            let at = self.kinds.position(kind);
            // A kind beyond the 256th is searched for each time.
            *place = u8::try_from(at).unwrap_or(0);
            return &mut self.kinds.0[at];
        }
        &mut self.kinds.0[usize::from(*place)]
    }
}

/// Counters by kind, in the order of the first occurrence.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Kinds(Vec<KindCount>);

impl Kinds {
    /// The place of a kind, which may be new.
    fn position(&mut self, kind: &'static str) -> usize {
        // A linear search, since a protocol has some dozen kinds. Texts and not addresses are
        // compared: a literal may have several.
        self.0.iter().position(|count| count.kind == kind).unwrap_or_else(|| {
            self.0.push(KindCount { kind, made: 0, arrived: 0 });
            self.0.len() - 1
        })
    }

    fn contain(&self, kind: &str) -> bool {
        self.0.iter().any(|count| count.kind == kind)
    }

    fn merge(&mut self, other: &Kinds) {
        for theirs in &other.0 {
            let at = self.position(theirs.kind);
            let mine = &mut self.0[at];
            mine.made += theirs.made;
            mine.arrived += theirs.arrived;
        }
        // The threads of a hunt finish their seeds in any order.
        self.0.sort_by_key(|count| count.kind);
    }

    /// `Vote 12 (11 arrived), Ack 3`, or `none`.
    fn text(&self) -> String {
        if self.0.is_empty() {
            return "none".to_string();
        }
        self.0.iter().map(KindCount::to_string).collect::<Vec<_>>().join(", ")
    }
}

/// `Vote 12 (11)`: made, and arrived.
impl fmt::Display for KindCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let KindCount { kind, made, arrived } = self;
        write!(f, "{kind} {made}")?;
        if *arrived == 0 { Ok(()) } else { write!(f, " ({arrived})") }
    }
}

/// One word for a fact.
fn name_of<N: Node>(fact: &Fact<'_, N>) -> &'static str {
    match fact {
        Fact::Input(input) => match input {
            Input::Message { .. } => "message",
            Input::Request { .. } => "request",
            Input::DiskDone { result: Ok(()), .. } => "disk done",
            Input::DiskDone { result: Err(_), .. } => "disk failed",
            Input::Wake => "wake",
            Input::Connected { .. } => "connected",
            Input::Disconnected { .. } => "disconnected",
        },
        Fact::Effect(effect, _) => match effect {
            Effect::Send { .. } => "send",
            Effect::Reply { .. } => "reply",
            Effect::Report(_) => "report",
            Effect::Halt(_) => "halt",
            Effect::Disk(op) => match op {
                DiskOp::Append { .. } => "append",
                DiskOp::Truncate { .. } => "truncate",
                DiskOp::Rename { .. } => "rename",
                DiskOp::Remove { .. } => "remove",
                DiskOp::Sync { .. } => "sync",
                DiskOp::SyncDir { .. } => "sync-dir",
            },
        },
        Fact::Process(fact) => match fact {
            ProcessFact::Boot => "boot",
            ProcessFact::Refused(_) => "boot refused",
            ProcessFact::Killed(_) => "kill",
            ProcessFact::PowerCut(_) => "power cut",
            ProcessFact::Halted(_) => "halted",
            ProcessFact::Damaged(_) => "damage",
            ProcessFact::DiskChanged(_) => "disk changed",
            ProcessFact::Unreadable(_) => "unreadable file",
            ProcessFact::SecondProcess(_) => "second process",
            ProcessFact::Resumed => "resumed",
        },
        Fact::Fault(fact) => match fact {
            FaultFact::Message { .. } => "fault of a message",
            FaultFact::Barrier(_) => "fault of a barrier",
            FaultFact::Write(_) => "fault of a write",
            FaultFact::Timed(_) => "timed fault",
        },
        Fact::Lost { .. } => "lost",
        Fact::Client(ClientFact::Asked { .. }) => "asked",
        Fact::Client(ClientFact::Answered { .. }) => "answered",
        Fact::Run(RunFact::Healed { .. }) => "healed",
        Fact::Run(RunFact::Recovered { .. }) => "recovered",
        Fact::Run(RunFact::Ended) => "ended",
    }
}
