//! The same node over TCP: its event logs keep the same rules.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use stormglass_node::runtime::{Ending, Journal, RunningNode, ServedNode, Settings, start};
use stormglass_node::{Incarnation, Micros, NodeId, Time};
use stormglass_sim::log_check::{LogCheckReport, check_logs};
use stormglass_sim::simulation::Simulation;

use super::{Counting, InOrder};

impl ServedNode for Counting<true> {
    type View = u32;
    fn incarnation(&self) -> Option<Incarnation> {
        Some(Incarnation::numbered(1))
    }
    fn is_idle(&self) -> bool {
        true
    }
    fn view(&self, _: Time) -> u32 {
        self.sessions
    }
}

/// A directory for one test.
struct TestDir(PathBuf);

impl TestDir {
    fn new(name: &str) -> TestDir {
        let path = std::env::temp_dir().join(format!("stormglass-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        TestDir(path)
    }

    fn events(&self) -> PathBuf {
        self.0.join("events")
    }

    /// The event logs, as text.
    fn text(&self) -> String {
        let mut text = String::new();
        for entry in fs::read_dir(self.events()).into_iter().flatten().flatten() {
            text += &fs::read_to_string(entry.path()).expect("a log");
        }
        text
    }

    /// Runs node 0, which dials, or node 1 at this address.
    async fn run(&self, node: u16, address: &str) -> RunningNode {
        let listen = if node == 1 { address } else { "127.0.0.1:0" };
        let settings = Settings {
            node: NodeId(node),
            cluster: "test".to_owned(),
            listen: listen.to_owned(),
            peers: BTreeMap::from([(NodeId(0), String::new()), (NodeId(1), address.to_owned())]),
            data: self.0.join(node.to_string()),
            shutdown_timeout: Duration::from_secs(5),
        };
        let journal = Journal::new(&self.events());
        let started = start::<Counting<true>>(settings, &2, Some(Box::new(journal))).await;
        started.expect("it starts")
    }

    /// Waits for so many more messages in the logs.
    async fn wait_for_messages(&self, count: usize) {
        let received = || self.text().matches("Received").count();
        let until = received() + count;
        let wait = async {
            while received() < until {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), wait).await.expect("they arrive");
    }
}

impl Drop for TestDir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

async fn stop(mut node: RunningNode) {
    node.stop();
    assert!(matches!(node.ended().await, Ending::Stopped { idle: true }));
}

fn check(events: &Path) -> LogCheckReport {
    let simulation = Simulation::<Counting<true>>::with_config(|plan| plan.nodes)
        .requests(1, |rng| (rng.node(), ()))
        .fault_phase(Micros::from_millis(1))
        .property(InOrder::default());
    check_logs(&simulation, &[events.to_path_buf()]).expect("the logs can be checked")
}

/// 1. Two nodes are restarted in turn: the one that dials, and the one that is dialled.
/// 2. The logs keep every rule. With one message fewer they do not.
#[test]
fn event_logs_of_real_nodes_keep_the_rules_of_sessions() {
    let dir = TestDir::new("real-sessions");
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let mut upper = dir.run(1, "127.0.0.1:0").await;
        let address = upper.address.to_string();
        let mut lower = dir.run(0, &address).await;
        for _ in 0..2 {
            dir.wait_for_messages(50).await;
            stop(upper).await;
            upper = dir.run(1, &address).await;
            dir.wait_for_messages(50).await;
            stop(lower).await;
            lower = dir.run(0, &address).await;
        }
        dir.wait_for_messages(50).await;
        stop(upper).await;
        stop(lower).await;
    });
    let report = check(&dir.events());
    assert!(report.violation.is_none(), "{:?}", report.violation);
    assert_eq!(report.incarnations, 6);
    let counted = |row| report.sometimes.rows().iter().find(|it| it.0 == row).expect("a row").1;
    assert!(counted("message") >= 250);
    assert!(counted("session ended") >= 4);

    let log = dir.events().join("n1.00002.jsonl");
    let text = fs::read_to_string(&log).expect("a log");
    let missing = text.lines().filter(|line| line.contains("Received")).nth(5).expect("a message");
    fs::write(&log, text.replacen(&format!("{missing}\n"), "", 1)).expect("it is written");
    let (violation, _) = check(&dir.events()).violation.expect("a message is missing");
    assert_eq!(violation.property, "InOrder");
    assert!(violation.reason.contains("receives 7 of n0 instead of 6"), "{violation:?}");
}
