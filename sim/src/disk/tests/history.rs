//! Properties of every history: small ones are enumerated, larger ones drawn at random.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// One action of a node or a driver.
#[derive(Clone, Copy, Debug)]
enum Action {
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

/// A second, much simpler model of the durability guarantees: whole files, no sectors, no queue.
#[derive(Clone, Debug, Default)]
struct ReferenceModel {
    files: Vec<File>,
    names: BTreeMap<FileId, usize>,
    /// Names that a completed `SyncDir` covers and that were not changed since.
    durable_names: BTreeMap<FileId, usize>,
    barriers: Vec<Barrier>,
    appended: u8,
}

#[derive(Clone, Debug, Default)]
struct File {
    bytes: Vec<u8>,
    guaranteed: usize,
}

#[derive(Clone, Debug)]
enum Barrier {
    File { op: OpId, file: usize, len: usize },
    Names { op: OpId, names: BTreeMap<FileId, usize> },
}

/// A disk and its reference model.
#[derive(Clone, Debug, Default)]
struct ModelledDisk {
    disk: Disk,
    model: ReferenceModel,
    ops: u64,
}

impl ModelledDisk {
    fn action(&mut self, action: Action) {
        match action {
            Action::Append(file, len) => self.append(file, len),
            Action::Truncate(file, len) => self.truncate(file, len),
            Action::Rename(from, to) => self.rename(from, to),
            Action::Remove(file) => {
                self.disk.remove(file);
                self.model.touch(&[file]);
                self.model.names.remove(&file);
            }
            Action::Sync(file) => self.sync(file),
            Action::SyncDir => {
                let op = self.op();
                self.disk.sync_dir(op);
                let names = self.model.names.clone();
                self.model.barriers.push(Barrier::Names { op, names });
            }
            Action::Complete => self.complete(),
            Action::Kill(keep) => self.kill(keep),
        }
        self.check_agreement();
    }

    fn append(&mut self, file: FileId, len: usize) {
        // Each append has a byte of its own, and none has the zeros of a hole.
        self.model.appended = self.model.appended % 250 + 1;
        let bytes = vec![self.model.appended; len];
        self.disk.write(file, "New", &bytes);
        if !self.model.names.contains_key(&file) {
            self.model.touch(&[file]);
            self.model.names.insert(file, self.model.files.len());
            self.model.files.push(File::default());
        }
        let at = self.model.names[&file];
        self.model.files[at].bytes.extend_from_slice(&bytes);
    }

    fn truncate(&mut self, file: FileId, len: u64) {
        let Some(at) = self.model.names.get(&file) else { return };
        self.disk.truncate(file, len);
        let file = &mut self.model.files[*at];
        let len = len as usize;
        file.bytes.truncate(len);
        file.guaranteed = file.guaranteed.min(len);
        for barrier in &mut self.model.barriers {
            if let Barrier::File { file, len: covered, .. } = barrier
                && *file == *at
            {
                *covered = (*covered).min(len);
            }
        }
    }

    fn rename(&mut self, from: FileId, to: FileId) {
        let Some(at) = self.model.names.get(&from).copied().filter(|_| from != to) else { return };
        self.disk.rename(from, to);
        self.model.touch(&[from, to]);
        self.model.names.remove(&from);
        self.model.names.insert(to, at);
    }

    fn sync(&mut self, file: FileId) {
        let Some(at) = self.model.names.get(&file).copied() else { return };
        let op = self.op();
        self.disk.sync(op, file);
        let len = self.model.files[at].bytes.len();
        self.model.barriers.push(Barrier::File { op, file: at, len });
    }

    fn complete(&mut self) {
        if self.model.barriers.is_empty() {
            return;
        }
        let op = match self.model.barriers.remove(0) {
            Barrier::File { op, file, len } => {
                let file = &mut self.model.files[file];
                file.guaranteed = file.guaranteed.max(len.min(file.bytes.len()));
                op
            }
            Barrier::Names { op, names } => {
                // Names changed since are in no barrier's list any more.
                self.model.durable_names.extend(names);
                op
            }
        };
        self.disk.complete(op, Ok(())).expect("nothing has failed");
    }

    /// A kill that keeps everything changes nothing; one that cuts operations reduces the
    /// guarantees to what is durable by then.
    fn kill(&mut self, keep: usize) {
        let all_kept = keep >= self.disk.in_driver_queue();
        let before = contents(&self.disk);
        let guaranteed = self.guaranteed();
        self.disk.kill(keep);
        assert!(
            !all_kept || contents(&self.disk) == before,
            "kill(in_driver_queue()) must keep the volatile state"
        );
        if all_kept {
            self.model.barriers.clear();
        } else {
            assert_preserved(&guaranteed, &self.disk);
            self.restart();
        }
    }

    fn restart(&mut self) {
        // What a kill cuts off is beyond the model: a power cut makes what is left the new
        // beginning.
        self.disk.power_cut(&Survival::All);
        self.model = ReferenceModel { appended: self.model.appended, ..ReferenceModel::default() };
        for (at, (file, bytes)) in contents(&self.disk).into_iter().enumerate() {
            self.model.files.push(File { guaranteed: bytes.len(), bytes });
            self.model.names.insert(file, at);
            self.model.durable_names.insert(file, at);
        }
    }

    /// Disk and model show the same contents, and the disk reports as durable what the model
    /// guarantees.
    fn check_agreement(&self) {
        let mut expected = Vec::new();
        for (file, at) in &self.model.names {
            expected.push((*file, self.model.files[*at].bytes.clone()));
        }
        assert_eq!(contents(&self.disk), expected);
        for (file, bytes) in self.guaranteed() {
            assert!(self.disk.is_durable(file, bytes.len() as u64), "{file} must be durable");
        }
    }

