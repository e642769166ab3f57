//! The node: dispatches inputs to its coordinator and participant halves.

use std::fmt;

use super::config::Config;
use super::context::{Context, DurableRecord, RecoveredRecords};
use super::coordinator::Coordinator;
use super::event::{DropReason, Event};
use super::introduction::{self, Introduction};
use super::message::{Body, Message};
use super::participant::Participant;
use super::record::Record;
use super::request::{Request, Response};
use super::state::State;
use super::timers::Timer;
use super::view::{HeldLock, LISTED_MAX, LogView, View};
use stormglass_node::contract::{
    Boot, BootError, DiskError, HaltReason, Input, Node, OpId, Outbox,
};
use stormglass_node::id::{Incarnation, NodeId, Time};
use stormglass_node::wal::{self, Progress, TornTail, Wal, WalOptions};

/// A node of two-phase commit: coordinator for the transactions that its clients request,
/// participant in those that touch its keys. See the [module](super) for the protocol.
#[derive(Clone, Debug)]
pub struct CommitNode {
    context: Context,
    introduction: Introduction,
    coordinator: Coordinator,
    participant: Participant,
}

impl Node for CommitNode {
    type Config = Config;
    type Message = Message;
    type Request = Request;
    type Response = Response;
    type Event = Event;

    fn boot(config: &Config, boot: Boot<'_>, out: &mut Outbox<Self>) -> Result<Self, BootError> {
        let recovered = wal::recover::<State, Record>(boot.disk)?;
        let mut state = match recovered.snapshot {
            Some(state) => state,
            None => introduction::state_after_loss(&config.replaces),
        };
        if let Some(owner) = state.owner.filter(|owner| *owner != boot.id) {
            return Err(BootError::OtherNode { owner, node: boot.id });
        }
        for record in recovered.records {
            state.apply(boot.id, record);
        }
        let log_position = recovered.resume_point.position();
        if let Some(torn) = recovered.torn {
            let TornTail { file, at, dropped_bytes: bytes, .. } = torn;
            out.report(Event::TornTail { file, at, bytes, log_position });
        }
        state.owner = Some(boot.id);
        state.ancestors = introduction::ancestors_of_next(&state, &config.replaces);
        // Part of the boot snapshot, so that no later incarnation is the same.
        state.incarnation = state.incarnation.next(boot.entropy);
        let options = WalOptions {
            compact_at: config.compact_at_bytes,
            entropy: boot.entropy,
            ..WalOptions::default()
        };
        let (wal, boot_snapshot) = Wal::begin(recovered.resume_point, options, &state, out);
        let records = RecoveredRecords::of(&boot_snapshot);
        Ok(CommitNode::recovered(config, boot.id, boot.now, wal, records, log_position, state))
    }

    fn step(&mut self, now: Time, input: Input<Self>, out: &mut Outbox<Self>) {
        self.context.set_now(now);
        match input {
            Input::DiskDone { op, result } => self.on_disk_done(op, result, out),
            // A power cut may still remove what was read back: nothing may be answered from it.
            Input::Message { .. } if !self.context.is_boot_durable() => out.report(Event::NotReady),
            Input::Message { from, message } => self.on_message(from, message, out),
            Input::Request { .. } if !self.answers() => out.report(Event::NotReady),
            Input::Request { id, request } => {
                self.coordinator.on_request(&mut self.context, id, request, out)
            }
            Input::Wake => self.on_wake(out),
            // Messages are datagrams: there are no sessions.
            Input::Connected { .. } | Input::Disconnected { .. } => {}
        }
        // After the input: a waiter meets all the locks that the input released, not some of them.
        while self.context.take_locks_released() {
            self.grant_waiters(out);
        }
        // Last: the snapshot has to contain every record that this step has appended.
        if self.context.needs_compaction() {
            let state = self.state();
            self.context.compact(&state, out);
        }
    }

    fn deadline(&self) -> Option<Time> {
        self.context.deadline()
    }

    fn write_state(&self, f: &mut dyn fmt::Write) -> fmt::Result {
        write!(f, "{self:#?}")
    }
}

impl CommitNode {
    /// The durable state, as of the last record appended.
    pub fn state(&self) -> State {
        let mut state = State {
            owner: Some(self.context.id()),
            incarnation: self.context.incarnation(),
            lost: self.context.lost(),
            values: self.context.values().clone(),
            ..State::default()
        };
        self.introduction.add_to(&mut state);
        self.participant.add_to(&mut state);
        self.coordinator.add_to(self.context.id(), &mut state);
        state
    }

