//! The client against a scripted coordinator: where it resends, and what it reports when it times
//! out.

use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};

use super::{
    Client, ClientError, ClientOptions, POSITION_MAX_AGE, RequestHandle, TxResult, UnknownReason,
};
use crate::commit::{AbortReason, Action, Key, Op, Outcome, Position, Request, Response};
use stormglass_node::id::{Incarnation, NodeId, RequestId, Time};
use stormglass_node::runtime::packet::{ClientPacket, ClientReply, Hello, Welcome};
use stormglass_node::runtime::stream::{FRAME_BYTES_MAX, Frames, write_value};

const TIMEOUT: Duration = Duration::from_secs(5);

/// How the coordinator handles one connection.
#[derive(Clone, Debug)]
enum ScriptStep {
    /// Refuses the handshake.
    RefuseClient,
    /// Reads one request, and closes the connection.
    DropAfterRequest(NodeId),
    /// Cannot decode any request, until the client disconnects.
    CannotDecode(NodeId),
    /// Answers every request with this outcome, until the client disconnects.
    AnswerAll(NodeId, Outcome),
    /// Answers the first attempt "unknown", and every other "committed".
    ForgetFirst(NodeId),
}

const INCARNATION: Incarnation = Incarnation::numbered(1);
const POSITION: Position = Position { incarnation: INCARNATION, serial: 9 };
const BEGAN_AT: Time = Time(5);
const COMMITTED: Outcome = Outcome::Committed { reads: None };

/// Runs one step for each connection; returns the requests and the nodes that received them.
async fn run_script(
    listener: TcpListener,
    script: Vec<ScriptStep>,
) -> Vec<(NodeId, RequestId, Request)> {
    let mut received = Vec::new();
    for step in script {
        let (stream, _) = listener.accept().await.expect("a client");
        run_step(stream, step, &mut received).await;
    }
    received
}

async fn run_step(
    stream: TcpStream,
    step: ScriptStep,
    received: &mut Vec<(NodeId, RequestId, Request)>,
) {
    let (from, mut out) = stream.into_split();
    let mut frames = Frames::new(from, FRAME_BYTES_MAX);
    frames.next::<Hello>(TIMEOUT).await.expect("a frame").expect("a handshake");
    let (node, outcome) = match &step {
        ScriptStep::RefuseClient => {
            let refused = Welcome::Refused { reason: "not today".to_owned() };
            return write_value(&mut out, &refused, TIMEOUT).await.expect("it reads");
        }
        ScriptStep::DropAfterRequest(node) | ScriptStep::CannotDecode(node) => (*node, None),
        ScriptStep::AnswerAll(node, outcome) => (*node, Some(outcome.clone())),
        ScriptStep::ForgetFirst(node) => (*node, Some(COMMITTED)),
    };
    write_value(&mut out, &Welcome::Welcome { node, incarnation: INCARNATION }, TIMEOUT)
        .await
        .expect("it reads");
    while let Ok(Some(packet)) = frames.next::<ClientPacket<Request>>(TIMEOUT).await {
        let ClientPacket::Request { id, request } = packet else { continue };
        // A question for the position is answered in every step, and not part of the script.
        if id.serial == 0 {
            let position =
                Response { position: POSITION, began_at: None, outcome: Outcome::Unknown };
            let answer = ClientReply::Answer { id, response: position };
            write_value(&mut out, &answer, TIMEOUT).await.expect("it reads");
            continue;
        }
        received.push((node, id, request));
        if matches!(step, ScriptStep::CannotDecode(_)) {
            let reply = ClientReply::<Response>::Undecodable { reason: "odd".to_owned() };
            write_value(&mut out, &reply, TIMEOUT).await.expect("it reads");
            continue;
        }
        // Returning drops both halves of the connection, which closes it.
        let Some(mut outcome) = outcome.clone() else { return };
        if matches!(step, ScriptStep::ForgetFirst(_)) && id.attempt == 0 {
            outcome = Outcome::Unknown;
        }
        let response = Response { position: POSITION, began_at: Some(BEGAN_AT), outcome };
        write_value(&mut out, &ClientReply::Answer { id, response }, TIMEOUT)
            .await
            .expect("it reads");
    }
}

