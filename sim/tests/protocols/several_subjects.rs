//! A message that concerns several requests: each of them finds it in a trace.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use stormglass_sim::replay::replay_world;
use stormglass_sim::schedule::Schedule;
use stormglass_sim::trace::{Filter, Trace};
use stormglass_sim::{
    Boot, BootError, Fact, Input, Label, Micros, Node, NodeId, Observation, Outbox, Property,
    PropertyResult, RequestId, Simulation, Time,
};

/// How long n0 waits for further requests, and for an answer.
const BATCH_INTERVAL: Micros = Micros::from_millis(50);

#[derive(Clone, Debug, Label, Serialize, Deserialize)]
#[label(crate = "stormglass_sim::node")]
enum Message {
    Batch(#[label(subjects)] Vec<RequestId>),
    Stored(#[label(subjects)] Vec<RequestId>),
}

/// n0 passes the requests on to n1 in batches, and answers them when n1 has them.
struct Batcher {
    pending: BTreeSet<RequestId>,
    send_at: Option<Time>,
}

impl Node for Batcher {
    type Config = ();
    type Message = Message;
    type Request = ();
    type Response = ();
    type Event = ();

    fn boot(_: &(), _: Boot<'_>, _: &mut Outbox<Self>) -> Result<Self, BootError> {
        Ok(Batcher { pending: BTreeSet::new(), send_at: None })
    }

    fn step(&mut self, now: Time, input: Input<Self>, out: &mut Outbox<Self>) {
        match input {
            Input::Request { id, .. } => {
                self.pending.insert(id);
                self.send_at.get_or_insert(now + BATCH_INTERVAL);
            }
            Input::Message { from, message: Message::Batch(requests) } => {
                out.send(from, Message::Stored(requests));
            }
            Input::Message { message: Message::Stored(requests), .. } => {
                for id in requests {
                    if self.pending.remove(&id) {
                        out.reply(id, ());
                    }
                }
                if self.pending.is_empty() {
                    self.send_at = None;
                }
            }
            Input::Wake if self.send_at.is_some_and(|at| at <= now) => {
                out.send(NodeId(1), Message::Batch(self.pending.iter().copied().collect()));
                self.send_at = Some(now + BATCH_INTERVAL);
            }
            Input::Wake
            | Input::DiskDone { .. }
            | Input::Connected { .. }
            | Input::Disconnected { .. } => {}
        }
    }

    fn deadline(&self) -> Option<Time> {
        self.send_at
    }
}

#[derive(Clone)]
struct NothingIsChecked;

impl Property<Batcher> for NothingIsChecked {
    const NAME: &'static str = "NothingIsChecked";
    fn on(&mut self, _: &Observation<'_, Batcher>) -> PropertyResult {
        Ok(())
    }
}

/// The trace of two requests in one batch, which is lost once, with the lines of one request.
fn trace_of(request: RequestId) -> String {
    let simulation = Simulation::<Batcher>::new(())
        .requests(0, |_| (NodeId(0), ()))
        .retry_after(Micros::from_millis(1_000))
        .property(NothingIsChecked);
    let text = "
        cluster    2 nodes, 2 clients
        request    c1.1 to n0: null
        request    c2.1 to n0: null
        lose       1st Batch c1.1 from n0 to n1
    ";
    let schedule = Schedule::read(&simulation, text).expect("a schedule");
    let filter = Filter { request: Some(request), ..Filter::default() };
    let mut world = replay_world(&simulation, &schedule, Trace::new(filter, false));
    assert_eq!(world.run().violation, None);
    assert_eq!(world.chooser().unused().count(), 0, "the batch is lost");
    world.checker().0.text().to_owned()
}

#[test]
fn a_trace_of_any_request_of_a_message_shows_the_message() {
    let first = trace_of(RequestId { client: 1, serial: 1, attempt: 0 });
    let second = trace_of(RequestId { client: 2, serial: 1, attempt: 0 });
    for line in [
        "-> n1     Batch c1.1",
        "FAULT     lose Batch c1.1 from n0 to n1",
        "<- n0     Batch c1.1",
        "-> n0     Stored c1.1",
        "<- n1     Stored c1.1",
    ] {
        assert!(first.contains(line), "{line} of {first}");
        assert!(second.contains(line), "{line} of {second}");
    }
    // Each has its own requests and replies.
    assert!(first.contains("request   c1.1") && !first.contains("c2.1"), "{first}");
    assert!(second.contains("request   c2.1") && !second.contains("request   c1.1"), "{second}");
}

#[test]
fn a_fact_names_every_request_and_the_first_one_alone() {
    let requests = [1, 2].map(|client| RequestId { client, serial: 7, attempt: 0 });
    let input =
        Input::<Batcher>::Message { from: NodeId(0), message: Message::Batch(requests.to_vec()) };
    let fact = Fact::Input(&input);
    assert_eq!(fact.requests(), requests);
    assert_eq!(fact.request(), Some(requests[0]));
    assert!(fact.concerns(RequestId { attempt: 3, ..requests[1] }), "whichever attempt");
    assert!(!fact.concerns(RequestId { serial: 8, ..requests[1] }));
}
