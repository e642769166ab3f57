//! What a client can want of real nodes, and what its exit code says.

use super::program::{Node, Place, complained, ports, run, said};

#[test]
fn a_client_is_told_committed_aborted_or_unknown_and_its_exit_code_says_which() {
    let place = Place::new("transactions");
    let from = ports(2);
    let at = [format!("127.0.0.1:{from}"), format!("127.0.0.1:{}", from + 1)];
    let (a, b) = (format!("0={}", at[0]), format!("1={}", at[1]));
    let serve = |id: &str| {
        let data = place.join(&format!("n{id}"));
        let log = place.0.join(format!("log{id}"));
        Node::serve(
            &["--id", id, "--peer", &a, "--peer", &b, "--data", &data, "--vote-timeout-ms", "300"],
            &log,
        )
    };
    let (mut n0, mut n1) = (serve("0"), serve("1"));

    let put = run(&["tx", "--at", &at[0], "put a=5 @0", "put b=7 @1"]);
    assert_eq!(put.status.code(), Some(0), "{}{}", said(&put), complained(&put));
    let name = said(&put).trim().strip_prefix("committed ").expect("a name").to_owned();
    let get = run(&["get", "--at", &at[1], "a@0", "b@1", "c@0"]);
    assert_eq!(said(&get), "a @0 = 5\nb @1 = 7\nc @0 = -\n");
    let outcome = run(&["outcome", "--at", &at[0], &name]);
    assert_eq!((outcome.status.code(), said(&outcome)), (Some(0), format!("committed {name}\n")));

    let poor = run(&["tx", "--at", &at[0], "add a=-6>=0 @0", "add b=6 @1"]);
    assert_eq!(poor.status.code(), Some(3), "{}", said(&poor));
    assert!(said(&poor).contains("n0 refused: a would fall below its bound"), "{}", said(&poor));
    let nowhere = run(&["tx", "--at", &at[0], "put a=1 @9"]);
    assert!(said(&nowhere).contains("there is no n9"), "{}", said(&nowhere));
    let wrong = run(&["outcome", "--at", &at[1], &name]);
    assert_eq!(wrong.status.code(), Some(1));
    let never = run(&["outcome", "--at", &at[0], "n0.1:c1.99/0"]);
    assert_eq!(never.status.code(), Some(4), "{}", said(&never));
    let hint = format!("`stormglass outcome --at {} n0.1:c1.99/0`", at[0]);
    assert!(said(&never).contains(&hint), "{}", said(&never));
    assert!(said(&never).contains("n0 answers that it does not know"), "{}", said(&never));
    let usage = run(&["tx", "--at", &at[0], "steal a @0"]);
    assert_eq!(usage.status.code(), Some(2));

    let table = said(&run(&["status", "--at", &at[0]]));
    for row in ["n0 of \"stormglass\", life 1", "in doubt", "locks", "syncs", "peer         n1 connected"] {
        assert!(table.contains(row), "{row:?} is not in\n{table}");
    }

    assert_eq!(n1.terminate(), Some(0));
    let alone = run(&["tx", "--at", &at[0], "--attempts", "1", "put a=1 @0", "put b=1 @1"]);
    assert_eq!(alone.status.code(), Some(3), "{}", said(&alone));
    assert!(said(&alone).contains("no vote from n1 in time"), "{}", said(&alone));
    assert_eq!(n0.terminate(), Some(0));
    let gone = run(&["tx", "--at", &at[0], "--patience-s", "1", "put a=1 @0"]);
    assert_eq!(gone.status.code(), Some(1));
    assert!(complained(&gone).contains("no node answers"), "{}", complained(&gone));
}
