//! Traces: one fact per line, with virtual time, node, and event, in the words of the contract.

mod line;
mod routine;
mod show;
mod state;

use std::fmt::{self, Write};

use serde::{Deserialize, Serialize};
use stormglass_node::journal::{self, EntryBody, EntryBodyRef, FileSummary};
use stormglass_node::{
    DiskOp, Effect, Input, Label, Micros, Node, NodeId, ReadDisk, RequestId, Time,
};

use crate::chooser::Chooser;
use crate::disk::{CutReport, KillReport};
use crate::node_log::{self, LogLine};
use crate::property::{
    Checker, ClientFact, Fact, FaultFact, MessageId, Observation, ProcessFact, RunFact, Violation,
    concerns_any_request,
};
use crate::run_end::RecoveryEnd;
use crate::workload::Workload;
use crate::world::{RunOutcome, World};
#[cfg(feature = "cli")]
pub(crate) use line::Look;
use line::{Place, look_of};
pub(crate) use line::{kind_of, shows_contents};
pub(crate) use show::Show;
pub(crate) use show::ShownTrace;

/// Selects lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Only events of this node.
    pub node: Option<NodeId>,
    /// Only events that concern this request (any attempt of it).
    pub request: Option<RequestId>,
    /// Only events in this range of virtual time.
    pub span: Option<(Micros, Micros)>,
}

/// What is known of a line besides its text.
#[derive(Clone, Debug)]
struct RecordedLine {
    /// Where the line ends in the text of the trace.
    end: usize,
    at: Micros,
    node: NodeId,
    /// The kind of a message, request, response, record or event; otherwise the verb.
    kind: &'static str,
    look: line::Look,
    /// Whether it has the contents of a message, a request, a response or a report.
    shows_contents: bool,
    place: Place,
}

/// A message as its sender sends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct SentMessage {
    id: MessageId,
    /// Whether it concerns a request.
    of_request: bool,
}

impl Filter {
    /// Whether what happens then and there is selected.
    fn has_place(&self, at: Micros, node: NodeId) -> bool {
        let in_span = self.span.is_none_or(|(from, to)| (from..=to).contains(&at));
        in_span && self.node.is_none_or(|wanted| wanted == node)
    }
}

/// A checker that is never violated and records what it observes.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    filter: Filter,
    json: bool,
    unabridged: bool,
    text: String,
    line: String,
    lines: Vec<RecordedLine>,
    /// The number of steps so far.
    step: u32,
    /// Whether the message that the last line sends concerns a request, if it sends one.
    sending: Option<bool>,
    /// The message that the next fact receives.
    arriving: Option<MessageId>,
    /// The node of the last fact; `None` if that is about the whole run.
    last_node: Option<NodeId>,
    /// Time, node and incarnation of the last step.
    last_step: Option<(Micros, NodeId, u32)>,
}

impl Trace {
    /// Writes text for people, or JSON lines for programs.
    pub fn new(filter: Filter, json: bool) -> Trace {
        Trace { filter, json, ..Trace::default() }
    }

    /// Keeps long lists complete, for comparisons.
    #[must_use]
    pub fn unabridged(self) -> Trace {
        Trace { unabridged: true, ..self }
    }

    /// Runs a world, and returns its trace with what its nodes have logged.
    pub(crate) fn of_run<N, W, K, C>(world: &mut World<N, W, (Trace, K), C>) -> (RunOutcome, Trace)
    where
        N: Node,
        W: Workload<N>,
        K: Checker<N>,
        C: Chooser,
    {
        let (outcome, log) = node_log::collect(|| world.run());
        let mut trace = world.checker().0.clone();
        // A node that panics has emitted no effect after it.
        trace.add_log(log);
        (outcome, trace)
    }

    /// The whole trace, one fact per line.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Counts the steps of nodes, and returns the part that this fact has in its step.
    fn place<N: Node>(&mut self, fact: &Fact<'_, N>) -> Place {
        let arrived = self.arriving.take();
        match fact {
            Fact::Input(input) => {
                self.step += 1;
                let is_wake = matches!(input, Input::Wake);
                Place::Input { step: self.step, is_wake, arrived }
            }
            Fact::Process(ProcessFact::Boot) => {
                self.step += 1;
                Place::Outside
            }
            Fact::Effect(..) => Place::Effect { step: self.step, sent: None },
            Fact::Lost { .. } => arrived.map_or(Place::Outside, Place::Loss),
            Fact::Process(_) | Fact::Fault(_) | Fact::Client(_) | Fact::Run(_) => Place::Outside,
        }
    }

