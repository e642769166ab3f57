//! File descriptors: how many the process may have, and how they are shared out.
//!
//! A connection must never take the descriptor that the disk needs: a log that cannot be opened
//! halts the node. So the connections of strangers are limited to what is left after the files, the
//! peers and the operators have theirs.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::listener::{CLIENTS_MAX, HANDSHAKES_MAX, OPERATORS_MAX, peer_connections_max};

/// Descriptors of everything but connections: the standard streams, the log and the directory,
/// files of a compaction, the event log, the asynchronous runtime.
const RESERVED: usize = 32;

/// Fewer connections of clients, or handshakes, are not worth a start.
const STRANGERS_MIN: usize = 4;

/// How many connections there may be at one time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ConnectionLimits {
    /// That have not completed the handshake.
    pub(super) handshakes: usize,
    pub(super) clients: usize,
}

/// The limit is too low for a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "this process may open {limit} files, and a node with {peers} peers needs {needed}; raise the limit (`ulimit -n`)"
)]
pub struct TooFewDescriptors {
    limit: usize,
    peers: usize,
    needed: usize,
}

/// Raises the limit of open files of this process to what it may be raised to.
pub fn raise_descriptor_limit() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    // Refused by some systems if there is no maximum; then the present limit stays.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
}

/// The limits under the present limit of open files.
///
/// # Errors
/// If it is too low.
pub(super) fn connection_limits(peers: usize) -> Result<ConnectionLimits, TooFewDescriptors> {
    let limit = getrlimit(Resource::Nofile).current;
    limits_of(limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX)), peers)
}

fn limits_of(limit: usize, peers: usize) -> Result<ConnectionLimits, TooFewDescriptors> {
    // A link to each peer, and the connections from it.
    let reserved = RESERVED + OPERATORS_MAX + peers + peer_connections_max(peers);
    let needed = reserved + 2 * STRANGERS_MIN;
    if limit < needed {
        return Err(TooFewDescriptors { limit, peers, needed });
    }
    let left = limit - reserved;
    let clients = (left / 2).min(CLIENTS_MAX);
    Ok(ConnectionLimits { handshakes: (left - clients).min(HANDSHAKES_MAX), clients })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_get_what_is_left() {
        let all = ConnectionLimits { handshakes: HANDSHAKES_MAX, clients: CLIENTS_MAX };
        assert_eq!(limits_of(usize::MAX, 63), Ok(all));
        assert_eq!(limits_of(1_024, 3), Ok(all));
        assert_eq!(limits_of(64, 0), Ok(ConnectionLimits { handshakes: 12, clients: 12 }));
        let error = limits_of(64, 7).expect_err("too low");
        assert_eq!(
            error.to_string(),
            "this process may open 64 files, and a node with 7 peers needs 83; raise the limit \
             (`ulimit -n`)"
        );
        assert!(limits_of(83, 7).is_ok());
    }
}
