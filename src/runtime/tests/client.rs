//! The client against a coordinator that plays by a script: whom it asks again, and what it claims when it gives up.

use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};

use super::super::packet::{ClientEcho, ClientPacket, Hello, Welcome};
use super::super::stream::{FRAME_BYTES_MAX, Frames, say};
use super::super::{Client, ClientError, ClientOptions, Doubt, Name, Settled};
use super::PATIENCE;
use crate::commit::{Action, Key, Op, Outcome, Request, Response};
use crate::id::{Incarnation, NodeId, RequestId};

/// What is done with one connection.
#[derive(Clone, Debug)]
enum Act {
    /// Greets nobody.
    Refuses,
    /// Hears one request, and hangs up.
    Loses(NodeId),
    /// Says this to every request, until the client hangs up.
    Answers(NodeId, Outcome),
}

const LIFE: Incarnation = Incarnation(1);
const COMMITTED: Outcome = Outcome::Committed { reads: None };

/// Plays one act a connection; what was asked, of whom.
async fn play(listener: TcpListener, acts: Vec<Act>) -> Vec<(NodeId, RequestId, Request)> {
    let mut heard = Vec::new();
    for act in acts {
        let (stream, _) = listener.accept().await.expect("a client");
        perform(stream, act, &mut heard).await;
    }
    heard
}

async fn perform(stream: TcpStream, act: Act, heard: &mut Vec<(NodeId, RequestId, Request)>) {
    let (from, mut out) = stream.into_split();
    let mut frames = Frames::new(from, FRAME_BYTES_MAX);
    frames.next::<Hello>(PATIENCE).await.expect("a frame").expect("a greeting");
    let (node, outcome) = match act {
        Act::Refuses => {
            let refused = Welcome::Refused { why: "not today".to_owned() };
            return say(&mut out, &refused, PATIENCE).await.expect("it reads");
        }
        Act::Loses(node) => (node, None),
        Act::Answers(node, outcome) => (node, Some(outcome)),
    };
    say(&mut out, &Welcome::Welcome { node, life: LIFE }, PATIENCE).await.expect("it reads");
    while let Ok(Some(packet)) = frames.next::<ClientPacket<Request>>(PATIENCE).await {
        let ClientPacket::Ask { id, request } = packet else { continue };
        heard.push((node, id, request));
        let Some(outcome) = outcome.clone() else { return };
        let response = Response { life: LIFE, outcome };
        say(&mut out, &ClientEcho::Answer { id, response }, PATIENCE).await.expect("it reads");
    }
}

/// A client of that coordinator does what it is for; what was asked meanwhile.
fn with_client<T>(
    acts: &[Act],
    story: impl AsyncFnOnce(&mut Client) -> T,
) -> (T, Vec<(NodeId, RequestId, Request)>) {
    let patience = Duration::from_secs(3);
    with_client_of(ClientOptions { patience, ..ClientOptions::default() }, acts, story)
}

fn with_client_of<T>(
    options: ClientOptions,
    acts: &[Act],
    story: impl AsyncFnOnce(&mut Client) -> T,
) -> (T, Vec<(NodeId, RequestId, Request)>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("it is bound").to_string();
        let stage = tokio::spawn(play(listener, acts.to_vec()));
        let mut client = Client::connect(&address, options).await.expect("the first act greets");
        let told = story(&mut client).await;
        drop(client);
        (told, stage.await.expect("the play is over"))
    })
}

fn put() -> Vec<Op> {
    vec![Op { node: NodeId(0), key: Key::new("a").expect("short"), action: Action::Put(1) }]
}

/// The first serial whose answer the client says that it has not seen.
fn seen(request: &Request) -> Option<u32> {
    match request {
        Request::Transact { seen, .. } => Some(seen.serial),
        Request::Outcome { .. } => None,
    }
}

#[test]
fn clients_draw_their_numbers_from_64_bits() {
    let (n0, mut highest) = (NodeId(0), 0);
    for _ in 0..4 {
        let (number, _) = with_client(&[Act::Answers(n0, COMMITTED)], async |client| client.number());
        highest = highest.max(number);
    }
    assert!(highest > u64::from(u32::MAX), "four numbers, none above {highest}");
}

/// 1. The address leads to n0, which commits c7.1; its answer is lost.
/// 2. The address leads to n1 now, and n1 is in its first life, too.
/// 3. c7.1 must not be asked of n1: it would be done a second time.
#[test]
fn a_request_is_never_repeated_to_another_node() {
    let acts = [Act::Loses(NodeId(0)), Act::Answers(NodeId(1), COMMITTED)];
    let (settled, heard) = with_client(&acts, async |client| client.transact(put()).await);
    let asked: Vec<NodeId> = heard.iter().map(|(node, ..)| *node).collect();
    assert_eq!(asked, [NodeId(0)]);
    let Ok(Settled::Unknown { name, doubt: Doubt::Silence }) = settled else { panic!("{settled:?}") };
    assert_eq!((name.node, name.life), (NodeId(0), LIFE));
}

#[test]
fn no_patience_is_too_long() {
    let acts = [Act::Answers(NodeId(0), COMMITTED)];
    let (patience, ask_again) = (Duration::MAX, Duration::MAX);
    let options = ClientOptions { patience, ask_again, ..ClientOptions::default() };
    let (settled, _) = with_client_of(options, &acts, async |client| client.transact(put()).await);
    assert!(matches!(settled, Ok(Settled::Committed { .. })), "{settled:?}");
}

#[test]
fn an_outcome_is_asked_only_of_the_node_that_the_name_says() {
    let id = RequestId { client: 1, serial: 1, attempt: 0 };
    let name = Name { node: NodeId(0), life: LIFE, id };
    let acts = [Act::Answers(NodeId(1), COMMITTED)];
    let (refused, heard) = with_client(&acts, async |client| client.outcome(name).await);
    assert!(matches!(refused, Err(ClientError::WrongNode { node: NodeId(1), .. })), "{refused:?}");
    assert_eq!(heard, []);
}

/// 1. The request is sent, and the connection is lost before the answer.
/// 2. Whoever is there now refuses the client.
/// 3. "Nothing was done" is not known. Nor may the coordinator forget the name: somebody may ask for its outcome.
#[test]
fn what_was_sent_once_may_have_been_done_whatever_is_there_now() {
    let n0 = NodeId(0);
    let acts = [Act::Loses(n0), Act::Refuses, Act::Answers(n0, COMMITTED)];
    let (first, heard) = with_client(&acts, async |client| {
        let Ok(Settled::Unknown { name: first, .. }) = client.transact(put()).await else {
            panic!("nobody knows what has become of it")
        };
        client.transact(put()).await.expect("an answer");
        client.outcome(first).await.expect("an answer");
        client.transact(put()).await.expect("an answer");
        first
    });
    let asked: Vec<(u32, Option<u32>)> =
        heard.iter().map(|(_, id, request)| (id.serial, seen(request))).collect();
    // The first was open until its outcome was known; then everything below the newest had been answered.
    assert_eq!(asked, [(1, Some(1)), (2, Some(1)), (1, None), (3, Some(3))]);
    assert_eq!(first.id, heard[0].1);
}
