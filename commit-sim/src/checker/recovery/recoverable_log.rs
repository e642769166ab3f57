//! W6, W7: a node recovers the state of a prefix of its log, with every durable record.

use stormglass::commit::{Record, State};
use stormglass_node::{NodeId, codec};

use super::kept_state::{Difference, KeptState};
use crate::property::Property;
use stormglass_sim::property::Violation;

/// What the next incarnation of a node must recover: the records that this incarnation has kept,
/// and a prefix of those that it has appended. The state of both is the checker's own; no state
/// that a node has recovered is taken over.
#[derive(Clone, Debug, Default)]
pub(super) struct RecoverableLog {
    recovered: KeptState,
    appended: Payloads,
    /// How many of `appended` are durable. `durable <= appended.len()`
    durable: usize,
}

/// What an incarnation must have recovered.
#[derive(Clone, Debug, Default)]
pub(crate) struct Kept {
    /// How many records of the incarnation before it are kept.
    pub(crate) records: usize,
    /// What these and the earlier ones mean.
    pub(crate) state: KeptState,
}

/// The payloads of records, concatenated: one allocation for all.
#[derive(Clone, Debug, Default)]
struct Payloads {
    bytes: Vec<u8>,
    /// The end of each payload in `bytes`, ascending.
    ends: Vec<usize>,
}

impl Payloads {
    #[inline]
    fn push(&mut self, payload: &[u8]) {
        self.bytes.extend_from_slice(payload);
        self.ends.push(self.bytes.len());
    }

    #[inline]
    fn len(&self) -> usize {
        self.ends.len()
    }

    fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, end)| &self.bytes[start..*end])
    }

    fn clear(&mut self) {
        let Payloads { bytes, ends } = self;
        bytes.clear();
        ends.clear();
    }
}

/// What of a recovered state has to be that of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Compared {
    Everything,
    /// Not the incarnations of peers. A node that has served nobody has promised nothing but to
    /// remember them, and peers refuse one that lacks more.
    Transactions,
}

impl Compared {
    fn difference<'a>(self, kept: &'a KeptState, found: &'a State) -> Option<Difference<'a>> {
        match self {
            Compared::Everything => kept.difference(found),
            Compared::Transactions => kept.difference_in_transactions(found),
        }
    }
}

impl RecoverableLog {
    /// Begins the log of an incarnation that has kept these records.
    pub(super) fn begin(&mut self, kept: KeptState) {
        let RecoverableLog { recovered, appended, durable } = self;
        *recovered = kept;
        appended.clear();
        *durable = 0;
    }

    /// The state with which this incarnation began.
    pub(super) fn recovered(&self) -> &KeptState {
        &self.recovered
    }

    /// Returns the index of the record among those of this incarnation.
    #[inline]
    pub(super) fn append(&mut self, payload: &[u8]) -> usize {
        self.appended.push(payload);
        self.appended.len() - 1
    }

    /// The next `count` records are durable.
    #[inline]
    pub(super) fn make_durable(&mut self, count: usize) {
        self.durable += count;
    }

    /// W6, W7: the state `found` is that of the kept records and a prefix of the log, with every
    /// durable record. Returns that prefix.
    pub(super) fn check_prefix(
        &self,
        node: NodeId,
        found: &State,
        compared: Compared,
    ) -> Result<Kept, Violation> {
        let mut state = self.recovered.clone();
        for (count, payload) in self.appended.iter().enumerate() {
            // A shorter prefix lacks a durable record: to match it is a loss.
            if count >= self.durable && compared.difference(&state, found).is_none() {
                state.forget_as(found);
                state.meet_as(found);
                return Ok(Kept { records: count, state });
            }
            state.add(node, decode(payload));
        }
        let all = self.appended.len();
        let Some(difference) = compared.difference(&state, found) else {
            state.forget_as(found);
            state.meet_as(found);
            return Ok(Kept { records: all, state });
        };
        let durable = self.durable;
        let explanation = format!(
            "{node} recovered a state that matches no prefix of its {all} records \
             ({durable} durable): {difference}"
        );
        Err(Property::RecoveredStateIsALogPrefix.violated(explanation))
    }

    /// Whether the state `found` is the recovered state and a prefix of the log, of any length.
    pub(super) fn is_some_prefix(&self, node: NodeId, found: &State, compared: Compared) -> bool {
        // Such damage may have removed durable records, but only from the end of the log.
        let mut state = self.recovered.clone();
        for payload in self.appended.iter() {
            if compared.difference(&state, found).is_none() {
                return true;
            }
            state.add(node, decode(payload));
        }
        compared.difference(&state, found).is_none()
    }
}

fn decode(payload: &[u8]) -> Record {
    codec::decode(payload).expect("it was decoded when it was appended")
}
