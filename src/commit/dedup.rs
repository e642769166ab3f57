//! Deduplication of requests: which requests have been executed, for as long as a client may retry
//! them.
//!
//! Requests are forgotten in three cases, and each leaves a bound at or below which a request that
//! is not remembered is never executed, and its outcome is unknown:
//!
//! - The client has acknowledged the outcome, or one client has too many requests: its *floor*
//!   rises, a request number.
//! - All clients together have too many requests: the client that has sent nothing for longest is
//!   forgotten with all of its requests, and its floor. Then [`RequestLog::forgotten_below`] rises:
//!   a request that is addressed to a position below it may be a copy of a forgotten one. A client
//!   that has had an answer since addresses its requests to a later position. (Ongaro 2014,
//!   "Consensus: Bridging Theory and Practice", section 6.3, expires sessions in the same order.)

use std::collections::{BTreeMap, VecDeque};

use super::context::IncarnationIs;
use super::end_mark::Position;
use super::op::Reads;
use super::request::{AbortReason, Outcome, RequestNumber};
use super::state::ClientHistory;
use super::tx_id::TxId;
use stormglass_node::id::{RequestId, Time};

/// Every request of this incarnation, and the committed ones of earlier incarnations, as far as
/// they are not forgotten.
#[derive(Clone, Debug, Default)]
pub(super) struct RequestLog {
    clients: BTreeMap<u64, ClientLog>,
    /// All clients, the one that has sent nothing for longest first, each with its last use. An
    /// entry with another position is out of date.
    by_last_use: VecDeque<(Position, u64)>,
    /// The requests of all clients.
    requests: usize,
    forgotten_below: Position,
}

#[derive(Clone, Debug)]
struct ClientLog {
    floor: RequestNumber,
    /// Above the positions to which all requests of the client were addressed that this node has
    /// handled, and at most the position in the next answer.
    last_use: Position,
    // Sorted by number. Undecided requests stay even at or below the floor.
    requests: Vec<(RequestNumber, RequestStatus)>,
}

/// The status of one request.
#[derive(Clone, Debug)]
pub(super) enum RequestStatus {
    Undecided,
    Committed(TxId, Option<Reads>),
    Aborted {
        reason: AbortReason,
        /// As in the response.
        began_at: Option<Time>,
    },
}

/// How to handle a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Lookup {
    /// Not known, addressed to this incarnation, above the floor: it is executed.
    New,
    /// It is being executed.
    Underway,
    /// It is not executed; this is the reply, with the time at which the first attempt began.
    Answer(Outcome, Option<Time>),
}

/// How many requests are remembered.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kept {
    of_client: usize,
    in_total: usize,
}

/// Where a request is addressed to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Address {
    position: Position,
    incarnation: IncarnationIs,
}

impl Kept {
    /// So many of one client, and so many of all clients.
    pub(super) fn new(of_client: usize, in_total: usize) -> Kept {
        Kept { of_client, in_total }
    }
}

impl Address {
    /// This position; `incarnation` is what the node knows of its incarnation.
    pub(super) fn new(position: Position, incarnation: IncarnationIs) -> Address {
        Address { position, incarnation }
    }
}

impl RequestLog {
    pub(super) fn recovered(
        clients: BTreeMap<u64, ClientHistory>,
        forgotten_below: Position,
    ) -> RequestLog {
        let mut request_log = RequestLog { forgotten_below, ..RequestLog::default() };
        let mut by_last_use = Vec::with_capacity(clients.len());
        for (client, ClientHistory { floor, last_use, committed }) in clients {
            let committed = committed.into_iter();
            let requests: Vec<_> = committed
                .map(|(number, tx)| (number, RequestStatus::Committed(tx, None)))
                .collect();
            request_log.requests += requests.len();
            by_last_use.push((last_use, client));
            request_log.clients.insert(client, ClientLog { floor, last_use, requests });
        }
        by_last_use.sort_unstable();
        request_log.by_last_use = by_last_use.into();
        request_log
    }

    /// What a snapshot stores: floors, and the ids of committed requests.
    pub(super) fn state(&self) -> BTreeMap<u64, ClientHistory> {
        let mut histories = BTreeMap::new();
        for (client, ClientLog { floor, last_use, requests }) in &self.clients {
            let mut committed = Vec::with_capacity(requests.len());
            for (number, status) in requests {
                match status {
                    RequestStatus::Committed(tx, _) => committed.push((*number, *tx)),
                    // After a restart, an unknown request of an earlier incarnation is aborted.
                    RequestStatus::Undecided | RequestStatus::Aborted { .. } => {}
                }
            }
            histories
                .insert(*client, ClientHistory { floor: *floor, last_use: *last_use, committed });
        }
        histories
    }

