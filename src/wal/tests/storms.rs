//! The main proof: many random histories of appends, barriers, compactions, kills, power cuts and failing disks.
//! After each boot the records must be a prefix of those appended, at least up to the last completed barrier.

use super::Dice;
use super::disk::Everything;
use super::rig::{Rig, files, fold};
use crate::contract::DiskError;
use crate::wal::{Progress, Ticket};

/// How often what happened, so that a proof about nothing is noticed.
#[derive(Debug, Default)]
struct Seen {
    boots: usize,
    torn: usize,
    compacted: usize,
    failed: usize,
    proven: usize,
    lost: usize,
    cut_compactions: usize,
    cut_boots: usize,
}

struct Storm {
    rig: Rig,
    dice: Dice,
    tickets: Vec<Ticket<u32>>,
    /// How many of the state's ids have been proved durable, to anybody, ever.
    promised: usize,
    /// The life that was last fit to speak.
    spoken: u32,
    seen: Seen,
}

impl Storm {
    fn run(seed: u64) -> Seen {
        let mut storm = Storm {
            rig: Rig::new(),
            dice: Dice(seed),
            tickets: Vec::new(),
            promised: 0,
            spoken: 0,
            seen: Seen::default(),
        };
        storm.rig.options.entropy = storm.dice.below(2) as u64;
        storm.rig.options.chunk_bytes_max = 1 + storm.dice.below(200);
        storm.rig.options.compact_at = 1 + storm.dice.below(4000) as u64;
        storm.boot();
        for _ in 0..storm.dice.below(120) {
            storm.step();
        }
        storm.end();
        storm.seen
    }

    fn step(&mut self) {
        match self.dice.below(64) {
            0..12 => {
                let len = if self.dice.one_in(4) { self.dice.below(1500) } else { self.dice.below(60) };
                let ticket = self.rig.append(len);
                self.tickets.push(ticket);
            }
            12..20 => self.rig.force(),
            20..36 => drop(self.rig.perform()),
            36..42 => self.rig.perform_all(),
            42..59 => self.complete(Ok(())),
            59 if self.rig.wal().wants_compaction() => self.rig.compact(),
            59 => {}
            60 if self.dice.one_in(4) => self.complete(Err(DiskError::Io)),
            60 if self.dice.one_in(4) => {
                let kept = self.dice.below(100);
                self.rig.latch(kept);
            }
            60 => {}
            61 => self.settle(),
            62 => self.boot(),
            63 => self.power_cut(),
            _ => unreachable!("the dice has 64 sides"),
        }
    }

    fn complete(&mut self, result: Result<(), DiskError>) {
        if self.rig.barriers() == 0 {
            return;
        }
        let which = self.dice.below(self.rig.barriers());
        match self.rig.complete(which, result) {
            Ok(Progress::Ready) => self.on_ready(),
            Ok(Progress::Advanced) => self.redeem(),
            Ok(Progress::Compacted) => self.seen.compacted += 1,
            Ok(Progress::Nothing) => {}
            Err(_) => self.on_failure(),
        }
    }

    fn settle(&mut self) {
        for _ in 0..20 {
            self.rig.perform_all();
            self.complete(Ok(()));
        }
    }

    fn on_ready(&mut self) {
        let Ok(life) = self.rig.wal().redeem(self.rig.wal().recovered(self.rig.state.life)) else {
            panic!("ready, and yet what was read back is not durable")
        };
        assert!(*life > self.spoken, "a life was spoken of twice");
        self.spoken = *life;
        // All that was read back is durable now; what was appended since is held back.
        let recovered = self.rig.state.ids.len() - self.tickets.len();
        self.promised = self.promised.max(recovered);
        self.redeem();
    }

    fn redeem(&mut self) {
        let wal = self.rig.wal().clone();
        self.tickets.retain(|ticket| {
            let Ok(proof) = wal.redeem(*ticket) else { return true };
            let place = self.rig.state.ids.iter().position(|id| id == proof.get());
            self.promised = self.promised.max(1 + place.expect("it was appended"));
            self.seen.proven += 1;
            false
        });
    }

    /// A node halts; often it is started again without a power cut.
    fn on_failure(&mut self) {
        self.seen.failed += 1;
        let queued = self.rig.queue.len();
        let ticket = self.rig.append(3);
        self.rig.force();
        assert_eq!(self.rig.queue.len(), queued, "a failed log is silent");
        assert!(self.rig.wal().redeem(ticket).is_err());
        self.rig.state.ids.pop();
        if self.dice.one_in(3) { self.power_cut() } else { self.boot() }
    }

    fn power_cut(&mut self) {
        if self.dice.one_in(8) {
            self.rig.power_cut(&mut Everything)
        } else {
            self.rig.power_cut(&mut self.dice)
        }
        self.boot();
    }

    fn boot(&mut self) {
        let before = self.rig.state.clone();
        let recovered = self.rig.recover().unwrap_or_else(|error| panic!("nothing was damaged, yet {error}"));
        let found = fold(&recovered);
        assert!(before.ids.starts_with(&found.ids), "{:?} is no prefix of {:?}", found.ids, before.ids);
        assert!(found.ids.len() >= self.promised, "{} of {} are left", found.ids.len(), self.promised);
        assert!(found.life >= self.spoken, "a life that was spoken of is forgotten");
        assert_eq!(found.ids.len() as u64, recovered.found.position());
        self.seen.boots += 1;
        self.seen.torn += usize::from(recovered.torn.is_some());
        self.seen.lost += before.ids.len() - found.ids.len();
        self.seen.cut_boots += usize::from(found.life < before.life);
        let numbers = files(&self.rig).matches("wal").count();
        self.seen.cut_compactions += usize::from(numbers > 1);
        self.tickets.clear();
        self.rig.boot().expect("recovering twice is recovering once");
    }

    /// The sky clears: the node can always go on.
    fn end(&mut self) {
        self.boot();
        self.rig.settle();
        assert!(self.rig.wal().ready());
        self.rig.keep(10);
        self.rig.power_cut(&mut self.dice);
        assert_eq!(self.rig.ids(), self.rig.state.ids);
    }
}

/// Every history: what comes back is what was appended, and all that was promised.
#[test]
fn no_history_loses_a_promise() {
    let mut total = Seen::default();
    for seed in 0..30_000 {
        let seen = std::panic::catch_unwind(|| Storm::run(seed)).unwrap_or_else(|_| panic!("seed {seed}"));
        total.boots += seen.boots;
        total.torn += seen.torn;
        total.compacted += seen.compacted;
        total.failed += seen.failed;
        total.proven += seen.proven;
        total.lost += seen.lost;
        total.cut_compactions += seen.cut_compactions;
        total.cut_boots += seen.cut_boots;
    }
    let counts = [
        total.boots,
        total.torn,
        total.compacted,
        total.failed,
        total.proven,
        total.lost,
        total.cut_compactions,
        total.cut_boots,
    ];
    assert!(counts.iter().all(|count| *count > 1000), "a proof about too little: {total:?}");
}
