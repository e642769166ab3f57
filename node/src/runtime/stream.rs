//! Reads frames from a byte stream with a length limit, and a bounded queue of outgoing frames.

use std::io;
use std::sync::Mutex;
use std::time::Duration;

use serde::{Serialize, de::DeserializeOwned};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

use super::memory::{MemoryPool, MemoryShare, UNSHARED_BYTES};
use crate::codec::CodecError;
use crate::wire::{self, WireError};

/// The greatest length of a frame: 4 MiB.
pub const FRAME_BYTES_MAX: usize = 4 << 20;

/// The greatest length of a frame before the handshake is complete: 1 KiB.
pub(crate) const HANDSHAKE_BYTES_MAX: usize = 1 << 10;

/// Free buffer space before each read.
// Many small messages in one read, and little memory for an idle connection.
const READ_BYTES: usize = 16 << 10;

/// Why nothing more can be read from a connection.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
#[non_exhaustive]
pub enum StreamError {
    #[error("connection lost: {0}")]
    Io(#[from] io::Error),
    #[error("connection closed in the middle of a frame")]
    UnexpectedEof,
    #[error("frame refused: {0}")]
    Wire(#[from] WireError),
    #[error("frame refused: {len} bytes, the limit is {limit}")]
    Oversized { len: usize, limit: usize },
    #[error("silent for {0:?}")]
    TimedOut(Duration),
    #[error(
        "no memory for a frame of {len} bytes within {waited:?}: frames of other connections hold \
         most of the {total} bytes"
    )]
    NoMemory { len: usize, waited: Duration, total: usize },
    #[error("a frame of {len} bytes was not complete after {limit:?}")]
    SlowFrame { len: usize, limit: Duration },
}

/// Reads frames. A frame longer than the limit is refused from its header, or dropped as it
/// arrives, and never buffered.
#[derive(Debug)]
pub struct Frames<R> {
    from: R,
    limit: usize,
    buffer: Vec<u8>,
    // start <= buffer.len(); the bytes before it were returned.
    start: usize,
    /// Where the memory of large frames comes from; `None` if only `limit` bounds it.
    memory: Option<MemoryPool>,
    /// Whether oversized frames are skipped.
    skips_oversized: bool,
    /// The bytes of an oversized frame that are still to be dropped.
    skipped: usize,
    /// The frame at `start`, if it has a share.
    large: Option<LargeFrame>,
    /// The share of the value that was returned last.
    returned: Option<MemoryShare>,
}

/// A frame that does not fit into the memory of one connection.
#[derive(Debug)]
struct LargeFrame {
    share: MemoryShare,
    len: usize,
    limit: Duration,
    /// The end of `limit`.
    deadline: Instant,
}

/// A frame. Unless it is oversized, it is whole, and its length and checksum are right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Frame<T> {
    Value(T),
    /// The payload does not decode. The next frame still begins where it should.
    Undecodable(CodecError),
    /// It is longer than the limit, and is dropped as it arrives: only after
    /// [`skip_oversized`](Frames::skip_oversized).
    Oversized {
        len: usize,
        limit: usize,
    },
}

impl<R: AsyncRead + Unpin> Frames<R> {
    /// Reads from this stream, with a limit for the length of a frame in bytes.
    pub fn new(from: R, limit: usize) -> Frames<R> {
        Frames {
            from,
            limit,
            buffer: Vec::new(),
            start: 0,
            memory: None,
            skips_oversized: false,
            skipped: 0,
            large: None,
            returned: None,
        }
    }

    /// From now on, a frame longer than the limit is no error: it is dropped as it arrives, without
    /// a buffer.
    pub(crate) fn skip_oversized(&mut self) {
        self.skips_oversized = true;
    }

    /// Changes the limit for the length of a frame, in bytes.
    pub fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// From now on, the buffer of a large frame takes a share of this memory.
    pub(crate) fn set_memory(&mut self, memory: MemoryPool) {
        self.memory = Some(memory);
    }

    /// The share of the value that was returned last: the value takes about the memory that its
    /// frame has taken, so it is to be kept with the value. `None` for small frames.
    pub(crate) fn take_share(&mut self) -> Option<MemoryShare> {
        self.returned.take()
    }

