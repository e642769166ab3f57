//! What holds for every history: small ones are enumerated, larger ones drawn.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// One thing that a node or a driver does.
#[derive(Clone, Copy, Debug)]
enum Act {
    Append(FileId, usize),
    Truncate(FileId, u64),
    Rename(FileId, FileId),
    Remove(FileId),
    Sync(FileId),
    SyncDir,
    /// The barrier that was issued first completes.
    Complete,
    Kill(usize),
}

/// A second, much simpler opinion about what is promised: whole files, no sectors, no queue.
#[derive(Clone, Debug, Default)]
struct Promises {
    files: Vec<File>,
    names: BTreeMap<FileId, usize>,
    /// Names that a completed `SyncDir` covers and nothing has touched since.
    durable_names: BTreeMap<FileId, usize>,
    barriers: Vec<Barrier>,
    appended: u8,
}

#[derive(Clone, Debug, Default)]
struct File {
    bytes: Vec<u8>,
    promised: usize,
}

#[derive(Clone, Debug)]
enum Barrier {
    File { op: OpId, file: usize, len: usize },
    Names { op: OpId, names: BTreeMap<FileId, usize> },
}

/// A disk and what it promises.
#[derive(Clone, Debug, Default)]
struct Story {
    disk: Disk,
    promises: Promises,
    ops: u64,
}

impl Story {
    fn act(&mut self, act: Act) {
        match act {
            Act::Append(file, len) => self.append(file, len),
            Act::Truncate(file, len) => self.truncate(file, len),
            Act::Rename(from, to) => self.rename(from, to),
            Act::Remove(file) => {
                self.disk.remove(file);
                self.promises.touch(&[file]);
                self.promises.names.remove(&file);
            }
            Act::Sync(file) => self.sync(file),
            Act::SyncDir => {
                let op = self.op();
                self.disk.sync_dir(op);
                let names = self.promises.names.clone();
                self.promises.barriers.push(Barrier::Names { op, names });
            }
            Act::Complete => self.complete(),
            Act::Kill(keep) => self.kill(keep),
        }
        self.agrees();
    }

    fn append(&mut self, file: FileId, len: usize) {
        self.promises.appended = self.promises.appended % 250 + 1;
        let bytes = vec![self.promises.appended; len];
        self.disk.write(file, "New", &bytes);
        if !self.promises.names.contains_key(&file) {
            self.promises.touch(&[file]);
            self.promises.names.insert(file, self.promises.files.len());
            self.promises.files.push(File::default());
        }
        let at = self.promises.names[&file];
        self.promises.files[at].bytes.extend_from_slice(&bytes);
    }

    fn truncate(&mut self, file: FileId, len: u64) {
        let Some(at) = self.promises.names.get(&file) else { return };
        self.disk.truncate(file, len);
        let (file, len) = (&mut self.promises.files[*at], len as usize);
        file.bytes.truncate(len);
        file.promised = file.promised.min(len);
        for barrier in &mut self.promises.barriers {
            if let Barrier::File { file, len: covered, .. } = barrier
                && *file == *at
            {
                *covered = (*covered).min(len);
            }
        }
    }

    fn rename(&mut self, from: FileId, to: FileId) {
        let Some(at) = self.promises.names.get(&from).copied().filter(|_| from != to) else { return };
        self.disk.rename(from, to);
        self.promises.touch(&[from, to]);
        self.promises.names.remove(&from);
        self.promises.names.insert(to, at);
    }

    fn sync(&mut self, file: FileId) {
        let Some(at) = self.promises.names.get(&file).copied() else { return };
        let op = self.op();
        self.disk.sync(op, file);
        let len = self.promises.files[at].bytes.len();
        self.promises.barriers.push(Barrier::File { op, file: at, len });
    }

    fn complete(&mut self) {
        if self.promises.barriers.is_empty() {
            return;
        }
        let op = match self.promises.barriers.remove(0) {
            Barrier::File { op, file, len } => {
                let file = &mut self.promises.files[file];
                file.promised = file.promised.max(len.min(file.bytes.len()));
                op
            }
            Barrier::Names { op, names } => {
                // What was touched since is in no barrier's list any more.
                self.promises.durable_names.extend(names);
                op
            }
        };
        self.disk.complete(op, Ok(())).expect("nothing has failed");
    }

    /// The kill of a whole prefix changes nothing; a shorter one makes the promise start again from what is
    /// durable by then.
    fn kill(&mut self, keep: usize) {
        let whole = keep >= self.disk.unsettled();
        let before = contents(&self.disk);
        let promised = self.promised();
        self.disk.kill(keep);
        assert!(!whole || contents(&self.disk) == before, "kill(unsettled()) keeps the volatile state");
        if whole {
            self.promises.barriers.clear();
        } else {
            holds(&promised, &self.disk);
            self.restart();
        }
    }

    fn restart(&mut self) {
        self.disk.power_cut(&Survival::All);
        self.promises = Promises { appended: self.promises.appended, ..Promises::default() };
        for (at, (file, bytes)) in contents(&self.disk).into_iter().enumerate() {
            self.promises.files.push(File { promised: bytes.len(), bytes });
            self.promises.names.insert(file, at);
            self.promises.durable_names.insert(file, at);
        }
    }

