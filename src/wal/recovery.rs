//! Reading the log back: what is it, is any of it missing, and how much of its end is torn.
//!
//! 1. The snapshot with the highest number must be valid. It got its name after it was synced.
//! 2. The segments from its number upwards are followed as far as head, chain and position continue it.
//! 3. W is the largest durable watermark in any self-valid frame or head of any segment, also behind a break: a
//!    watermark is a fact, whoever tells it. A log that ends below W is *damaged*, and the node refuses to start. What lies
//!    above W and does not connect is a *torn tail*, and legal even if intact frames are in it: a power cut may
//!    keep any subset of unsynced sectors.
//!
//! Reading changes nothing, so it is also what the offline tools do.

use serde::{Serialize, de::DeserializeOwned};

use super::frame::{self, FRAME_BYTES, Read, Seed};
use super::head::{Flaw, HEAD_BYTES, Head};
use super::snapshot;
use crate::codec;
use crate::contract::{BootError, FileId, Label, ReadDisk};

/// What recovery found.
#[derive(Clone, Debug)]
pub struct Recovered<S, R> {
    /// The state as of the newest snapshot; `None` before the first life.
    pub snapshot: Option<S>,
    /// The records after it, in order. They are readable; they are not therefore durable.
    pub records: Vec<R>,
    /// What was found behind the end of the log, to be forgotten.
    pub torn: Option<TornTail>,
    /// What the next life needs to know, for [`Wal::begin`](super::Wal::begin).
    pub found: Found,
}

/// The end of a log that a crash has torn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TornTail {
    /// The file where the log stops.
    pub file: FileId,
    /// The offset of the first byte that does not belong to it.
    pub at: u64,
    /// Why it does not, in a few words.
    pub reason: &'static str,
    /// How many bytes are forgotten, later segments included.
    pub dropped_bytes: u64,
}

impl std::fmt::Display for TornTail {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} torn at {}", self.file, self.at)
    }
}

/// Where a new life goes on.
#[derive(Clone, Debug)]
pub struct Found {
    /// Every file, in ascending order: those that the new life's snapshot will make superfluous.
    pub(super) files: Vec<FileId>,
    /// The highest number that any of them bears.
    pub(super) number: u32,
    pub(super) position: u64,
    pub(super) chain: u32,
}

impl Found {
    /// The number of the last record that was recovered, counted from the first one ever.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// The number that the files of the next life will bear.
    pub fn next_number(&self) -> u32 {
        self.number + 1
    }
}

/// Reads a log.
///
/// # Errors
/// [`BootError`] if something that was durable is gone or changed, has another format version or cannot be read.
pub fn recover<S, R>(disk: &dyn ReadDisk) -> Result<Recovered<S, R>, BootError>
where
    S: DeserializeOwned,
    R: Serialize + DeserializeOwned + Label,
{
    let files = disk.files();
    let number = highest_number(&files)?;
    let Some(newest) = newest_snapshot(&files)? else {
        let found = Found { files, number, position: 0, chain: 0 };
        return Ok(Recovered { snapshot: None, records: Vec::new(), torn: None, found });
    };
    let (head, state) = snapshot::read(newest, load(disk, FileId::Snapshot(newest))?)?;
    let segments = load_segments(disk, &files)?;
    refuse_what_is_not_ours(&head, &segments)?;
    let mut walk = Walk::after(&head);
    for segment in segments.iter().filter(|segment| segment.number >= newest) {
        walk.follow(segment)?;
    }
    walk.refuse_below(watermark(&head, &segments))?;
    let found = Found { files, number, position: walk.position, chain: walk.chain };
    let torn = walk.torn(&segments);
    Ok(Recovered { snapshot: Some(state), records: walk.records, torn, found })
}

fn highest_number(files: &[FileId]) -> Result<u32, BootError> {
    let numbered = |file: &FileId| match *file {
        FileId::Wal(number) | FileId::Snapshot(number) => Some(number),
        FileId::Scratch => None,
    };
    let highest = files.iter().filter_map(numbered).max().unwrap_or(0);
    if highest < u32::MAX {
        return Ok(highest);
    }
    let file = *files.iter().find(|file| numbered(file) == Some(highest)).expect("it was counted");
    Err(BootError::Damaged { file, at: 0, what: "no life comes after this number".to_owned() })
}

/// A segment is begun only after a snapshot is durable, so one that stands alone has lost something.
fn newest_snapshot(files: &[FileId]) -> Result<Option<u32>, BootError> {
    let mut newest = None;
    let mut oldest_segment = None;
    for file in files {
        match *file {
            FileId::Snapshot(number) => newest = newest.max(Some(number)),
            FileId::Wal(number) => oldest_segment = oldest_segment.or(Some(number)),
            FileId::Scratch => {}
        }
    }
    match (newest, oldest_segment) {
        (None, Some(segment)) => Err(missing_snapshot(segment)),
        (Some(_), _) | (None, None) => Ok(newest),
    }
}