/// Runs `use` with a client of that coordinator; returns the requests received meanwhile.
fn with_client<T>(
    script: &[ScriptStep],
    test: impl AsyncFnOnce(&mut Client) -> T,
) -> (T, Vec<(NodeId, RequestId, Request)>) {
    // Above the two seconds after which a request is resent, and not much, as some tests wait for
    // it.
    let request_timeout = Duration::from_secs(3);
    with_client_of(ClientOptions { request_timeout, ..ClientOptions::default() }, script, test)
}

fn with_client_of<T>(
    options: ClientOptions,
    script: &[ScriptStep],
    test: impl AsyncFnOnce(&mut Client) -> T,
) -> (T, Vec<(NodeId, RequestId, Request)>) {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        // Any free port, since tests run at the same time.
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("it is bound").to_string();
        let coordinator = tokio::spawn(run_script(listener, script.to_vec()));
        let mut client =
            Client::connect(&address, options).await.expect("the first step accepts the client");
        let result = test(&mut client).await;
        // First, as the last step of the script ends when the client disconnects.
        drop(client);
        (result, coordinator.await.expect("the script ends"))
    })
}

fn put() -> Vec<Op> {
    vec![Op { node: NodeId(0), key: Key::new("a").expect("short"), action: Action::Put(1) }]
}

/// The first serial whose outcome the client has not acknowledged.
fn first_unacknowledged(request: &Request) -> Option<u32> {
    match request {
        Request::Transact { seen, .. } => Some(seen.serial),
        Request::Outcome { .. } => None,
    }
}

#[test]
fn client_numbers_are_drawn_from_64_bits() {
    let n0 = NodeId(0);
    let mut highest = 0;
    // By chance, a number is below 2^32 once in four billion times; all four never are.
    for _ in 0..4 {
        let (number, _) =
            with_client(&[ScriptStep::AnswerAll(n0, COMMITTED)], async |client| client.number());
        highest = highest.max(number);
    }
    assert!(highest > u64::from(u32::MAX), "four numbers, none above {highest}");
}

/// 1. The address leads to n0, which commits c7.1; its answer is lost.
/// 2. The address leads to n1 now, and n1 is in its first incarnation, too.
/// 3. c7.1 must not be sent to n1: it would be executed a second time.
#[test]
fn request_is_never_resent_to_another_node() {
    let script =
        [ScriptStep::DropAfterRequest(NodeId(0)), ScriptStep::AnswerAll(NodeId(1), COMMITTED)];
    let (result, received) = with_client(&script, async |client| client.transact(put()).await);
    let asked: Vec<NodeId> = received.iter().map(|(node, ..)| *node).collect();
    assert_eq!(asked, [NodeId(0)]);
    let Ok(TxResult::Unknown { handle, reason: UnknownReason::NoAnswer }) = result else {
        panic!("{result:?}")
    };
    assert_eq!((handle.node, handle.addressed), (NodeId(0), POSITION));
}

/// Only the coordinator says when the first attempt began, whatever the clock of the client says.
#[test]
fn retry_carries_the_time_that_the_coordinator_has_assigned() {
    let aborted = Outcome::Aborted { reason: AbortReason::Restarted };
    let script = [ScriptStep::AnswerAll(NodeId(0), aborted)];
    let options = ClientOptions { attempts: 3, ..ClientOptions::default() };
    let (_, received) = with_client_of(options, &script, async |client| {
        client.transact(put()).await.expect("an answer");
    });
    let began: Vec<Option<Time>> = received
        .iter()
        .filter_map(|(_, _, request)| match request {
            Request::Transact { began_at, .. } => Some(*began_at),
            Request::Outcome { .. } => None,
        })
        .collect();
    assert_eq!(began, [None, Some(BEGAN_AT), Some(BEGAN_AT)]);
}

/// A client that has had no answer for a second asks for the position first: the node may have
/// forgotten so many requests meanwhile that it would not execute the next one.
#[test]
fn request_of_an_idle_client_is_addressed_to_the_present_position() {
    let script = [ScriptStep::AnswerAll(NodeId(0), COMMITTED)];
    let ((), received) = with_client(&script, async |client| {
        client.transact(put()).await.expect("an answer");
        for idle in [Duration::ZERO, POSITION_MAX_AGE] {
            client.position_at = client.position_at.map(|at| at - idle);
            client.position.serial = 1;
            client.transact(put()).await.expect("an answer");
        }
    });
    let addressed: Vec<Position> = received
        .iter()
        .filter_map(|(_, _, request)| match request {
            Request::Transact { addressed, .. } => Some(*addressed),
            Request::Outcome { .. } => None,
        })
        .collect();
    assert_eq!(addressed, [POSITION, Position { serial: 1, ..POSITION }, POSITION]);
}