    /// A request addressed to a position below this one may have been executed and forgotten.
    pub(super) fn forgotten_below(&self) -> Position {
        self.forgotten_below
    }

    pub(super) fn look_up(&self, id: RequestId, address: Address) -> Lookup {
        let number = RequestNumber::of(id);
        let client_log = self.clients.get(&id.client);
        if let Some(status) = client_log.and_then(|client_log| client_log.find(number)) {
            return match status {
                RequestStatus::Undecided => Lookup::Underway,
                RequestStatus::Committed(_, reads) => {
                    Lookup::Answer(Outcome::Committed { reads: reads.clone() }, None)
                }
                RequestStatus::Aborted { reason, began_at } => {
                    Lookup::Answer(Outcome::Aborted { reason: *reason }, *began_at)
                }
            };
        }
        let may_be_forgotten = client_log.is_some_and(|client_log| number <= client_log.floor)
            || address.position < self.forgotten_below;
        if may_be_forgotten {
            return Lookup::Answer(Outcome::Unknown, None);
        }
        match address.incarnation {
            IncarnationIs::Present => Lookup::New,
            // If that incarnation had committed it, the boot would have read it back.
            IncarnationIs::Past => {
                Lookup::Answer(Outcome::Aborted { reason: AbortReason::Restarted }, None)
            }
            IncarnationIs::Unknown => Lookup::Answer(Outcome::Unknown, None),
        }
    }

    /// Stores the status of a request, and forgets the oldest answered requests beyond `kept`.
    /// `now` is the position of the last request that was begun: this one, or a later one.
    pub(super) fn set_status(
        &mut self,
        id: RequestId,
        status: RequestStatus,
        now: Position,
        kept: Kept,
    ) {
        let number = RequestNumber::of(id);
        let client_log = self.clients.get_mut(&id.client);
        // The decision about a request that was begun.
        if let Some(known) = client_log.and_then(|client_log| client_log.find_mut(number)) {
            *known = status;
            return;
        }
        let client_log = self.use_client(id.client, now);
        let before = client_log.requests.len();
        client_log.insert(number, status);
        client_log.forget_beyond(kept.of_client);
        let after = client_log.requests.len();
        self.requests = self.requests - before + after;
        self.forget_clients_beyond(kept.in_total, id.client, now);
    }

    /// The client has received the outcomes of all its requests below `seen`.
    pub(super) fn forget_seen(&mut self, client: u64, seen: RequestNumber) {
        // A client that is not remembered has no requests to forget, and those that were forgotten
        // with it are below `forgotten_below`.
        let Some(client_log) = self.clients.get_mut(&client) else { return };
        client_log.floor = client_log.floor.max(seen.predecessor());
        let before = client_log.requests.len();
        client_log.requests.retain(|(number, status)| {
            *number >= seen || matches!(status, RequestStatus::Undecided)
        });
        self.requests -= before - client_log.requests.len();
    }

    /// The number of remembered clients.
    pub(super) fn clients(&self) -> usize {
        self.clients.len()
    }

    /// The log of a client, added if it is new, as the one used last.
    fn use_client(&mut self, client: u64, now: Position) -> &mut ClientLog {
        // Entries that are out of date are removed when they are the majority, so that each use
        // costs constant time.
        if self.by_last_use.len() > 2 * self.clients.len() + OUTDATED_ENTRIES_MAX {
            let clients = &self.clients;
            self.by_last_use.retain(|(last_use, client)| is_last_use(clients, *client, *last_use));
        }
        let client_log = self.clients.entry(client).or_insert_with(|| ClientLog {
            floor: RequestNumber::default(),
            last_use: Position::default(),
            requests: Vec::new(),
        });
        if client_log.last_use != now {
            client_log.last_use = now;
            self.by_last_use.push_back((now, client));
        }
        client_log
    }