fn missing_snapshot(segment: u32) -> BootError {
    let what = format!("it is missing, but there is a wal.{segment}");
    BootError::Damaged { file: FileId::Snapshot(segment), at: 0, what }
}

fn load(disk: &dyn ReadDisk, file: FileId) -> Result<&[u8], BootError> {
    let bytes = disk.read(file).map_err(|error| BootError::Unreadable { file, error })?;
    Ok(bytes.unwrap_or_default())
}

/// A segment as it lies on the disk.
struct Segment<'a> {
    number: u32,
    bytes: &'a [u8],
    head: Result<Head, Flaw>,
}

impl<'a> Segment<'a> {
    fn file(&self) -> FileId {
        FileId::Wal(self.number)
    }

    /// Every self-valid frame that one of `lives` wrote: at every place where one might begin, except inside
    /// intact frames.
    fn frames(&self, lives: &[u32]) -> impl Iterator<Item = (usize, Read<'a>)> + use<'a> {
        let seeds = lives.iter().map(|life| Seed::of(*life, self.number)).collect::<Vec<_>>();
        let bytes = self.bytes;
        let mut at = 0;
        std::iter::from_fn(move || {
            loop {
                let candidate = frame::next_candidate(bytes, at)?;
                let Some(read) = seeds.iter().find_map(|seed| Read::at(bytes, candidate, *seed)) else {
                    at = candidate + 1;
                    continue;
                };
                at = candidate + FRAME_BYTES + read.payload.map_or(0, <[u8]>::len);
                return Some((candidate, read));
            }
        })
    }
}

fn load_segments<'a>(disk: &'a dyn ReadDisk, files: &[FileId]) -> Result<Vec<Segment<'a>>, BootError> {
    let mut segments = Vec::new();
    for file in files {
        let FileId::Wal(number) = *file else { continue };
        let bytes = load(disk, *file)?;
        segments.push(Segment { number, bytes, head: Head::of_segment(bytes) });
    }
    segments.sort_by_key(|segment| segment.number);
    Ok(segments)
}

