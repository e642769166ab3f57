//! Operations as people write them: `put a=1 @0`, `add b=-5>=0 @2`, `get a @1`, `delete a @0`.

use std::str::FromStr;

use stormglass_node::NodeId;

use super::op::{Action, Key, Op};

/// A key of a node: `a @0` or `a@0`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub struct KeyAtNode {
    pub key: Key,
    pub node: NodeId,
}

/// Why a text is not an operation, a key of a node, or a node: one line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ParseOpError(String);

impl From<&str> for ParseOpError {
    fn from(text: &str) -> ParseOpError {
        ParseOpError(text.to_owned())
    }
}

const EXPECTED: &str = "expected 'put KEY=VALUE @NODE', 'add KEY=CHANGE[>=BOUND] @NODE', 'get KEY @NODE' or 'delete KEY @NODE'";

impl FromStr for Op {
    type Err = ParseOpError;
    fn from_str(text: &str) -> Result<Op, ParseOpError> {
        let (verb, rest) = text.trim().split_once(char::is_whitespace).ok_or(EXPECTED)?;
        let (what, node) = split_node(rest)?;
        let (key, action) = match verb {
            "get" => (what, Action::Get),
            "delete" => (what, Action::Delete),
            "put" => {
                let (key, value) = what.split_once('=').ok_or(EXPECTED)?;
                (key, Action::Put(number(value)?))
            }
            "add" => {
                let (key, change) = what.split_once('=').ok_or(EXPECTED)?;
                let (by, at_least) =
                    change.split_once(">=").map_or((change, None), |(by, least)| (by, Some(least)));
                let at_least = at_least.map_or(Ok(i64::MIN), number)?;
                (key, Action::Add { by: number(by)?, at_least })
            }
            _ => return Err(ParseOpError(format!("there is no operation {verb:?}; {EXPECTED}"))),
        };
        Ok(Op { node, key: key_of(key)?, action })
    }
}

impl FromStr for KeyAtNode {
    type Err = ParseOpError;
    fn from_str(text: &str) -> Result<KeyAtNode, ParseOpError> {
        let (key, node) = split_node(text)?;
        Ok(KeyAtNode { key: key_of(key)?, node })
    }
}

fn split_node(text: &str) -> Result<(&str, NodeId), ParseOpError> {
    let (what, node) = text.rsplit_once('@').ok_or("expected @NODE at the end, like @0")?;
    Ok((what.trim(), node_of(node.trim())?))
}

/// `0` or `n0`.
///
/// # Errors
/// [`ParseOpError`] for any other text.
pub fn node_of(text: &str) -> Result<NodeId, ParseOpError> {
    let number = text.strip_prefix('n').unwrap_or(text);
    number.parse().map(NodeId).map_err(|_| {
        ParseOpError(format!("{text:?} is not a node id; expected a number from 0 to 65535"))
    })
}

fn key_of(text: &str) -> Result<Key, ParseOpError> {
    let key = text.trim();
    if key.is_empty() {
        return Err("the key is empty".into());
    }
    Key::new(key).map_err(|error| ParseOpError(error.to_string()))
}

fn number(text: &str) -> Result<i64, ParseOpError> {
    let text = text.trim();
    text.parse().map_err(|_| ParseOpError(format!("{text:?} is not a 64-bit integer")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_read_as_they_are_written() {
        let op =
            |node, key, action| Ok(Op { node: NodeId(node), key: Key::new(key).unwrap(), action });
        assert_eq!("put a=1 @0".parse(), op(0, "a", Action::Put(1)));
        assert_eq!("add b=-5>=0 @2".parse(), op(2, "b", Action::Add { by: -5, at_least: 0 }));
        assert_eq!(" add b=+5@n2".parse(), op(2, "b", Action::Add { by: 5, at_least: i64::MIN }));
        assert_eq!("get a @1".parse(), op(1, "a", Action::Get));
        assert_eq!("delete a b @1".parse(), op(1, "a b", Action::Delete));
    }

    #[test]
    fn malformed_operation_gives_a_one_line_error() {
        for text in [
            "",
            "put",
            "put a=1",
            "put a @0",
            "put a=x @0",
            "put =1 @0",
            "add a=1>=y @0",
            "take a @0",
            "get a @x",
            "get a @65536",
            "put a=9223372036854775808 @0",
            "get xxxxxxxxxxxxxxxxxxxxxxxx @0",
        ] {
            let error = text.parse::<Op>().expect_err(text).to_string();
            assert!(!error.is_empty() && !error.contains('\n'), "{text}: {error}");
        }
    }
}
