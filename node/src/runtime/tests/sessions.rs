//! Sessions over TCP: each rule of [`contract`](crate::contract), section "Sessions", while
//! connections are cut, held, replaced and refused.

mod counting;
mod proxy;
mod rules;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::tcp::OwnedWriteHalf;
use tokio::time::{Instant, sleep, timeout};

use super::super::packet::{Caller, ClientPacket, ClientReply, PeerPacket, Welcome};
use super::super::stream::{Frames, StreamError, write, write_value};
use super::super::{Ending, RunningNode, Settings, Status, start};
use super::{TIMEOUT, TestConnection, TestNodeDir, greet};
use crate::id::{Incarnation, Micros, NodeId};
use crate::wire;
use counting::{Config, CountingNode, Numbered, SessionName};
use proxy::{Fault, Proxy};
use rules::{History, SessionRules};

/// The node under test, and a peer that the test plays: it has the lower id, so it dials.
const NODE: NodeId = NodeId(8);
const PEER: NodeId = NodeId(7);

fn config() -> Config {
    Config { incarnation: 1, every: Micros::from_millis(1), burst: 1, bytes: 10, is_idle: true }
}

/// Starts a node; every input of it is checked.
async fn run_node(settings: &Settings, config: &Config, history: &History) -> RunningNode {
    let rules = SessionRules::new(history, config.incarnation);
    let started = start::<CountingNode>(settings.clone(), config, Some(Box::new(rules))).await;
    let node = started.expect("it starts");
    node.ready().await;
    node
}

async fn stop(mut node: RunningNode) {
    node.stop();
    let ending = node.ended().await;
    assert!(matches!(ending, Ending::Stopped { .. }), "{ending:?}");
}

/// A test with one node under test, whose peer is played by the test.
fn with_peer(name: &str, config: &Config, test: impl AsyncFnOnce(&RunningNode, &History)) {
    TestNodeDir::new(name).block_on(async |settings| {
        let history = History::default();
        let node = run_node(&Settings { node: NODE, ..settings }, config, &history).await;
        test(&node, &history).await;
        stop(node).await;
    });
}

const fn as_peer(incarnation: u32) -> Caller {
    Caller::Peer { node: PEER, incarnation: Incarnation::numbered(incarnation), target: NODE }
}

/// Dials as the peer, up to the handshake.
async fn dial(address: SocketAddr, incarnation: u32) -> TestConnection {
    let (connection, welcome) = greet(address, as_peer(incarnation)).await;
    assert!(matches!(welcome, Welcome::Welcome { node: NODE, .. }), "{welcome:?}");
    connection
}

/// Dials as the peer, and begins a session.
async fn connect(address: SocketAddr, incarnation: u32) -> TestConnection {
    let mut connection = dial(address, incarnation).await;
    ping(&mut connection.1).await;
    connection
}

async fn ping(out: &mut OwnedWriteHalf) {
    write_value(out, &PeerPacket::<Numbered>::Ping, TIMEOUT).await.expect("it reads");
}

/// A message of the peer's session of this number.
fn message(session: u32, number: u32) -> PeerPacket<Numbered> {
    let session = SessionName { node: PEER, incarnation: 1, session };
    PeerPacket::Message { number: 1, message: Numbered::new(session, number, 0) }
}

/// The next message of the node; `None` if the connection has ended.
async fn next_message(frames: &mut Frames<tokio::net::tcp::OwnedReadHalf>) -> Option<Numbered> {
    loop {
        match frames.next::<PeerPacket<Numbered>>(TIMEOUT).await {
            Ok(Some(PeerPacket::Ping)) => {}
            Ok(Some(PeerPacket::Message { message, .. })) => return Some(message),
            Ok(None) | Err(StreamError::Io(_) | StreamError::UnexpectedEof) => return None,
            Err(error) => panic!("{error}"),
        }
    }
}

/// Reads all that has been sent in a session: 1, 2, 3, ... Returns the last number.
async fn read_to_end(frames: &mut Frames<tokio::net::tcp::OwnedReadHalf>) -> u32 {
    let mut last = 0;
    while let Some(message) = next_message(frames).await {
        last += 1;
        assert_eq!(message.number, last);
    }
    last
}

