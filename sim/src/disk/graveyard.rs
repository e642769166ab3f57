//! Blocks of files that are no more, and may turn up in a hole (D3).

use super::survival::{SECTOR_BYTES, mix};

/// How many dead files are remembered.
const GRAVES: usize = 4;

/// The last few files that were removed for good, or whose creation was lost.
#[derive(Clone, Debug, Default)]
pub(super) struct Graveyard {
    graves: [Vec<u8>; GRAVES],
    buried: usize,
}

impl Graveyard {
    /// Takes the bytes of a dead file and gives other memory for them.
    pub(super) fn bury(&mut self, bytes: &mut Vec<u8>) {
        if !bytes.is_empty() {
            std::mem::swap(&mut self.graves[self.buried % GRAVES], bytes);
            self.buried += 1;
        }
        bytes.clear();
    }

    /// Forgets the dead, keeps the memory.
    pub(super) fn clear(&mut self) {
        self.graves.iter_mut().for_each(Vec::clear);
        self.buried = 0;
    }

    /// Some old block for the `sector`th sector of a file: one from the same place of a dead file half of the time
    /// (frames look most alike there), else any.
    pub(super) fn block(&self, sector: usize, dice: u64) -> Option<Vec<u8>> {
        let dead = self.buried.min(GRAVES);
        if dead == 0 {
            return None;
        }
        let dice = mix(dice, 3);
        let grave = &self.graves[(dice >> 8) as usize % dead];
        let blocks = grave.len().div_ceil(SECTOR_BYTES);
        let same = dice & 1 == 0 && sector < blocks;
        let block = if same { sector } else { (dice >> 16) as usize % blocks };
        let mut bytes = grave[block * SECTOR_BYTES..grave.len().min((block + 1) * SECTOR_BYTES)].to_vec();
        bytes.resize(SECTOR_BYTES, 0);
        Some(bytes)
    }
}
