//! The same transactions and messages with nothing around them: a binary heap, and two-phase commit as a table of sets.
//! No log, no disk, no retries, no judge. What it takes is what any simulator has to take.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use stormglass_sim::mix::{below, between, mix};

/// About one vote in twenty is No.
const NO_PERMILLE: u64 = 50;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Word {
    Prepare,
    Yes,
    No,
    Commit,
    Abort,
    Ack,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Letter {
    tx: u32,
    from: u16,
    to: u16,
    word: Word,
}

/// What a coordinator knows of a transaction.
#[derive(Clone, Copy, Default)]
struct Tx {
    yes: u64,
    acked: u64,
    decided: bool,
}

struct Loop {
    nodes: u16,
    key: u64,
    now_us: u64,
    sequence: u64,
    queue: BinaryHeap<Reverse<(u64, u64, Letter)>>,
    txs: Vec<Tx>,
    /// What each node has committed.
    values: Vec<u32>,
}

/// Runs transactions one after another; how many messages were delivered.
pub(crate) fn run(nodes: u16, txns: u32, seed: u64) -> u64 {
    let mut all = Loop {
        nodes,
        key: mix(seed, 0),
        now_us: 0,
        sequence: 0,
        queue: BinaryHeap::new(),
        txs: vec![Tx::default(); txns as usize],
        values: vec![0; nodes.into()],
    };
    let mut delivered = 0;
    all.begin(0);
    while let Some(Reverse((at_us, _, letter))) = all.queue.pop() {
        all.now_us = at_us;
        delivered += 1;
        all.on(letter);
    }
    let unacked =
        all.txs.iter().filter(|tx| tx.yes.count_ones() + 1 == u32::from(nodes) && tx.acked != tx.yes);
    assert_eq!(unacked.count(), 0, "every commit is acknowledged");
    assert!(all.values.iter().all(|value| *value > 0), "every node has committed something");
    delivered
}

impl Loop {
    fn send(&mut self, letter: Letter) {
        self.sequence += 1;
        let delay_us = between(mix(self.key, self.sequence), 1_000, 10_000);
        self.queue.push(Reverse((self.now_us + delay_us, self.sequence, letter)));
    }

    fn coordinator(&self, tx: u32) -> u16 {
        (tx % u32::from(self.nodes)) as u16
    }

    fn send_all(&mut self, tx: u32, to: u64, word: Word) {
        let from = self.coordinator(tx);
        for to in (0..self.nodes).filter(|node| *node != from && to >> node & 1 == 1) {
            self.send(Letter { tx, from, to, word });
        }
    }

    fn begin(&mut self, tx: u32) {
        if (tx as usize) < self.txs.len() {
            self.send_all(tx, u64::MAX, Word::Prepare);
        }
    }

    fn on(&mut self, Letter { tx, from, to, word }: Letter) {
        let bit = 1u64 << from;
        let answer = |word| Letter { tx, from: to, to: from, word };
        match word {
            Word::Prepare => {
                let random = mix(self.key ^ 1, (u64::from(tx) << 16) | u64::from(to));
                self.send(answer(if below(random, 1_000) < NO_PERMILLE { Word::No } else { Word::Yes }));
            }
            Word::Yes => {
                let seen = &mut self.txs[tx as usize];
                seen.yes |= bit;
                if seen.decided {
                    self.send(answer(Word::Abort));
                } else if seen.yes.count_ones() + 1 == u32::from(self.nodes) {
                    seen.decided = true;
                    self.values[usize::from(to)] = tx + 1;
                    self.send_all(tx, u64::MAX, Word::Commit);
                    self.begin(tx + 1);
                }
            }
            Word::No => {
                let seen = &mut self.txs[tx as usize];
                if !std::mem::replace(&mut seen.decided, true) {
                    let yes = seen.yes;
                    self.send_all(tx, yes, Word::Abort);
                    self.begin(tx + 1);
                }
            }
            Word::Commit => {
                self.values[usize::from(to)] = tx + 1;
                self.send(answer(Word::Ack));
            }
            Word::Abort => {}
            Word::Ack => self.txs[tx as usize].acked |= bit,
        }
    }
}