    /// Forgets clients while there are more than `kept` requests or clients, but not `current`, and
    /// none that waits for an answer; not all of them at once, if there are very many.
    fn forget_clients_beyond(&mut self, kept: usize, current: u64, now: Position) {
        let mut waiting = 0;
        for _ in 0..ENTRIES_PER_REQUEST_MAX {
            if self.requests.max(self.clients.len()) <= kept || waiting == WAITING_CLIENTS_PASSED {
                return;
            }
            let Some((last_use, client)) = self.by_last_use.pop_front() else { return };
            if !is_last_use(&self.clients, client, last_use) {
                continue;
            }
            let client_log = self.clients.get_mut(&client).expect("it has a last use");
            if client == current || client_log.has_undecided() {
                waiting += 1;
                client_log.last_use = now;
                self.by_last_use.push_back((now, client));
                continue;
            }
            self.requests -= client_log.requests.len();
            self.clients.remove(&client);
            self.forgotten_below = self.forgotten_below.max(last_use);
        }
    }
}

fn is_last_use(clients: &BTreeMap<u64, ClientLog>, client: u64, last_use: Position) -> bool {
    clients.get(&client).is_some_and(|client_log| client_log.last_use == last_use)
}

/// So many entries that are out of date are kept besides one for each client.
const OUTDATED_ENTRIES_MAX: usize = 64;

/// So many clients that wait for an answer are passed over at a time. Each is regarded as used now,
/// so that the next call meets others.
const WAITING_CLIENTS_PASSED: usize = 4;

/// So many entries are taken from the clients by last use at each request. A data directory of an
/// earlier version may have millions of clients, and forgetting them all would take seconds.
// A request adds one entry, one client and one request, so what is too much becomes less with each.
const ENTRIES_PER_REQUEST_MAX: usize = 128;

impl ClientLog {
    fn find(&self, number: RequestNumber) -> Option<&RequestStatus> {
        let at = self.requests.binary_search_by_key(&number, |entry| entry.0).ok()?;
        Some(&self.requests[at].1)
    }

    fn find_mut(&mut self, number: RequestNumber) -> Option<&mut RequestStatus> {
        let at = self.requests.binary_search_by_key(&number, |entry| entry.0).ok()?;
        Some(&mut self.requests[at].1)
    }

    /// Adds a request that is not there.
    fn insert(&mut self, number: RequestNumber, status: RequestStatus) {
        // Most clients have one request, and there may be very many of them.
        if self.requests.is_empty() {
            self.requests.reserve_exact(1);
        }
        let at = self.requests.partition_point(|entry| entry.0 < number);
        self.requests.insert(at, (number, status));
    }

    fn forget_beyond(&mut self, kept: usize) {
        // At least 1: the request that was just stored is not forgotten at once.
        while self.requests.len() > kept.max(1) {
            let oldest = &self.requests[0];
            if matches!(oldest.1, RequestStatus::Undecided) {
                // Its answer is still to come. Later ones stay too: a floor covers all below it.
                break;
            }
            self.floor = self.floor.max(oldest.0);
            self.requests.remove(0);
        }
    }

