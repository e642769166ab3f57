//! Reading the log at boot: its records, whether any are missing, and how much of its end is torn.
//!
//! 1. The snapshot with the highest number must be valid: it was synced before it got its name.
//! 2. The segments from its number upwards are read as far as each file header and each
//!    frame continues it: its previous checksum and its position must follow.
//! 3. W is the largest watermark in any valid frame header or file header of any segment, also
//!    after the point where the log breaks: every watermark is true. A log that ends below W is
//!    *damaged*, and the node refuses to start. Bytes above W that do not connect are a *torn
//!    tail*, legal even if intact frames are among them: a power cut may keep any subset of
//!    unsynced sectors.
//!
//! Reading changes nothing, so the offline tools use it too.

use serde::{Serialize, de::DeserializeOwned};

use super::file_header::{FILE_HEADER_BYTES, FileHeader, FileHeaderError};
use super::frame::{self, ChecksumSeed, FRAME_BYTES, ParsedFrame};
use super::snapshot;
use crate::codec;
use crate::contract::{BootError, FileId, Label, ReadDisk};

/// The result of recovery.
#[derive(Clone, Debug)]
pub struct Recovered<S, R> {
    /// The state of the newest snapshot; `None` before the first incarnation.
    pub snapshot: Option<S>,
    /// The records after it, in order. They are readable, but not necessarily durable.
    pub records: Vec<R>,
    /// The bytes after the end of the log, which will be dropped.
    pub torn: Option<TornTail>,
    /// The greatest watermark in the log: so many records were durable, counted over all
    /// incarnations, and all of them are there. Records after them may be gone without a trace.
    pub watermark: u64,
    /// What the next incarnation needs for [`Wal::begin`](super::Wal::begin).
    pub resume_point: ResumePoint,
}

/// The end of a log that a crash has torn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TornTail {
    /// The file in which the log ends.
    pub file: FileId,
    /// The offset of the first byte that does not belong to it.
    pub at: u64,
    /// Why it does not, in a few words.
    pub reason: &'static str,
    /// How many bytes are dropped, later segments included.
    pub dropped_bytes: u64,
}

impl std::fmt::Display for TornTail {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} torn at {}", self.file, self.at)
    }
}

/// Where a new incarnation continues.
#[derive(Clone, Debug)]
pub struct ResumePoint {
    /// Every file, in ascending order: those that the new incarnation's snapshot makes obsolete.
    files: Vec<FileId>,
    /// The highest number among the files.
    number: u32,
    position: u64,
    /// The checksum of the last record's frame.
    last_checksum: u32,
}

impl ResumePoint {
    /// The position of the last record that was recovered: its number, counted from 1 over all
    /// incarnations.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// The checksum of the last record's frame.
    pub(super) fn last_checksum(&self) -> u32 {
        self.last_checksum
    }

    /// Every file, in ascending order.
    pub(super) fn into_files(self) -> Vec<FileId> {
        self.files
    }

    /// The number of the files of the next incarnation.
    pub fn next_number(&self) -> u32 {
        self.number + 1
    }
}

/// Reads a log.
///
/// # Errors
/// [`BootError`] if something that was durable is missing or changed, has another format version or
/// cannot be read.
pub fn recover<S, R>(disk: &dyn ReadDisk) -> Result<Recovered<S, R>, BootError>
where
    S: DeserializeOwned,
    R: Serialize + DeserializeOwned + Label,
{
    let files = disk.files();
    // Scratch files have no number: the next incarnation writes its own.
    let number = highest_number(&files)?;
    // No snapshot and no segment: the first incarnation. A scratch file alone is what its
    // interrupted boot left.
    let Some(newest) = newest_snapshot(&files)? else {
        let resume_point = ResumePoint { files, number, position: 0, last_checksum: 0 };
        return Ok(Recovered {
            snapshot: None,
            records: Vec::new(),
            torn: None,
            watermark: 0,
            resume_point,
        });
    };
    let (header, state) = snapshot::read(newest, read_file(disk, FileId::Snapshot(newest))?)?;
    let segments = load_segments(disk, &files)?;
    // Before any record is read: a missing snapshot would otherwise look like the end of the log.
    check_segment_headers(&header, &segments)?;
    let mut reader = LogReader::starting_at(&header);
    // Older segments were made obsolete by the snapshot and wait for their removal. They still have
    // watermarks.
    for segment in segments.iter().filter(|segment| segment.number >= newest) {
        reader.read_segment(segment)?;
    }
    // All segments count, older and broken ones too: every watermark that was written is true.
    let watermark = watermark(&header, &segments);
    reader.check_reaches_watermark(watermark)?;
    let resume_point = ResumePoint {
        files,
        number,
        position: reader.position,
        last_checksum: reader.last_checksum,
    };
    let torn = reader.torn(&segments);
    Ok(Recovered { snapshot: Some(state), records: reader.records, torn, watermark, resume_point })
}

