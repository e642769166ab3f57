//! Blocks of removed files, which may appear in a hole (D3).

use super::survival::{SECTOR_BYTES, hash};

/// How many removed files are remembered.
// A compaction removes two files, a snapshot and a segment, so these are those of two compactions.
const REMOVED_FILES_KEPT: usize = 4;

/// The last files that were removed durably, or whose creation was lost.
#[derive(Clone, Debug, Default)]
pub(super) struct RemovedFiles {
    files: [Vec<u8>; REMOVED_FILES_KEPT],
    added: usize,
}

impl RemovedFiles {
    /// Takes the bytes of a removed file and returns other memory for them.
    pub(super) fn add(&mut self, bytes: &mut Vec<u8>) {
        // A file without durable bytes has no blocks that could appear elsewhere.
        if !bytes.is_empty() {
            // The file that is forgotten leaves its memory for the next one.
            std::mem::swap(&mut self.files[self.added % REMOVED_FILES_KEPT], bytes);
            self.added += 1;
        }
        bytes.clear();
    }

    /// Forgets the files and keeps the memory.
    pub(super) fn clear(&mut self) {
        self.files.iter_mut().for_each(Vec::clear);
        self.added = 0;
    }

    /// An old block for the `sector`th sector of a file: half of the time one from the same place
    /// of a removed file (its frames look most alike there), else any.
    pub(super) fn block(&self, sector: usize, random: u64) -> Option<Vec<u8>> {
        let remembered = self.added.min(REMOVED_FILES_KEPT);
        if remembered == 0 {
            return None;
        }
        let random = hash(random, 3);
        let file = &self.files[(random >> 8) as usize % remembered];
        let blocks = file.len().div_ceil(SECTOR_BYTES);
        // A frame is only valid at its own offset, so an old block is most like a record at its old
        // place.
        let same = random & 1 == 0 && sector < blocks;
        let block = if same { sector } else { (random >> 16) as usize % blocks };
        let mut bytes =
            file[block * SECTOR_BYTES..file.len().min((block + 1) * SECTOR_BYTES)].to_vec();
        // The last block of a file is padded, as it is on a disk.
        bytes.resize(SECTOR_BYTES, 0);
        Some(bytes)
    }

    /// A place in these files where the bytes are those with which a record begins.
    pub(super) fn place_of(&self, first: [u8; 4], random: u64) -> Option<OldPlace> {
        let places = || {
            self.files.iter().enumerate().flat_map(move |(file, bytes)| {
                let windows = bytes.windows(first.len()).enumerate();
                windows
                    .filter(move |(_, window)| *window == first)
                    .map(move |(at, _)| OldPlace { file, at })
            })
        };
        let count = places().count() as u64;
        places().nth(random.checked_rem(count)? as usize)
    }

    /// A block whose bytes from `lead` on are those of a removed file.
    pub(super) fn bytes_from(&self, place: OldPlace, lead: usize) -> Vec<u8> {
        let bytes = self.files[place.file].get(place.at..).unwrap_or_default();
        let mut block = vec![0; lead];
        block.extend_from_slice(&bytes[..bytes.len().min(SECTOR_BYTES - lead)]);
        // Beyond the end of the file, as at the end of its last block.
        block.resize(SECTOR_BYTES, 0);
        block
    }
}

/// A place in a removed file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OldPlace {
    file: usize,
    at: usize,
}

impl OldPlace {
    pub(super) fn advanced(self, by: usize) -> OldPlace {
        OldPlace { at: self.at + by, ..self }
    }
}
