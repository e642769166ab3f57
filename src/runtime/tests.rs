//! The engine with a node that knows nothing of transactions: what it is generic for.

mod client;
mod closing;
mod door;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use super::packet::{Caller, ClientEcho, ClientPacket, Hello, Welcome};
use super::stream::{FRAME_BYTES_MAX, Frames, say};
use super::{Ending, Serve, Settings, StartError, start};
use crate::contract::*;
use crate::id::{Incarnation, NodeId, RequestId, Time};

/// A word, for all that this node says and hears. One cannot be read without a panic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Word(String);

impl<'de> Deserialize<'de> for Word {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Word, D::Error> {
        let word = String::deserialize(from)?;
        assert_ne!(word, "unspeakable");
        Ok(Word(word))
    }
}

impl Label for Word {
    fn kind(&self) -> &'static str {
        "Word"
    }
    fn subject(&self) -> Option<Subject> {
        None
    }
}

/// Remembers words: what it is told it writes down, and answers with all there is once that is synced. Who says `wait`
/// is answered when a peer says `now`.
#[derive(Clone, Debug)]
struct Diary {
    text: String,
    waiting: Vec<(RequestId, OpId)>,
    patient: Option<RequestId>,
}

const FILE: FileId = FileId::Wal(0);

impl Node for Diary {
    type Config = ();
    type Message = Word;
    type Request = Word;
    type Response = Word;
    type Event = Word;

    fn boot((): &(), boot: Boot<'_>, _: &mut Outbox<Self>) -> Result<Self, BootError> {
        let read = boot.disk.read(FILE).map_err(|error| BootError::Unreadable { file: FILE, error })?;
        Ok(Diary {
            text: String::from_utf8_lossy(read.unwrap_or_default()).into_owned(),
            waiting: Vec::new(),
            patient: None,
        })
    }

    fn step(&mut self, _: Time, input: Input<Self>, out: &mut Outbox<Self>) {
        match input {
            Input::Request { id, request } if request.0 == "wait" => self.patient = Some(id),
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
                    out.reply(id, Word(self.text.clone()));
                }
            }
            Input::Message { message, .. } => {
                self.text += &message.0;
                if let Some(id) = self.patient.take_if(|_| message.0 == "now") {
                    out.reply(id, Word(self.text.clone()));
                }
            }
            Input::Wake => {}
        }
    }

    fn deadline(&self) -> Option<Time> {
        None
    }
}

impl Serve for Diary {
    type View = usize;
    fn life(&self) -> Option<Incarnation> {
        Some(Incarnation(1))
    }
    fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.patient.is_none()
    }
    fn begins(&self, message: &Word) -> bool {
        message.0 == "begin"
    }
    fn view(&self, _: Time) -> usize {
        self.text.len()
    }
}

const PATIENCE: Duration = Duration::from_secs(5);

/// The node that is served, and one that it knows and that is never there.
const ME: NodeId = NodeId(7);
const PEER: NodeId = NodeId(8);

/// A data directory for one test.
struct Place(PathBuf);

impl Place {
    fn new(name: &str) -> Place {
        let data = std::env::temp_dir().join(format!("stormglass-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&data);
        Place(data)
    }

    fn block_on(&self, story: impl AsyncFnOnce(Settings)) {
        let nowhere = || "127.0.0.1:0".to_owned();
        let settings = Settings {
            node: ME,
            cluster: "test".to_owned(),
            listen: nowhere(),
            peers: BTreeMap::from([(ME, nowhere()), (PEER, nowhere())]),
            data: self.0.clone(),
            patience: PATIENCE,
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(story(settings));
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

async fn ask(address: std::net::SocketAddr, serial: u32, word: &str) -> ClientEcho<Word> {
    let (from, mut out) = TcpStream::connect(address).await.expect("it listens").into_split();
    let mut frames = Frames::new(from, FRAME_BYTES_MAX);
    let hello = Hello { cluster: "test".to_owned(), caller: Caller::Client };
    say(&mut out, &hello, PATIENCE).await.expect("it reads");
    let welcome = frames.next::<Welcome>(PATIENCE).await.expect("an answer");
    assert_eq!(welcome, Some(Welcome::Welcome { node: ME, life: Incarnation(1) }));
    let id = RequestId { client: 1, serial, attempt: 0 };
    say(&mut out, &ClientPacket::Ask { id, request: Word(word.to_owned()) }, PATIENCE)
        .await
        .expect("it reads");
    let echo = frames.next(PATIENCE).await.expect("an answer").expect("an answer");
    out.shutdown().await.expect("it is ours to end");
    echo
}

#[test]
fn whoever_runs_the_wrong_version_is_not_told_to_go_back_to_an_old_copy() {
    let file = FileId::Snapshot(3);
    let error = BootError::Version { file, found: 9, readable: 1 };
    let told = StartError::Boot { data: "n0".to_owned(), error }.to_string();
    assert!(told.contains("format version 9") && told.contains("run the version that wrote it"), "{told}");
    assert!(!told.contains("copy"), "{told}");
    let error = BootError::Damaged { file, at: 44, what: "garbled".to_owned() };
    let told = StartError::Boot { data: "n0".to_owned(), error }.to_string();
    assert!(told.contains("byte 44") && told.contains("wal verify n0"), "{told}");
}

#[test]
fn a_node_that_knows_no_transactions_is_served_and_goes_on_in_its_next_life() {
    let place = Place::new("diary");
    let said = |serial, text: &str| {
        let id = RequestId { client: 1, serial, attempt: 0 };
        ClientEcho::Answer { id, response: Word(text.to_owned()) }
    };
    place.block_on(async |settings| {
        let mut first = start::<Diary>(settings.clone(), &(), None).await.expect("it starts");
        assert_eq!(first.ready().await, Some(Incarnation(1)));
        assert_eq!(ask(first.address, 1, "one").await, said(1, "one"));
        assert_eq!(ask(first.address, 2, ", two").await, said(2, "one, two"));
        let refused =
            start::<Diary>(settings.clone(), &(), None).await.map(|_| ()).expect_err("it is in use");
        assert!(refused.to_string().contains("in use by process"), "{refused}");
        first.stop();
        assert!(matches!(first.ended().await, Ending::Stopped { idle: true }));
        let mut second = start::<Diary>(settings, &(), None).await.expect("it starts again");
        assert_eq!(ask(second.address, 3, "!").await, said(3, "one, two!"));
        second.stop();
        second.ended().await;
    });
}