/// Every two of four nodes are connected through a proxy, which cuts, holds and half-closes the
/// connection, or passes on late what it had held, at every stage of it. A new session begins each
/// time.
#[test]
fn sessions_keep_their_rules_while_connections_are_cut() {
    const NODES: u16 = 4;
    TestNodeDir::new("cuts").block_on(async |settings| {
        let history = History::default();
        let config = Config { every: Micros::from_millis(3), burst: 3, bytes: 3_000, ..config() };
        let mut proxies = BTreeMap::new();
        for lower in 0..NODES {
            for upper in lower + 1..NODES {
                proxies.insert((lower, upper), Proxy::start().await);
            }
        }
        let mut nodes = Vec::new();
        for id in 0..NODES {
            let address_of = |peer: u16| match proxies.get(&(id, peer)) {
                Some(proxy) => proxy.address.to_string(),
                // Dials this node, or is it.
                None => "127.0.0.1:0".to_owned(),
            };
            let settings = Settings {
                node: NodeId(id),
                peers: (0..NODES).map(|peer| (NodeId(peer), address_of(peer))).collect(),
                data: settings.data.join(id.to_string()),
                ..settings.clone()
            };
            let node = run_node(&settings, &config, &history).await;
            for lower in 0..id {
                proxies[&(lower, id)].forward_to(node.address);
            }
            nodes.push(node);
        }
        let until = Instant::now() + Duration::from_secs(6);
        let faults = proxies.iter().map(|((lower, upper), proxy)| {
            let first = usize::from(lower * NODES + upper);
            cut_repeatedly((NodeId(*lower), NodeId(*upper)), proxy, &history, first, until)
        });
        let mut tasks = Vec::new();
        for faults in faults {
            tasks.push(tokio::task::spawn(faults));
        }
        for task in tasks {
            let faults = task.await.expect("it runs to its end");
            assert!(faults >= Fault::ALL.len(), "only {faults} faults");
        }
        for (lower, upper) in proxies.keys() {
            history.until_both_receive(NodeId(*lower), NodeId(*upper)).await;
        }
        for node in nodes {
            stop(node).await;
        }
        assert!(history.messages() > 1_000, "{}", history.messages());
    });
}

/// Lets one fault after another end the session of two nodes; returns how many there were.
fn cut_repeatedly(
    (lower, upper): (NodeId, NodeId),
    proxy: &Proxy,
    history: &History,
    first: usize,
    until: Instant,
) -> impl Future<Output = usize> + Send + use<> {
    let (proxy, history) = (proxy.clone(), history.clone());
    async move {
        let mut count = 0;
        while Instant::now() < until {
            history.until_both_receive(lower, upper).await;
            // Most often in the middle of the traffic, and sometimes right at its beginning.
            sleep(Duration::from_millis((count as u64 * 13 + first as u64 * 7) % 40)).await;
            let ended = history.ended(lower, upper);
            proxy.inject(Fault::ALL[(first + count) % Fault::ALL.len()]);
            history.until_ended(lower, upper, ended).await;
            count += 1;
        }
        count
    }
}

/// One that dials, one that is dialled, and one that does both are restarted again and again.
#[test]
fn sessions_keep_their_rules_over_restarts() {
    const NODES: u16 = 3;
    TestNodeDir::new("restarts").block_on(async |settings| {
        let history = History::default();
        let mut proxies = BTreeMap::new();
        for (lower, upper) in [(0, 1), (0, 2), (1, 2)] {
            proxies.insert((lower, upper), Proxy::start().await);
        }
        let settings_of = |id: u16| {
            let nowhere = || "127.0.0.1:0".to_owned();
            let address_of = |peer| {
                proxies.get(&(id, peer)).map_or_else(nowhere, |proxy| proxy.address.to_string())
            };
            Settings {
                node: NodeId(id),
                peers: (0..NODES).map(|peer| (NodeId(peer), address_of(peer))).collect(),
                data: settings.data.join(id.to_string()),
                ..settings.clone()
            }
        };
        let mut nodes = Vec::new();
        for restart in 0..9 {
            let id = restart % NODES;
            if restart >= NODES {
                stop(nodes.remove(0)).await;
            }
            let config = Config { incarnation: 1 + u32::from(restart), burst: 3, ..config() };
            let node = run_node(&settings_of(id), &config, &history).await;
            for lower in 0..id {
                proxies[&(lower, id)].forward_to(node.address);
            }
            nodes.push(node);
            if nodes.len() == usize::from(NODES) {
                for (lower, upper) in proxies.keys() {
                    history.until_both_receive(NodeId(*lower), NodeId(*upper)).await;
                }
            }
        }
        for node in nodes {
            stop(node).await;
        }
    });
}

