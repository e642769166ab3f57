//! A test driver: queues the operations of the log, performs and completes them on request.

use std::collections::VecDeque;

use super::disk::{Disk, KeepUnsynced, SurvivalPolicy};
use super::{Record, State, StubNode};
use crate::contract::{BootError, DiskError, DiskOp, Effect, FileId, OpId, Outbox, ReadDisk};
use crate::wal::{Progress, Recovered, Ticket, Wal, WalOptions, recover};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum QueuedOp {
    Append { file: FileId, kind: &'static str, bytes: Vec<u8> },
    Rename { from: FileId, to: FileId },
    Remove { file: FileId },
    Sync { op: OpId, file: FileId },
    SyncDir { op: OpId },
}

/// A barrier that has been issued to the disk.
#[derive(Clone, Copy, Debug)]
struct Barrier {
    op: OpId,
    /// `None` for the directory.
    inode: Option<usize>,
    issued_at: u64,
}

#[derive(Clone, Debug)]
pub(super) struct Rig {
    pub(super) disk: Disk,
    options: WalOptions,
    wal: Option<Wal>,
    pub(super) queue: VecDeque<QueuedOp>,
    barriers: Vec<Barrier>,
    /// The device has failed in this incarnation: no operation is performed, every barrier fails.
    device_failed: bool,
    next_id: u32,
    /// The state of the node.
    pub(super) state: State,
    /// One for each record that this incarnation has read back.
    pub(super) boot_tickets: Vec<Ticket<u32>>,
}

impl Rig {
    /// A node on an empty disk, before its first incarnation.
    pub(super) fn new() -> Rig {
        Rig {
            disk: Disk::default(),
            // Small, so that few records need a compaction and a snapshot has several pieces.
            options: WalOptions { compact_at: 1000, chunk_bytes_max: 64, entropy: 7 },
            wal: None,
            queue: VecDeque::new(),
            barriers: Vec::new(),
            device_failed: false,
            next_id: 1,
            state: State::default(),
            boot_tickets: Vec::new(),
        }
    }

    /// A node that is ready.
    pub(super) fn started() -> Rig {
        let mut rig = Rig::new();
        rig.start();
        rig
    }

    pub(super) fn start(&mut self) {
        self.boot().expect("the disk is fine");
        self.run_until_idle();
        assert!(self.wal().ready());
    }

    /// The options of the next incarnation.
    pub(super) fn options(&mut self) -> &mut WalOptions {
        &mut self.options
    }

    pub(super) fn wal(&self) -> &Wal {
        self.wal.as_ref().expect("the node is running")
    }

    pub(super) fn recover(&self) -> Result<Recovered<State, Record>, BootError> {
        recover::<State, Record>(&self.disk)
    }

    /// All ids on the disk, in order.
    pub(super) fn ids(&self) -> Vec<u32> {
        rebuild_state(&self.recover().expect("the disk is fine")).ids
    }

    pub(super) fn boot(&mut self) -> Result<(), BootError> {
        // The process of the earlier incarnation has ended, with whatever it had queued.
        self.kill();
        let recovered = self.recover()?;
        self.state = rebuild_state(&recovered);
        self.state.incarnation += 1;
        let mut out = Outbox::default();
        let (wal, boot_snapshot) =
            Wal::begin(recovered.resume_point, self.options, &self.state, &mut out);
        self.boot_tickets = boot_snapshot.tickets(|state| &state.ids, |id| *id);
        self.wal = Some(wal);
        self.take(&mut out);
        Ok(())
    }
}

/// Actions of the node.
impl Rig {
    pub(super) fn append(&mut self, len: usize) -> Ticket<u32> {
        self.append_value(vec![0x5A; len])
    }

    /// Appends a record and discards its ticket.
    pub(super) fn append_untracked(&mut self, len: usize) {
        let _ = self.append(len);
    }

    pub(super) fn append_value_untracked(&mut self, value: Vec<u8>) {
        let _ = self.append_value(value);
    }

    fn append_value(&mut self, value: Vec<u8>) -> Ticket<u32> {
        let id = self.next_id;
        self.next_id += 1;
        self.state.ids.push(id);
        self.with(|wal, out| wal.append(&Record { id, value }, id, out))
    }

    pub(super) fn force(&mut self) {
        self.with(|wal, out| wal.force(out));
    }

    /// Appends, forces, and waits.
    pub(super) fn append_durably(&mut self, len: usize) {
        let ticket = self.append(len);
        self.force();
        self.run_until_idle();
        assert!(self.wal().is_durable(&ticket));
    }

    pub(super) fn compact(&mut self) {
        let state = self.state.clone();
        self.with(|wal, out| wal.compact(&state, out));
    }

    fn with<T>(&mut self, act: impl FnOnce(&mut Wal, &mut Outbox<StubNode>) -> T) -> T {
        let mut out = Outbox::default();
        let result = act(self.wal.as_mut().expect("the node is running"), &mut out);
        self.take(&mut out);
        result
    }

    fn take(&mut self, out: &mut Outbox<StubNode>) {
        let (effects, buffer) = out.drain();
        self.queue.extend(effects.map(|effect| {
            let Effect::Disk(op) = effect else { panic!("the log only touches the disk") };
            match op {
                DiskOp::Append { file, bytes, about } => {
                    QueuedOp::Append { file, kind: about.kind, bytes: bytes.of(buffer).to_vec() }
                }
                DiskOp::Truncate { .. } => panic!("the log truncates nothing"),
                DiskOp::Rename { from, to } => QueuedOp::Rename { from, to },
                DiskOp::Remove { file } => QueuedOp::Remove { file },
                DiskOp::Sync { op, file } => QueuedOp::Sync { op, file },
                DiskOp::SyncDir { op } => QueuedOp::SyncDir { op },
            }
        }));
    }
}

/// Actions of the driver.
impl Rig {
    /// Performs the next operation in the queue.
    pub(super) fn perform(&mut self) -> Option<QueuedOp> {
        let job = self.queue.pop_front()?;
        match &job {
            QueuedOp::Sync { op, file } => {
                // On a failed device the file may not exist.
                let inode = (!self.device_failed).then(|| self.disk.inode(*file));
                self.barriers.push(Barrier { op: *op, inode, issued_at: self.disk.tick() });
            }
            QueuedOp::SyncDir { op } => {
                self.barriers.push(Barrier { op: *op, inode: None, issued_at: self.disk.tick() });
            }
            QueuedOp::Append { .. } | QueuedOp::Rename { .. } | QueuedOp::Remove { .. }
                if self.device_failed => {}
            QueuedOp::Append { file, bytes, .. } => self.disk.append(*file, bytes),
            QueuedOp::Rename { from, to } => self.disk.rename(*from, *to),
            QueuedOp::Remove { file } => self.disk.remove(*file),
        }
        Some(job)
    }

    pub(super) fn perform_all(&mut self) {
        while self.perform().is_some() {}
    }

    /// Fails the device; of the next append, the first `kept` bytes are written.
    pub(super) fn fail_device(&mut self, kept: usize) {
        if let Some(QueuedOp::Append { file, bytes, .. }) = self.queue.front() {
            let kept = kept.min(bytes.len());
            self.disk.append(*file, &bytes[..kept]);
            // A part of it is written, and it is not performed again.
            self.queue.pop_front();
        }
        self.device_failed = true;
    }

    pub(super) fn barriers(&self) -> usize {
        self.barriers.len()
    }

    /// Completes one of the barriers that have been performed.
    pub(super) fn complete(
        &mut self,
        which: usize,
        result: Result<(), DiskError>,
    ) -> Result<Progress, DiskError> {
        let barrier = self.barriers.remove(which);
        let result = if self.device_failed { Err(DiskError::NoSpace) } else { result };
        match barrier.inode {
            _ if self.device_failed => {}
            Some(inode) => self.disk.synced(inode, barrier.issued_at, result.is_ok()),
            None => self.disk.synced_names(barrier.issued_at, result.is_ok()),
        }
        self.with(|wal, out| wal.on_disk_done(barrier.op, result, out))
    }

    /// Performs and completes operations until none is left.
    pub(super) fn run_until_idle(&mut self) {
        // A completed barrier may issue further operations.
        loop {
            self.perform_all();
            if self.barriers.is_empty() {
                return;
            }
            self.complete(0, Ok(())).expect("no barrier has failed");
        }
    }

    /// Kills the process; its queued operations are lost.
    pub(super) fn kill(&mut self) {
        self.wal = None;
        self.queue.clear();
        self.barriers.clear();
        self.device_failed = false;
    }

    pub(super) fn power_cut(&mut self, policy: &mut dyn SurvivalPolicy) {
        self.kill();
        self.disk.power_cut(policy);
    }

    /// Performs every operation, then cuts the power.
    pub(super) fn flush_and_power_cut(&mut self) {
        self.perform_all();
        self.power_cut(&mut KeepUnsynced);
    }
}

/// The state that results from the recovered snapshot and records.
pub(super) fn rebuild_state(recovered: &Recovered<State, Record>) -> State {
    let mut state = recovered.snapshot.clone().unwrap_or_default();
    state.ids.extend(recovered.records.iter().map(|record| record.id));
    state
}

/// The files of a disk, for a trace.
pub(super) fn files(rig: &Rig) -> String {
    rig.disk.files().iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}
