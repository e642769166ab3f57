//! A transaction as a schedule lists it: `put n0/k 7, add n1/a0 -5 at least -60, get n2/hot, delete n1/k`.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use stormglass::NodeId;
use stormglass::commit::{Action, Key, Op};

use crate::schedule::{Cursor, ParseError};

/// What a client of atomic commitment wants.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Txn {
    /// What is to be done.
    pub ops: Arc<[Op]>,
    /// Whether the client's first reaction to silence is to send the very same request again.
    pub stubborn: bool,
}

impl Txn {
    /// The order as a schedule of a cluster of so many nodes shows it. A node that there is not, which an order may
    /// ask for to be refused, is written `absent-n9`: `n9` would be a mistake.
    pub(super) fn write(&self, nodes: u16) -> String {
        let ops = self.ops.iter().map(|Op { node, key, action }| {
            let place = format!("{}{node}/{key}", if node.0 < nodes { "" } else { ABSENT });
            match action {
                Action::Put(value) => format!("put {place} {value}"),
                Action::Delete => format!("delete {place}"),
                Action::Get => format!("get {place}"),
                Action::Add { by, at_least: i64::MIN } => format!("add {place} {by}"),
                Action::Add { by, at_least } => format!("add {place} {by} at least {at_least}"),
            }
        });
        let end_mark = self.stubborn.then(|| "stubborn".to_string()).into_iter().chain(ops);
        end_mark.collect::<Vec<_>>().join(", ")
    }
}

/// Before the name of a node that is not part of the cluster.
const ABSENT: &str = "absent-";

/// Reads what [`Txn::write`] writes.
pub(super) fn read(text: &mut Cursor<'_>) -> Result<Txn, ParseError> {
    let stubborn = text.take("stubborn");
    if stubborn {
        text.expect_word(",")?;
    }
    let mut ops = Vec::new();
    loop {
        ops.push(read_op(text)?);
        if !text.take(",") {
            return Ok(Txn { ops: ops.into(), stubborn });
        }
    }
}

fn read_op(text: &mut Cursor<'_>) -> Result<Op, ParseError> {
    let verb = text.one_of(&[("put", 'p'), ("add", 'a'), ("get", 'g'), ("delete", 'd')])?;
    let (node, key) = read_key(text)?;
    let number = |text: &mut Cursor<'_>| text.parsed::<i64>("a whole number", |_| true);
    let action = match verb {
        'p' => Action::Put(number(text)?),
        'a' => {
            let by = number(text)?;
            let bounded = text.take("at");
            if bounded {
                text.expect_word("least")?;
            }
            Action::Add { by, at_least: if bounded { number(text)? } else { i64::MIN } }
        }
        'g' => Action::Get,
        _ => Action::Delete,
    };
    Ok(Op { node, key, action })
}

fn read_key(text: &mut Cursor<'_>) -> Result<(NodeId, Key), ParseError> {
    let last = text.nodes() - 1;
    let expected =
        format!("a node (n0 to n{last}) and a key of at most {} bytes, like n0/k", Key::BYTES_MAX);
    let read = |end_mark: &str| {
        let (absent, end_mark) =
            end_mark.strip_prefix(ABSENT).map_or((false, end_mark), |end_mark| (true, end_mark));
        let (node, key) = end_mark.strip_prefix('n')?.split_once('/')?;
        let node = node.parse().ok().filter(|node| (*node > last) == absent)?;
        Some((NodeId(node), Key::new(key).ok().filter(|_| !key.is_empty())?))
    };
    let found = read(text.peek()).ok_or_else(|| text.error_here(&expected))?;
    text.word(&expected)?;
    Ok(found)
}

impl Txn {
    /// One operation less; a plain put instead of something cleverer; not stubborn.
    pub(super) fn simplifications(&self) -> Vec<Txn> {
        let mut all = Vec::new();
        let with = |ops: Vec<Op>| Txn { ops: ops.into(), stubborn: self.stubborn };
        if self.ops.len() > 3 {
            let (front, back) = self.ops.split_at(self.ops.len() / 2);
            all.extend([with(front.to_vec()), with(back.to_vec())]);
        }
        if self.ops.len() > 1 {
            all.extend((0..self.ops.len()).map(|gone| {
                let kept = self.ops.iter().enumerate().filter(|(at, _)| *at != gone);
                with(kept.map(|(_, op)| *op).collect())
            }));
        }
        if self.stubborn {
            all.push(Txn { stubborn: false, ..self.clone() });
        }
        for (at, op) in self.ops.iter().enumerate() {
            if !matches!(op.action, Action::Put(0..10)) {
                let mut ops = self.ops.to_vec();
                ops[at].action = Action::Put(1 + at as i64 % 9);
                all.push(with(ops));
            }
        }
        all
    }

    /// One transaction that does what two do.
    pub(super) fn merged(&self, other: &Txn) -> Txn {
        let ops = self.ops.iter().chain(other.ops.iter()).copied().collect();
        Txn { ops, stubborn: self.stubborn || other.stubborn }
    }

    /// The same transaction where nodes bear other numbers; without what was to happen at those that are gone.
    pub(super) fn renumbered(&self, number: &dyn Fn(NodeId) -> Option<NodeId>) -> Option<Txn> {
        let ops: Vec<Op> =
            self.ops.iter().filter_map(|op| Some(Op { node: number(op.node)?, ..*op })).collect();
        (!ops.is_empty()).then(|| Txn { ops: ops.into(), stubborn: self.stubborn })
    }
}