/// Each could dial the other. With two connections, each side might keep another one.
#[test]
fn two_nodes_that_know_each_other_have_one_session() {
    TestNodeDir::new("mutual").block_on(async |settings| {
        let history = History::default();
        let proxies = [Proxy::start().await, Proxy::start().await];
        let mut nodes = Vec::new();
        for (id, other) in [(PEER, NODE), (NODE, PEER)] {
            let to_other = &proxies[usize::from(other == PEER)];
            let peers =
                BTreeMap::from([(id, String::new()), (other, to_other.address.to_string())]);
            let data = settings.data.join(id.to_string());
            let settings = Settings { node: id, peers, data, ..settings.clone() };
            let node = run_node(&settings, &config(), &history).await;
            proxies[usize::from(id == PEER)].forward_to(node.address);
            nodes.push(node);
        }
        history.until_both_receive(PEER, NODE).await;
        sleep(Duration::from_millis(500)).await;
        assert_eq!(history.counts(), (2, 0));
        for node in nodes {
            stop(node).await;
        }
    });
}

/// Neither side can see that the other has gone: nothing arrives, and nothing is closed.
#[test]
fn both_sides_learn_that_a_silent_session_has_ended() {
    TestNodeDir::new("silence").block_on(async |settings| {
        let history = History::default();
        let proxy = Proxy::start().await;
        let mut peers = settings.peers.clone();
        peers.insert(NODE, proxy.address.to_string());
        let data = |id: &str| settings.data.join(id);
        let upper = Settings { node: NODE, data: data("upper"), ..settings.clone() };
        let upper = run_node(&upper, &config(), &history).await;
        proxy.forward_to(upper.address);
        let lower = Settings { node: PEER, peers, data: data("lower"), ..settings };
        let lower = run_node(&lower, &config(), &history).await;
        history.until_both_receive(PEER, NODE).await;
        let begun = Instant::now();
        proxy.inject(Fault::Hold(Duration::from_secs(30)));
        history.until("both have learnt of the end", |it| it.ends == 2).await;
        assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
        history.until_both_receive(PEER, NODE).await;
        stop(lower).await;
        stop(upper).await;
    });
}

/// 1. The peer dials again before the node has noticed the end of its connection. Late messages of
///    the old connection arrive together with the first ping of the new one.
/// 2. The old session ends before the new one begins, and what arrives late is dropped.
/// 3. The new session lasts: the end of the old connection is not its end.
#[test]
fn late_messages_of_a_replaced_connection_are_dropped() {
    with_peer("replaced", &config(), async |node, history| {
        let mut old = connect(node.address, 1).await;
        for session in 1..=60 {
            history.until("it has begun", |it| it.begins == session).await;
            let messages = [message(session, 1), message(session, 2), message(session, 3)];
            let frames = messages.each_ref().map(wire::encode_frame);
            write(&mut old.1, &frames[0], TIMEOUT).await.expect("it reads");
            history.until("1 has come", |it| it.messages >= session.into()).await;
            let new = dial(node.address, 1).await;
            // Both are there when the node looks again: no other task runs between these writes.
            let ping = wire::encode_frame(&PeerPacket::<Numbered>::Ping);
            assert_eq!(new.1.try_write(&ping).expect("it has room"), ping.len());
            let late = frames[1..].concat();
            assert_eq!(old.1.try_write(&late).expect("it has room"), late.len());
            read_to_end(&mut old.0).await;
            old = new;
        }
        history.until("the last has begun", |it| it.begins == 61).await;
        sleep(Duration::from_millis(50)).await;
        let (begins, ends) = history.counts();
        assert_eq!((begins, ends), (61, 60));
        assert!(next_message(&mut old.0).await.is_some());
    });
}

/// 1. A connection that only says Hello is one that the peer has perhaps given up.
/// 2. An older incarnation of the peer, and a node with a higher id, are refused.
/// 3. None of them ends the session. A newer incarnation does.
#[test]
fn only_a_later_connection_of_the_same_peer_replaces_a_session() {
    with_peer("strangers", &config(), async |node, history| {
        let mut session = connect(node.address, 2).await;
        history.until("it has begun", |it| it.begins == 1).await;

        let silent = dial(node.address, 2).await;
        let mut eager = dial(node.address, 2).await;
        write_value(&mut eager.1, &message(9, 1), TIMEOUT).await.expect("it reads");
        let (_, older) = greet(node.address, as_peer(1)).await;
        let Welcome::Refused { reason } = older else { panic!("{older:?}") };
        assert!(reason.contains("announced incarnation 1 after 2"), "{reason}");
        let incarnation = Incarnation::numbered(1);
        let itself = Caller::Peer { node: NODE, incarnation, target: NODE };
        let (_, itself) = greet(node.address, itself).await;
        assert!(matches!(itself, Welcome::Refused { .. }), "{itself:?}");

        for number in 1..=100 {
            assert_eq!(next_message(&mut session.0).await.map(|it| it.number), Some(number));
        }
        assert_eq!(history.counts(), (1, 0));
        assert_eq!(links(node.address).await, [(PEER, true)]);
        drop(silent);

        let _newer = connect(node.address, 3).await;
        history.until("the newer has begun", |it| it.begins == 2).await;
        assert_eq!(history.counts(), (2, 1));
    });
}

