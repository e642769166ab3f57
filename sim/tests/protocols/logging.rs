//! What a node logs with `tracing`: in the trace of the reported run, and nowhere else.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use stormglass_node::{Boot, BootError, Effect, Input, Node, Outbox, Time};
use stormglass_sim::property::{Fact, Observation, Property, PropertyResult};
use stormglass_sim::simulation::Simulation;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

/// Echoes numbers, and logs them.
#[derive(Clone, Debug)]
struct Echo;

impl Node for Echo {
    type Config = ();
    type Message = ();
    type Request = u64;
    type Response = u64;
    type Event = ();

    fn boot(_: &(), boot: Boot<'_>, _: &mut Outbox<Self>) -> Result<Self, BootError> {
        tracing::debug!(node = %boot.id, "ready");
        Ok(Echo)
    }

    fn step(&mut self, _now: Time, input: Input<Self>, out: &mut Outbox<Self>) {
        let Input::Request { id, request } = input else { return };
        let _span = tracing::info_span!("request", client = id.client).entered();
        tracing::info!(request, "echoes");
        out.reply(id, request);
        assert!(request < 9, "no number above 8");
    }
}

#[derive(Clone)]
struct RepliesAreSmall;

impl Property<Echo> for RepliesAreSmall {
    const NAME: &'static str = "RepliesAreSmall";

    fn on(&mut self, observation: &Observation<'_, Echo>) -> PropertyResult {
        if let Fact::Effect(Effect::Reply { response: 8, .. }, _) = observation.fact {
            return Err(format!("{} replies 8", observation.node));
        }
        Ok(())
    }
}

fn simulation() -> Simulation<Echo, impl stormglass_sim::property::Checker<Echo> + Sync> {
    Simulation::<Echo>::new(())
        .requests(5, |rng| (rng.node(), rng.between(0, 7)))
        .seeds(20)
        .property(RepliesAreSmall)
}

/// A subscriber of the whole program.
struct Counter(Arc<AtomicU64>);

impl Subscriber for Counter {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn event(&self, _: &Event<'_>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

#[test]
fn events_of_a_node_are_in_the_trace_at_their_place() {
    let trace = simulation().trace("cluster 1 node, 1 client\nrequest c1.1 to n0 after 5 ms: 7");
    let expected = "    0.000  n0  boot
    0.000  n0  debug     protocols::logging: ready node=n0
    5.000  n0  request   c1.1 Number 7
    5.100  n0  <- c1     Number c1.1
    5.100  n0  info      protocols::logging: request{client=1}: echoes request=7
    5.100  n0  -> c1     Number c1.1 7
    5.200  n0  response  c1.1 Number 7
";
    assert!(trace.starts_with(expected), "{trace}");
}

#[test]
fn events_before_a_panic_are_in_the_trace() {
    let trace = simulation().trace("cluster 1 node, 1 client\nrequest c1.1 to n0: 9");
    assert!(trace.contains("echoes request=9\nVIOLATED NodeNeverPanics"), "{trace}");
}

#[test]
fn no_subscriber_is_active_in_a_run_that_is_not_reported() {
    let events = Arc::new(AtomicU64::new(0));
    tracing::subscriber::with_default(Counter(Arc::clone(&events)), || {
        tracing::info!("outside of a run");
        simulation().replay("cluster 1 node, 1 client\nrequest c1.1 to n0: 7");
        simulation().trace("cluster 1 node, 1 client\nrequest c1.1 to n0: 7");
    });
    assert_eq!(events.load(Ordering::Relaxed), 1);
}
