//! The engine with a node that has no transactions: the engine is generic.

mod listener;
mod sessions;
mod shutdown;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use super::packet::{Caller, ClientPacket, ClientReply, Hello, PeerPacket, Welcome};
use super::stream::{FRAME_BYTES_MAX, Frames, write_value};
use super::{Ending, ServedNode, Settings, StartError, Status, start};
use crate::contract::*;
use crate::id::{Incarnation, NodeId, RequestId, Time};

/// A text, for all messages and requests of this node. One text panics when decoded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Text(String);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Text, D::Error> {
        let text = String::deserialize(from)?;
        assert_ne!(text, "undecodable");
        Ok(Text(text))
    }
}

impl Label for Text {
    fn kind(&self) -> &'static str {
        "Word"
    }
    fn subject(&self) -> Option<Subject> {
        None
    }
}

/// Appends every text that it receives, and replies with all texts once they are synced. A request
/// `wait` is answered when a peer sends `now`.
#[derive(Clone, Debug)]
struct AppendNode {
    text: String,
    waiting: Vec<(RequestId, OpId)>,
    parked: Option<RequestId>,
}

const FILE: FileId = FileId::Wal(0);

impl Node for AppendNode {
    type Config = ();
    type Message = Text;
    type Request = Text;
    type Response = Text;
    type Event = Text;

    fn boot((): &(), boot: Boot<'_>, _: &mut Outbox<Self>) -> Result<Self, BootError> {
        let read =
            boot.disk.read(FILE).map_err(|error| BootError::Unreadable { file: FILE, error })?;
        if read == Some(b"rejected") {
            return Err(BootError::Rejected { reason: "so it was asked".to_owned() });
        }
        Ok(AppendNode {
            text: String::from_utf8_lossy(read.unwrap_or_default()).into_owned(),
            waiting: Vec::new(),
            parked: None,
        })
    }

    fn step(&mut self, _: Time, input: Input<Self>, out: &mut Outbox<Self>) {
        match input {
            Input::Request { id, request } if request.0 == "wait" => self.parked = Some(id),
            Input::Request { request, .. } if request.0 == "fail" => {
                out.halt(HaltReason::ProtocolFailed("so it was asked".to_owned()));
            }
            Input::Request { id, request } => {
                self.text += &request.0;
                let op = OpId(self.text.len() as u64);
                out.append(FILE, request.about(), request.0.as_bytes());
                out.disk(DiskOp::Sync { op, file: FILE });
                self.waiting.push((id, op));
            }
            Input::DiskDone { op, result } => {
                assert_eq!(result, Ok(()), "the disk of a test");
                for (id, _) in self.waiting.extract_if(.., |(_, waits)| *waits == op) {
                    out.reply(id, Text(self.text.clone()));
                }
            }
            Input::Message { message, .. } => {
                self.text += &message.0;
                if let Some(id) = self.parked.take_if(|_| message.0 == "now") {
                    out.reply(id, Text(self.text.clone()));
                }
            }
            Input::Connected { .. } | Input::Disconnected { .. } | Input::Wake => {}
        }
    }

    fn deadline(&self) -> Option<Time> {
        None
    }
}

impl ServedNode for AppendNode {
    type View = usize;
    fn incarnation(&self) -> Option<Incarnation> {
        Some(Incarnation::numbered(1))
    }
    fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.parked.is_none()
    }
    fn starts_new_work(&self, message: &Text) -> bool {
        message.0 == "begin"
    }
    fn view(&self, _: Time) -> usize {
        self.text.len()
    }
}

const TIMEOUT: Duration = Duration::from_secs(5);

/// The node under test, and a peer that never runs.
const NODE: NodeId = NodeId(7);
const PEER: NodeId = NodeId(8);

/// A data directory for one test.
struct TestNodeDir(PathBuf);

