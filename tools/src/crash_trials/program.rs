//! Random programs of file operations, for a real file system and for the model.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use stormglass_crash_test::CrashFs;
use stormglass_sim::profile::Rng;

/// The program of one trial.
#[derive(Debug)]
pub(super) struct Program {
    pub steps: Vec<Step>,
}

/// One operation. Paths are below the directory of the trial. Every write has a byte value of its
/// own, so that what is found tells which writes it is from.
#[derive(Clone, Debug)]
pub(super) enum Step {
    CreateDir { path: &'static str },
    Write { path: &'static str, at: u64, len: usize, value: u8 },
    SetLen { path: &'static str, len: u64 },
    Rename { from: &'static str, to: &'static str },
    Link { file: &'static str, to: &'static str },
    Remove { path: &'static str },
    SyncData { path: &'static str },
    SyncAll { path: &'static str },
    SyncDir { path: &'static str },
}

const FILES: [&str; 5] = ["a", "b", "d/a", "c", "d/b"];
/// Of these, the files of a program with syncs: what one sync means for another file shows only if
/// a program of a few steps returns to both.
const SYNCED_FILES: usize = 3;
const DIRS: [&str; 2] = ["", "d"];

/// A write that is interrupted has written whole pages of this size.
pub(super) const PAGE_BYTES: usize = 4096;

impl Program {
    /// With syncs, fewer and smaller steps: each takes a thousand times as long, and the model
    /// lists every image.
    pub(super) fn draw(seed: u64, syncs: bool) -> Program {
        let mut rng = Rng::new(seed);
        let count = if syncs { rng.between(4, 12) } else { rng.between(10, 60) };
        let mut steps = vec![Step::CreateDir { path: "d" }];
        for index in 0..count {
            let value = index as u8 + 1;
            steps.push(Step::draw(&mut rng, value, syncs));
        }
        Program { steps }
    }

    /// The model after the first so many steps.
    pub(super) fn model_after(&self, steps: usize) -> CrashFs {
        let fs = CrashFs::default();
        for step in &self.steps[..steps] {
            step.perform_in_model(&fs);
        }
        fs
    }
}

impl Step {
    fn draw(rng: &mut Rng, value: u8, syncs: bool) -> Step {
        let files = if syncs { &FILES[..SYNCED_FILES] } else { &FILES[..] };
        let path = *rng.pick(files);
        let other = *rng.pick(files);
        let kinds = if syncs { 12 } else { 7 };
        match rng.between(0, kinds) {
            0..=3 => {
                let (at, len) = if syncs {
                    (512 * rng.between(0, 2), 512 * rng.between(1, 2))
                } else {
                    (rng.between(0, 20_000), rng.between(1, 200_000))
                };
                Step::Write { path, at, len: len as usize, value }
            }
            4 => Step::SetLen { path, len: 512 * rng.between(0, 4) },
            5 => Step::Rename { from: path, to: other },
            6 => Step::Link { file: path, to: other },
            7 => Step::Remove { path },
            8 | 9 => Step::SyncData { path },
            10 | 11 => Step::SyncAll { path },
            _ => Step::SyncDir { path: rng.pick::<&str>(&DIRS) },
        }
    }

    /// Performs it below this directory.
    pub(super) fn perform(&self, directory: &Path) -> io::Result<()> {
        match *self {
            Step::CreateDir { path } => fs::create_dir(directory.join(path)),
            Step::Write { path, at: start, len, value } => {
                let file = OpenOptions::new()
                    .write(true)
                    .create(true)
                    .truncate(false)
                    .open(directory.join(path))?;
                file.write_all_at(&vec![value; len], start)
            }
            Step::SetLen { path, len } => {
                OpenOptions::new().write(true).open(directory.join(path))?.set_len(len)
            }
            Step::Rename { from, to } => fs::rename(directory.join(from), directory.join(to)),
            Step::Link { file, to } => fs::hard_link(directory.join(file), directory.join(to)),
            Step::Remove { path } => fs::remove_file(directory.join(path)),
            Step::SyncData { path } => File::open(directory.join(path))?.sync_data(),
            Step::SyncAll { path } => File::open(directory.join(path))?.sync_all(),
            Step::SyncDir { path } => File::open(directory.join(path))?.sync_all(),
        }
    }

    /// Performs it in the model. One that is impossible there is impossible on the machine.
    pub(super) fn perform_in_model(&self, fs: &CrashFs) {
        let _impossible = self.try_in_model(fs);
    }

    fn try_in_model(&self, fs: &CrashFs) -> io::Result<()> {
        match *self {
            Step::CreateDir { path } => fs.create_dir(path),
            Step::Write { path, at, len, value } => {
                fs.open_or_create(path)?.write_at(at, &vec![value; len])
            }
            Step::SetLen { path, len } => fs.open(path)?.set_len(len),
            Step::Rename { from, to } => fs.rename(from, to),
            Step::Link { file, to } => fs.hard_link(file, to),
            Step::Remove { path } => fs.remove_file(path),
            Step::SyncData { path } => fs.open(path)?.sync_data(),
            Step::SyncAll { path } => fs.open(path)?.sync_all(),
            Step::SyncDir { path } => fs.sync_dir(path),
        }
    }

    /// What may be left of a write that a kill interrupts: the file is created, and pages from the
    /// first on are written.
    pub(super) fn parts(&self) -> Vec<Step> {
        let Step::Write { path, at, len, value } = *self else { return Vec::new() };
        let first = PAGE_BYTES - (at % PAGE_BYTES as u64) as usize;
        let lens = std::iter::once(0).chain((first..len).step_by(PAGE_BYTES));
        lens.map(|len| Step::Write { path, at, len, value }).collect()
    }
}