/// The only copy of a request whose address is too old is not executed, so the client goes on.
#[test]
fn request_with_an_old_address_is_tried_again_under_a_new_id() {
    let script = [ScriptStep::ForgetFirst(NodeId(0))];
    let (result, received) = with_client(&script, async |client| client.transact(put()).await);
    let Ok(TxResult::Committed { handle, .. }) = result else { panic!("{result:?}") };
    assert_eq!(handle.id.attempt, 1);
    assert_eq!(received.iter().map(|(_, id, _)| id.attempt).collect::<Vec<_>>(), [0, 1]);
}

/// The answer names no request, so the next request has a connection of its own.
#[test]
fn request_that_the_node_cannot_decode_is_an_error_at_once() {
    let n0 = NodeId(0);
    let script = [ScriptStep::CannotDecode(n0), ScriptStep::AnswerAll(n0, COMMITTED)];
    let ((refused, next), received) = with_client(&script, async |client| {
        (client.transact(put()).await, client.transact(put()).await)
    });
    let Err(error @ ClientError::Undecodable { .. }) = refused else { panic!("{refused:?}") };
    let text = error.to_string();
    assert!(text.contains("cannot read the request: odd. Nothing was done"), "{text}");
    assert!(matches!(next, Ok(TxResult::Committed { .. })), "{next:?}");
    assert_eq!(received.len(), 2);
}

#[test]
fn maximum_timeouts_do_not_overflow() {
    let script = [ScriptStep::AnswerAll(NodeId(0), COMMITTED)];
    let options = ClientOptions {
        // Both are added to the present time, which must not overflow.
        request_timeout: Duration::MAX,
        resend_after: Duration::MAX,
        ..ClientOptions::default()
    };
    let (result, _) = with_client_of(options, &script, async |client| client.transact(put()).await);
    assert!(matches!(result, Ok(TxResult::Committed { .. })), "{result:?}");
}

#[test]
fn outcome_query_goes_only_to_the_node_in_the_handle() {
    let id = RequestId { client: 1, serial: 1, attempt: 0 };
    let handle = RequestHandle { node: NodeId(0), addressed: POSITION, id };
    let script = [ScriptStep::AnswerAll(NodeId(1), COMMITTED)];
    let (refused, received) = with_client(&script, async |client| client.outcome(handle).await);
    assert!(matches!(refused, Err(ClientError::WrongNode { node: NodeId(1), .. })), "{refused:?}");
    assert_eq!(received, []);
}

/// 1. The request is sent, and the connection is lost before the answer.
/// 2. The node at the address refuses the client now.
/// 3. The client must not report "nothing was executed", nor acknowledge the request: its outcome
///    may be queried.
#[test]
fn sent_request_stays_unknown_when_the_reconnect_is_refused() {
    let n0 = NodeId(0);
    let script = [
        ScriptStep::DropAfterRequest(n0),
        ScriptStep::RefuseClient,
        ScriptStep::AnswerAll(n0, COMMITTED),
    ];
    let (first, received) = with_client(&script, async |client| {
        let Ok(TxResult::Unknown { handle: first, .. }) = client.transact(put()).await else {
            panic!("the outcome must be unknown")
        };
        client.transact(put()).await.expect("an answer");
        // Only this answer allows the client to acknowledge the first request.
        client.outcome(first).await.expect("an answer");
        client.transact(put()).await.expect("an answer");
        first
    });
    let asked: Vec<(u32, Option<u32>)> = received
        .iter()
        .map(|(_, id, request)| (id.serial, first_unacknowledged(request)))
        .collect();
    // The first was unacknowledged until its outcome was known; then everything below the newest
    // had been answered.
    assert_eq!(asked, [(1, Some(1)), (2, Some(1)), (1, None), (3, Some(3))]);
    assert_eq!(first.id, received[0].1);
}