/// Peer and connected, as the status shows them.
async fn links(address: SocketAddr) -> Vec<(NodeId, bool)> {
    let ((mut frames, mut out), _) = greet(address, Caller::Operator).await;
    write_value(&mut out, &ClientPacket::<()>::Status, TIMEOUT).await.expect("it reads");
    let status = frames.next::<ClientReply<()>>(TIMEOUT).await.expect("an answer");
    let Some(ClientReply::Status { json }) = status else { panic!("{status:?}") };
    let status: Status<u32> = serde_json::from_str(&json).expect("a status");
    status.links.into_iter().map(|link| (link.peer, link.connected)).collect()
}

#[test]
fn node_with_a_higher_id_does_not_dial() {
    TestNodeDir::new("higher").block_on(async |settings| {
        let history = History::default();
        let node = run_node(&Settings { node: PEER, ..settings }, &config(), &history).await;
        let incarnation = Incarnation::numbered(1);
        let caller = Caller::Peer { node: NODE, incarnation, target: PEER };
        let (_, welcome) = greet(node.address, caller).await;
        let Welcome::Refused { reason } = welcome else { panic!("{welcome:?}") };
        assert_eq!(reason, "n8 has a higher id than n7: the node with the lower id dials");
        stop(node).await;
    });
}

/// The peer does not read. Its session ends as soon as the queue is full, before a write takes too
/// long; what it reads afterwards is a prefix.
#[test]
fn full_queue_ends_the_session() {
    let config = Config { bytes: 64 << 10, burst: 4, ..config() };
    with_peer("full", &config, async |node, history| {
        let begun = Instant::now();
        let mut stalled = connect(node.address, 1).await;
        history.until("it has ended", |it| it.ends == 1).await;
        assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
        assert!(read_to_end(&mut stalled.0).await > 10);
        assert_eq!(links(node.address).await, [(PEER, false)]);
        // The next one begins with 1.
        let mut next = connect(node.address, 1).await;
        assert_eq!(next_message(&mut next.0).await.map(|it| it.number), Some(1));
    });
}

/// A datagram would be dropped alone.
#[test]
fn frame_that_does_not_decode_ends_the_session() {
    with_peer("garbled", &config(), async |node, history| {
        let mut connection = connect(node.address, 1).await;
        let garbled = [
            wire::encode_frame(&message(1, 1)),
            wire::frame_payload(&[77]),
            wire::encode_frame(&message(1, 3)),
        ];
        write(&mut connection.1, &garbled.concat(), TIMEOUT).await.expect("it reads");
        history.until("it has ended", |it| it.ends == 1).await;
        assert_eq!(history.messages(), 1);
        read_to_end(&mut connection.0).await;
    });
}

/// The peer closes its half only. The node ends the whole session.
#[test]
fn half_closed_connection_is_closed() {
    with_peer("half-closed", &config(), async |node, history| {
        let mut connection = connect(node.address, 1).await;
        assert!(next_message(&mut connection.0).await.is_some());
        connection.1.shutdown().await.expect("it is open");
        history.until("it has ended", |it| it.ends == 1).await;
        let rest = async { while next_message(&mut connection.0).await.is_some() {} };
        timeout(TIMEOUT, rest).await.expect("it is closed");
    });
}

/// A datagram that starts new work would be dropped. A message of a session must not be missing.
#[test]
fn node_shutting_down_receives_every_message() {
    let config = Config { is_idle: false, ..config() };
    TestNodeDir::new("closing-session").block_on(async |settings| {
        let history = History::default();
        let settings =
            Settings { node: NODE, shutdown_timeout: Duration::from_millis(500), ..settings };
        let mut node = run_node(&settings, &config, &history).await;
        let mut connection = connect(node.address, 1).await;
        write_value(&mut connection.1, &message(1, 1), TIMEOUT).await.expect("it reads");
        history.until("1 has come", |it| it.messages == 1).await;
        node.stop();
        for number in 2..=50 {
            write_value(&mut connection.1, &message(1, number), TIMEOUT).await.expect("it reads");
            sleep(Duration::from_millis(2)).await;
        }
        history.until("50 have come", |it| it.messages == 50).await;
        assert!(matches!(node.ended().await, Ending::Stopped { idle: false }));
    });
}
