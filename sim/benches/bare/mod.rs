//! The same workload with nothing around it: a binary heap, and two-phase commit as a table of sets. Messages take as
//! long, may be lost, and are sent again after fifty milliseconds. No log, no disk, no judge, no crash. What it takes is
//! what any simulator has to take.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use stormglass_sim::mix::{below, between, mix};

/// About one vote in twenty is No.
const NO_PERMILLE: u64 = 50;
/// After so long, what has not been answered is sent again.
const AGAIN_US: u64 = 50_000;

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

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Deliver(Letter),
    /// Time to send `word` again to those who have not answered it.
    Again {
        tx: u32,
        word: Word,
    },
}

/// What a coordinator knows of a transaction.
#[derive(Clone, Copy, Default)]
struct Tx {
    yes: u64,
    no: bool,
    acked: u64,
    decided: bool,
}

struct Loop {
    nodes: u16,
    key: u64,
    /// Chance that a message is lost, in 65,536ths.
    lose: u64,
    now_us: u64,
    sequence: u64,
    queue: BinaryHeap<Reverse<(u64, u64, Event)>>,
    txs: Vec<Tx>,
    /// What each node has committed.
    values: Vec<u32>,
}

/// Runs transactions one after another; how many messages were delivered.
pub(crate) fn run(nodes: u16, txns: u32, lose: u32, seed: u64) -> u64 {
    let mut all = Loop {
        nodes,
        key: mix(seed, 0),
        lose: lose.into(),
        now_us: 0,
        sequence: 0,
        queue: BinaryHeap::new(),
        txs: vec![Tx::default(); txns as usize],
        values: vec![0; nodes.into()],
    };
    let mut delivered = 0;
    all.begin(0);
    while let Some(Reverse((at_us, _, event))) = all.queue.pop() {
        all.now_us = at_us;
        match event {
            Event::Deliver(letter) => {
                delivered += 1;
                all.on(letter);
            }
            Event::Again { tx, word } => all.again(tx, word),
        }
    }
    assert!(all.txs.iter().all(|tx| tx.decided), "every transaction is decided");
    let unacked = all.txs.iter().filter(|tx| !tx.no && tx.acked != tx.yes);
    assert_eq!(unacked.count(), 0, "every commit is acknowledged");
    if lose == 0 {
        assert_eq!(delivered, all.costs(), "what presumed abort costs");
    }
    assert!(all.values.iter().all(|value| *value > 0), "every node has committed something");
    delivered
}

impl Loop {
    fn send(&mut self, letter: Letter) {
        self.sequence += 1;
        let random = mix(self.key, self.sequence);
        if below(random << 32, 65_536) >= self.lose {
            let delay_us = between(random, 1_000, 10_000);
            self.queue.push(Reverse((self.now_us + delay_us, self.sequence, Event::Deliver(letter))));
        }
    }

    fn remind(&mut self, tx: u32, word: Word) {
        self.sequence += 1;
        self.queue.push(Reverse((self.now_us + AGAIN_US, self.sequence, Event::Again { tx, word })));
    }

    fn again(&mut self, tx: u32, word: Word) {
        let seen = self.txs[tx as usize];
        let missing = match word {
            Word::Prepare if !seen.decided => !seen.yes,
            Word::Commit => seen.yes & !seen.acked,
            Word::Prepare | Word::Yes | Word::No | Word::Abort | Word::Ack => 0,
        };
        if missing != 0 {
            self.send_all(tx, missing, word);
            self.remind(tx, word);
        }
    }

    /// The messages of a run in which none is lost: 4n for a commit, 2n and one for each Yes for an abort.
    fn costs(&self) -> u64 {
        let n = u64::from(self.nodes) - 1;
        let one = |tx: &Tx| if tx.no { 2 * n + u64::from(tx.yes.count_ones()) } else { 4 * n };
        self.txs.iter().map(one).sum()
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
            self.remind(tx, Word::Prepare);
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
                if seen.no {
                    self.send(answer(Word::Abort));
                } else if !seen.decided && seen.yes.count_ones() + 1 == u32::from(self.nodes) {
                    seen.decided = true;
                    self.values[usize::from(to)] = tx + 1;
                    self.send_all(tx, u64::MAX, Word::Commit);
                    self.remind(tx, Word::Commit);
                    self.begin(tx + 1);
                }
            }
            Word::No => {
                let seen = &mut self.txs[tx as usize];
                seen.no = true;
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