    /// Everything that a completed barrier covers.
    fn guaranteed(&self) -> Vec<(FileId, Vec<u8>)> {
        let mut guaranteed = Vec::new();
        for (name, at) in &self.model.durable_names {
            let file = &self.model.files[*at];
            guaranteed.push((*name, file.bytes[..file.guaranteed].to_vec()));
        }
        guaranteed
    }

    /// Everything that the disk reports as durable: at least what is guaranteed, and all of it has
    /// to survive.
    fn reported_durable(&self) -> Vec<(FileId, Vec<u8>)> {
        let mut reported = Vec::new();
        for (file, bytes) in contents(&self.disk) {
            let end = (0..=bytes.len()).rev().find(|end| self.disk.is_durable(file, *end as u64));
            if let Some(end) = end {
                reported.push((file, bytes[..end].to_vec()));
            }
        }
        reported
    }

    /// The properties, for one survival.
    fn check_power_cut(&self, survival: &Survival) {
        let mut disk = self.disk.clone();
        let report = disk.power_cut(survival);
        assert_preserved(&self.guaranteed(), &disk);
        assert_preserved(&self.reported_durable(), &disk);
        let once = contents(&disk);
        assert!(!disk.in_flight());
        assert_eq!(contents(&disk.durable()), once, "surviving operations must be durable");
        disk.power_cut(survival);
        assert_eq!(contents(&disk), once, "a second power cut must change nothing");
        for outcome in &report.appends {
            assert!(outcome.kept <= outcome.bytes);
        }
    }

    fn check_every_survival(&self, keys: u64) {
        for survival in all_survivals(keys) {
            self.check_power_cut(&survival);
        }
        let all = self.disk.after_power_cut(&Survival::All);
        assert_eq!(
            contents(&all),
            contents(&self.disk),
            "Survival::All must equal the volatile state"
        );
        let none = self.disk.after_power_cut(&Survival::None);
        assert_eq!(
            contents(&none),
            contents(&self.disk.durable()),
            "Survival::None must equal the durable state"
        );
        let prefix = self.disk.after_power_cut(&Survival::Prefix(self.disk.unsynced() as u32));
        assert_eq!(
            contents(&prefix),
            contents(&all),
            "the longest prefix must equal Survival::All"
        );
    }

    fn op(&mut self) -> OpId {
        self.ops += 1;
        OpId(self.ops)
    }
}

impl ReferenceModel {
    fn touch(&mut self, touched: &[FileId]) {
        // A change makes every name of its files uncertain, not only the names that it mentions.
        let at: Vec<usize> =
            touched.iter().filter_map(|file| self.names.get(file).copied()).collect();
        let keep = |file: &FileId, ino: &mut usize| !touched.contains(file) && !at.contains(ino);
        self.durable_names.retain(keep);
        for barrier in &mut self.barriers {
            if let Barrier::Names { names, .. } = barrier {
                names.retain(keep);
            }
        }
    }
}

fn assert_preserved(guaranteed: &[(FileId, Vec<u8>)], disk: &Disk) {
    for (file, bytes) in guaranteed {
        let read = disk.bytes(*file).unwrap_or_else(|| panic!("{file} was durable and is missing"));
        assert!(read.starts_with(bytes), "{file} lost some of its {} durable bytes", bytes.len());
    }
}

/// Every history of up to four actions over two files, each with every survival.
#[test]
fn operations_covered_by_a_barrier_survive_every_small_history() {
    let actions = [
        Action::Append(SCRATCH, 300),
        Action::Append(SNAPSHOT, 300),
        Action::Truncate(SCRATCH, 100),
        Action::Rename(SCRATCH, SNAPSHOT),
        Action::Remove(SCRATCH),
        Action::Sync(SCRATCH),
        Action::SyncDir,
        Action::Complete,
        Action::Kill(1),
    ];
    fn explore(modelled: &ModelledDisk, actions: &[Action], depth: usize) -> u32 {
        // Few keys for each history, as there are thousands of histories.
        modelled.check_every_survival(4);
        if depth == 0 {
            return 1;
        }
        let mut explored = 1;
        for action in actions {
            let mut modelled = modelled.clone();
            modelled.action(*action);
            explored += explore(&modelled, actions, depth - 1);
        }
        explored
    }
    assert_eq!(explore(&ModelledDisk::default(), &actions, 4), 1 + 9 + 81 + 729 + 6561);
}

fn files() -> impl Strategy<Value = FileId> {
    prop_oneof![Just(LOG), Just(OTHER), Just(SCRATCH), Just(SNAPSHOT)]
}

fn actions() -> impl Strategy<Value = Action> {
    prop_oneof![
        6 => (files(), 0_usize..1400).prop_map(|(file, len)| Action::Append(file, len)),
        2 => (files(), 0_u64..1400).prop_map(|(file, len)| Action::Truncate(file, len)),
        2 => (files(), files()).prop_map(|(from, to)| Action::Rename(from, to)),
        2 => files().prop_map(Action::Remove),
        3 => files().prop_map(Action::Sync),
        2 => Just(Action::SyncDir),
        // Often: without completed barriers there is nothing that has to survive.
        5 => Just(Action::Complete),
        1 => (0_usize..6).prop_map(Action::Kill),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    /// The same for longer histories over four files.
    #[test]
    fn operations_covered_by_a_barrier_survive_long_histories(actions in prop::collection::vec(actions(), 0..40)) {
        let mut modelled = ModelledDisk::default();
        for action in actions {
            modelled.action(action);
        }
        modelled.check_every_survival(24);
    }
}