impl TestNodeDir {
    fn new(name: &str) -> TestNodeDir {
        let data = std::env::temp_dir().join(format!("stormglass-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&data);
        TestNodeDir(data)
    }

    fn block_on(&self, test: impl AsyncFnOnce(Settings)) {
        let nowhere = || "127.0.0.1:0".to_owned();
        let settings = Settings {
            node: NODE,
            cluster: "test".to_owned(),
            listen: nowhere(),
            peers: BTreeMap::from([(NODE, nowhere()), (PEER, nowhere())]),
            data: self.0.clone(),
            shutdown_timeout: TIMEOUT,
        };
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(test(settings));
    }
}

impl Drop for TestNodeDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A connection after its handshake.
type TestConnection = (Frames<OwnedReadHalf>, OwnedWriteHalf);

async fn greet(address: SocketAddr, caller: Caller) -> (TestConnection, Welcome) {
    let stream = TcpStream::connect(address).await.expect("it listens");
    stream.set_nodelay(true).expect("a socket");
    let (from, out) = stream.into_split();
    let mut connection = (Frames::new(from, FRAME_BYTES_MAX), out);
    send(&mut connection, &Hello { cluster: "test".to_owned(), caller }).await;
    let welcome = connection.0.next(TIMEOUT).await.expect("an answer").expect("an answer");
    (connection, welcome)
}

const WELCOME: Welcome = Welcome::Welcome { node: NODE, incarnation: Incarnation::numbered(1) };

const AS_PEER: Caller =
    Caller::Peer { node: PEER, incarnation: Incarnation::numbered(1), target: NODE };

/// The request of the tests with this serial.
const fn id(serial: u32) -> RequestId {
    RequestId { client: 1, serial, attempt: 0 }
}

fn answer(serial: u32, text: &str) -> ClientReply<Text> {
    ClientReply::Answer { id: id(serial), response: Text(text.to_owned()) }
}

async fn send(connection: &mut TestConnection, value: &impl Serialize) {
    write_value(&mut connection.1, value, TIMEOUT).await.expect("it reads");
}

async fn send_request(client: &mut TestConnection, serial: u32, text: &str) {
    send(client, &ClientPacket::Request { id: id(serial), request: Text(text.to_owned()) }).await;
}

async fn reply_to(client: &mut TestConnection) -> ClientReply<Text> {
    client.0.next(TIMEOUT).await.expect("an answer").expect("an answer")
}

async fn status_of(client: &mut TestConnection) -> Status<usize> {
    send(client, &ClientPacket::<Text>::Status).await;
    let reply = reply_to(client).await;
    let ClientReply::Status { json } = reply else { panic!("{reply:?}") };
    serde_json::from_str(&json).expect("a status")
}

async fn request_once(address: SocketAddr, serial: u32, text: &str) -> ClientReply<Text> {
    let (mut client, welcome) = greet(address, Caller::Client).await;
    assert_eq!(welcome, WELCOME);
    send_request(&mut client, serial, text).await;
    reply_to(&mut client).await
}

/// A client whose first request is in progress, until a peer sends `now`.
async fn waiting_client(address: SocketAddr) -> TestConnection {
    let (mut client, _) = greet(address, Caller::Client).await;
    send_request(&mut client, 1, "wait").await;
    // The node has handled the request when it answers the status.
    status_of(&mut client).await;
    client
}

/// A peer that has sent these messages.
async fn peer_with_messages(address: SocketAddr, texts: &[&str]) -> TestConnection {
    let (mut peer, _) = greet(address, AS_PEER).await;
    for (number, text) in (1..).zip(texts) {
        let message = Text((*text).to_owned());
        send(&mut peer, &PeerPacket::Message { number, message }).await;
    }
    peer
}

#[test]
fn version_mismatch_does_not_advise_restoring_a_copy() {
    let file = FileId::Snapshot(3);
    let error = BootError::Version { file, found: 9, readable: 1 };
    let message = StartError::Boot { data: "n0".to_owned(), error }.to_string();
    assert!(
        message.contains("format version 9") && message.contains("run the version that wrote it"),
        "{message}"
    );
    assert!(!message.contains("copy"), "{message}");
    let error = BootError::Damaged { file, at: 44, reason: "garbled".to_owned() };
    let message = StartError::Boot { data: "n0".to_owned(), error }.to_string();
    assert!(message.contains("byte 44") && message.contains("wal verify n0"), "{message}");
}

#[test]
fn engine_serves_a_non_commit_node_across_a_restart() {
    let directory = TestNodeDir::new("append");
    directory.block_on(async |settings| {
        let mut first = start::<AppendNode>(settings.clone(), &(), None).await.expect("it starts");
        assert_eq!(first.ready().await, Some(Incarnation::numbered(1)));
        assert_eq!(request_once(first.address, 1, "one").await, answer(1, "one"));
        assert_eq!(request_once(first.address, 2, ", two").await, answer(2, "one, two"));
        let refused = start::<AppendNode>(settings.clone(), &(), None)
            .await
            .map(|_| ())
            .expect_err("it is in use");
        assert!(refused.to_string().contains("in use by process"), "{refused}");
        first.stop();
        assert!(matches!(first.ended().await, Ending::Stopped { idle: true }));
        let mut second = start::<AppendNode>(settings, &(), None).await.expect("it starts again");
        assert_eq!(request_once(second.address, 3, "!").await, answer(3, "one, two!"));
        second.stop();
        second.ended().await;
    });
}

#[test]
fn a_node_whose_protocol_failed_ends_and_starts_again() {
    let directory = TestNodeDir::new("failed");
    directory.block_on(async |settings| {
        let mut first = start::<AppendNode>(settings.clone(), &(), None).await.expect("it starts");
        request_once(first.address, 1, "one").await;
        let (mut connection, _) = greet(first.address, Caller::Client).await;
        send_request(&mut connection, 2, "fail").await;
        let ending = first.ended().await;
        drop(connection);
        let Ending::Halted { reason, detail } = ending else { panic!("{ending:?}") };
        assert_eq!(reason.to_string(), "the protocol failed: so it was asked");
        assert_eq!(detail, "");
        let mut second = start::<AppendNode>(settings, &(), None).await.expect("it starts again");
        assert_eq!(request_once(second.address, 3, "!").await, answer(3, "one!"));
        second.stop();
        second.ended().await;
    });
}

#[test]
fn files_that_the_protocol_refuses_are_refused_with_its_reason() {
    let directory = TestNodeDir::new("rejected");
    directory.block_on(async |settings| {
        let mut first = start::<AppendNode>(settings.clone(), &(), None).await.expect("it starts");
        request_once(first.address, 1, "rejected").await;
        first.stop();
        first.ended().await;
        let refused = start::<AppendNode>(settings, &(), None).await.map(|_| ());
        let message = refused.expect_err("its files are refused").to_string();
        assert!(message.contains("the protocol refuses these files: so it was asked"), "{message}");
        assert!(message.contains("no restart changes that"), "{message}");
    });
}