    fn has_undecided(&self) -> bool {
        self.requests.iter().any(|(_, status)| matches!(status, RequestStatus::Undecided))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use stormglass_node::id::{Incarnation, NodeId};

    fn id(serial: u32, attempt: u16) -> RequestId {
        RequestId { client: 1, serial, attempt }
    }

    const INCARNATION: Incarnation = Incarnation::numbered(3);
    const TX: TxId = TxId { coordinator: NodeId(0), incarnation: INCARNATION, serial: 1 };
    const COMMITTED: RequestStatus = RequestStatus::Committed(TX, None);
    const PRESENT: Address = address(IncarnationIs::Present, 1);
    const PAST: Address = address(IncarnationIs::Past, 1);
    const UNKNOWN: Lookup = Lookup::Answer(Outcome::Unknown, None);
    const KEPT: Kept = Kept { of_client: 2, in_total: 3 };

    const fn at(serial: u64) -> Position {
        Position { incarnation: INCARNATION, serial }
    }

    const fn address(incarnation: IncarnationIs, serial: u64) -> Address {
        Address { position: at(serial), incarnation }
    }

    /// The log of a coordinator that has committed the first requests of these clients, one after
    /// the other.
    fn log_of_clients(clients: std::ops::RangeInclusive<u64>) -> RequestLog {
        let mut request_log = RequestLog::default();
        for client in clients {
            let id = RequestId { client, serial: 1, attempt: 0 };
            request_log.set_status(id, COMMITTED, at(client), KEPT);
        }
        request_log
    }

    #[test]
    fn outcome_query_that_overtakes_its_request_is_not_answered_aborted() {
        assert_eq!(RequestLog::default().look_up(id(1, 0), PRESENT), Lookup::New);
    }

    #[test]
    fn unknown_request_of_an_earlier_incarnation_is_aborted_above_the_floor_and_unknown_below() {
        let mut request_log = log_of_clients(1..=1);
        let aborted = Lookup::Answer(Outcome::Aborted { reason: AbortReason::Restarted }, None);
        assert_eq!(request_log.look_up(id(4, 0), PAST), aborted);
        request_log.forget_seen(1, RequestNumber { serial: 5, attempt: 0 });
        assert_eq!(request_log.look_up(id(4, 0), PAST), UNKNOWN);
        assert_eq!(request_log.look_up(id(4, 7), PRESENT), UNKNOWN);
        assert_eq!(request_log.look_up(id(5, 0), PRESENT), Lookup::New);
    }

    #[test]
    fn evicting_a_request_raises_the_floor_in_snapshots_too() {
        let mut request_log = RequestLog::default();
        for serial in 1..=3 {
            request_log.set_status(id(serial, 0), COMMITTED, at(1), KEPT);
        }
        let state = request_log.state();
        assert_eq!(state[&1].floor, RequestNumber { serial: 1, attempt: 0 });
        let again = RequestLog::recovered(state, Position::default());
        assert_eq!(again.look_up(id(1, 0), PRESENT), UNKNOWN);
        let committed = Lookup::Answer(Outcome::Committed { reads: None }, None);
        assert_eq!(again.look_up(id(3, 0), PRESENT), committed);
    }

    /// A copy of a forgotten request is addressed to a position below that of its transaction. The
    /// next request of the same client, or of a new one, is addressed to the present position.
    #[test]
    fn forgotten_request_is_never_new_and_the_next_one_is() {
        let request_log = log_of_clients(1..=4);
        assert_eq!(request_log.clients(), 3);
        let recovered = RequestLog::recovered(request_log.state(), request_log.forgotten_below());
        for request_log in [request_log, recovered] {
            assert_eq!(request_log.look_up(id(1, 0), address(IncarnationIs::Present, 0)), UNKNOWN);
            assert_eq!(request_log.look_up(id(1, 0), address(IncarnationIs::Past, 0)), UNKNOWN);
            let next = address(IncarnationIs::Present, 4);
            assert_eq!(request_log.look_up(id(2, 0), next), Lookup::New);
        }
    }

    /// Earlier versions remembered every client.
    #[test]
    fn clients_of_an_old_directory_are_forgotten_a_few_at_each_request() {
        let mut old = BTreeMap::new();
        for client in 1..=1_000 {
            old.insert(client, ClientHistory { last_use: at(client), ..ClientHistory::default() });
        }
        let mut request_log = RequestLog::recovered(old, Position::default());
        let mut known = request_log.clients();
        for serial in 1_001..=1_100 {
            let own = id(u32::try_from(serial).expect("small"), 0);
            request_log.set_status(own, COMMITTED, at(serial), KEPT);
            let forgotten = known - request_log.clients();
            assert!(forgotten <= ENTRIES_PER_REQUEST_MAX, "{forgotten} at once");
            known = request_log.clients();
        }
        assert_eq!(known, KEPT.in_total);
        assert_eq!(request_log.forgotten_below(), at(998));
    }

    #[test]
    fn client_that_waits_for_an_answer_is_not_forgotten() {
        let mut request_log = RequestLog::default();
        request_log.set_status(id(1, 0), RequestStatus::Undecided, at(1), KEPT);
        for client in 2..=9 {
            let id = RequestId { client, serial: 1, attempt: 0 };
            request_log.set_status(id, COMMITTED, at(client), KEPT);
        }
        assert_eq!(request_log.look_up(id(1, 0), PRESENT), Lookup::Underway);
        assert_eq!(request_log.clients(), 3);
        // Nothing is new below the present position, and everything is at it.
        assert!(request_log.forgotten_below() <= at(9), "{:?}", request_log.forgotten_below());
    }

    #[test]
    fn client_that_sends_again_is_forgotten_last() {
        let mut request_log = log_of_clients(1..=3);
        request_log.set_status(id(2, 0), COMMITTED, at(4), KEPT);
        assert_ne!(request_log.look_up(id(1, 0), PRESENT), UNKNOWN);
        let forgotten = RequestId { client: 2, serial: 1, attempt: 0 };
        assert_eq!(request_log.look_up(forgotten, PRESENT), UNKNOWN);
    }
}
