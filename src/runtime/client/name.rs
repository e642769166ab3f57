//! A request's full name, for people and scripts.

use crate::id::{Incarnation, NodeId, RequestId};

/// Everything it takes to ask for a request's outcome: whom, which life of it, and the request. Prints as
/// `n0.3:c17.1/0`, and is read back from that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Name {
    /// The coordinator.
    pub node: NodeId,
    /// The life that was addressed.
    pub life: Incarnation,
    /// The request.
    pub id: RequestId,
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let RequestId { client, serial, attempt } = self.id;
        write!(f, "{}.{}:c{client}.{serial}/{attempt}", self.node, self.life.0)
    }
}

/// A text is no request's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected a request's name as `tx` prints it, like n0.3:c17.1/0")]
pub struct NoName;

impl std::str::FromStr for Name {
    type Err = NoName;
    fn from_str(text: &str) -> Result<Name, NoName> {
        fn number<T: std::str::FromStr>(text: &str) -> Result<T, NoName> {
            text.parse().map_err(|_| NoName)
        }
        let (node, request) = text.split_once(':').ok_or(NoName)?;
        let (node, life) = node.strip_prefix('n').and_then(|rest| rest.split_once('.')).ok_or(NoName)?;
        let (client, turn) = request.strip_prefix('c').and_then(|rest| rest.split_once('.')).ok_or(NoName)?;
        let (serial, attempt) = turn.split_once('/').ok_or(NoName)?;
        let id = RequestId { client: number(client)?, serial: number(serial)?, attempt: number(attempt)? };
        Ok(Name { node: NodeId(number(node)?), life: Incarnation(number(life)?), id })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_read_back_as_it_was_printed() {
        let id = RequestId { client: u64::MAX, serial: 1, attempt: 2 };
        let name = Name { node: NodeId(3), life: Incarnation(5), id };
        assert_eq!(name.to_string().parse(), Ok(name));
        for text in ["", "n3", "n3.5:c17.1", "n3.5:c17.1/x", "3.5:c17.1/0", "n3.5:c17.1/-1"] {
            assert_eq!(text.parse::<Name>(), Err(NoName), "{text}");
        }
    }
}