    /// The next value; `None` if the other side closed the connection between two frames. Each read
    /// waits at most `limit_per_read`. Frames that do not decode are skipped. Cancel-safe: nothing
    /// that was read is lost.
    ///
    /// # Errors
    /// [`StreamError`]: nothing more can be read.
    pub async fn next<T: DeserializeOwned>(
        &mut self,
        limit_per_read: Duration,
    ) -> Result<Option<T>, StreamError> {
        loop {
            match self.next_frame(limit_per_read).await? {
                None => return Ok(None),
                Some(Frame::Value(value)) => return Ok(Some(value)),
                Some(Frame::Undecodable(_) | Frame::Oversized { .. }) => {}
            }
        }
    }

    /// Like [`next`](Frames::next), with the frames that do not decode.
    ///
    /// # Errors
    /// [`StreamError`]: nothing more can be read.
    pub(crate) async fn next_frame<T: DeserializeOwned>(
        &mut self,
        limit_per_read: Duration,
    ) -> Result<Option<Frame<T>>, StreamError> {
        loop {
            // One read may have brought several frames.
            if let Some(frame) = self.buffered()? {
                return Ok(Some(frame));
            }
            self.make_room().await?;
            let limit = self.large.as_ref().map_or(limit_per_read, |large| {
                limit_per_read.min(large.deadline.saturating_duration_since(Instant::now()))
            });
            let read = timeout(limit, self.from.read_buf(&mut self.buffer)).await;
            if read.map_err(|_| self.timed_out(limit_per_read))?? == 0 {
                // An end between two frames is how a connection is closed; an end within one has
                // lost data.
                return if self.start == self.buffer.len() && self.skipped == 0 {
                    Ok(None)
                } else {
                    Err(StreamError::UnexpectedEof)
                };
            }
        }
    }

