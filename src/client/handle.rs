//! The full name of a request, for people and scripts.

use crate::commit::Position;
use stormglass_node::id::{NodeId, RequestId};

/// Everything needed to query a request's outcome: the node, its position, and the request id.
/// Prints as `n0.3.9f3a01c2#57:c17.1/0`, and parses from that. Without `#57`, as earlier versions
/// wrote it, it has serial 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs, reason = "the names say it")]
pub struct RequestHandle {
    /// The coordinator.
    pub node: NodeId,
    /// The position of the coordinator to which the request was addressed.
    pub addressed: Position,
    pub id: RequestId,
}

impl std::fmt::Display for RequestHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let RequestId { client, serial, attempt } = self.id;
        let Position { incarnation, serial: begun } = self.addressed;
        // Always with the attempt, unlike `RequestId`: a handle has one form, which is copied and
        // parsed.
        write!(f, "{}.{incarnation:#}#{begun}:c{client}.{serial}/{attempt}", self.node)
    }
}

/// A text is not a request handle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected a request handle as printed by `tx`, like n0.3.9f3a01c2#57:c17.1/0")]
pub struct ParseHandleError;

impl std::str::FromStr for RequestHandle {
    type Err = ParseHandleError;
    fn from_str(text: &str) -> Result<RequestHandle, ParseHandleError> {
        fn number<T: std::str::FromStr>(text: &str) -> Result<T, ParseHandleError> {
            text.parse().map_err(|_| ParseHandleError)
        }
        let (node, request) = text.split_once(':').ok_or(ParseHandleError)?;
        let (node, incarnation) =
            node.strip_prefix('n').and_then(|rest| rest.split_once('.')).ok_or(ParseHandleError)?;
        let (incarnation, begun) = incarnation.split_once('#').unwrap_or((incarnation, "0"));
        let (client, turn) = request
            .strip_prefix('c')
            .and_then(|rest| rest.split_once('.'))
            .ok_or(ParseHandleError)?;
        let (serial, attempt) = turn.split_once('/').ok_or(ParseHandleError)?;
        let id = RequestId {
            client: number(client)?,
            serial: number(serial)?,
            attempt: number(attempt)?,
        };
        let addressed = Position { incarnation: number(incarnation)?, serial: number(begun)? };
        Ok(RequestHandle { node: NodeId(number(node)?), addressed, id })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use stormglass_node::id::Incarnation;

    #[test]
    fn request_handle_round_trips_through_text() {
        let id = RequestId { client: u64::MAX, serial: 1, attempt: 2 };
        let addressed = Position { incarnation: Incarnation::numbered(5), serial: 7 };
        let handle = RequestHandle { node: NodeId(3), addressed, id };
        assert_eq!(handle.to_string().parse(), Ok(handle));
        let without_serial = format!("n3.5:{}", handle.to_string().split_once(':').unwrap().1);
        let addressed = Position { serial: 0, ..addressed };
        assert_eq!(without_serial.parse(), Ok(RequestHandle { addressed, ..handle }));
        for text in
            ["", "n3", "n3.5:c17.1", "n3.5:c17.1/x", "3.5:c17.1/0", "n3.5:c17.1/-1", "n3.5#:c1.1/0"]
        {
            assert_eq!(text.parse::<RequestHandle>(), Err(ParseHandleError), "{text}");
        }
    }
}
