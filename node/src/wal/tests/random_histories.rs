//! The main proof: many random histories of appends, barriers, compactions, kills, power cuts and
//! failing disks. After each boot the records must be a prefix of those appended, at least up to
//! the last completed barrier.

use super::Rng;
use super::disk::KeepUnsynced;
use super::rig::{Rig, files, rebuild_state};
use crate::contract::DiskError;
use crate::wal::{Progress, Ticket, WalOptions};

/// How often each kind of event happened, so that a test of nothing fails.
#[derive(Debug, Default)]
struct Coverage {
    boots: usize,
    torn: usize,
    compacted: usize,
    failed: usize,
    proven: usize,
    lost: usize,
    interrupted_compactions: usize,
    interrupted_boots: usize,
}

struct RandomHistory {
    rig: Rig,
    rng: Rng,
    tickets: Vec<Ticket<u32>>,
    /// The number of ids in the state that were ever proved durable.
    durable_count: usize,
    /// The last incarnation that became ready.
    last_ready_incarnation: u32,
    coverage: Coverage,
}

impl RandomHistory {
    fn run(seed: u64) -> Coverage {
        let mut history = RandomHistory {
            rig: Rig::new(),
            rng: Rng(seed),
            tickets: Vec::new(),
            durable_count: 0,
            last_ready_incarnation: 0,
            coverage: Coverage::default(),
        };
        *history.rig.options() = WalOptions {
            // Two values only, so that incarnations with equal entropy meet.
            entropy: history.rng.below(2) as u64,
            chunk_bytes_max: 1 + history.rng.below(200),
            compact_at: 1 + history.rng.below(4000) as u64,
        };
        history.boot();
        for _ in 0..history.rng.below(120) {
            history.step();
        }
        history.end();
        history.coverage
    }

    fn step(&mut self) {
        match self.rng.below(64) {
            0..12 => {
                let len =
                    if self.rng.one_in(4) { self.rng.below(1500) } else { self.rng.below(60) };
                let ticket = self.rig.append(len);
                self.tickets.push(ticket);
            }
            12..20 => self.rig.force(),
            20..36 => drop(self.rig.perform()),
            36..42 => self.rig.perform_all(),
            42..59 => self.complete(Ok(())),
            59 if self.rig.wal().needs_compaction() => self.rig.compact(),
            59 => {}
            60 if self.rng.one_in(4) => self.complete(Err(DiskError::Io)),
            60 if self.rng.one_in(4) => {
                let kept = self.rng.below(100);
                self.rig.fail_device(kept);
            }
            60 => {}
            61 => self.run_until_idle(),
            62 => self.boot(),
            63 => self.power_cut(),
            _ => unreachable!("the dice has 64 sides"),
        }
    }

    fn complete(&mut self, result: Result<(), DiskError>) {
        if self.rig.barriers() == 0 {
            return;
        }
        // Barriers complete in any order.
        let which = self.rng.below(self.rig.barriers());
        match self.rig.complete(which, result) {
            Ok(Progress::Ready) => self.on_ready(),
            Ok(Progress::Advanced) => self.redeem(),
            Ok(Progress::Compacted) => self.coverage.compacted += 1,
            Ok(Progress::Nothing) => {}
            Err(_) => self.restart_after_failure(),
        }
    }

    fn run_until_idle(&mut self) {
        for _ in 0..20 {
            self.rig.perform_all();
            self.complete(Ok(()));
        }
    }

    fn on_ready(&mut self) {
        let all_durable =
            self.rig.boot_tickets.iter().all(|ticket| self.rig.wal().is_durable(ticket));
        assert!(all_durable, "the log is ready but a ticket of the boot cannot be redeemed");
        let incarnation = self.rig.state.incarnation;
        assert!(incarnation > self.last_ready_incarnation, "an incarnation became ready twice");
        self.last_ready_incarnation = incarnation;
        // All that was read back is durable now; records appended since are deferred.
        let recovered = self.rig.state.ids.len() - self.tickets.len();
        self.durable_count = self.durable_count.max(recovered);
        self.redeem();
    }

