//! A node that answers requests, with a flaw.

#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "these nodes are nondeterministic on purpose"
)]

use std::collections::HashMap;
use std::time::SystemTime;

use stormglass_node::{Boot, BootError, Effect, Input, Label, Micros, Node, NodeId, Outbox, Time};
use stormglass_sim::property::{Fact, Observation, Property, PropertyChecker, PropertyResult};
use stormglass_sim::simulation::Simulation;

/// What is wrong with a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flaw {
    None,
    /// Waits for a random time before it answers.
    DrawsRandomNumber,
    /// Sends in the order of a hash map.
    IteratesHashMap,
    /// Puts the time of day into an answer, and is otherwise the same in every run.
    ReadsClock,
    /// Gives a wrong answer to a random request.
    AnswersAtRandom,
    /// The same, in one of sixteen seeds.
    AnswersAtRandomInFewSeeds,
    NeverAnswers,
    /// Gives a wrong answer once a message has arrived twice, or when its clock is far ahead.
    TrustsClocks,
    SendsToItself,
    SendsToNobody,
    /// Answers with a number of which two are more than a `u64` holds.
    AnswersTooMuch,
    WakesForEver,
    LoopsForEver,
    AllocatesForEver,
    Panics,
}

#[derive(Clone, Copy, Debug, Label, serde::Serialize, serde::Deserialize)]
pub(super) struct Ping(u8);

#[derive(Clone, Debug)]
pub(super) struct Flawed {
    id: NodeId,
    flaw: Flaw,
    nodes: u16,
    pings: u64,
    echoes: u64,
    entropy: u64,
    wake_at: Option<Time>,
    hoard: Vec<Vec<u64>>,
}

impl Flawed {
    fn answer(&mut self, now: Time, out: &mut Outbox<Self>) -> Option<u64> {
        let others: Vec<NodeId> = (0..self.nodes).map(NodeId).filter(|id| *id != self.id).collect();
        match self.flaw {
            Flaw::None => {}
            Flaw::DrawsRandomNumber => {
                self.wake_at = Some(now + Micros(1 + rand::random::<u64>() % 100_000));
            }
            Flaw::IteratesHashMap => {
                let peers: HashMap<u8, NodeId> = (0..32).map(|n| (n, NodeId(0))).collect();
                for (n, _) in peers {
                    others.iter().for_each(|other| out.send(*other, Ping(n)));
                }
            }
            Flaw::ReadsClock => {
                let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
                return since.ok().map(|since| since.as_nanos() as u64 % 1_000);
            }
            Flaw::AnswersAtRandom => return Some(rand::random_range(0..2) * 1_000_000),
            Flaw::AnswersAtRandomInFewSeeds => {
                return Some(if self.entropy % 16 == 5 {
                    rand::random_range(0..2) * 1_000_000
                } else {
                    1
                });
            }
            Flaw::NeverAnswers => return None,
            Flaw::TrustsClocks => {
                let is_duplicated = self.echoes > self.pings;
                self.pings += others.len() as u64;
                others.iter().for_each(|other| out.send(*other, Ping(0)));
                // No run without a fault of a clock lasts for so long.
                if is_duplicated || now > Time(3_000_000) {
                    return Some(1_000_000);
                }
            }
            Flaw::SendsToItself => out.send(self.id, Ping(0)),
            Flaw::SendsToNobody => out.send(NodeId(99), Ping(0)),
            Flaw::AnswersTooMuch => return Some(u64::MAX / 2 + 1),
            Flaw::WakesForEver => self.wake_at = Some(now + Micros(1)),
            Flaw::LoopsForEver => loop {
                std::hint::spin_loop();
            },
            Flaw::AllocatesForEver => loop {
                // Written to, or the system would not count it.
                self.hoard.push(vec![1; 1 << 20]);
            },
            Flaw::Panics => panic!("this node panics at every request"),
        }
        Some(1)
    }
}

impl Node for Flawed {
    type Config = (Flaw, u16);
    type Message = Ping;
    type Request = u64;
    type Response = u64;
    type Event = ();

    fn boot(
        (flaw, nodes): &(Flaw, u16),
        boot: Boot<'_>,
        _out: &mut Outbox<Self>,
    ) -> Result<Self, BootError> {
        Ok(Flawed {
            id: boot.id,
            flaw: *flaw,
            nodes: *nodes,
            pings: 0,
            echoes: 0,
            entropy: boot.entropy,
            wake_at: None,
            hoard: Vec::new(),
        })
    }

    fn step(&mut self, now: Time, input: Input<Self>, out: &mut Outbox<Self>) {
        match input {
            Input::Request { id, .. } => {
                if let Some(answer) = self.answer(now, out) {
                    out.reply(id, answer);
                }
            }
            Input::Message { message: Ping(n), .. } if self.id == NodeId(0) => {
                self.echoes += u64::from(n);
            }
            Input::Message { from, .. } if self.flaw == Flaw::TrustsClocks => {
                out.send(from, Ping(1));
            }
            Input::Message { .. } => {}
            Input::Wake => {
                let again = self.flaw == Flaw::WakesForEver;
                if again {
                    // So much work that a run takes many seconds, on a fast machine too.
                    (0..1_000).for_each(|step| _ = std::hint::black_box(step));
                }
                self.wake_at = again.then(|| now + Micros(1));
            }
            Input::Connected { .. } | Input::Disconnected { .. } | Input::DiskDone { .. } => {}
        }
    }

    fn deadline(&self) -> Option<Time> {
        self.wake_at
    }
}

/// Ten requests at the first node.
pub(super) fn simulation(flaw: Flaw, wrong: Wrong) -> FlawedSimulation {
    without_property(flaw).property(AnswersAreRight::unless(wrong))
}

pub(super) type FlawedSimulation = Simulation<Flawed, ((), PropertyChecker<AnswersAreRight>)>;

pub(super) fn without_property(flaw: Flaw) -> Simulation<Flawed> {
    Simulation::with_config(move |plan| (flaw, plan.nodes))
        .requests(10, |rng| (NodeId(0), rng.between(0, 9)))
}

/// What [`AnswersAreRight`] finds wrong. One type, since each property type compiles the whole
/// simulator once more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wrong {
    /// Answers of a million or more.
    Large,
    /// Every answer.
    Any,
    /// None; but all answers are added, and the sum may overflow.
    Sum,
}

#[derive(Clone)]
pub(super) struct AnswersAreRight {
    wrong: Wrong,
    sum: u64,
}

impl AnswersAreRight {
    pub(super) fn unless(wrong: Wrong) -> AnswersAreRight {
        AnswersAreRight { wrong, sum: 0 }
    }
}

impl Property<Flawed> for AnswersAreRight {
    const NAME: &'static str = "AnswersAreRight";

    fn on(&mut self, observation: &Observation<'_, Flawed>) -> PropertyResult {
        let Fact::Effect(Effect::Reply { response, .. }, _) = observation.fact else {
            return Ok(());
        };
        let is_wrong = match self.wrong {
            Wrong::Large => *response >= 1_000_000,
            Wrong::Any => true,
            Wrong::Sum => {
                self.sum += response;
                false
            }
        };
        if !is_wrong {
            return Ok(());
        }
        // Two reasons that differ in more than numbers.
        let when = if observation.at < Micros::from_millis(15) { "at once" } else { "later" };
        Err(format!("{} answers {response} {when}", observation.node))
    }
}
