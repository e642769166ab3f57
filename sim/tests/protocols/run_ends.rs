//! A cluster whose nodes send heartbeats: when its runs end, and whether its clients are answered.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use stormglass_node::{
    Boot, BootError, Input, Label, Micros, Node, NodeId, Outbox, RequestId, Subject, Time,
};
use stormglass_sim::hunt::{HuntOptions, HuntReport, Progress, hunt};
use stormglass_sim::profile::Profile;
use stormglass_sim::property::{
    Checker, ClientFact, Fact, Observation, Property, PropertyResult, RunFact, Sometimes,
};
use stormglass_sim::protocol::Protocol;
use stormglass_sim::run_end::{Availability, RecoveryEnd, RunEnd};
use stormglass_sim::simulation::Simulation;
use stormglass_sim::tally::Rule;

/// Nodes that send heartbeats. Any of them answers `Echo`; `ToLeader` is answered by n0 only, and
/// the others refer the client to it.
#[derive(Clone, Debug)]
struct Heart {
    id: NodeId,
    config: Config,
    answered: u32,
    next_beat: Time,
}

#[derive(Clone, Copy, Debug, Default)]
struct Config {
    nodes: u16,
    /// The mutant: an incarnation answers so many requests, and then none.
    answers_max: Option<u32>,
    /// The mutant: followers refer to each other.
    refers_in_a_circle: bool,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Beat;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Request {
    Echo(u64),
    ToLeader(u64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Response {
    Value(u64),
    AskInstead(NodeId),
}

macro_rules! label {
    ($type:ty, $kind:expr) => {
        impl Label for $type {
            fn kind(&self) -> &'static str {
                $kind(self)
            }
            fn subject(&self) -> Option<Subject> {
                None
            }
        }
    };
}

label!(Beat, |_: &Beat| "Beat");
label!(Request, |request: &Request| match request {
    Request::Echo(_) => "Echo",
    Request::ToLeader(_) => "ToLeader",
});
label!(Response, |response: &Response| match response {
    Response::Value(_) => "Value",
    Response::AskInstead(_) => "AskInstead",
});

const BEAT_EVERY: Micros = Micros::from_millis(10);

impl Heart {
    fn answer(&mut self, id: RequestId, request: Request, out: &mut Outbox<Self>) {
        if self.config.answers_max.is_some_and(|max| self.answered >= max) {
            return;
        }
        self.answered += 1;
        match request {
            Request::Echo(value) => out.reply(id, Response::Value(value)),
            Request::ToLeader(value) if self.id == NodeId(0) => {
                out.reply(id, Response::Value(value));
            }
            Request::ToLeader(_) => {
                let other = NodeId((self.id.0 + 1) % self.config.nodes);
                let to = if self.config.refers_in_a_circle { other } else { NodeId(0) };
                out.reply(id, Response::AskInstead(to));
            }
        }
    }
}

impl Node for Heart {
    type Config = Config;
    type Message = Beat;
    type Request = Request;
    type Response = Response;
    type Event = ();

    fn boot(config: &Config, boot: Boot<'_>, _: &mut Outbox<Self>) -> Result<Self, BootError> {
        Ok(Heart { id: boot.id, config: *config, answered: 0, next_beat: boot.now + BEAT_EVERY })
    }

    fn step(&mut self, now: Time, input: Input<Self>, out: &mut Outbox<Self>) {
        match input {
            Input::Request { id, request } => self.answer(id, request, out),
            Input::Wake if now >= self.next_beat => {
                self.next_beat = now + BEAT_EVERY;
                for other in (0..self.config.nodes).map(NodeId).filter(|other| *other != self.id) {
                    out.send(other, Beat);
                }
            }
            Input::Wake
            | Input::Message { .. }
            | Input::Connected { .. }
            | Input::Disconnected { .. }
            | Input::DiskDone { .. } => {}
        }
    }

    fn deadline(&self) -> Option<Time> {
        Some(self.next_beat)
    }
}

/// How the run ended, and how many requests were asked after it.
#[derive(Clone, Debug, Default)]
struct EndsAs {
    expected: Option<RecoveryEnd>,
    probes_expected: usize,
    probed: Option<Vec<NodeId>>,
}

impl Property<Heart> for EndsAs {
    const NAME: &'static str = "EndsAs";

    fn on(&mut self, observation: &Observation<'_, Heart>) -> PropertyResult {
        match observation.fact {
            Fact::Run(RunFact::Recovered { how, .. }) => {
                self.probed = Some(Vec::new());
                if self.expected.is_some_and(|expected| expected != *how) {
                    return Err(format!("the recovery ended by {how:?}"));
                }
            }
            Fact::Client(ClientFact::Asked { .. }) => {
                if let Some(probed) = &mut self.probed {
                    probed.push(observation.node);
                }
            }
            Fact::Run(RunFact::Ended) => {
                let probed = self.probed.as_ref().map_or(0, Vec::len);
                if probed < self.probes_expected {
                    return Err(format!("{probed} requests of the probe"));
                }
            }
            Fact::Input(_)
            | Fact::Effect(..)
            | Fact::Process(_)
            | Fact::Fault(_)
            | Fact::Lost { .. }
            | Fact::Client(_)
            | Fact::Run(_) => {}
        }
        Ok(())
    }
}

/// Settles once each node has run for a while in one incarnation.
#[derive(Clone, Debug, Default)]
struct SettlesLate {
    healed_at: Option<Micros>,
    now: Micros,
}

impl Property<Heart> for SettlesLate {
    const NAME: &'static str = "SettlesLate";

    fn on(&mut self, observation: &Observation<'_, Heart>) -> PropertyResult {
        self.now = observation.at;
        if let Fact::Run(RunFact::Healed { .. }) = observation.fact {
            self.healed_at = Some(self.now);
        }
        Ok(())
    }

    fn has_settled(&self) -> bool {
        self.healed_at.is_some_and(|healed_at| self.now - healed_at >= Micros::from_secs(3))
    }
}

fn simulation(config: Config) -> Simulation<Heart> {
    Simulation::<Heart>::with_config(move |plan| Config { nodes: plan.nodes, ..config })
        .requests(20, |rng| (rng.node(), Request::Echo(rng.between(0, 9))))
        .fault_phase(Micros::from_millis(200))
}

fn run<P: Protocol>(protocol: &P, seeds: u64) -> HuntReport {
    let setup = protocol.setup();
    hunt(protocol, &HuntOptions::new(setup, 0..=seeds - 1), &Progress::default())
}

/// The mean length of a run, in ms of virtual time.
fn mean_length<P: Protocol>(protocol: &P) -> u64 {
    let report = run(protocol, 30);
    assert_eq!(report.failures.first().map(|(_, violation)| violation.to_string()), None);
    report.tally.virtual_time.0 / report.seeds / 1000
}

#[test]
fn cluster_with_heartbeats_ends_when_it_has_settled_and_not_at_its_timeout() {
    let timeout = simulation(Config::default()).recovery_timeout(Micros::from_secs(4));
    let timeout = timeout.property(EndsAs::default());
    let timeout = mean_length(&timeout);
    assert!((4_190..=4_200).contains(&timeout), "{timeout} ms");
    let ends = EndsAs { expected: Some(RecoveryEnd::Settled), ..EndsAs::default() };
    let settled = simulation(Config::default()).ends(RunEnd::Settled).property(ends.clone());
    assert!(mean_length(&settled) < 500);
    let late = simulation(Config::default()).ends(RunEnd::Settled).property(ends);
    let late = mean_length(&late.property(SettlesLate::default()));
    assert!((3_200..3_300).contains(&late), "{late} ms");
}

#[test]
fn run_may_end_at_a_time_after_its_faults() {
    let ends = EndsAs { expected: Some(RecoveryEnd::Elapsed), ..EndsAs::default() };
    let after = RunEnd::After(Micros::from_millis(700));
    assert_eq!(mean_length(&simulation(Config::default()).ends(after).property(ends)), 900);
}

#[test]
fn cluster_that_is_never_quiet_is_probed_and_its_run_ends_with_the_last_answer() {
    for end in [RunEnd::Settled, RunEnd::After(Micros::from_millis(100))] {
        let probed = simulation(Config::default())
            .profile(Profile::Lossy)
            .nodes(3)
            .ends(end)
            .probe(|_| Request::Echo(7))
            .every_request_is_answered(Availability::AllNodes)
            .property(EndsAs { probes_expected: 3, ..EndsAs::default() });
        assert!(mean_length(&probed) < 500);
    }
}

/// The violation of a cluster whose nodes answer so many requests.
fn violation_of_silent_nodes(
    answers_max: u32,
    prepare: fn(Simulation<Heart>) -> Simulation<Heart>,
) -> String {
    let mutant = Config { answers_max: Some(answers_max), ..Config::default() };
    let simulation = prepare(simulation(mutant))
        .profile(Profile::Calm)
        .nodes(3)
        .ends(RunEnd::Settled)
        .recovery_timeout(Micros::from_secs(1))
        .every_request_is_answered(Availability::AllNodes);
    let report = run(&simulation.property(EndsAs::default()), 5);
    report.failures.first().expect("nodes do not answer").1.to_string()
}

#[test]
fn node_that_stops_answering_is_found() {
    let violation = violation_of_silent_nodes(3, |simulation| simulation);
    assert!(violation.starts_with("EveryRequestIsAnswered: c"), "{violation}");
}

#[test]
fn node_that_answers_no_probe_is_found() {
    let violation = violation_of_silent_nodes(0, |simulation| {
        simulation.requests(0, |rng| (rng.node(), Request::Echo(1))).probe(|_| Request::Echo(1))
    });
    let asked = "EveryRequestIsAnswered: c1.2000000000 is not answered at the end of the run, ";
    assert!(violation.starts_with(asked), "{violation}");
}

/// With a node that stays down its requests are answered by another one, or not at all.
#[test]
fn clients_fail_over() {
    fn simulation_with_dead_nodes() -> Simulation<Heart> {
        simulation(Config::default())
            .profile(Profile::Crashy)
            .nodes(3)
            .ends(RunEnd::Settled)
            .recovery_timeout(Micros::from_secs(1))
            .every_request_is_answered(Availability::Majority)
    }
    let report = run(&simulation_with_dead_nodes().property(EndsAs::default()), 200);
    let violation = report.failures.first().expect("a dead node does not answer").1.property;
    assert_eq!(violation, "EveryRequestIsAnswered");
    let report = run(&simulation_with_dead_nodes().fail_over().property(EndsAs::default()), 200);
    assert_eq!(report.failures, []);
    assert!(report.tally.hits(Rule::NeverRestarts) > 0);
}

fn redirected(config: Config) -> Simulation<Heart, impl Checker<Heart> + Sync> {
    simulation(config)
        .profile(Profile::Lossy)
        .nodes(3)
        .requests(20, |rng| (rng.node(), Request::ToLeader(1)))
        .follow_redirects(|response| match response {
            Response::AskInstead(node) => Some(*node),
            Response::Value(_) => None,
        })
        .ends(RunEnd::Settled)
        .every_request_is_answered(Availability::AllNodes)
        .property(EndsAs::default())
}

#[test]
fn clients_follow_a_redirect_and_send_their_later_requests_there() {
    let report = run(&redirected(Config::default()), 100);
    assert_eq!(report.failures, []);
    // Two of three first requests are redirected; later ones go to n0 at once.
    let calm = redirected(Config::default()).profile(Profile::Calm).clients(1);
    let tally = run(&calm, 100).tally;
    assert!((2_000..=2_100).contains(&tally.answers), "{} answers", tally.answers);
}

#[test]
fn nodes_that_refer_to_each_other_do_not_keep_a_client_busy() {
    let circle = Config { refers_in_a_circle: true, ..Config::default() };
    let report = run(&redirected(circle).recovery_timeout(Micros::from_secs(1)), 20);
    // The circle leads through n0, which answers.
    assert_eq!(report.failures, []);
}

/// Requests count upwards from the last answer of their client, although all are planned as 0.
#[derive(Clone, Debug, Default)]
struct CountsUp(BTreeMap<u64, u64>);

impl Property<Heart> for CountsUp {
    const NAME: &'static str = "CountsUp";

    fn on(&mut self, observation: &Observation<'_, Heart>) -> PropertyResult {
        let Fact::Client(ClientFact::Answered { id, response: Response::Value(value) }) =
            observation.fact
        else {
            return Ok(());
        };
        let last = self.0.entry(id.client).or_default();
        // An answer may come twice.
        let is_next = *value == *last || *value == *last + 1;
        let verdict = if is_next { Ok(()) } else { Err(format!("{value} after {last}")) };
        *last = *value;
        verdict
    }

    fn sometimes(&self, tally: &mut Sometimes) {
        tally.peak("greatest value", self.0.values().copied().max().unwrap_or(0));
    }
}

#[test]
fn requests_may_use_earlier_answers() {
    let counting = simulation(Config::default())
        .requests(20, |rng| (rng.node(), Request::Echo(0)))
        .profile(Profile::Calm)
        .clients(1)
        .adapt_requests(|request, earlier| {
            if let (Request::Echo(value), Some(last)) = (request, earlier.last())
                && let Response::Value(before) = last.response
            {
                *value = before + 1;
            }
        })
        .ends(RunEnd::Settled)
        .property(CountsUp::default());
    let report = run(&counting, 20);
    assert_eq!(report.failures, []);
    let (_, greatest) = report.sometimes.peaks()[0];
    assert!(greatest >= 10, "only {greatest} requests were answered");
}