    /// The next frame, if all of it has been read.
    fn buffered<T: DeserializeOwned>(&mut self) -> Result<Option<Frame<T>>, StreamError> {
        let dropped = self.skipped.min(self.buffer.len() - self.start);
        self.start += dropped;
        self.skipped -= dropped;
        let unread = &self.buffer[self.start..];
        let Some(len) = wire::frame_len(unread)? else { return Ok(None) };
        // From the header alone, before there is a buffer for the rest.
        if len > self.limit {
            let limit = self.limit;
            if !self.skips_oversized {
                return Err(StreamError::Oversized { len, limit });
            }
            self.skipped = len;
            return Ok(Some(Frame::Oversized { len, limit }));
        }
        let Some(frame) = unread.get(..len) else { return Ok(None) };
        let decoded = wire::decode_frame(frame);
        self.start += len;
        self.returned = self.large.take().map(|large| large.share);
        // The share is the value's now.
        if self.returned.is_some() && self.start == self.buffer.len() {
            self.buffer = Vec::new();
            self.start = 0;
        }
        match decoded {
            Ok(value) => Ok(Some(Frame::Value(value))),
            // The frame is intact, so its length is right and the next frame begins behind it. Any
            // other error leaves that unknown.
            Err(WireError::Codec(error)) => {
                // Without a value there is nothing that needs it.
                self.returned = None;
                Ok(Some(Frame::Undecodable(error)))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Makes room for the next read. The memory of a large frame is taken as a whole: frames that
    /// each hold a part of what they need could wait for each other.
    async fn make_room(&mut self) -> Result<(), StreamError> {
        // What is left is at most one incomplete frame, so little is moved.
        self.buffer.drain(..self.start);
        self.start = 0;
        if let Some(memory) = &self.memory {
            let len = wire::frame_len(&self.buffer)?.unwrap_or(0);
            if len > READ_BYTES {
                if self.large.is_none() {
                    let waited = memory.share_timeout;
                    let total = memory.total;
                    let share = memory.acquire(len).await;
                    let share = share.ok_or(StreamError::NoMemory { len, waited, total })?;
                    let limit = memory.frame_timeout;
                    let deadline = Instant::now() + limit;
                    self.large = Some(LargeFrame { share, len, limit, deadline });
                    self.buffer.reserve_exact(len - self.buffer.len());
                }
                // Exactly this frame fits: a read brings nothing that has no share.
                return Ok(());
            }
        }
        // A large frame must not keep its memory for as long as the connection is open.
        if self.buffer.is_empty() && self.buffer.capacity() > self.kept_bytes_max() {
            self.buffer = Vec::new();
        }
        self.buffer.reserve(READ_BYTES);
        Ok(())
    }

    fn kept_bytes_max(&self) -> usize {
        if self.memory.is_some() { UNSHARED_BYTES } else { 16 * READ_BYTES }
    }

    /// Why a read has ended without a byte.
    fn timed_out(&self, limit_per_read: Duration) -> StreamError {
        match &self.large {
            Some(LargeFrame { len, limit, deadline, .. }) if *deadline <= Instant::now() => {
                StreamError::SlowFrame { len: *len, limit: *limit }
            }
            Some(_) | None => StreamError::TimedOut(limit_per_read),
        }
    }
}

/// Writes one value as a frame, within `limit_per_write`.
///
/// # Errors
/// [`StreamError::Io`] or [`StreamError::TimedOut`].
pub async fn write_value<T: Serialize>(
    to: &mut (impl AsyncWrite + Unpin),
    value: &T,
    limit_per_write: Duration,
) -> Result<(), StreamError> {
    write(to, &wire::encode_frame(value), limit_per_write).await
}

/// Writes bytes, within `limit_per_write`.
pub(crate) async fn write(
    to: &mut (impl AsyncWrite + Unpin),
    bytes: &[u8],
    limit_per_write: Duration,
) -> Result<(), StreamError> {
    timeout(limit_per_write, to.write_all(bytes))
        .await
        .map_err(|_| StreamError::TimedOut(limit_per_write))??;
    Ok(())
}

/// A bounded queue of outgoing frames of one connection. [`SendQueue::put`] never waits: a frame
/// that does not fit is dropped, and the caller learns it.
#[derive(Debug)]
pub(crate) struct SendQueue {
    queued: Mutex<QueueState>,
    filled: Notify,
    limit: usize,
    /// Where the memory of a long queue comes from; `None` if only `limit` bounds it.
    memory: Option<MemoryPool>,
}

#[derive(Debug, Default)]
struct QueueState {
    bytes: Vec<u8>,
    /// Of `bytes`.
    share: Option<MemoryShare>,
    /// Of the bytes that were taken last.
    taken_share: Option<MemoryShare>,
    dropped: u64,
    closed: bool,
}

impl SendQueue {
    pub(crate) fn new(limit: usize) -> SendQueue {
        SendQueue { queued: Mutex::default(), filled: Notify::new(), limit, memory: None }
    }

    /// A queue that takes a share of this memory while it is long.
    pub(crate) fn with_memory(limit: usize, memory: MemoryPool) -> SendQueue {
        SendQueue { memory: Some(memory), ..SendQueue::new(limit) }
    }

    fn queued(&self) -> std::sync::MutexGuard<'_, QueueState> {
        self.queued.lock().expect("no panic happens while this lock is held")
    }

    /// Queues a value, whole or not at all; false if it was dropped.
    pub(crate) fn put<T: Serialize>(&self, value: &T) -> bool {
        let mut queued = self.queued();
        let before = queued.bytes.len();
        // Checked before the value is encoded: a full queue should not cost the work.
        if queued.closed || before >= self.limit {
            queued.dropped += 1;
            return false;
        }
        wire::encode_frame_into(value, &mut queued.bytes);
        let after = queued.bytes.len();
        // The length is known only after encoding, so what does not fit is taken back.
        if after > self.limit || after - before > FRAME_BYTES_MAX || !self.has_memory(&mut queued) {
            queued.bytes.truncate(before);
            if self.memory.is_some() {
                queued.bytes.shrink_to(before);
            }
            queued.dropped += 1;
            return false;
        }
        if before == 0 {
            self.filled.notify_one();
        }
        true
    }

    /// Raises the share of the queue to the memory that it takes; false if the pool has too little.
    fn has_memory(&self, queued: &mut QueueState) -> bool {
        let bytes = queued.bytes.capacity();
        match &self.memory {
            Some(memory) if bytes > UNSHARED_BYTES => memory.try_raise(&mut queued.share, bytes),
            Some(_) | None => true,
        }
    }

    /// Waits until the queue is not empty and takes all of it; false once it is closed and empty.
    /// `into` is cleared first, and the queue reuses its memory; its share ends then. Cancel-safe.
    pub(crate) async fn take(&self, into: &mut Vec<u8>) -> bool {
        into.clear();
        // With a share, a buffer that has been large does not stay so.
        if self.memory.is_some() && into.capacity() > UNSHARED_BYTES {
            *into = Vec::new();
        }
        loop {
            {
                let mut queued = self.queued();
                queued.taken_share = None;
                if !queued.bytes.is_empty() {
                    queued.taken_share = queued.share.take();
                    // The writer's empty buffer becomes the queue's: neither side allocates once
                    // both have grown.
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

    /// Drops every later value; the queued ones can still be taken.
    pub(crate) fn close(&self) {
        self.queued().closed = true;
        self.filled.notify_one();
    }

    /// Closes the queue, and drops what it holds: nobody takes it.
    pub(crate) fn discard(&self) {
        let mut queued = self.queued();
        let dropped = queued.dropped;
        *queued = QueueState { closed: true, dropped, ..QueueState::default() };
    }

    /// The number of queued bytes and of dropped frames.
    pub(crate) fn load(&self) -> (u64, u64) {
        let queued = self.queued();
        (queued.bytes.len() as u64, queued.dropped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap()
            .block_on(future)
    }

    const TIMEOUT: Duration = Duration::from_millis(50);

    #[test]
    fn frames_survive_any_split_of_the_byte_stream() {
        let bytes = [
            wire::encode_frame(&1u64),
            wire::encode_frame(&"two".to_string()),
            wire::encode_frame(&3u64),
        ]
        .concat();
        for cut in 1..bytes.len() {
            let (a, b) = bytes.split_at(cut);
            let mut frames = Frames::new(a.chain(b), 100);
            block_on(async {
                assert_eq!(frames.next::<u64>(TIMEOUT).await.unwrap(), Some(1));
                assert_eq!(frames.next::<String>(TIMEOUT).await.unwrap(), Some("two".into()));
                assert_eq!(frames.next::<u64>(TIMEOUT).await.unwrap(), Some(3));
                assert_eq!(frames.next::<u64>(TIMEOUT).await.unwrap(), None);
            });
        }
    }

    #[test]
    fn oversized_frame_is_refused_from_its_header() {
        let mut header = wire::encode_frame(&0u64);
        header[3..7].copy_from_slice(&u32::MAX.to_le_bytes());
        let mut frames = Frames::new(&header[..7], 100);
        let refused = block_on(frames.next::<u64>(TIMEOUT));
        assert!(matches!(refused, Err(StreamError::Oversized { limit: 100, .. })), "{refused:?}");
    }

    fn frames_of<'a>(bytes: &'a [u8], pool: &MemoryPool) -> Frames<&'a [u8]> {
        let mut frames = Frames::new(bytes, FRAME_BYTES_MAX);
        frames.set_memory(pool.clone());
        frames
    }

    /// A large frame that needs more than is left waits until another one is dropped.
    #[test]
    fn large_frames_share_a_pool_and_small_ones_need_none() {
        let large = "x".repeat(40_000);
        let frame = wire::encode_frame(&large);
        let small = wire::encode_frame(&7u64);
        let pool = MemoryPool::new(50_000);
        block_on(async {
            let mut first = frames_of(&frame, &pool);
            let value = first.next::<String>(TIMEOUT).await.unwrap();
            assert_eq!(value, Some(large.clone()));
            let share = first.take_share();
            assert!(share.is_some());

            assert_eq!(frames_of(&small, &pool).next::<u64>(TIMEOUT).await.unwrap(), Some(7));

            let mut second = frames_of(&frame, &pool);
            let mut waiting = std::pin::pin!(second.next::<String>(TIMEOUT));
            assert!(timeout(TIMEOUT, &mut waiting).await.is_err());
            drop(share);
            assert_eq!(waiting.await.unwrap(), Some(large));
        });
    }

    /// Otherwise an idle connection would hold the memory until it is closed.
    #[test]
    fn large_frame_that_does_not_decode_returns_its_share() {
        let undecodable = wire::frame_payload(&[255; 40_000]);
        let pool = MemoryPool::new(50_000);
        let mut frames = frames_of(&undecodable, &pool);
        let frame = block_on(frames.next_frame::<String>(TIMEOUT)).unwrap();
        assert!(matches!(frame, Some(Frame::Undecodable(_))), "{frame:?}");
        assert!(pool.try_raise(&mut None, pool.total), "nobody has a share");
    }

    /// 1. The first frame gets its share, and comes a byte now and then.
    /// 2. The second one waits for memory in vain.
    /// 3. The bytes of the first do not extend its time.
    #[test]
    fn large_frame_without_memory_or_without_an_end_is_an_error() {
        let frame = wire::encode_frame(&"x".repeat(40_000));
        let mut pool = MemoryPool::new(50_000);
        pool.share_timeout = TIMEOUT;
        pool.frame_timeout = 10 * TIMEOUT;
        block_on(async {
            let (from, mut to) = tokio::io::duplex(100_000);
            let mut slow = Frames::new(from, FRAME_BYTES_MAX);
            slow.set_memory(pool.clone());
            to.write_all(&frame[..20_000]).await.unwrap();
            let second = async {
                tokio::time::sleep(TIMEOUT).await;
                frames_of(&frame, &pool).next::<String>(TIMEOUT).await
            };
            let trickle = async {
                loop {
                    tokio::time::sleep(TIMEOUT).await;
                    to.write_all(b"x").await.unwrap();
                }
            };
            let (slow, refused) = tokio::select! {
                both = async { tokio::join!(slow.next::<String>(100 * TIMEOUT), second) } => both,
                () = trickle => unreachable!("it has no end"),
            };
            assert!(matches!(refused, Err(StreamError::NoMemory { .. })), "{refused:?}");
            assert!(matches!(slow, Err(StreamError::SlowFrame { len, .. }) if len == frame.len()));
        });
    }

    /// What is being written has its share until the next is taken.
    #[test]
    fn long_queues_share_a_pool_and_short_ones_need_none() {
        let pool = MemoryPool::new(100_000);
        let [first, second] =
            [(); 2].map(|()| SendQueue::with_memory(FRAME_BYTES_MAX, pool.clone()));
        let large = "x".repeat(60_000);
        assert!(first.put(&large));
        assert!(!second.put(&large));
        assert!(second.put(&7u64), "a short queue needs no share");
        let mut taken = Vec::new();
        assert!(block_on(first.take(&mut taken)));
        assert!(!second.put(&large), "the first is being written");
        first.close();
        assert!(!block_on(first.take(&mut taken)));
        assert!(second.put(&large));
        second.discard();
        assert!(pool.try_raise(&mut None, pool.total), "nobody has a share");
    }

    #[test]
    fn oversized_frame_is_skipped_and_the_next_one_is_read() {
        let large = wire::encode_frame(&"x".repeat(50_000));
        let bytes = [large.clone(), wire::encode_frame(&7u64)].concat();
        let mut frames = Frames::new(&bytes[..], 100);
        frames.skip_oversized();
        let first = block_on(frames.next_frame::<u64>(TIMEOUT)).unwrap();
        assert_eq!(first, Some(Frame::Oversized { len: large.len(), limit: 100 }));
        let buffered = frames.buffer.capacity();
        assert!(buffered <= 2 * READ_BYTES, "{buffered} bytes of a frame that is dropped");
        assert_eq!(block_on(frames.next_frame::<u64>(TIMEOUT)).unwrap(), Some(Frame::Value(7)));
        // An end within such a frame has lost data, as in any other.
        let mut cut = Frames::new(&bytes[..40_000], 100);
        cut.skip_oversized();
        let result = block_on(cut.next::<u64>(TIMEOUT));
        assert!(matches!(result, Err(StreamError::UnexpectedEof)), "{result:?}");
    }

    #[test]
    fn truncated_frame_and_read_timeout_are_distinct_errors() {
        let frame = wire::encode_frame(&7u64);
        let mut cut = Frames::new(&frame[..frame.len() - 1], 100);
        assert!(matches!(block_on(cut.next::<u64>(TIMEOUT)), Err(StreamError::UnexpectedEof)));
        let silent = async {
            let (here, _there) = tokio::io::duplex(10);
            Frames::new(here, 100).next::<u64>(TIMEOUT).await
        };
        assert!(matches!(block_on(silent), Err(StreamError::TimedOut(_))));
    }

    #[test]
    fn full_queue_drops_the_frame_and_reports_it() {
        let queue = SendQueue::new(30);
        assert!(queue.put(&1u64));
        assert!(queue.put(&2u64));
        assert!(!queue.put(&"much too long to fit".to_string()));
        assert_eq!(queue.load(), (24, 1));
        let mut taken = Vec::new();
        assert!(block_on(queue.take(&mut taken)));
        assert_eq!(taken, [wire::encode_frame(&1u64), wire::encode_frame(&2u64)].concat());
        queue.close();
        assert!(!block_on(queue.take(&mut taken)));
    }
}