    fn redeem(&mut self) {
        let wal = self.rig.wal().clone();
        self.tickets.retain(|ticket| {
            let Ok(proof) = wal.redeem(*ticket) else { return true };
            let place = self.rig.state.ids.iter().position(|id| id == proof.get());
            self.durable_count = self.durable_count.max(1 + place.expect("it was appended"));
            self.coverage.proven += 1;
            false
        });
    }

    /// A node halts; often it is started again without a power cut.
    fn restart_after_failure(&mut self) {
        self.coverage.failed += 1;
        let queued = self.rig.queue.len();
        let ticket = self.rig.append(3);
        self.rig.force();
        assert_eq!(self.rig.queue.len(), queued, "a failed log is silent");
        assert!(self.rig.wal().redeem(ticket).is_err());
        // A failed log drops the record, so it must leave the state as well.
        self.rig.state.ids.pop();
        if self.rng.one_in(3) { self.power_cut() } else { self.boot() }
    }

    fn power_cut(&mut self) {
        if self.rng.one_in(8) {
            self.rig.power_cut(&mut KeepUnsynced)
        } else {
            self.rig.power_cut(&mut self.rng)
        }
        self.boot();
    }

    fn boot(&mut self) {
        let before = self.rig.state.clone();
        let recovered = self
            .rig
            .recover()
            .unwrap_or_else(|error| panic!("undamaged disk fails recovery: {error}"));
        let found = rebuild_state(&recovered);
        assert!(
            before.ids.starts_with(&found.ids),
            "{:?} is no prefix of {:?}",
            found.ids,
            before.ids
        );
        assert!(
            found.ids.len() >= self.durable_count,
            "only {} of {} durable records were recovered",
            found.ids.len(),
            self.durable_count
        );
        assert!(
            found.incarnation >= self.last_ready_incarnation,
            "an incarnation that had become ready is forgotten"
        );
        assert_eq!(found.ids.len() as u64, recovered.resume_point.position());
        self.coverage.boots += 1;
        self.coverage.torn += usize::from(recovered.torn.is_some());
        self.coverage.lost += before.ids.len() - found.ids.len();
        self.coverage.interrupted_boots += usize::from(found.incarnation < before.incarnation);
        let numbers = files(&self.rig).matches("wal").count();
        self.coverage.interrupted_compactions += usize::from(numbers > 1);
        self.tickets.clear();
        self.rig.boot().expect("a second recovery succeeds");
    }

    /// The disk works again: the node can always continue.
    fn end(&mut self) {
        self.boot();
        self.rig.run_until_idle();
        assert!(self.rig.wal().ready());
        self.rig.append_durably(10);
        self.rig.power_cut(&mut self.rng);
        assert_eq!(self.rig.ids(), self.rig.state.ids);
    }
}

/// Every history: the recovered records were appended, and include every record that was proved
/// durable.
#[test]
fn random_histories_keep_every_durable_record() {
    let mut total = Coverage::default();
    for seed in 0..30_000 {
        let coverage = std::panic::catch_unwind(|| RandomHistory::run(seed))
            .unwrap_or_else(|_| panic!("seed {seed}"));
        total.boots += coverage.boots;
        total.torn += coverage.torn;
        total.compacted += coverage.compacted;
        total.failed += coverage.failed;
        total.proven += coverage.proven;
        total.lost += coverage.lost;
        total.interrupted_compactions += coverage.interrupted_compactions;
        total.interrupted_boots += coverage.interrupted_boots;
    }
    let counts = [
        total.boots,
        total.torn,
        total.compacted,
        total.failed,
        total.proven,
        total.lost,
        total.interrupted_compactions,
        total.interrupted_boots,
    ];
    // An event that seldom occurs is as good as untested.
    assert!(counts.iter().all(|count| *count > 1000), "some event occurred too rarely: {total:?}");
}
