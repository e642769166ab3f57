//! Transactions of a client with real nodes, and its exit codes.

use super::program::{Node, TestDir, ports, run, stderr_text, stdout_text};

#[test]
fn exit_code_tells_committed_aborted_or_unknown() {
    let dir = TestDir::new("transactions");
    let from = ports(2);
    let at = [format!("127.0.0.1:{from}"), format!("127.0.0.1:{}", from + 1)];
    let a = format!("0={}", at[0]);
    let b = format!("1={}", at[1]);
    let serve = |id: &str| {
        let data = dir.join(&format!("n{id}"));
        let log = dir.0.join(format!("log{id}"));
        // A short timeout, as a transaction below waits until it is over.
        Node::serve(
            &["--id", id, "--peer", &a, "--peer", &b, "--data", &data, "--vote-timeout-ms", "300"],
            &log,
        )
    };
    let mut n0 = serve("0");
    let mut n1 = serve("1");

    let put = run(&["tx", "--at", &at[0], "put a=5 @0", "put b=7 @1"]);
    assert_eq!(put.status.code(), Some(0), "{}{}", stdout_text(&put), stderr_text(&put));
    let handle = stdout_text(&put).trim().strip_prefix("committed ").expect("a name").to_owned();
    let get = run(&["get", "--at", &at[1], "a@0", "b@1", "c@0"]);
    assert_eq!(stdout_text(&get), "a @0 = 5\nb @1 = 7\nc @0 = -\n");
    let outcome = run(&["outcome", "--at", &at[0], &handle]);
    assert_eq!(
        (outcome.status.code(), stdout_text(&outcome)),
        (Some(0), format!("committed {handle}\n"))
    );

    let refused = run(&["tx", "--at", &at[0], "add a=-6>=0 @0", "add b=6 @1"]);
    assert_eq!(refused.status.code(), Some(3), "{}", stdout_text(&refused));
    assert!(
        stdout_text(&refused).contains("n0 refused: a would fall below its bound"),
        "{}",
        stdout_text(&refused)
    );
    let unknown_node = run(&["tx", "--at", &at[0], "put a=1 @9"]);
    assert!(
        stdout_text(&unknown_node).contains("n9 is not a node of this cluster"),
        "{}",
        stdout_text(&unknown_node)
    );
    let wrong = run(&["outcome", "--at", &at[1], &handle]);
    assert_eq!(wrong.status.code(), Some(1));
    let never = run(&["outcome", "--at", &at[0], "n0.1:c1.99/0"]);
    assert_eq!(never.status.code(), Some(4), "{}", stdout_text(&never));
    let hint = format!("`stormglass outcome --at {} n0.1#0:c1.99/0`", at[0]);
    assert!(stdout_text(&never).contains(&hint), "{}", stdout_text(&never));
    assert!(
        stdout_text(&never).contains("the node has no outcome for it"),
        "{}",
        stdout_text(&never)
    );
    let usage = run(&["tx", "--at", &at[0], "steal a @0"]);
    assert_eq!(usage.status.code(), Some(2));

    let table = stdout_text(&run(&["status", "--at", &at[0]]));
    for text in [
        "n0 of \"stormglass\", incarnation 1",
        "in doubt",
        "locks",
        "syncs",
        "peer         n1 connected",
    ] {
        assert!(table.contains(text), "{text:?} is not in\n{table}");
    }

    assert_eq!(n1.terminate(), Some(0));
    // n1 is down, so its vote is missing, and a single attempt ends with the vote timeout.
    let alone = run(&["tx", "--at", &at[0], "--attempts", "1", "put a=1 @0", "put b=1 @1"]);
    assert_eq!(alone.status.code(), Some(3), "{}", stdout_text(&alone));
    assert!(stdout_text(&alone).contains("no vote from n1 in time"), "{}", stdout_text(&alone));
    assert_eq!(n0.terminate(), Some(0));
    let closed = run(&["tx", "--at", &at[0], "--patience-s", "1", "put a=1 @0"]);
    assert_eq!(closed.status.code(), Some(1));
    assert!(stderr_text(&closed).contains("no node answers"), "{}", stderr_text(&closed));
}
