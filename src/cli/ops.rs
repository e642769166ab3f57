//! Operations as people write them: `put a=1 @0`, `add b=-5>=0 @2`, `get a @1`, `delete a @0`.

use std::str::FromStr;

use stormglass::NodeId;
use stormglass::commit::{Action, Key, Op};

/// One operation, parsed from text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OpArg(pub(super) Op);

/// A key of a node: `a @0` or `a@0`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct KeyAtNode(pub(super) Key, pub(super) NodeId);

const EXPECTED: &str = "expected 'put KEY=VALUE @NODE', 'add KEY=CHANGE[>=BOUND] @NODE', 'get KEY @NODE' or 'delete KEY @NODE'";

impl FromStr for OpArg {
    type Err = String;
    fn from_str(text: &str) -> Result<OpArg, String> {
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
            _ => return Err(format!("there is no operation {verb:?}; {EXPECTED}")),
        };
        Ok(OpArg(Op { node, key: key_of(key)?, action }))
    }
}

impl FromStr for KeyAtNode {
    type Err = String;
    fn from_str(text: &str) -> Result<KeyAtNode, String> {
        let (key, node) = split_node(text)?;
        Ok(KeyAtNode(key_of(key)?, node))
    }
}

fn split_node(text: &str) -> Result<(&str, NodeId), String> {
    let (what, node) = text.rsplit_once('@').ok_or("expected @NODE at the end, like @0")?;
    Ok((what.trim(), node_of(node.trim())?))
}

/// `0` or `n0`.
pub(super) fn node_of(text: &str) -> Result<NodeId, String> {
    let number = text.strip_prefix('n').unwrap_or(text);
    number
        .parse()
        .map(NodeId)
        .map_err(|_| format!("{text:?} is not a node id; expected a number from 0 to 65535"))
}

fn key_of(text: &str) -> Result<Key, String> {
    let key = text.trim();
    if key.is_empty() {
        return Err("the key is empty".to_owned());
    }
    Key::new(key).map_err(|error| error.to_string())
}

fn number(text: &str) -> Result<i64, String> {
    text.trim().parse().map_err(|_| format!("{:?} is not a 64-bit integer", text.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_read_as_they_are_written() {
        let op = |node, key, action| {
            Ok(OpArg(Op { node: NodeId(node), key: Key::new(key).unwrap(), action }))
        };
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
            let error = text.parse::<OpArg>().expect_err(text);
            assert!(!error.is_empty() && !error.contains('\n'), "{text}: {error}");
        }
    }
}
