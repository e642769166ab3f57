//! Frames out of a stream of bytes, with a limit, and a bounded queue of bytes into one.

use std::io;
use std::sync::Mutex;
use std::time::Duration;

use serde::{Serialize, de::DeserializeOwned};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::wire::{self, WireError};

/// No frame is longer than this (4 MiB); the longest transaction takes about half of it.
pub const FRAME_BYTES_MAX: usize = 4 << 20;

/// No frame is longer than this (1 KiB) before the other side has said who it is.
pub(crate) const GREETING_BYTES_MAX: usize = 1 << 10;

/// How much is read at once.
const READ_BYTES: usize = 16 << 10;

/// Why nothing more can be read from a connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StreamError {
    #[error("connection lost: {0}")]
    Io(#[from] io::Error),
    #[error("hung up in the middle of a frame")]
    CutShort,
    #[error("frame refused: {0}")]
    Wire(#[from] WireError),
    #[error("frame refused: {len} bytes, the limit is {limit}")]
    Oversized { len: usize, limit: usize },
    #[error("silent for {0:?}")]
    Silent(Duration),
}

/// Reads frames. Holds at most one frame more than it has handed out, and never more than the limit.
#[derive(Debug)]
pub(crate) struct Frames<R> {
    from: R,
    limit: usize,
    buffer: Vec<u8>,
    // start <= buffer.len(); what lies before has been handed out.
    start: usize,
    /// Whole frames whose content was none: dropped, since the next frame is where it should be.
    nonsense: u64,
}

impl<R: AsyncRead + Unpin> Frames<R> {
    pub(crate) fn new(from: R, limit: usize) -> Frames<R> {
        Frames { from, limit, buffer: Vec::new(), start: 0, nonsense: 0 }
    }

    /// How many whole frames held nothing that could be understood. They were dropped.
    pub(crate) fn nonsense(&self) -> u64 {
        self.nonsense
    }

    pub(crate) fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// The next value; `None` if the other side has hung up between two frames. Waits for at most `patience` from
    /// one byte to the next. Cancel-safe: nothing that was read is lost.
    pub(crate) async fn next<T: DeserializeOwned>(
        &mut self,
        patience: Duration,
    ) -> Result<Option<T>, StreamError> {
        loop {
            if let Some(value) = self.buffered()? {
                return Ok(Some(value));
            }
            self.make_room();
            let read = timeout(patience, self.from.read_buf(&mut self.buffer)).await;
            if read.map_err(|_| StreamError::Silent(patience))?? == 0 {
                return if self.start == self.buffer.len() { Ok(None) } else { Err(StreamError::CutShort) };
            }
        }
    }

    /// The next value, if all of it has been read.
    pub(crate) fn buffered<T: DeserializeOwned>(&mut self) -> Result<Option<T>, StreamError> {
        loop {
            let unread = &self.buffer[self.start..];
            let Some(len) = wire::frame_len(unread)? else { return Ok(None) };
            if len > self.limit {
                return Err(StreamError::Oversized { len, limit: self.limit });
            }
            let Some(frame) = unread.get(..len) else { return Ok(None) };
            let value = wire::open(frame);
            self.start += len;
            match value {
                Ok(value) => return Ok(Some(value)),
                Err(WireError::Codec(_)) => self.nonsense += 1,
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn make_room(&mut self) {
        self.buffer.drain(..self.start);
        self.start = 0;
        // One huge frame must not keep its memory for as long as the connection lasts.
        if self.buffer.is_empty() && self.buffer.capacity() > 16 * READ_BYTES {
            self.buffer = Vec::new();
        }
        self.buffer.reserve(READ_BYTES);
    }
}

/// Writes one value at once, with a limit on the time that takes.
pub(crate) async fn say<T: Serialize>(
    to: &mut (impl AsyncWrite + Unpin),
    value: &T,
    patience: Duration,
) -> Result<(), StreamError> {
    write(to, &wire::seal(value), patience).await
}

/// Writes bytes, with a limit on the time that takes.
pub(crate) async fn write(
    to: &mut (impl AsyncWrite + Unpin),
    bytes: &[u8],
    patience: Duration,
) -> Result<(), StreamError> {
    timeout(patience, to.write_all(bytes)).await.map_err(|_| StreamError::Silent(patience))??;
    Ok(())
}

/// A bounded queue of frames on their way into one connection. Putting in never waits: what has no room is dropped, and
/// who puts in is told.
#[derive(Debug)]
pub(crate) struct Pipe {
    queued: Mutex<Queued>,
    filled: Notify,
    limit: usize,
}

#[derive(Debug, Default)]
struct Queued {
    bytes: Vec<u8>,
    dropped: u64,
    closed: bool,
}

impl Pipe {
    pub(crate) fn new(limit: usize) -> Pipe {
        Pipe { queued: Mutex::default(), filled: Notify::new(), limit }
    }

    fn queued(&self) -> std::sync::MutexGuard<'_, Queued> {
        self.queued.lock().expect("nobody panics while holding this lock")
    }

    /// Puts a value in, whole or not at all; false if it was dropped.
    pub(crate) fn put<T: Serialize>(&self, value: &T) -> bool {
        let mut queued = self.queued();
        let before = queued.bytes.len();
        if queued.closed || before >= self.limit {
            queued.dropped += 1;
            return false;
        }
        wire::seal_into(value, &mut queued.bytes);
        let after = queued.bytes.len();
        if after > self.limit || after - before > FRAME_BYTES_MAX {
            queued.bytes.truncate(before);
            queued.dropped += 1;
            return false;
        }
        if before == 0 {
            self.filled.notify_one();
        }
        true
    }

    /// Waits until there is something, and takes all of it; false once the pipe is closed and empty. `into` is
    /// cleared first and its memory is used for what comes next. Cancel-safe.
    pub(crate) async fn take(&self, into: &mut Vec<u8>) -> bool {
        into.clear();
        loop {
            {
                let mut queued = self.queued();
                if !queued.bytes.is_empty() {
                    std::mem::swap(&mut queued.bytes, into);
                    return true;
                }
                if queued.closed {
                    return false;
                }
            }
            self.filled.notified().await;
        }
    }

    /// Takes no more; what is in it can still be taken out.
    pub(crate) fn close(&self) {
        self.queued().closed = true;
        self.filled.notify_one();
    }

    /// Bytes that wait, and frames that were dropped.
    pub(crate) fn load(&self) -> (u64, u64) {
        let queued = self.queued();
        (queued.bytes.len() as u64, queued.dropped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(future)
    }

    const SOON: Duration = Duration::from_millis(50);

    #[test]
    fn frames_come_out_as_they_went_in_however_the_bytes_are_cut() {
        let bytes = [wire::seal(&1u64), wire::seal(&"two".to_string()), wire::seal(&3u64)].concat();
        for cut in 1..bytes.len() {
            let (a, b) = bytes.split_at(cut);
            let mut frames = Frames::new(a.chain(b), 100);
            now(async {
                assert_eq!(frames.next::<u64>(SOON).await.unwrap(), Some(1));
                assert_eq!(frames.next::<String>(SOON).await.unwrap(), Some("two".into()));
                assert_eq!(frames.next::<u64>(SOON).await.unwrap(), Some(3));
                assert_eq!(frames.next::<u64>(SOON).await.unwrap(), None);
            });
        }
    }

    #[test]
    fn what_is_too_long_is_refused_before_it_is_read() {
        let mut header = wire::seal(&0u64);
        header[3..7].copy_from_slice(&u32::MAX.to_le_bytes());
        let mut frames = Frames::new(&header[..7], 100);
        let refused = now(frames.next::<u64>(SOON));
        assert!(matches!(refused, Err(StreamError::Oversized { limit: 100, .. })), "{refused:?}");
    }

    #[test]
    fn a_frame_cut_short_and_a_silent_peer_are_told_apart() {
        let frame = wire::seal(&7u64);
        let mut cut = Frames::new(&frame[..frame.len() - 1], 100);
        assert!(matches!(now(cut.next::<u64>(SOON)), Err(StreamError::CutShort)));
        let silent = async {
            let (here, _there) = tokio::io::duplex(10);
            Frames::new(here, 100).next::<u64>(SOON).await
        };
        assert!(matches!(now(silent), Err(StreamError::Silent(_))));
    }

    #[test]
    fn a_full_pipe_drops_and_says_so() {
        let pipe = Pipe::new(30);
        assert!(pipe.put(&1u64));
        assert!(pipe.put(&2u64));
        assert!(!pipe.put(&"much too long to fit".to_string()));
        assert_eq!(pipe.load(), (24, 1));
        let mut taken = Vec::new();
        assert!(now(pipe.take(&mut taken)));
        assert_eq!(taken, [wire::seal(&1u64), wire::seal(&2u64)].concat());
        pipe.close();
        assert!(!now(pipe.take(&mut taken)));
    }
}