    fn recovered(
        config: &Config,
        id: NodeId,
        now: Time,
        wal: Wal,
        records: RecoveredRecords,
        log_position: u64,
        mut state: State,
    ) -> CommitNode {
        let mut context = Context::new(config, id, now, wal, records, &mut state);
        let introduction = Introduction::new(&context, state.ancestors, log_position, state.peers);
        let participant =
            Participant::recovered(&mut context, state.prepared, state.outcomes, state.ended);
        let coordinator =
            Coordinator::recovered(id, state.clients, state.forgotten_below, state.committing);
        CommitNode { context, introduction, coordinator, participant }
    }

    /// Whether this node answers anybody, apart from Hello.
    fn answers(&self) -> bool {
        self.introduction.answers()
    }

    fn on_disk_done(&mut self, op: OpId, result: Result<(), DiskError>, out: &mut Outbox<Self>) {
        match self.context.on_disk_done(op, result, out) {
            Err(error) => out.halt(HaltReason::DiskFailed(error)),
            Ok(Progress::Ready) => {
                if self.introduction.begin(&mut self.context, out) {
                    self.on_ready(out);
                }
            }
            Ok(Progress::Advanced) => self.on_durable(out),
            Ok(Progress::Compacted | Progress::Nothing) => {}
        }
    }

    /// The boot snapshot is durable, and with it all that was read back, and enough peers remember
    /// this incarnation: the node may send from now on.
    fn on_ready(&mut self, out: &mut Outbox<Self>) {
        let incarnation = self.context.incarnation();
        let in_doubt = u32::try_from(self.participant.count()).unwrap_or(u32::MAX);
        let committing = u32::try_from(self.coordinator.count()).unwrap_or(u32::MAX);
        out.report(Event::Ready { incarnation, in_doubt, committing });
        self.participant.resume_outcomes(&mut self.context);
        self.coordinator.resume_coordinated(&mut self.context, out);
        self.participant.resume_participations(&mut self.context, out);
    }

    fn on_durable(&mut self, out: &mut Outbox<Self>) {
        while let Some(record) = self.context.next_durable() {
            let cx = &mut self.context;
            match record {
                DurableRecord::Prepared(proof) => {
                    self.participant.on_prepared_durable(cx, proof, out)
                }
                DurableRecord::Commit(proof) => self.coordinator.on_commit_durable(cx, proof, out),
                DurableRecord::Outcome(proof) => self.participant.on_outcome_durable(proof, out),
                DurableRecord::Met(proof) => self.introduction.on_met_durable(proof, out),
            }
        }
    }

    fn on_message(&mut self, from: NodeId, message: Message, out: &mut Outbox<Self>) {
        let answers = self.answers();
        let CommitNode { context: cx, introduction, coordinator, participant } = self;
        let Message { tx, request, .. } = message;
        if from == cx.id() || !cx.is_member(from) {
            return cx.drop_message(from, tx, request, DropReason::UnknownSender, out);
        }
        if !answers && !message.is_introduction() {
            return out.report(Event::NotReady);
        }
        if let Some(proof) = message.proof() {
            introduction.on_log_position(from, proof.log_position());
        }
        let from_coordinator = tx.coordinator == from;
        if let Some(end_mark) = message.end_mark() {
            if !from_coordinator {
                return cx.drop_message(from, tx, request, DropReason::SenderNotCoordinator, out);
            }
            // Before the message, so that nothing that the mark ends is treated as open.
            participant.on_end_mark(cx, from, end_mark);
        }
        match message.body {
            Body::Prepare { part, .. } => participant.on_prepare(cx, tx, request, part, out),
            Body::Vote(vote) => coordinator.on_vote(cx, from, tx, request, vote, out),
            Body::Commit { .. } => participant.on_commit(cx, tx, request, out),
            Body::Abort { .. } => participant.on_abort(cx, tx, out),
            Body::Ack { .. } => coordinator.on_ack(cx, from, tx, request, out),
            Body::Inquire if tx.coordinator == cx.id() => {
                coordinator.on_inquiry_as_coordinator(cx, from, tx, request, out)
            }
            Body::Inquire => participant.on_inquiry_as_participant(cx, from, tx, request, out),
            Body::InquiryReply(reply) => {
                participant.on_inquiry_reply(cx, from, tx, request, reply, out)
            }
            Body::Hello(_) | Body::Remember(_) if !from_coordinator => {
                cx.drop_message(from, tx, request, DropReason::SenderNotCoordinator, out)
            }
            Body::Hello(introducing) => introduction.on_hello(cx, tx, &introducing, out),
            Body::Welcome => introduction.on_welcome(cx, from, tx, out),
            Body::Remember(introducing) => introduction.on_remember(cx, tx, &introducing, out),
            Body::Remembered { .. } => {
                if introduction.on_remembered(cx, from, tx) {
                    self.on_ready(out);
                }
            }
            Body::Refuse { known, log_position } => {
                introduction.on_refuse(cx, from, tx, known, log_position, out)
            }
        }
    }

