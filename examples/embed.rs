//! Two nodes of two-phase commit inside one program, and a client that transfers between them.
//!
//! `cargo run --example embed` prints the results. A real cluster runs one node in each process,
//! with addresses and data directories that stay the same over restarts.

use std::collections::BTreeMap;
use std::error::Error;
use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;

use stormglass::client::{Client, ClientOptions, TxResult};
use stormglass::commit::{CommitNode, Config, Op};
use stormglass_node::NodeId;
use stormglass_node::runtime::{Ending, RunningNode, Settings, start};

const CLUSTER: &str = "example";

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let data = std::env::temp_dir().join(format!("stormglass-embed-{}", std::process::id()));
    let results = run(&data).await?;
    std::fs::remove_dir_all(&data)?;
    for result in results {
        println!("{result:?}");
    }
    Ok(())
}

/// Runs a cluster with its data below `data`; returns the results of three transactions.
async fn run(data: &Path) -> Result<Vec<TxResult>, Box<dyn Error>> {
    let peers = addresses(2)?;
    let mut nodes = Vec::new();
    for node in peers.keys() {
        nodes.push(start_node(*node, &peers, data).await?);
    }
    // A node answers nobody before its incarnation is durable.
    for node in &mut nodes {
        node.ready().await.ok_or("the node ended before it was ready")?;
    }

    let options = ClientOptions { cluster: CLUSTER.to_owned(), ..ClientOptions::default() };
    let mut client = Client::connect(&peers[&NodeId(0)], options).await?;
    let transactions: [&[&str]; 3] = [
        &["put alice=100 @0", "put bob=0 @1"],
        // Refused, and nothing of it is done, unless alice keeps at least 0.
        &["add alice=-30>=0 @0", "add bob=30 @1"],
        &["get alice @0", "get bob @1"],
    ];
    let mut results = Vec::new();
    for lines in transactions {
        let ops: Vec<Op> = lines.iter().map(|line| line.parse()).collect::<Result<_, _>>()?;
        results.push(client.transact(ops).await?);
    }

    for node in &mut nodes {
        node.stop();
        let ending = node.ended().await;
        if !matches!(ending, Ending::Stopped { .. }) {
            return Err(format!("a node did not stop cleanly: {ending:?}").into());
        }
    }
    Ok(results)
}

async fn start_node(
    node: NodeId,
    peers: &BTreeMap<NodeId, String>,
    data: &Path,
) -> Result<RunningNode, Box<dyn Error>> {
    let settings = Settings {
        node,
        cluster: CLUSTER.to_owned(),
        listen: peers[&node].clone(),
        peers: peers.clone(),
        data: data.join(node.to_string()),
        shutdown_timeout: Duration::from_secs(5),
    };
    let config = Config::new(peers.keys().copied());
    Ok(start::<CommitNode>(settings, &config, None).await?)
}

/// Free ports of this machine. (Every node must know the addresses of all before it starts, so port
/// 0 does not do.)
fn addresses(nodes: u16) -> Result<BTreeMap<NodeId, String>, Box<dyn Error>> {
    // All are held until the last is chosen, so that no port is chosen twice.
    let listeners: Vec<TcpListener> =
        (0..nodes).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<Result<_, _>>()?;
    let mut addresses = BTreeMap::new();
    for (id, listener) in (0..).zip(&listeners) {
        addresses.insert(NodeId(id), listener.local_addr()?.to_string());
    }
    Ok(addresses)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transfer_commits_and_reads_back() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let data = tempfile::tempdir().expect("a temporary directory");
        let results = runtime.expect("a runtime").block_on(run(data.path())).expect("it runs");
        let Some(TxResult::Committed { reads: Some(reads), .. }) = results.last() else {
            panic!("{results:?}");
        };
        assert_eq!(reads.iter().copied().collect::<Vec<_>>(), [Some(70), Some(30)]);
    }
}
