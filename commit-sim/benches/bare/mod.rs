//! The same workload without a simulator: a binary heap, and two-phase commit as a table of sets.
//! Messages have the same delays, may be lost, and are resent after fifty milliseconds. No log, no
//! disk, no checker, no crash. Every simulator has to do at least this work.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use stormglass_sim::hash::{below, between, hash};

/// About one vote in twenty is No.
const NO_VOTE_PERMILLE: u64 = 50;
/// An unanswered message is resent after this time.
const RESEND_US: u64 = 50_000;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum MessageKind {
    Prepare,
    Yes,
    No,
    Commit,
    Abort,
    Ack,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Message {
    tx: u32,
    from: u16,
    to: u16,
    kind: MessageKind,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Deliver(Message),
    /// Time to resend `kind` to the nodes that have not answered it.
    Resend {
        tx: u32,
        kind: MessageKind,
    },
}

/// The coordinator's state of a transaction.
#[derive(Clone, Copy, Default)]
struct Tx {
    yes: u64,
    no: bool,
    acked: u64,
    decided: bool,
}

struct BareLoop {
    nodes: u16,
    key: u64,
    /// Probability that a message is lost, in 65,536ths.
    lose: u64,
    now_us: u64,
    sequence: u64,
    queue: BinaryHeap<Reverse<(u64, u64, Event)>>,
    txs: Vec<Tx>,
    /// The committed values of each node.
    values: Vec<u32>,
}

/// Runs transactions one after another; returns the number of delivered messages.
pub(crate) fn run(nodes: u16, txns: u32, lose: u32, seed: u64) -> u64 {
    let mut bare_loop = BareLoop {
        nodes,
        key: hash(seed, 0),
        lose: lose.into(),
        now_us: 0,
        sequence: 0,
        queue: BinaryHeap::new(),
        txs: vec![Tx::default(); txns as usize],
        values: vec![0; nodes.into()],
    };
    let mut delivered = 0;
    bare_loop.begin(0);
    while let Some(Reverse((at_us, _, event))) = bare_loop.queue.pop() {
        bare_loop.now_us = at_us;
        match event {
            Event::Deliver(message) => {
                delivered += 1;
                bare_loop.on(message);
            }
            Event::Resend { tx, kind } => bare_loop.resend(tx, kind),
        }
    }
    assert!(bare_loop.txs.iter().all(|tx| tx.decided), "every transaction is decided");
    let unacked = bare_loop.txs.iter().filter(|tx| !tx.no && tx.acked != tx.yes);
    assert_eq!(unacked.count(), 0, "every commit is acknowledged");
    // With loss, repeated messages are delivered as well, and their number is open.
    if lose == 0 {
        assert_eq!(delivered, bare_loop.expected_messages(), "messages of presumed abort");
    }
    assert!(bare_loop.values.iter().all(|value| *value > 0), "every node has committed something");
    delivered
}

impl BareLoop {
    fn send(&mut self, message: Message) {
        self.sequence += 1;
        let random = hash(self.key, self.sequence);
        // The lower half of the number decides about the loss, the upper half about the delay.
        if below(random << 32, 65_536) >= self.lose {
            let delay_us = between(random, 1_000, 10_000);
            self.queue.push(Reverse((
                self.now_us + delay_us,
                self.sequence,
                Event::Deliver(message),
            )));
        }
    }

    fn schedule_resend(&mut self, tx: u32, kind: MessageKind) {
        self.sequence += 1;
        self.queue.push(Reverse((
            self.now_us + RESEND_US,
            self.sequence,
            Event::Resend { tx, kind },
        )));
    }

    fn resend(&mut self, tx: u32, kind: MessageKind) {
        let state = self.txs[tx as usize];
        let missing = match kind {
            MessageKind::Prepare if !state.decided => !state.yes,
            MessageKind::Commit => state.yes & !state.acked,
            MessageKind::Prepare
            | MessageKind::Yes
            | MessageKind::No
            | MessageKind::Abort
            | MessageKind::Ack => 0,
        };
        if missing != 0 {
            self.send_all(tx, missing, kind);
            self.schedule_resend(tx, kind);
        }
    }

    /// The messages of a run without loss: 4n for a commit, 2n and one for each Yes for an abort.
    fn expected_messages(&self) -> u64 {
        let n = u64::from(self.nodes) - 1;
        let mut messages = 0;
        for tx in &self.txs {
            messages += if tx.no { 2 * n + u64::from(tx.yes.count_ones()) } else { 4 * n };
        }
        messages
    }

    fn coordinator(&self, tx: u32) -> u16 {
        (tx % u32::from(self.nodes)) as u16
    }

    fn send_all(&mut self, tx: u32, to: u64, kind: MessageKind) {
        let from = self.coordinator(tx);
        for to in (0..self.nodes).filter(|node| *node != from && to >> node & 1 == 1) {
            self.send(Message { tx, from, to, kind });
        }
    }

    fn begin(&mut self, tx: u32) {
        if (tx as usize) < self.txs.len() {
            self.send_all(tx, u64::MAX, MessageKind::Prepare);
            self.schedule_resend(tx, MessageKind::Prepare);
        }
    }

    fn on(&mut self, Message { tx, from, to, kind }: Message) {
        let bit = 1u64 << from;
        let reply = |kind| Message { tx, from: to, to: from, kind };
        match kind {
            MessageKind::Prepare => {
                let random = hash(self.key ^ 1, (u64::from(tx) << 16) | u64::from(to));
                self.send(reply(if below(random, 1_000) < NO_VOTE_PERMILLE {
                    MessageKind::No
                } else {
                    MessageKind::Yes
                }));
            }
            MessageKind::Yes => {
                let state = &mut self.txs[tx as usize];
                state.yes |= bit;
                if state.no {
                    self.send(reply(MessageKind::Abort));
                } else if !state.decided && state.yes.count_ones() + 1 == u32::from(self.nodes) {
                    state.decided = true;
                    // All that is left of a commit here. A value of 0 means that nothing has been
                    // committed.
                    self.values[usize::from(to)] = tx + 1;
                    self.send_all(tx, u64::MAX, MessageKind::Commit);
                    self.schedule_resend(tx, MessageKind::Commit);
                    self.begin(tx + 1);
                }
            }
            MessageKind::No => {
                let state = &mut self.txs[tx as usize];
                state.no = true;
                if !std::mem::replace(&mut state.decided, true) {
                    let yes = state.yes;
                    self.send_all(tx, yes, MessageKind::Abort);
                    self.begin(tx + 1);
                }
            }
            MessageKind::Commit => {
                self.values[usize::from(to)] = tx + 1;
                self.send(reply(MessageKind::Ack));
            }
            // Presumed abort: nobody acknowledges an Abort.
            MessageKind::Abort => {}
            MessageKind::Ack => self.txs[tx as usize].acked |= bit,
        }
    }
}
