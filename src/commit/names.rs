//! Which requests have been executed, for as long as a client may ask: what makes a retry harmless.
//!
//! Dropping a name, because the client has seen its answer or because there are too many, raises that client's floor;
//! what is at or below the floor and not remembered is never executed and never answered with certainty.

use super::op::Reads;
use super::request::{Outcome, Turn, Why};
use super::state::Client;
use crate::id::{Incarnation, RequestId, TxId};

/// Every name of this life, and the committed ones of earlier lives.
#[derive(Clone, Debug, Default)]
pub(super) struct Names {
    // Sorted by client.
    clients: Vec<Remembered>,
}

#[derive(Clone, Debug)]
struct Remembered {
    client: u64,
    floor: Turn,
    // Sorted by turn. May hold turns at or below the floor while they are undecided.
    turns: Vec<(Turn, Fate)>,
}

/// What is known of one request.
#[derive(Clone, Debug)]
pub(super) enum Fate {
    Undecided,
    Committed(TxId, Option<Reads>),
    Aborted(Why),
}

/// What to do with a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Lookup {
    /// Never heard of, addressed to this life, above the floor.
    New,
    /// Being executed.
    Underway,
    /// This is all that can be said.
    Answer(Outcome),
}

impl Names {
    pub(super) fn recovered(clients: &[Client]) -> Names {
        let remember = |known: &Client| {
            let turns = known.committed.iter().map(|(turn, tx)| (*turn, Fate::Committed(*tx, None)));
            Remembered { client: known.client, floor: known.floor, turns: turns.collect() }
        };
        Names { clients: clients.iter().map(remember).collect() }
    }

    /// What a snapshot remembers: floors, and the names of what has committed.
    pub(super) fn state(&self) -> Vec<Client> {
        let client = |known: &Remembered| {
            let committed = known.turns.iter().filter_map(|(turn, fate)| match fate {
                Fate::Committed(tx, _) => Some((*turn, *tx)),
                Fate::Undecided | Fate::Aborted(_) => None,
            });
            Client { client: known.client, floor: known.floor, committed: committed.collect() }
        };
        self.clients.iter().map(client).collect()
    }

    pub(super) fn look_up(&self, id: RequestId, addressed: Incarnation, life: Incarnation) -> Lookup {
        let (turn, known) = (Turn::of(id), self.client(id.client));
        if let Some(fate) = known.and_then(|known| known.find(turn)) {
            return match fate {
                Fate::Undecided => Lookup::Underway,
                Fate::Committed(_, reads) => Lookup::Answer(Outcome::Committed { reads: reads.clone() }),
                Fate::Aborted(why) => Lookup::Answer(Outcome::Aborted { why: *why }),
            };
        }
        if known.is_some_and(|known| turn <= known.floor) || addressed > life {
            Lookup::Answer(Outcome::Unknown)
        } else if addressed < life {
            Lookup::Answer(Outcome::Aborted { why: Why::Restarted })
        } else {
            Lookup::New
        }
    }

    /// Writes down what is known of a request, and forgets the oldest answered ones above `kept`.
    pub(super) fn note(&mut self, id: RequestId, fate: Fate, kept: usize) {
        let known = self.client_mut(id.client);
        let turn = Turn::of(id);
        match known.turns.binary_search_by_key(&turn, |entry| entry.0) {
            Ok(at) => known.turns[at].1 = fate,
            Err(at) => known.turns.insert(at, (turn, fate)),
        }
        while known.turns.len() > kept.max(1) {
            let oldest = &known.turns[0];
            if matches!(oldest.1, Fate::Undecided) {
                break;
            }
            known.floor = known.floor.max(oldest.0);
            known.turns.remove(0);
        }
    }

    /// The client has seen the answers to all its turns below `seen`.
    pub(super) fn seen(&mut self, client: u64, seen: Turn) {
        let known = self.client_mut(client);
        known.floor = known.floor.max(seen.before());
        known.turns.retain(|(turn, fate)| *turn >= seen || matches!(fate, Fate::Undecided));
    }

    /// How many clients are remembered.
    pub(super) fn clients(&self) -> usize {
        self.clients.len()
    }

    fn client(&self, client: u64) -> Option<&Remembered> {
        let at = self.clients.binary_search_by_key(&client, |known| known.client).ok()?;
        Some(&self.clients[at])
    }

    fn client_mut(&mut self, client: u64) -> &mut Remembered {
        let at = match self.clients.binary_search_by_key(&client, |known| known.client) {
            Ok(at) => at,
            Err(at) => {
                self.clients.insert(at, Remembered { client, floor: Turn::default(), turns: Vec::new() });
                at
            }
        };
        &mut self.clients[at]
    }
}

impl Remembered {
    fn find(&self, turn: Turn) -> Option<&Fate> {
        let at = self.turns.binary_search_by_key(&turn, |entry| entry.0).ok()?;
        Some(&self.turns[at].1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::NodeId;

    fn id(serial: u32, attempt: u16) -> RequestId {
        RequestId { client: 1, serial, attempt }
    }

    const LIFE: Incarnation = Incarnation(3);
    const TX: TxId = TxId { coordinator: NodeId(0), incarnation: LIFE, serial: 1 };

    #[test]
    fn a_query_that_overtakes_its_request_is_not_answered_aborted() {
        assert_eq!(Names::default().look_up(id(1, 0), LIFE, LIFE), Lookup::New);
    }

    #[test]
    fn an_unknown_name_of_an_earlier_life_was_aborted_but_not_at_or_below_the_floor() {
        let mut names = Names::default();
        let aborted = Lookup::Answer(Outcome::Aborted { why: Why::Restarted });
        assert_eq!(names.look_up(id(4, 0), Incarnation(2), LIFE), aborted);
        names.seen(1, Turn { serial: 5, attempt: 0 });
        assert_eq!(names.look_up(id(4, 0), Incarnation(2), LIFE), Lookup::Answer(Outcome::Unknown));
        assert_eq!(names.look_up(id(4, 7), LIFE, LIFE), Lookup::Answer(Outcome::Unknown));
        assert_eq!(names.look_up(id(5, 0), LIFE, LIFE), Lookup::New);
    }

    #[test]
    fn forgetting_for_want_of_room_raises_the_floor_in_snapshots_too() {
        let mut names = Names::default();
        for serial in 1..=3 {
            names.note(id(serial, 0), Fate::Committed(TX, None), 2);
        }
        let state = names.state();
        assert_eq!(state[0].floor, Turn { serial: 1, attempt: 0 });
        let again = Names::recovered(&state);
        assert_eq!(again.look_up(id(1, 0), LIFE, LIFE), Lookup::Answer(Outcome::Unknown));
        let committed = Lookup::Answer(Outcome::Committed { reads: None });
        assert_eq!(again.look_up(id(3, 0), LIFE, LIFE), committed);
    }
}
