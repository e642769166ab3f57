//! Deduplication of requests: which requests have been executed, for as long as a client may retry
//! them.
//!
//! A request id is forgotten when the client has acknowledged its outcome or when there are too
//! many; this raises the client's floor. A request at or below the floor that is not remembered is
//! never executed, and its outcome is unknown.

use super::context::IncarnationIs;
use super::op::Reads;
use super::request::{AbortReason, Outcome, RequestNumber};
use super::state::ClientHistory;
use super::tx_id::TxId;
use stormglass_node::id::RequestId;

/// Every request of this incarnation, and the committed ones of earlier incarnations.
#[derive(Clone, Debug, Default)]
pub(super) struct RequestLog {
    // Sorted by client.
    clients: Vec<ClientLog>,
}

#[derive(Clone, Debug)]
struct ClientLog {
    client: u64,
    floor: RequestNumber,
    // Sorted by number. Undecided requests stay even at or below the floor.
    requests: Vec<(RequestNumber, RequestStatus)>,
}

/// The status of one request.
#[derive(Clone, Debug)]
pub(super) enum RequestStatus {
    Undecided,
    Committed(TxId, Option<Reads>),
    Aborted(AbortReason),
}

/// How to handle a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Lookup {
    /// Not known, addressed to this incarnation, above the floor: it is executed.
    New,
    /// It is being executed.
    Underway,
    /// It is not executed; this is the reply.
    Answer(Outcome),
}

impl RequestLog {
    pub(super) fn recovered(clients: &[ClientHistory]) -> RequestLog {
        let mut logs = Vec::new();
        for ClientHistory { client, floor, committed } in clients {
            let committed = committed.iter();
            let requests =
                committed.map(|(number, tx)| (*number, RequestStatus::Committed(*tx, None)));
            logs.push(ClientLog { client: *client, floor: *floor, requests: requests.collect() });
        }
        RequestLog { clients: logs }
    }

    /// What a snapshot stores: floors, and the ids of committed requests.
    pub(super) fn state(&self) -> Vec<ClientHistory> {
        let mut histories = Vec::with_capacity(self.clients.len());
        for ClientLog { client, floor, requests } in &self.clients {
            let mut committed = Vec::new();
            for (number, status) in requests {
                match status {
                    RequestStatus::Committed(tx, _) => committed.push((*number, *tx)),
                    // After a restart, an unknown request of an earlier incarnation is aborted.
                    RequestStatus::Undecided | RequestStatus::Aborted(_) => {}
                }
            }
            histories.push(ClientHistory { client: *client, floor: *floor, committed });
        }
        histories
    }

    pub(super) fn look_up(&self, id: RequestId, addressed: IncarnationIs) -> Lookup {
        let number = RequestNumber::of(id);
        let client_log = self.client(id.client);
        if let Some(status) = client_log.and_then(|client_log| client_log.find(number)) {
            return match status {
                RequestStatus::Undecided => Lookup::Underway,
                RequestStatus::Committed(_, reads) => {
                    Lookup::Answer(Outcome::Committed { reads: reads.clone() })
                }
                RequestStatus::Aborted(reason) => {
                    Lookup::Answer(Outcome::Aborted { reason: *reason })
                }
            };
        }
        if client_log.is_some_and(|client_log| number <= client_log.floor) {
            return Lookup::Answer(Outcome::Unknown);
        }
        match addressed {
            IncarnationIs::Present => Lookup::New,
            // If that incarnation had committed it, the boot would have read it back.
            IncarnationIs::Past => {
                Lookup::Answer(Outcome::Aborted { reason: AbortReason::Restarted })
            }
            IncarnationIs::Unknown => Lookup::Answer(Outcome::Unknown),
        }
    }

