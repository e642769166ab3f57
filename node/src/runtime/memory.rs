//! The memory that connections of one kind share.
//!
//! Each connection has a little memory of its own, [`UNSHARED_BYTES`] for what it reads and as much
//! for what it sends. What does not fit takes a share of a pool, so that many connections together
//! cannot take more than the pool has. Clients, operators and each peer have pools of their own:
//! none of them can take the memory of another.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

/// Buffers up to this length need no share: 32 KiB.
// Two reads of a connection: frames up to 16 KiB, as nearly all are, never wait for a share.
pub(crate) const UNSHARED_BYTES: usize = 32 << 10;

/// How long a large frame waits for its share of the memory.
const SHARE_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a large frame may hold its share before all of it has come.
// Senders give up a write of this length after five seconds, so nothing honest takes longer.
const FRAME_TIMEOUT: Duration = Duration::from_secs(10);

/// A number of bytes that connections of one kind share. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct MemoryPool {
    free: Arc<Semaphore>,
    pub(crate) total: usize,
    pub(crate) share_timeout: Duration,
    pub(crate) frame_timeout: Duration,
}

/// Bytes of a pool, returned when dropped.
#[derive(Debug)]
pub(crate) struct MemoryShare(OwnedSemaphorePermit);

impl MemoryPool {
    pub(crate) fn new(total: usize) -> MemoryPool {
        MemoryPool {
            free: Arc::new(Semaphore::new(total)),
            total,
            share_timeout: SHARE_TIMEOUT,
            frame_timeout: FRAME_TIMEOUT,
        }
    }

    /// Waits for so many bytes, behind those that wait already; `None` after `share_timeout`.
    /// Cancel-safe, but for the place in the queue.
    pub(crate) async fn acquire(&self, bytes: usize) -> Option<MemoryShare> {
        let bytes = u32::try_from(bytes).ok()?;
        let acquired = Arc::clone(&self.free).acquire_many_owned(bytes);
        timeout(self.share_timeout, acquired).await.ok()?.ok().map(MemoryShare)
    }

    /// Raises `share` to so many bytes, at once or not at all; false if there are too few.
    pub(crate) fn try_raise(&self, share: &mut Option<MemoryShare>, bytes: usize) -> bool {
        let held = share.as_ref().map_or(0, |share| share.0.num_permits());
        let Ok(missing) = u32::try_from(bytes.saturating_sub(held)) else { return false };
        let Ok(permit) = Arc::clone(&self.free).try_acquire_many_owned(missing) else {
            return false;
        };
        match share {
            Some(share) => share.0.merge(permit),
            None => *share = Some(MemoryShare(permit)),
        }
        true
    }
}