fn highest_number(files: &[FileId]) -> Result<u32, BootError> {
    let file_number = |file: &FileId| match *file {
        FileId::Wal(number) | FileId::Snapshot(number) => Some(number),
        FileId::Scratch => None,
    };
    let highest = files.iter().filter_map(file_number).max().unwrap_or(0);
    if highest < u32::MAX {
        return Ok(highest);
    }
    let file =
        *files.iter().find(|file| file_number(file) == Some(highest)).expect("it was counted");
    Err(BootError::Damaged {
        file,
        at: 0,
        reason: "the file number is the largest possible; no later incarnation can be numbered"
            .to_owned(),
    })
}

/// A segment is created only after a snapshot is durable, so a segment without a snapshot is
/// damage.
fn newest_snapshot(files: &[FileId]) -> Result<Option<u32>, BootError> {
    let mut newest = None;
    let mut oldest_segment = None;
    for file in files {
        match *file {
            FileId::Snapshot(number) => newest = newest.max(Some(number)),
            // The files are sorted, so the first one is the oldest.
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
    let reason = format!("the snapshot is missing although wal.{segment} exists");
    BootError::Damaged { file: FileId::Snapshot(segment), at: 0, reason }
}

fn read_file(disk: &dyn ReadDisk, file: FileId) -> Result<&[u8], BootError> {
    let bytes = disk.read(file).map_err(|error| BootError::Unreadable { file, error })?;
    Ok(bytes.unwrap_or_default())
}

/// A segment on the disk.
struct Segment<'a> {
    number: u32,
    bytes: &'a [u8],
    header: Result<FileHeader, FileHeaderError>,
}

impl<'a> Segment<'a> {
    fn file(&self) -> FileId {
        FileId::Wal(self.number)
    }

    /// Every frame with a valid header that an incarnation with one of `fingerprints` wrote: at
    /// every offset where one may begin, except inside intact frames.
    fn frames(
        &self,
        fingerprints: &[u32],
    ) -> impl Iterator<Item = (usize, ParsedFrame<'a>)> + use<'a> {
        let seeds = fingerprints
            .iter()
            .map(|fingerprint| ChecksumSeed::new(*fingerprint, self.number))
            .collect::<Vec<_>>();
        let bytes = self.bytes;
        let mut at = 0;
        std::iter::from_fn(move || {
            loop {
                let candidate = frame::next_candidate(bytes, at)?;
                let Some(read) =
                    seeds.iter().find_map(|seed| ParsedFrame::parse(bytes, candidate, *seed))
                else {
                    // The magic was part of something else.
                    at = candidate + 1;
                    continue;
                };
                // Past an intact payload: a value inside it may look like a frame. A damaged
                // payload is searched, as its length may be wrong.
                at = candidate + FRAME_BYTES + read.payload.map_or(0, <[u8]>::len);
                return Some((candidate, read));
            }
        })
    }
}

fn load_segments<'a>(
    disk: &'a dyn ReadDisk,
    files: &[FileId],
) -> Result<Vec<Segment<'a>>, BootError> {
    let mut segments = Vec::new();
    for file in files {
        let FileId::Wal(number) = *file else { continue };
        let bytes = read_file(disk, *file)?;
        segments.push(Segment { number, bytes, header: FileHeader::of_segment(bytes) });
    }
    segments.sort_by_key(|segment| segment.number);
    Ok(segments)
}