    /// Stores the status of a request, and forgets the oldest answered requests beyond `kept`.
    pub(super) fn set_status(&mut self, id: RequestId, status: RequestStatus, kept: usize) {
        let client_log = self.client_mut(id.client);
        let number = RequestNumber::of(id);
        match client_log.requests.binary_search_by_key(&number, |entry| entry.0) {
            Ok(at) => client_log.requests[at].1 = status,
            Err(at) => client_log.requests.insert(at, (number, status)),
        }
        // At least 1: the request that was just stored is not forgotten at once.
        while client_log.requests.len() > kept.max(1) {
            let oldest = &client_log.requests[0];
            if matches!(oldest.1, RequestStatus::Undecided) {
                // Its answer is still to come. Later ones stay too: a floor covers all below it.
                break;
            }
            client_log.floor = client_log.floor.max(oldest.0);
            client_log.requests.remove(0);
        }
    }

    /// The client has received the outcomes of all its requests below `seen`.
    pub(super) fn forget_seen(&mut self, client: u64, seen: RequestNumber) {
        let client_log = self.client_mut(client);
        client_log.floor = client_log.floor.max(seen.predecessor());
        client_log.requests.retain(|(number, status)| {
            *number >= seen || matches!(status, RequestStatus::Undecided)
        });
    }

    /// The number of remembered clients.
    pub(super) fn clients(&self) -> usize {
        self.clients.len()
    }

    fn client(&self, client: u64) -> Option<&ClientLog> {
        let at = self.clients.binary_search_by_key(&client, |client_log| client_log.client).ok()?;
        Some(&self.clients[at])
    }

    fn client_mut(&mut self, client: u64) -> &mut ClientLog {
        let at = match self.clients.binary_search_by_key(&client, |client_log| client_log.client) {
            Ok(at) => at,
            Err(at) => {
                self.clients.insert(
                    at,
                    ClientLog { client, floor: RequestNumber::default(), requests: Vec::new() },
                );
                at
            }
        };
        &mut self.clients[at]
    }
}

impl ClientLog {
    fn find(&self, number: RequestNumber) -> Option<&RequestStatus> {
        let at = self.requests.binary_search_by_key(&number, |entry| entry.0).ok()?;
        Some(&self.requests[at].1)
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

    #[test]
    fn outcome_query_that_overtakes_its_request_is_not_answered_aborted() {
        assert_eq!(RequestLog::default().look_up(id(1, 0), IncarnationIs::Present), Lookup::New);
    }

    #[test]
    fn unknown_request_of_an_earlier_incarnation_is_aborted_above_the_floor_and_unknown_below() {
        let mut request_log = RequestLog::default();
        let aborted = Lookup::Answer(Outcome::Aborted { reason: AbortReason::Restarted });
        assert_eq!(request_log.look_up(id(4, 0), IncarnationIs::Past), aborted);
        request_log.forget_seen(1, RequestNumber { serial: 5, attempt: 0 });
        assert_eq!(
            request_log.look_up(id(4, 0), IncarnationIs::Past),
            Lookup::Answer(Outcome::Unknown)
        );
        assert_eq!(
            request_log.look_up(id(4, 7), IncarnationIs::Present),
            Lookup::Answer(Outcome::Unknown)
        );
        assert_eq!(request_log.look_up(id(5, 0), IncarnationIs::Present), Lookup::New);
    }

    #[test]
    fn evicting_a_request_raises_the_floor_in_snapshots_too() {
        let mut request_log = RequestLog::default();
        for serial in 1..=3 {
            request_log.set_status(id(serial, 0), RequestStatus::Committed(TX, None), 2);
        }
        let state = request_log.state();
        assert_eq!(state[0].floor, RequestNumber { serial: 1, attempt: 0 });
        let again = RequestLog::recovered(&state);
        assert_eq!(
            again.look_up(id(1, 0), IncarnationIs::Present),
            Lookup::Answer(Outcome::Unknown)
        );
        let committed = Lookup::Answer(Outcome::Committed { reads: None });
        assert_eq!(again.look_up(id(3, 0), IncarnationIs::Present), committed);
    }
}
