//! The time of a run: true time, the phase, and the queue of future events.

use stormglass_node::{DiskError, Micros};

use crate::event_queue::EventQueue;
use crate::workload::ClientId;

/// An entry of the queue. Twelve bytes: the queue moves a few of these for each event.
#[derive(Clone, Copy, Debug)]
pub(super) enum Event {
    /// `slot` is the index in the messages in flight of `Network`.
    Deliver {
        slot: u32,
    },
    /// The next message of a session arrives on this link: `from * nodes + to`.
    DeliverNext {
        link: u32,
    },
    /// Two nodes try to begin a session.
    Connect {
        lower: u16,
        upper: u16,
    },
    Barrier {
        node: u16,
        incarnation: u32,
        op: u32,
        outcome: BarrierOutcome,
    },
    Wake {
        node: u16,
    },
    Boot {
        node: u16,
    },
    Timer {
        client: ClientId,
    },
    TimedFault {
        index: u32,
    },
    TimedFaultEnds {
        index: u32,
    },
    Heal,
    /// [`RunEnd::After`](crate::run_end::RunEnd::After).
    RecoveryEnds,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum BarrierOutcome {
    Done,
    /// The barrier of a sync that the fault model slows down has completed (D9).
    Slow,
    /// Nothing that the barrier covers may be durable (D7).
    Failed(DiskError),
    /// The drive reports success, and nothing is durable (D11).
    Lied,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Faults,
    Recovery,
    Probe,
}

/// What happens next.
pub(super) enum Next {
    Event(Event),
    /// Events are pending, but the recovery timeout is over.
    TimeOut,
    /// No event is pending.
    Quiet,
}

/// True time and future events. A moment of true time is the time since the beginning of the run.
#[derive(Clone, Debug)]
pub(super) struct Timeline {
    now: Micros,
    phase: Phase,
    queue: EventQueue<Event>,
    /// The time after which no event is handled.
    last_event_at: Micros,
}

impl Default for Timeline {
    fn default() -> Timeline {
        Timeline {
            now: Micros::ZERO,
            phase: Phase::Faults,
            queue: EventQueue::default(),
            // The fault phase is ended by an event, not by a limit.
            last_event_at: Micros::MAX,
        }
    }
}

impl Timeline {
    /// Back to time 0 with an empty queue, in the same memory.
    pub(super) fn reset(&mut self) {
        let mut queue = std::mem::take(&mut self.queue);
        queue.reset();
        *self = Timeline { queue, ..Timeline::default() };
    }

    #[inline]
    pub(super) fn now(&self) -> Micros {
        self.now
    }

    #[inline]
    pub(super) fn in_fault_phase(&self) -> bool {
        self.phase == Phase::Faults
    }

    pub(super) fn in_probe(&self) -> bool {
        self.phase == Phase::Probe
    }

    /// Recovery and probe together last at most `timeout`.
    pub(super) fn begin_recovery(&mut self, timeout: Micros) {
        self.phase = Phase::Recovery;
        self.last_event_at = self.now + timeout;
    }

    pub(super) fn begin_probe(&mut self) {
        self.phase = Phase::Probe;
    }

    #[inline]
    pub(super) fn push_at(&mut self, at: Micros, event: Event) {
        self.queue.push(at, event);
    }

    #[inline]
    pub(super) fn push_after(&mut self, delay: Micros, event: Event) {
        self.queue.push(self.now + delay, event);
    }

    /// Takes out the next event and advances the time to it.
    #[inline]
    pub(super) fn pop(&mut self) -> Next {
        match self.queue.pop() {
            Some((at, event)) if at <= self.last_event_at => {
                self.now = at;
                Next::Event(event)
            }
            // The event is dropped, as are all after it: the run is over.
            Some(_) => Next::TimeOut,
            None => Next::Quiet,
        }
    }

    pub(super) fn is_quiet(&self) -> bool {
        self.queue.is_empty()
    }

    /// Removes the wake of a node that is queued at `at`, if it is among the next events.
    #[inline]
    pub(super) fn cancel_wake(&mut self, at: Micros, id: u16) {
        self.queue.cancel(at, |event| matches!(event, Event::Wake { node } if node == id));
    }

    /// Gives every event another time, or removes it; the order of equal times is kept.
    pub(super) fn retime(&mut self, new_time: impl FnMut(Micros, Event) -> Option<Micros>) {
        self.queue.retime(new_time);
    }
}