    /// Disk and second opinion see the same, and the disk calls durable what is promised.
    fn agrees(&self) {
        let seen = |(file, at): (&FileId, &usize)| (*file, self.promises.files[*at].bytes.clone());
        assert_eq!(contents(&self.disk), self.promises.names.iter().map(seen).collect::<Vec<_>>());
        for (file, bytes) in self.promised() {
            assert!(self.disk.is_durable(file, bytes.len() as u64), "{file} is promised");
        }
    }

    /// Everything that a completed barrier covers.
    fn promised(&self) -> Vec<(FileId, Vec<u8>)> {
        let promised = |(name, at): (&FileId, &usize)| {
            let file = &self.promises.files[*at];
            (*name, file.bytes[..file.promised].to_vec())
        };
        self.promises.durable_names.iter().map(promised).collect()
    }

    /// Everything that the disk itself calls durable: at least what is promised, and it has to keep that too.
    fn called_durable(&self) -> Vec<(FileId, Vec<u8>)> {
        let durable = |(file, bytes): (FileId, Vec<u8>)| {
            let end = (0..=bytes.len()).rev().find(|end| self.disk.is_durable(file, *end as u64))?;
            Some((file, bytes[..end].to_vec()))
        };
        contents(&self.disk).into_iter().filter_map(durable).collect()
    }

    /// The claims, for one way to lose power.
    fn weather(&self, survival: &Survival) {
        let mut disk = self.disk.clone();
        let report = disk.power_cut(survival);
        holds(&self.promised(), &disk);
        holds(&self.called_durable(), &disk);
        let once = contents(&disk);
        assert!(!disk.in_flight());
        assert_eq!(contents(&disk.durable()), once, "what has survived is durable");
        disk.power_cut(survival);
        assert_eq!(contents(&disk), once, "recovering twice is recovering once");
        let sane = |fate: &crate::disk::AppendFate| fate.kept <= fate.bytes;
        assert!(report.appends.iter().all(sane));
    }

    fn weather_all(&self, keys: u64) {
        for survival in profiles(keys) {
            self.weather(&survival);
        }
        let all = self.disk.after(&Survival::All);
        assert_eq!(contents(&all), contents(&self.disk), "all is what the node saw");
        let none = self.disk.after(&Survival::None);
        assert_eq!(contents(&none), contents(&self.disk.durable()), "none is the durable state");
        let prefix = self.disk.after(&Survival::Prefix(self.disk.unsynced() as u32));
        assert_eq!(contents(&prefix), contents(&all), "the longest prefix is all");
    }

    fn op(&mut self) -> OpId {
        self.ops += 1;
        OpId(self.ops)
    }
}

impl Promises {
    fn touch(&mut self, touched: &[FileId]) {
        let at: Vec<usize> = touched.iter().filter_map(|file| self.names.get(file).copied()).collect();
        let keep = |file: &FileId, ino: &mut usize| !touched.contains(file) && !at.contains(ino);
        self.durable_names.retain(keep);
        for barrier in &mut self.barriers {
            if let Barrier::Names { names, .. } = barrier {
                names.retain(keep);
            }
        }
    }
}

fn holds(promised: &[(FileId, Vec<u8>)], disk: &Disk) {
    for (file, bytes) in promised {
        let read = disk.bytes(*file).unwrap_or_else(|| panic!("{file} was promised and is gone"));
        assert!(read.starts_with(bytes), "{file} lost some of {} bytes that were promised", bytes.len());
    }
}

/// Every history of up to four acts over two files, each in all weathers.
#[test]
fn what_a_completed_barrier_covers_survives_every_small_history() {
    let acts = [
        Act::Append(SCRATCH, 300),
        Act::Append(SNAPSHOT, 300),
        Act::Truncate(SCRATCH, 100),
        Act::Rename(SCRATCH, SNAPSHOT),
        Act::Remove(SCRATCH),
        Act::Sync(SCRATCH),
        Act::SyncDir,
        Act::Complete,
        Act::Kill(1),
    ];
    fn explore(story: &Story, acts: &[Act], depth: usize) -> u32 {
        story.weather_all(4);
        if depth == 0 {
            return 1;
        }
        let next = |act: &Act| {
            let mut story = story.clone();
            story.act(*act);
            explore(&story, acts, depth - 1)
        };
        1 + acts.iter().map(next).sum::<u32>()
    }
    assert_eq!(explore(&Story::default(), &acts, 4), 1 + 9 + 81 + 729 + 6561);
}

fn files() -> impl Strategy<Value = FileId> {
    prop_oneof![Just(LOG), Just(OTHER), Just(SCRATCH), Just(SNAPSHOT)]
}

fn acts() -> impl Strategy<Value = Act> {
    prop_oneof![
        6 => (files(), 0_usize..1400).prop_map(|(file, len)| Act::Append(file, len)),
        2 => (files(), 0_u64..1400).prop_map(|(file, len)| Act::Truncate(file, len)),
        2 => (files(), files()).prop_map(|(from, to)| Act::Rename(from, to)),
        2 => files().prop_map(Act::Remove),
        3 => files().prop_map(Act::Sync),
        2 => Just(Act::SyncDir),
        5 => Just(Act::Complete),
        1 => (0_usize..6).prop_map(Act::Kill),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    /// The same for longer histories over four files.
    #[test]
    fn what_a_completed_barrier_covers_survives(acts in prop::collection::vec(acts(), 0..40)) {
        let mut story = Story::default();
        for act in acts {
            story.act(act);
        }
        story.weather_all(24);
    }
}