    /// Adds what the node has logged in the last step. Its effects follow.
    fn add_log(&mut self, log: Vec<LogLine>) {
        let Some((at, node, incarnation)) = self.last_step else { return };
        // What a node logs belongs to no request.
        if !self.filter.has_place(at, node) || self.filter.request.is_some() {
            return;
        }
        for LogLine { level, text } in log {
            self.line.clear();
            write!(self.line, "{level:<9} {text}").expect("writing to a string");
            if self.json {
                let body = SimulatorFact::Observed { text: self.line.clone() };
                self.write_json(&journal::entry(Time(at.0), node, incarnation, body));
            } else {
                self.write_text(at, node);
            }
            self.lines.push(RecordedLine {
                end: self.text.len(),
                at,
                node,
                kind: level,
                look: line::Look::Report,
                shows_contents: true,
                place: Place::Effect { step: self.step, sent: None },
            });
        }
    }

    fn write_json(&mut self, entry: &impl Serialize) {
        let line = serde_json::to_string(entry).expect("an event is plain data");
        writeln!(self.text, "{line}").expect("writing to a string");
    }

    fn write_text(&mut self, at: Micros, node: NodeId) {
        let Trace { text, line, .. } = self;
        let node = node.to_string();
        writeln!(text, "{:>5}.{:03}  {node:<3} {line}", at.0 / 1000, at.0 % 1000)
            .expect("writing to a string");
    }

    fn is_wanted<N: Node>(&self, observation: &Observation<'_, N>) -> bool {
        if !self.filter.has_place(observation.at, observation.node) {
            return false;
        }
        // Whichever attempt: a retry belongs to the request that it repeats.
        self.filter.request.is_none_or(|wanted| observation.fact.concerns(wanted))
    }
}

impl<N: Node> Checker<N> for Trace {
    fn check(&mut self, observation: &Observation<'_, N>) -> Result<(), Violation> {
        self.add_log(node_log::take());
        let &Observation { at, node, incarnation, fact, .. } = observation;
        if let Fact::Input(_) | Fact::Process(ProcessFact::Boot) = fact {
            self.last_step = Some((at, node, incarnation));
        }
        self.last_node = (!matches!(fact, Fact::Run(_))).then_some(node);
        let place = self.place(observation.fact);
        // Its message is noted by `on_sent`, if its line is recorded.
        self.sending = None;
        if !self.is_wanted(observation) {
            return Ok(());
        }
        self.line.clear();
        let abbreviate = !self.json && !self.unabridged;
        write_fact(observation.fact, abbreviate, &mut self.line).expect("writing to a string");
        if self.line.is_empty() {
            return Ok(());
        }
        // A verb without details is followed by a space.
        self.line.truncate(self.line.trim_end().len());
        if self.json {
            match journal_entry(observation) {
                Some(body) => self.write_json(&journal::entry(Time(at.0), node, incarnation, body)),
                None => {
                    let body = SimulatorFact::Observed { text: self.line.clone() };
                    self.write_json(&journal::entry(Time(at.0), node, incarnation, body));
                }
            }
        } else {
            self.write_text(at, node);
        }
        if let Fact::Effect(Effect::Send { message, .. }, _) = observation.fact {
            self.sending = Some(concerns_any_request(message));
        }
        self.lines.push(RecordedLine {
            end: self.text.len(),
            at,
            node,
            kind: kind_of(observation.fact),
            look: look_of(observation.fact),
            shows_contents: shows_contents(observation.fact),
            place,
        });
        Ok(())
    }

    fn on_sent(&mut self, id: MessageId) {
        if let Some(of_request) = self.sending.take()
            && let Some(RecordedLine { place: Place::Effect { sent, .. }, .. }) =
                self.lines.last_mut()
        {
            *sent = Some(SentMessage { id, of_request });
        }
    }

    fn on_arrival(&mut self, message: MessageId) {
        self.arriving = Some(message);
    }
}

/// The line of a fact, as a trace shows it.
pub(crate) fn line_of<N: Node>(observation: &Observation<'_, N>) -> String {
    let mut trace = Trace::new(Filter::default(), false);
    trace.check(observation).expect("a trace is never violated");
    trace.text().trim_end().to_string()
}

