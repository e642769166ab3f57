//! A transaction and its text in a schedule: `put k=7 @n0, add a0=-5>=-60 @n1, get hot @n2,
//! delete k @n1`. An operation has the syntax of `stormglass tx`, and is read by the same parser.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use stormglass::commit::{Action, Key, Op};
use stormglass_node::NodeId;

use stormglass_sim::protocol::ScheduledRequest;
use stormglass_sim::schedule::{Cursor, ParseError};

/// A request of a client of atomic commitment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Txn {
    /// The operations, in the client's order.
    pub ops: Arc<[Op]>,
    /// Whether the client's first retry sends the same request again instead of asking for the
    /// outcome.
    pub stubborn: bool,
}

impl ScheduledRequest for Txn {
    /// The text in a schedule of a cluster of that many nodes. A node that the cluster does not
    /// have is written `@absent-n9`: reading `@n9` is an error. A workload sends such transactions
    /// to be refused.
    fn write(&self, nodes: u16) -> String {
        let ops = self.ops.iter().map(|Op { node, key, action }| {
            let place = format!("@{}{node}", if node.0 < nodes { "" } else { ABSENT });
            match action {
                Action::Put(value) => format!("put {key}={value} {place}"),
                Action::Delete => format!("delete {key} {place}"),
                Action::Get => format!("get {key} {place}"),
                Action::Add { by, at_least: i64::MIN } => format!("add {key}={by} {place}"),
                Action::Add { by, at_least } => format!("add {key}={by}>={at_least} {place}"),
            }
        });
        let parts = self.stubborn.then(|| "stubborn".to_string()).into_iter().chain(ops);
        parts.collect::<Vec<_>>().join(", ")
    }

    fn read(text: &mut Cursor<'_>) -> Result<Txn, ParseError> {
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

    /// Simpler transactions: half of the operations, one operation less, not stubborn, or a small
    /// put instead of another operation.
    fn simplifications(&self) -> Vec<Txn> {
        let mut all = Vec::new();
        // Of three operations, a half is what the removal of one or two below yields anyway.
        if self.ops.len() > 3 {
            let (front, back) = self.ops.split_at(self.ops.len() / 2);
            all.extend([self.with_ops(front.to_vec()), self.with_ops(back.to_vec())]);
        }
        if self.ops.len() > 1 {
            all.extend((0..self.ops.len()).map(|gone| {
                let kept = self.ops.iter().enumerate().filter(|(at, _)| *at != gone);
                self.with_ops(kept.map(|(_, op)| *op).collect())
            }));
        }
        if self.stubborn {
            all.push(Txn { stubborn: false, ..self.clone() });
        }
        for (at, op) in self.ops.iter().enumerate() {
            if !matches!(op.action, Action::Put(0..10)) {
                let mut ops = self.ops.to_vec();
                // One digit, and not the same for neighbours, so that reads of a trace can be
                // distinguished.
                ops[at].action = Action::Put(1 + at as i64 % 9);
                all.push(self.with_ops(ops));
            }
        }
        all
    }

    /// One transaction with the operations of both.
    fn merged(&self, other: &Txn) -> Option<Txn> {
        let ops = self.ops.iter().chain(other.ops.iter()).copied().collect();
        Some(Txn { ops, stubborn: self.stubborn || other.stubborn })
    }

    /// The same transaction with renumbered nodes, without the operations at nodes that have no new
    /// number. `None` if no operation is left.
    fn renumbered(&self, number: &dyn Fn(NodeId) -> Option<NodeId>) -> Option<Txn> {
        let ops: Vec<Op> =
            self.ops.iter().filter_map(|op| Some(Op { node: number(op.node)?, ..*op })).collect();
        (!ops.is_empty()).then(|| self.with_ops(ops))
    }
}

impl Txn {
    fn with_ops(&self, ops: Vec<Op>) -> Txn {
        Txn { ops: ops.into(), stubborn: self.stubborn }
    }
}

/// The prefix of a node that the cluster does not have.
const ABSENT: &str = "absent-";

fn read_op(text: &mut Cursor<'_>) -> Result<Op, ParseError> {
    // Errors point at the beginning of the operation, and its other form is read from there.
    let start = text.clone();
    let mut words = vec![text.word("an operation, like put k=1 @n0")?];
    while !matches!(text.peek(), "" | ",") {
        words.push(text.word("an operation, like put k=1 @n0")?);
    }
    if is_node_first(&words) {
        *text = start;
        return read_node_first(text);
    }
    // Only a schedule knows the size of its cluster, and so which nodes are absent.
    let written = words.join(" ");
    let absent = written.contains(&format!("@{ABSENT}"));
    let op: Op = written
        .replace(&format!("@{ABSENT}"), "@")
        .parse()
        .map_err(|error| start.error_here(&format!("an operation ({error})")))?;
    if (op.node.0 >= text.nodes()) == absent {
        Ok(op)
    } else {
        let last = text.nodes() - 1;
        Err(start.error_here(&format!("an operation at a node of the cluster (n0 to n{last})")))
    }
}

/// Whether these are the words of an operation as earlier versions wrote it: `put n0/k 7`.
fn is_node_first(words: &[&str]) -> bool {
    let Some(place) = words.get(1) else { return false };
    let node = place.strip_prefix(ABSENT).unwrap_or(place).strip_prefix('n');
    let digits = node.and_then(|rest| rest.split_once('/')).map(|(digits, _)| digits);
    digits.is_some_and(|digits| digits.parse::<u16>().is_ok())
        // A key may look like `n0/k` in the present form, but only that form has a place.
        && !words.iter().any(|word| word.starts_with('@'))
}

/// Reads `put n0/k 7`, `add n1/a0 -5 at least -60`, `get n2/hot` or `delete n1/k`: saved schedules
/// stay readable.
fn read_node_first(text: &mut Cursor<'_>) -> Result<Op, ParseError> {
    let verb = text.one_of(&[("put", 'p'), ("add", 'a'), ("get", 'g'), ("delete", 'd')])?;
    let (node, key) = read_key(text)?;
    let action = match verb {
        'p' => Action::Put(read_number(text)?),
        'a' => {
            let by = read_number(text)?;
            let bounded = text.take("at");
            if bounded {
                text.expect_word("least")?;
            }
            Action::Add { by, at_least: if bounded { read_number(text)? } else { i64::MIN } }
        }
        'g' => Action::Get,
        _ => Action::Delete,
    };
    Ok(Op { node, key, action })
}

fn read_number(text: &mut Cursor<'_>) -> Result<i64, ParseError> {
    text.parsed("a whole number", |_| true)
}

fn read_key(text: &mut Cursor<'_>) -> Result<(NodeId, Key), ParseError> {
    let last = text.nodes() - 1;
    let expected =
        format!("a node (n0 to n{last}) and a key of at most {} bytes, like n0/k", Key::BYTES_MAX);
    let found = parse_key(text.peek(), last).ok_or_else(|| text.error_here(&expected))?;
    text.word(&expected)?;
    Ok(found)
}

fn parse_key(token: &str, last_node: u16) -> Option<(NodeId, Key)> {
    let (absent, token) = token.strip_prefix(ABSENT).map_or((false, token), |token| (true, token));
    let (node, key) = token.strip_prefix('n')?.split_once('/')?;
    let node = node.parse().ok().filter(|node| (*node > last_node) == absent)?;
    Some((NodeId(node), Key::new(key).ok().filter(|_| !key.is_empty())?))
}