/// A segment above the snapshot was begun by a compaction of the snapshot's own life. If another life wrote it,
/// that life's snapshot was durable once, and is gone. A head with another number is an old block in a hole, and
/// proves nothing.
fn refuse_what_is_not_ours(newest: &Head, segments: &[Segment<'_>]) -> Result<(), BootError> {
    for segment in segments.iter().filter(|segment| segment.number >= newest.number) {
        match segment.head {
            Err(flaw @ Flaw::Version(_)) => return Err(flaw.refusal(segment.file())),
            Ok(head)
                if head.number > newest.number
                    && head.number == segment.number
                    && head.life != newest.life =>
            {
                return Err(missing_snapshot(segment.number));
            }
            Ok(_) | Err(Flaw::Broken(_)) => {}
        }
    }
    Ok(())
}

/// The log as far as it has been followed.
struct Walk<R> {
    life: u32,
    position: u64,
    chain: u32,
    records: Vec<R>,
    /// Where reading stopped in the last file that was looked at.
    file: FileId,
    at: u64,
    /// Why it stopped, if it was not simply the end.
    broken: Option<&'static str>,
}

impl<R: DeserializeOwned> Walk<R> {
    fn after(snapshot: &Head) -> Walk<R> {
        Walk {
            life: snapshot.life,
            position: snapshot.position,
            chain: snapshot.chain,
            records: Vec::new(),
            file: FileId::Wal(snapshot.number),
            at: 0,
            broken: None,
        }
    }

    /// Takes in one segment, as far as it continues the log.
    fn follow(&mut self, segment: &Segment<'_>) -> Result<(), BootError> {
        if let Err(reason) = self.continues(segment) {
            // The first place where the log no longer connects is the one worth telling.
            if self.broken.is_none() {
                (self.file, self.at, self.broken) = (segment.file(), 0, Some(reason));
            }
            return Ok(());
        }
        let seed = Seed::of(self.life, segment.number);
        (self.file, self.at, self.broken) = (segment.file(), HEAD_BYTES as u64, None);
        while self.at < segment.bytes.len() as u64 {
            match self.next(segment.bytes, seed) {
                Ok(payload) => self.take(payload)?,
                Err(reason) => {
                    self.broken = Some(reason);
                    break;
                }
            }
        }
        Ok(())
    }

    fn continues(&self, segment: &Segment<'_>) -> Result<(), &'static str> {
        match segment.head {
            Err(Flaw::Broken(what)) => Err(what),
            Err(Flaw::Version(_)) => Err("another format version"),
            Ok(head) if head.number != segment.number => Err("the head is that of another segment"),
            Ok(head) if (head.position, head.chain) != (self.position, self.chain) => {
                Err("the segment does not continue the log")
            }
            Ok(_) => Ok(()),
        }
    }

    /// The payload of the next frame, with the walk moved past it.
    fn next<'a>(&mut self, bytes: &'a [u8], seed: Seed) -> Result<&'a [u8], &'static str> {
        let frame = Read::at(bytes, self.at as usize, seed).ok_or("there is no frame")?;
        if frame.link != self.chain || frame.position != self.position + 1 {
            return Err("the frame does not continue the log");
        }
        let payload = frame.payload.ok_or("the frame's payload is not intact")?;
        self.at += (FRAME_BYTES + payload.len()) as u64;
        (self.position, self.chain) = (frame.position, frame.chain);
        Ok(payload)
    }

    /// An intact frame with a record that makes no sense was written so: not for a crash to explain.
    fn take(&mut self, payload: &[u8]) -> Result<(), BootError> {
        let record = codec::decode_verified(payload).map_err(|error| BootError::Damaged {
            file: self.file,
            at: self.at - payload.len() as u64,
            what: format!("record {} is intact but no record: {error}", self.position),
        })?;
        self.records.push(record);
        Ok(())
    }

    fn refuse_below(&self, watermark: u64) -> Result<(), BootError> {
        if self.position >= watermark {
            return Ok(());
        }
        let why = self.broken.unwrap_or("nothing follows");
        let what = format!("{why}; the log ends with record {}, {watermark} were durable", self.position);
        Err(BootError::Damaged { file: self.file, at: self.at, what })
    }

    fn torn(&self, segments: &[Segment<'_>]) -> Option<TornTail> {
        let reason = self.broken?;
        let behind = segments.iter().filter(|segment| segment.file() >= self.file);
        let dropped_bytes = behind.map(|segment| segment.bytes.len() as u64).sum::<u64>() - self.at;
        (dropped_bytes > 0).then_some(TornTail { file: self.file, at: self.at, reason, dropped_bytes })
    }
}

/// The largest watermark that anything on the disk tells.
fn watermark(newest: &Head, segments: &[Segment<'_>]) -> u64 {
    let heads = segments.iter().filter_map(|segment| segment.head.ok()).map(|head| head.last);
    let lives = lives(Some(newest), segments);
    let frames = segments.iter().flat_map(|segment| segment.frames(&lives)).map(|(_, frame)| frame.watermark);
    heads.chain(frames).fold(newest.position, u64::max)
}

/// Behind a broken head the life is unknown that its frames' checksums start from; it is one of those that some
/// other file names.
fn lives(newest: Option<&Head>, segments: &[Segment<'_>]) -> Vec<u32> {
    let heads = segments.iter().filter_map(|segment| segment.head.ok()).map(|head| head.life);
    let mut lives = newest.map(|head| head.life).into_iter().chain(heads).collect::<Vec<_>>();
    lives.sort_unstable();
    lives.dedup();
    lives
}

/// A frame as it lies on the disk, whether or not the log reaches it; for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sighting {
    /// Which segment.
    pub file: FileId,
    /// The offset of its header.
    pub at: u64,
    /// Its record's number.
    pub position: u64,
    /// The last record that was durable when it was written.
    pub watermark: u64,
    /// The length of its payload, `None` if that is not intact.
    pub payload_bytes: Option<u64>,
}

/// Every self-valid frame in every segment, in the order of the files, behind breaks too: what there is to look at
/// when [`recover`] refuses.
///
/// # Errors
/// [`BootError::Unreadable`].
pub fn survey(disk: &dyn ReadDisk) -> Result<Vec<Sighting>, BootError> {
    let files = disk.files();
    let segments = load_segments(disk, &files)?;
    let mut lives = lives(None, &segments);
    if let Some(newest) = newest_snapshot(&files).ok().flatten()
        && let Ok((head, _)) = Head::of_snapshot(load(disk, FileId::Snapshot(newest))?)
    {
        lives.push(head.life);
    }
    let sight = |file, at, frame: Read<'_>| Sighting {
        file,
        at,
        position: frame.position,
        watermark: frame.watermark,
        payload_bytes: frame.payload.map(|payload| payload.len() as u64),
    };
    let in_segment = |segment: &Segment<'_>| {
        let file = segment.file();
        segment.frames(&lives).map(|(at, frame)| sight(file, at as u64, frame)).collect::<Vec<_>>()
    };
    Ok(segments.iter().flat_map(in_segment).collect())
}