/// A line of a machine-readable trace for a fact that only a simulator can observe.
#[derive(Serialize, Deserialize)]
pub(crate) enum SimulatorFact {
    // The name in logs of the first version, which are still read.
    #[serde(rename = "Weather")]
    Observed { text: String },
}

/// What a real node would write into its event log; `None` for a fact that it cannot observe, and
/// for a report, whose event need not have another form than its text. Message numbers are 0: these
/// lines are in their original order.
fn journal_entry<'a, N: Node>(observation: &Observation<'a, N>) -> Option<EntryBodyRef<'a, N, ()>> {
    Some(match observation.fact {
        Fact::Process(ProcessFact::Boot) => {
            let files = observation.disk.files().into_iter().map(|file| {
                let contents = observation.disk.read(file).ok().flatten().unwrap_or_default();
                FileSummary::new(file, contents)
            });
            EntryBody::Boot { files: files.collect() }
        }
        Fact::Input(input) => journal::body_of_input(input, 0),
        Fact::Effect(Effect::Report(_), _) => return None,
        Fact::Effect(effect, bytes) => journal::body_of_effect(effect, bytes, 0, |_| ()),
        Fact::Process(_) | Fact::Fault(_) | Fact::Lost { .. } | Fact::Client(_) | Fact::Run(_) => {
            return None;
        }
    })
}

/// Writes a padded verb, and its details.
fn write_fact<N: Node>(fact: &Fact<'_, N>, abbreviate: bool, line: &mut String) -> fmt::Result {
    match fact {
        Fact::Input(input) => write_input(input, abbreviate, line),
        Fact::Effect(effect, _) => write_effect(effect, abbreviate, line),
        Fact::Process(fact) => write_process_fact(fact, line),
        Fact::Fault(fact) => write_fault_fact(fact, line),
        Fact::Lost { from, to, about, reason, .. } => {
            write!(line, "LOST      {about} from {from} to {to}: {reason}")
        }
        Fact::Client(fact) => write_client_fact(fact, abbreviate, line),
        Fact::Run(fact) => write_run_fact(fact, line),
    }
}

fn write_process_fact(fact: &ProcessFact<'_>, line: &mut String) -> fmt::Result {
    match fact {
        ProcessFact::Boot => write!(line, "boot"),
        ProcessFact::Refused(error) => write!(line, "REFUSED   to start: {error}"),
        ProcessFact::Killed(report) => write_killed(report, line),
        ProcessFact::PowerCut(report) => write_power_cut(report, line),
        ProcessFact::Halted(reason) => write!(line, "HALTED    {reason}"),
        ProcessFact::Damaged(entry) => {
            write!(
                line,
                "DAMAGE    {} bytes {}..{}: {:?}",
                entry.file, entry.bytes.start, entry.bytes.end, entry.kind
            )
        }
        ProcessFact::DiskChanged(change) => write!(line, "DISK      {change}"),
        ProcessFact::Unreadable(file) => write!(line, "DISK      {file} cannot be read"),
        ProcessFact::SecondProcess(disk) => {
            write!(line, "SECOND    process under this id, with {disk}; the first is set aside")
        }
        ProcessFact::Resumed => {
            write!(line, "RESUMED   the first process, as the second has ended")
        }
    }
}

fn write_fault_fact(fact: &FaultFact<'_>, line: &mut String) -> fmt::Result {
    match fact {
        FaultFact::Message { from, to, about, fault, .. } => {
            write!(line, "FAULT     {fault} {about} from {from} to {to}")
        }
        FaultFact::Barrier(fault) => write!(line, "FAULT     {fault}"),
        FaultFact::Write(fault) => write!(line, "FAULT     write fails: {}", fault.error),
        FaultFact::Timed(fault) => write!(line, "FAULT     {fault}"),
    }
}

fn write_client_fact<N: Node>(
    fact: &ClientFact<'_, N>,
    abbreviate: bool,
    line: &mut String,
) -> fmt::Result {
    match fact {
        ClientFact::Asked { id, request } => {
            write!(line, "request   {id} {} ", request.kind())?;
            write_detail(*request, abbreviate, line)
        }
        ClientFact::Answered { id, response } => {
            write!(line, "response  {id} {} ", response.kind())?;
            write_detail(*response, abbreviate, line)
        }
    }
}

