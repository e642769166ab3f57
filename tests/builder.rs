//! A storm that would show nothing, or is built wrong, says so instead of passing.

use std::sync::Arc;

use stormglass::commit::{Age, CommitNode, Request, Turn};
use stormglass::{Incarnation, NodeId, RequestId};
use stormglass_sim::commit::Commit;
use stormglass_sim::oracle::{Oracle, Seen, Sometimes, Verdict};
use stormglass_sim::profile::{Draw, Profile};
use stormglass_sim::protocol::Protocol;
use stormglass_sim::storm::Storm;

/// Never broken, and wants to have seen what does not exist.
#[derive(Clone, Debug, Default)]
struct UnicornsExist;

impl Oracle<CommitNode> for UnicornsExist {
    const CLAIM: &'static str = "UnicornsExist";

    fn on(&mut self, _seen: &Seen<'_, CommitNode>) -> Verdict {
        Ok(())
    }

    fn sometimes(&self, tally: &mut Sometimes) {
        tally.add("unicorn", 0);
    }
}

fn storm() -> Storm<CommitNode> {
    Storm::with(Commit::config).seeds(20).profile(Profile::Calm)
}

/// Nothing, of this node.
fn ask(node: NodeId) -> (NodeId, Request) {
    let by = RequestId { client: 1, serial: 1, attempt: 0 };
    let age = Age { at: 0, by };
    (node, Request::Transact { life: Incarnation(1), age, seen: Turn::default(), ops: Arc::from([]) })
}

#[test]
fn a_storm_over_requests_passes() {
    storm().requests(3, |draw: &mut Draw| ask(draw.node())).check();
}

#[test]
#[should_panic(expected = "1 to 64 nodes, not 0")]
fn a_storm_has_nodes() {
    let _storm = storm().nodes(0);
}

#[test]
#[should_panic(expected = "1 to 64 nodes, not 65")]
fn a_storm_has_no_more_nodes_than_a_row_has_bits() {
    let _storm = storm().nodes(65);
}

#[test]
#[should_panic(expected = "a storm of no seeds shows nothing")]
fn a_storm_has_seeds() {
    let _storm = storm().seeds(0);
}

#[test]
#[should_panic(expected = "1,000 us or more")]
fn a_client_waits_before_it_asks_again() {
    let _storm = storm().again_after(0);
}

#[test]
#[should_panic(expected = "nobody asks for anything")]
fn a_storm_without_requests_does_not_pass() {
    storm().oracle(UnicornsExist).check();
}

#[test]
#[should_panic(expected = "never seen in 20 seeds: unicorn")]
fn what_should_sometimes_be_seen_and_never_is_fails_the_test() {
    storm().requests(3, |draw: &mut Draw| ask(draw.node())).oracle(UnicornsExist).check();
}

#[test]
#[should_panic(expected = "asks n99, and this cluster has 2 nodes")]
fn a_request_to_a_node_that_is_not_there_is_named() {
    storm().nodes(2).requests(3, |_: &mut Draw| ask(NodeId(99))).check();
}