/// A segment above the snapshot was created by a compaction of the snapshot's own incarnation. If
/// another incarnation wrote it, that incarnation's snapshot was durable once, and is missing. A
/// header with another number is an old block in a hole (a range whose length survived a power cut
/// and whose data did not), and proves nothing.
fn check_segment_headers(newest: &FileHeader, segments: &[Segment<'_>]) -> Result<(), BootError> {
    for segment in segments.iter().filter(|segment| segment.number >= newest.number) {
        match segment.header {
            Err(error @ FileHeaderError::Version(_)) => {
                return Err(error.into_boot_error(segment.file()));
            }
            Ok(header)
                if header.number > newest.number
                    && header.number == segment.number
                    && header.fingerprint != newest.fingerprint =>
            {
                return Err(missing_snapshot(segment.number));
            }
            Ok(_) | Err(FileHeaderError::Damaged(_)) => {}
        }
    }
    Ok(())
}

/// The log, read up to a position.
struct LogReader<R> {
    fingerprint: u32,
    position: u64,
    last_checksum: u32,
    records: Vec<R>,
    /// Where reading stopped in the last file.
    file: FileId,
    at: u64,
    /// Why reading stopped, unless at the end of the file.
    break_reason: Option<&'static str>,
}

impl<R: DeserializeOwned> LogReader<R> {
    fn starting_at(snapshot: &FileHeader) -> LogReader<R> {
        LogReader {
            fingerprint: snapshot.fingerprint,
            position: snapshot.position,
            last_checksum: snapshot.previous_checksum,
            records: Vec::new(),
            file: FileId::Wal(snapshot.number),
            at: 0,
            break_reason: None,
        }
    }

    /// Reads one segment, as far as it continues the log.
    fn read_segment(&mut self, segment: &Segment<'_>) -> Result<(), BootError> {
        if let Err(reason) = self.check_continuity(segment) {
            // Only the first place where the log does not connect is reported.
            if self.break_reason.is_none() {
                self.file = segment.file();
                self.at = 0;
                self.break_reason = Some(reason);
            }
            return Ok(());
        }
        let seed = ChecksumSeed::new(self.fingerprint, segment.number);
        self.file = segment.file();
        self.at = FILE_HEADER_BYTES as u64;
        // A segment that continues the log shows that nothing is missing before it.
        self.break_reason = None;
        while self.at < segment.bytes.len() as u64 {
            match self.next_frame(segment.bytes, seed) {
                Ok(payload) => self.decode_record(payload)?,
                Err(reason) => {
                    self.break_reason = Some(reason);
                    break;
                }
            }
        }
        Ok(())
    }

    fn check_continuity(&self, segment: &Segment<'_>) -> Result<(), &'static str> {
        match segment.header {
            Err(FileHeaderError::Damaged(reason)) => Err(reason),
            Err(FileHeaderError::Version(_)) => Err("another format version"),
            Ok(header) if header.number != segment.number => {
                Err("the header belongs to another segment")
            }
            Ok(header)
                if (header.position, header.previous_checksum)
                    != (self.position, self.last_checksum) =>
            {
                Err("the segment does not continue the log")
            }
            Ok(_) => Ok(()),
        }
    }

    /// The payload of the next frame; the reader moves past it.
    fn next_frame<'a>(
        &mut self,
        bytes: &'a [u8],
        seed: ChecksumSeed,
    ) -> Result<&'a [u8], &'static str> {
        let frame =
            ParsedFrame::parse(bytes, self.at as usize, seed).ok_or("no valid frame found")?;
        // Both: the checksum ties the frame to its predecessor, the position to its place. Either
        // alone could repeat in an old block.
        if frame.previous_checksum != self.last_checksum || frame.position != self.position + 1 {
            return Err("the frame does not continue the log");
        }
        let payload = frame.payload.ok_or("the frame's payload is not intact")?;
        self.at += (FRAME_BYTES + payload.len()) as u64;
        self.position = frame.position;
        self.last_checksum = frame.checksum;
        Ok(payload)
    }

    /// An intact frame whose record does not decode was written so: no crash explains it.
    fn decode_record(&mut self, payload: &[u8]) -> Result<(), BootError> {
        let record = codec::decode_checksummed(payload).map_err(|error| BootError::Damaged {
            file: self.file,
            at: self.at - payload.len() as u64,
            reason: format!(
                "frame {} is intact, but its payload does not decode: {error}",
                self.position
            ),
        })?;
        self.records.push(record);
        Ok(())
    }

    fn check_reaches_watermark(&self, watermark: u64) -> Result<(), BootError> {
        // Records above the watermark may be missing or not: nobody was promised that they are
        // durable.
        if self.position >= watermark {
            return Ok(());
        }
        let cause = self.break_reason.unwrap_or("the log ends here");
        let reason = format!(
            "{cause}; the log ends with record {}, {watermark} were durable",
            self.position
        );
        Err(BootError::Damaged { file: self.file, at: self.at, reason })
    }

    fn torn(&self, segments: &[Segment<'_>]) -> Option<TornTail> {
        let reason = self.break_reason?;
        let remaining_segments = segments.iter().filter(|segment| segment.file() >= self.file);
        let dropped_bytes =
            remaining_segments.map(|segment| segment.bytes.len() as u64).sum::<u64>() - self.at;
        // A segment that is exactly as long as its records has no tail, whatever the reason for the
        // break.
        (dropped_bytes > 0).then_some(TornTail {
            file: self.file,
            at: self.at,
            reason,
            dropped_bytes,
        })
    }
}

/// The largest watermark in any file.
fn watermark(newest: &FileHeader, segments: &[Segment<'_>]) -> u64 {
    let headers = segments
        .iter()
        .filter_map(|segment| segment.header.ok())
        .map(|header| header.watermark_or_length);
    let fingerprints = fingerprints(Some(newest), segments);
    let frames = segments
        .iter()
        .flat_map(|segment| segment.frames(&fingerprints))
        .map(|(_, frame)| frame.watermark);
    headers.chain(frames).fold(newest.position, u64::max)
}

/// After a broken header the fingerprint that seeds its frames' checksums is unknown; it is one of
/// those in the other files' headers.
fn fingerprints(newest: Option<&FileHeader>, segments: &[Segment<'_>]) -> Vec<u32> {
    let headers =
        segments.iter().filter_map(|segment| segment.header.ok()).map(|header| header.fingerprint);
    let mut fingerprints =
        newest.map(|header| header.fingerprint).into_iter().chain(headers).collect::<Vec<_>>();
    fingerprints.sort_unstable();
    // Each one costs a checksum at every candidate of the scan.
    fingerprints.dedup();
    fingerprints
}

/// A frame on the disk, whether or not the log reaches it; for offline tools.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameInfo {
    /// The segment.
    pub file: FileId,
    /// The offset of its header.
    pub at: u64,
    /// The position of its record.
    pub position: u64,
    /// The position of the last record that was durable when it was written.
    pub watermark: u64,
    /// The length of its payload, `None` if that is not intact.
    pub payload_bytes: Option<u64>,
}

/// Every frame with a valid header in every segment, in the order of the files, after breaks too:
/// what there is to inspect when [`recover`] refuses.
///
/// # Errors
/// [`BootError::Unreadable`].
pub fn scan_frames(disk: &dyn ReadDisk) -> Result<Vec<FrameInfo>, BootError> {
    let files = disk.files();
    let segments = load_segments(disk, &files)?;
    let mut fingerprints = fingerprints(None, &segments);
    if let Some(newest) = newest_snapshot(&files).ok().flatten()
        && let Ok((header, _)) = FileHeader::of_snapshot(read_file(disk, FileId::Snapshot(newest))?)
    {
        fingerprints.push(header.fingerprint);
    }
    let mut found = Vec::new();
    for segment in &segments {
        for (at, frame) in segment.frames(&fingerprints) {
            found.push(FrameInfo {
                file: segment.file(),
                at: at as u64,
                position: frame.position,
                watermark: frame.watermark,
                payload_bytes: frame.payload.map(|payload| payload.len() as u64),
            });
        }
    }
    Ok(found)
}