fn write_run_fact(fact: &RunFact<'_>, line: &mut String) -> fmt::Result {
    match fact {
        RunFact::Healed { permanently_down: [] } => {
            write!(line, "HEALED    no new faults from here on")
        }
        RunFact::Healed { permanently_down } => {
            write!(
                line,
                "HEALED    no new faults from here on; permanently down: {}",
                join_nodes(permanently_down)
            )
        }
        RunFact::Recovered { how, .. } => line.write_str(match how {
            RecoveryEnd::Quiet => "QUIESCED  no events are pending",
            RecoveryEnd::Settled => "SETTLED   requests are answered, and properties have settled",
            RecoveryEnd::Elapsed => "ELAPSED   the time of the recovery is over",
            RecoveryEnd::TimedOut => {
                "TIMEOUT   events are still pending at the end of the recovery phase"
            }
        }),
        RunFact::Ended => write!(line, "END"),
    }
}

/// Longer details are abbreviated.
// A transaction over many nodes has hundreds of operations; the first few say what it is.
const DETAIL_MAX: usize = 120;

/// Writes the contents of a message, a request or a response; abbreviated at a comma if it is very
/// long.
fn write_detail(of: &impl Label, abbreviate: bool, line: &mut String) -> fmt::Result {
    let from = line.len();
    of.detail(line)?;
    // Also `None` within a character: a text that cannot be cut there is shown in full.
    let Some(head) = line.get(from..from + DETAIL_MAX).filter(|_| abbreviate) else {
        return Ok(());
    };
    // Cut between two items: half of one would be wrong.
    let Some(comma) = head.rfind(", ") else { return Ok(()) };
    let rest = &line[from + comma..];
    let omitted = rest.matches(", ").count();
    line.truncate(from + comma);
    write!(line, ", and {omitted} more")
}

fn join_nodes(nodes: &[NodeId]) -> String {
    nodes.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

fn write_input<N: Node>(input: &Input<N>, abbreviate: bool, line: &mut String) -> fmt::Result {
    match input {
        Input::Message { from, message } => {
            write!(line, "<- {:<6} {} ", from.to_string(), message.about())?;
            write_detail(message, abbreviate, line)
        }
        Input::Request { id, request } => {
            write!(line, "<- c{:<5} {} {id}", id.client, request.kind())
        }
        Input::Connected { peer } => write!(line, "connected    to {peer}"),
        Input::Disconnected { peer } => write!(line, "disconnected from {peer}"),
        Input::DiskDone { op, result: Ok(()) } => write!(line, "done      op {}", op.0),
        Input::DiskDone { op, result: Err(error) } => {
            write!(line, "FAILED    op {}: {error}", op.0)
        }
        Input::Wake => write!(line, "wake"),
    }
}

fn write_effect<N: Node>(effect: &Effect<N>, abbreviate: bool, line: &mut String) -> fmt::Result {
    match effect {
        Effect::Send { to, message } => {
            write!(line, "-> {:<6} {} ", to.to_string(), message.about())?;
            write_detail(message, abbreviate, line)
        }
        Effect::Reply { id, response } => {
            write!(line, "-> c{:<5} {} {id} ", id.client, response.kind())?;
            write_detail(response, abbreviate, line)
        }
        Effect::Report(event) => {
            write!(line, "report    {} ", event.about())?;
            event.detail(line)
        }
        Effect::Halt(reason) => write!(line, "halt      {reason}"),
        Effect::Disk(op) => match op {
            DiskOp::Append { file, bytes, about } => {
                write!(line, "append    {file}  {about}  {} B", bytes.len())
            }
            DiskOp::Truncate { file, len } => write!(line, "truncate  {file} to {len} B"),
            DiskOp::Rename { from, to } => write!(line, "rename    {from} to {to}"),
            DiskOp::Remove { file } => write!(line, "remove    {file}"),
            DiskOp::Sync { op, file } => write!(line, "sync      {file}, op {}", op.0),
            DiskOp::SyncDir { op } => write!(line, "sync-dir  op {}", op.0),
        },
    }
}

fn write_killed(report: &KillReport, line: &mut String) -> fmt::Result {
    write!(
        line,
        "KILLED    the page cache kept {} of {} operations",
        report.kept, report.in_driver_queue
    )
}

fn write_power_cut(report: &CutReport, line: &mut String) -> fmt::Result {
    line.push_str("POWER CUT");
    for (at, fate) in report.files().iter().enumerate() {
        let separator = if at == 0 { " kept" } else { "," };
        write!(line, "{separator} {} of {} B in {}", fate.kept, fate.bytes, fate.file)?;
    }
    for loss in &report.names {
        write!(line, "; {loss}")?;
    }
    Ok(())
}
