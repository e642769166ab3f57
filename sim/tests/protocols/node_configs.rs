//! A configuration of its own for each node.

use std::collections::BTreeSet;

use stormglass_sim::{
    Boot, BootError, Effect, Fact, Input, Node, NodeId, Observation, Outbox, Property,
    PropertyResult, Simulation, Time,
};

/// Answers with its configuration.
struct Configured(u64);

impl Node for Configured {
    type Config = u64;
    type Message = ();
    type Request = ();
    type Response = u64;
    type Event = ();

    fn boot(config: &u64, _: Boot<'_>, _: &mut Outbox<Self>) -> Result<Self, BootError> {
        Ok(Configured(*config))
    }

    fn step(&mut self, _: Time, input: Input<Self>, out: &mut Outbox<Self>) {
        if let Input::Request { id, .. } = input {
            out.reply(id, self.0);
        }
    }
}

/// Also after a crash, and in a world that is used again for another seed.
#[derive(Clone, Default)]
struct EachHasItsOwn(BTreeSet<NodeId>);

impl Property<Configured> for EachHasItsOwn {
    const NAME: &'static str = "EachHasItsOwn";
    fn on(&mut self, observation: &Observation<'_, Configured>) -> PropertyResult {
        let Fact::Effect(Effect::Reply { response, .. }, _) = observation.fact else {
            return Ok(());
        };
        let node = observation.node;
        self.0.insert(node);
        if *response == 100 + u64::from(node.0) {
            Ok(())
        } else {
            Err(format!("{node} has the configuration {response}"))
        }
    }
    fn sometimes(&self, counters: &mut stormglass_sim::property::Sometimes) {
        counters.add("three nodes answer in one run", u64::from(self.0.len() >= 3));
    }
}

#[test]
fn each_node_has_its_own_configuration() {
    Simulation::with_node_config(|_, node| 100 + u64::from(node.0))
        .requests(20, |rng| (rng.node(), ()))
        .property(EachHasItsOwn::default())
        .seeds(50)
        .check();
}

#[test]
#[should_panic = "n1 has the configuration 100"]
fn one_configuration_for_all_is_seen() {
    Simulation::with_config(|_| 100)
        .nodes(2)
        .requests(20, |_| (NodeId(1), ()))
        .property(EachHasItsOwn::default())
        .seeds(50)
        .check();
}
