//! The full name of a request, for people and scripts.

use stormglass_node::id::{Incarnation, NodeId, RequestId};

/// Everything needed to query a request's outcome: the node, its incarnation, and the request id.
/// Prints as `n0.3.9f3a01c2:c17.1/0`, and parses from that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs, reason = "the names say it")]
pub struct RequestHandle {
    /// The coordinator.
    pub node: NodeId,
    /// The incarnation to which the request was addressed.
    pub incarnation: Incarnation,
    pub id: RequestId,
}

impl std::fmt::Display for RequestHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let RequestId { client, serial, attempt } = self.id;
        // Always with the attempt, unlike `RequestId`: a handle has one form, which is copied and
        // parsed.
        write!(f, "{}.{:#}:c{client}.{serial}/{attempt}", self.node, self.incarnation)
    }
}

/// A text is not a request handle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected a request handle as printed by `tx`, like n0.3.9f3a01c2:c17.1/0")]
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
        Ok(RequestHandle { node: NodeId(number(node)?), incarnation: number(incarnation)?, id })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_handle_round_trips_through_text() {
        let id = RequestId { client: u64::MAX, serial: 1, attempt: 2 };
        let handle = RequestHandle { node: NodeId(3), incarnation: Incarnation::numbered(5), id };
        assert_eq!(handle.to_string().parse(), Ok(handle));
        for text in ["", "n3", "n3.5:c17.1", "n3.5:c17.1/x", "3.5:c17.1/0", "n3.5:c17.1/-1"] {
            assert_eq!(text.parse::<RequestHandle>(), Err(ParseHandleError), "{text}");
        }
    }
}