    fn on_wake(&mut self, out: &mut Outbox<Self>) {
        while let Some((timer, tx)) = self.context.pop_due_timer() {
            let cx = &mut self.context;
            match timer {
                Timer::VoteTimeout => self.coordinator.on_vote_timeout(cx, tx, out),
                Timer::Retransmit => self.coordinator.retransmit(cx, tx, out),
                Timer::LockTimeout => self.participant.on_lock_timeout(cx, tx),
                Timer::Inquire => self.participant.inquire(cx, tx, out),
                Timer::Introduce => self.introduction.on_timer(cx, out),
            }
        }
    }

    /// Locks were released: every waiter tries again, the *youngest* first. So the holder of a lock
    /// only gets older from grant to grant, no waiter is refused by a grant, and the oldest is
    /// served in the end: newcomers younger than the holder are refused.
    fn grant_waiters(&mut self, out: &mut Outbox<Self>) {
        let cx = &mut self.context;
        let mut at = cx.waiting().len();
        while at > 0 {
            at -= 1;
            // The list becomes shorter while it is walked.
            let Some(waiter) = cx.waiting().get(at).copied() else { continue };
            let done = if waiter.tx.coordinator == cx.id() {
                self.coordinator.try_own_part(cx, waiter.tx, out)
            } else {
                self.participant.try_lock_participation(cx, waiter.tx, out)
            };
            if done {
                cx.stop_waiting(waiter);
            }
        }
    }
}

/// What operators and the engine ask.
impl CommitNode {
    /// The current incarnation, once its boot is durable.
    pub fn incarnation(&self) -> Option<Incarnation> {
        self.context.is_boot_durable().then_some(self.context.incarnation())
    }

    /// Whether enough peers remember the current incarnation: before, it answers nobody.
    pub fn is_serving(&self) -> bool {
        self.answers()
    }

    /// Whether no transaction is in progress here, as coordinator or participant, and every commit
    /// is acknowledged.
    pub fn is_idle(&self) -> bool {
        self.coordinator.count() == 0 && self.participant.is_idle()
    }

    /// Whether this message would make the node take part in another transaction.
    pub fn starts_new_work(&self, message: &Message) -> bool {
        matches!(message.body, Body::Prepare { .. }) && !self.participant.knows(message.tx)
    }

    /// The state at `now`.
    pub fn view(&self, now: Time) -> View {
        let cx = &self.context;
        let (collecting, deciding, committing) = self.coordinator.count_by_phase();
        View {
            incarnation: cx.incarnation(),
            ready: self.answers(),
            unconfirmed: self.introduction.awaited().to_vec(),
            begun: self.coordinator.begun(),
            collecting,
            deciding,
            committing,
            waiting: cx.waiting().len() as u64,
            in_doubt: self.participant.in_doubt(cx.id(), now).take(LISTED_MAX).collect(),
            in_doubt_total: self.participant.in_doubt(cx.id(), now).count() as u64,
            outcomes: self.participant.outcomes_kept(),
            idle: self.is_idle(),
            clients: self.coordinator.clients(),
            keys: cx.values().len() as u64,
            locks: cx
                .locks()
                .map(|(key, holder, exclusive)| HeldLock { key, holder, exclusive })
                .take(LISTED_MAX)
                .collect(),
            locks_total: cx.locks().count() as u64,
            log: LogView::new(cx.wal()),
        }
    }
}
