//! The machine that a node runs on: clock, faults of its disk, and the state of its process. The
//! disk itself is in the [`Run`].

use stormglass_node::{
    About, Boot, BootError, DiskError, DiskOp, Effect, FileId, HaltReason, Input, Micros, Node,
    NodeId, OpId, Outbox, ReadDisk, Time,
};

mod second_process;

use self::second_process::SetAside;
use super::WAKE_MOVES_THE_DEADLINE;
use super::clock::Clock;
use super::run::Run;
use super::timeline::{BarrierOutcome, Event};
use crate::chooser::{Chooser, EffectPoint};
use crate::disk::{Disk, DiskChange, FileChoice, Survival};
use crate::fault::{AtRestFault, BarrierFault, Crash, CrashKind, Skew, WriteFault};
use crate::property::{Checker, Fact, FaultFact, ProcessFact, Violation, halt_is_final};
use crate::ratio::{Permille, Ppm};
use crate::tally::Rule;

/// A machine; `node` is `None` while its process is down.
#[derive(Clone)]
pub(super) struct Host<N> {
    id: NodeId,
    node: Option<N>,
    /// The number of the present incarnation, or of the last one while the process is down; 0
    /// before the first.
    incarnation: u32,
    /// Boots so far, those of second processes included: the greatest number of an incarnation.
    boots: u32,
    /// D13, D17: for each incarnation, in order, a copy of the disk from before its boot. Empty in
    /// a run that has no use for them.
    backups: Vec<(u32, Disk)>,
    /// D16: the file that the next boot cannot read.
    unreadable_at_boot: Option<FileChoice>,
    clock: Clock,
    /// The time of the queued wake event; `Micros::MAX` if there is none.
    wake_at: Micros,
    /// Events of this node are postponed to this time (P4).
    paused_until: Micros,
    /// Barriers that would complete before this time complete then (D9).
    disk_hangs_until: Micros,
    /// Every write before this time fails (D8).
    writes_fail_until: Micros,
    /// What the last append of this incarnation was about: a coordinate such as "1st sync after
    /// Prepared c1.4" refers to it.
    last_appended: Option<About>,
    /// Effects performed in this incarnation, but for reports and halts.
    effects_performed: u32,
    /// Whether this incarnation has answered a client, or sent a message about a request.
    has_served: bool,
    /// Barriers issued in this incarnation.
    barriers: u32,
    /// Whether every barrier of this incarnation's boot has completed: a crash before that is P5.
    boot_complete: bool,
    /// Whether the node has refused to boot, or halted for good: it is not booted again.
    has_given_up: bool,
    /// D17: the first process, while this one is a second one under its id.
    set_aside: Option<Box<SetAside<N>>>,
}

impl<N: Node> Host<N> {
    /// A machine that is down.
    pub(super) fn new(id: NodeId) -> Host<N> {
        Host {
            id,
            node: None,
            incarnation: 0,
            boots: 0,
            backups: Vec::new(),
            unreadable_at_boot: None,
            clock: Clock::default(),
            wake_at: Micros::MAX,
            paused_until: Micros::ZERO,
            disk_hangs_until: Micros::ZERO,
            writes_fail_until: Micros::ZERO,
            last_appended: None,
            effects_performed: 0,
            has_served: false,
            barriers: 0,
            boot_complete: false,
            has_given_up: false,
            set_aside: None,
        }
    }

    #[inline]
    pub(super) fn is_up(&self) -> bool {
        self.node.is_some()
    }

    /// The running node.
    pub(super) fn node(&self) -> Option<&N> {
        self.node.as_ref()
    }

    pub(super) fn id(&self) -> NodeId {
        self.id
    }

    /// Whether the node has refused to boot, or halted for good; then it never boots again.
    pub(super) fn has_given_up(&self) -> bool {
        self.has_given_up
    }

    #[inline]
    pub(super) fn incarnation(&self) -> u32 {
        self.incarnation
    }

    /// The files of a running node with their lengths in bytes; none while it is down.
    pub(super) fn files_in_use<'a, K, C>(
        &'a self,
        run: &'a Run<K, C>,
    ) -> impl Iterator<Item = (NodeId, FileId, u64)> + 'a {
        let disk = run.disk(self.id);
        let files = if self.is_up() { disk.files() } else { Vec::new() };
        files.into_iter().map(|file| (self.id, file, disk.len(file).unwrap_or(0)))
    }

    /// Folds a fact at this node into the fingerprint and passes it to the checker.
    pub(super) fn observe<K, C>(&self, run: &mut Run<K, C>, fact: &Fact<'_, N>)
    where
        K: Checker<N>,
    {
        self.observe_inline(run, fact);
    }

    /// [`Host::observe`] for callers that know the variant of the fact: inlined, so that the
    /// matches on it in `fold_fact` and in the checker are resolved at compile time.
    #[inline(always)]
    pub(super) fn observe_inline<K, C>(&self, run: &mut Run<K, C>, fact: &Fact<'_, N>)
    where
        K: Checker<N>,
    {
        run.observe(self.id, self.incarnation, fact);
    }
}

/// The process: boot, steps, wakes, pauses.
impl<N: Node> Host<N> {
    /// Starts the process with a new incarnation; its effects are in `outbox`. False if it is up
    /// already, never boots again, or refuses to.
    pub(super) fn boot<K, C>(
        &mut self,
        run: &mut Run<K, C>,
        config: &N::Config,
        outbox: &mut Outbox<N>,
    ) -> bool
    where
        K: Checker<N>,
        C: Chooser,
    {
        // A power cut of a node that is down queues a second boot: the first one counts.
        if self.is_up()
            || self.has_given_up
            || (!run.timeline.in_fault_phase() && run.plan().permanently_down.contains(&self.id))
        {
            return false;
        }
        // First, since the observation of the boot names the new incarnation.
        self.begin_incarnation(run);
        self.observe(run, &Fact::Process(ProcessFact::Boot));
        let unreadable = self.unreadable_file(run);
        let now = self.clock.local_time(run.timeline.now());
        let entropy = run.plan().timing.entropy(self.id, self.incarnation);
        let (monitor, disk) = run.monitor_and_disk(self.id);
        let with_unreadable = unreadable.map(|file| disk.with_unreadable(file));
        let disk: &dyn ReadDisk = match &with_unreadable {
            Some(disk) => disk,
            None => disk,
        };
        let boot = Boot { id: self.id, now, entropy, disk };
        // A panic between these two calls is one of the node.
        monitor.begin_step(self.id);
        let booted_node = N::boot(config, boot, outbox);
        monitor.begin_effects(self.id);
        // It borrows the disk of the run, which goes on below.
        drop(with_unreadable);
        match booted_node {
            Ok(node) => {
                self.node = Some(node);
                true
            }
            Err(error) => {
                run.monitor.end_step();
                self.refuse_boot(run, &error, unreadable);
                false
            }
        }
    }

    /// D16: the file that this boot cannot read. Every later one can.
    fn unreadable_file<K: Checker<N>, C>(&mut self, run: &mut Run<K, C>) -> Option<FileId> {
        let file = run.disk(self.id).find(self.unreadable_at_boot.take()?)?;
        run.monitor.hit(Rule::FileUnreadable);
        self.observe(run, &Fact::Process(ProcessFact::Unreadable(file)));
        Some(file)
    }

    fn begin_incarnation<K, C: Chooser>(&mut self, run: &mut Run<K, C>) {
        self.boots += 1;
        self.incarnation = self.boots;
        if run.faults.need_backups() {
            self.backups.push((self.incarnation, run.disk(self.id).backup()));
        }
        self.effects_performed = 0;
        self.has_served = false;
        self.barriers = 0;
        self.last_appended = None;
        self.boot_complete = false;
        self.wake_at = Micros::MAX;
        // The chooser learns of a new incarnation by this question, so it is asked in every phase
        // and whether clocks are skewed or not.
        // A second process has no faults of its own, and its incarnations no coordinates.
        let skew = if self.is_second_process() {
            Skew::default()
        } else {
            run.faults.skew(self.id, self.incarnation)
        };
        self.clock = Clock::new(skew);
        run.monitor.tally().boots += 1;
        if skew.offset > Micros::ZERO {
            run.monitor.hit(Rule::ClockOffset);
        }
        if skew.drift != Ppm::ZERO {
            run.monitor.hit(Rule::ClockDrift);
        }
    }

    #[cold]
    fn refuse_boot<K, C>(
        &mut self,
        run: &mut Run<K, C>,
        error: &BootError,
        unreadable: Option<FileId>,
    ) where
        K: Checker<N>,
        C: Chooser,
    {
        // D16: the operator starts the node again. From a damaged disk, no attempt would succeed.
        let is_final = match error {
            BootError::Unreadable { file, .. } => unreadable != Some(*file),
            BootError::Damaged { .. }
            | BootError::Version { .. }
            | BootError::OtherNode { .. }
            | BootError::Rejected { .. } => true,
        };
        self.has_given_up = is_final;
        self.observe(run, &Fact::Process(ProcessFact::Refused(error)));
        if !self.resume_first_process(run) && !is_final {
            self.schedule_boot(run);
        }
    }

    /// Feeds one input to the node, which is up.
    #[inline(always)]
    pub(super) fn step<K, C>(
        &mut self,
        run: &mut Run<K, C>,
        input: Input<N>,
        outbox: &mut Outbox<N>,
    ) {
        let now = self.clock.local_time(run.timeline.now());
        let node = self.node.as_mut().expect("only running nodes are stepped");
        run.monitor.begin_step(self.id);
        node.step(now, input, outbox);
    }

    /// Queues a wake for the node's deadline, unless an earlier or equal one is queued.
    #[inline]
    pub(super) fn schedule_wake<K, C>(&mut self, run: &mut Run<K, C>) {
        let node = self.node.as_ref();
        let deadline = run.monitor.attribute(self.id, || node.and_then(Node::deadline));
        let Some(deadline) = deadline else { return };
        let at = self.clock.true_time_of(deadline, run.timeline.now());
        // The queued wake comes early enough: `take_wake` finds the later deadline and queues
        // another.
        if at >= self.wake_at {
            return;
        }
        let queued_wake = std::mem::replace(&mut self.wake_at, at);
        // Only to keep the queue short: a wake that cannot be cancelled is stale, and ignored.
        if queued_wake != Micros::MAX {
            run.timeline.cancel_wake(queued_wake, self.id.0);
        }
        run.timeline.push_at(at, Event::Wake { node: self.id.0 });
    }

    /// Handles a wake event; the local time at which the node is to be woken, if its deadline has
    /// come.
    pub(super) fn take_wake<K, C>(&mut self, run: &mut Run<K, C>) -> Option<Time> {
        if self.wake_at > run.timeline.now() {
            return None; // Stale: the deadline or the incarnation has changed since it was queued.
        }
        if self.postpone_if_paused(run, Event::Wake { node: self.id.0 }) {
            return None;
        }
        self.wake_at = Micros::MAX;
        let now = self.clock.local_time(run.timeline.now());
        let deadline = self.node.as_ref()?.deadline();
        // The node has moved its deadline since this wake was queued: it is woken then.
        if deadline.is_none_or(|deadline| deadline > now) {
            self.schedule_wake(run);
            return None;
        }
        Some(now)
    }

    /// C4: whether a wake now would come before the deadline of a node that handles it.
    pub(super) fn may_wake_early<K, C>(&self, run: &mut Run<K, C>) -> bool {
        let now = run.timeline.now();
        if !self.is_up() || self.paused_until > now {
            return false;
        }
        let deadline =
            run.monitor.attribute(self.id, || self.node.as_ref().and_then(Node::deadline));
        // At its deadline the node is woken anyway, and its wake is a late one after a pause.
        deadline.is_none_or(|deadline| deadline > self.clock.local_time(now))
    }

    /// A node that was woken at `woken_at` must have moved its deadline, or it would be woken again
    /// at once and for ever.
    pub(super) fn check_deadline_moved<K, C>(&self, run: &mut Run<K, C>, woken_at: Time) {
        let deadline = self.node.as_ref().and_then(Node::deadline);
        if let Some(stale_deadline) = deadline.filter(|deadline| *deadline <= woken_at) {
            let id = self.id;
            let reason =
                format!("{id} was woken at {woken_at}, but its deadline is still {stale_deadline}");
            run.monitor.violate(Violation::liveness(WAKE_MOVES_THE_DEADLINE, reason));
        }
    }

    /// P4: the node handles nothing for this long.
    pub(super) fn pause<K, C>(&mut self, run: &mut Run<K, C>, duration: Micros) {
        if self.is_up() {
            run.monitor.hit(Rule::NodePaused);
            // Of overlapping pauses the one that ends last counts.
            self.paused_until = self.paused_until.max(run.timeline.now() + duration);
        }
    }

    /// A paused node (P4) handles nothing: its events wait until it resumes.
    #[inline]
    pub(super) fn postpone_if_paused<K, C>(&mut self, run: &mut Run<K, C>, event: Event) -> bool {
        if self.paused_until <= run.timeline.now() {
            return false;
        }
        // The wake has moved, and `schedule_wake` must not queue a second one.
        if let Event::Wake { .. } = event {
            self.wake_at = self.paused_until;
        }
        run.timeline.push_at(self.paused_until, event);
        true
    }

    /// C3: the clock of a running node jumps forward.
    pub(super) fn jump_clock<K, C>(&mut self, run: &mut Run<K, C>, by: Micros) {
        if self.is_up() {
            run.monitor.hit(Rule::ClockJump);
            // A jump brings the deadline nearer in true time, so the wake is scheduled again.
            self.clock.jump(by);
            self.schedule_wake(run);
        }
    }
}

/// Effects, and the faults of each.
impl<N: Node> Host<N> {
    /// This incarnation answers a client, or sends a message about a request.
    #[inline]
    pub(super) fn note_service(&mut self) {
        self.has_served = true;
    }

    /// The number of the next effect of this incarnation, from 0.
    #[inline]
    pub(super) fn next_effect_ordinal(&mut self) -> u32 {
        self.effects_performed += 1;
        self.effects_performed - 1
    }

    /// The crash that the chooser wants right after this effect.
    #[inline(always)]
    pub(super) fn crash_after<K, C: Chooser>(
        &self,
        run: &mut Run<K, C>,
        ordinal: u32,
        effect: &Effect<N>,
    ) -> Option<Crash> {
        if self.is_second_process() {
            return None;
        }
        let (faults, disks) = run.faults_and_disks();
        faults.crash_after(&self.effect_point(disks, ordinal, effect))
    }

    /// The point of this effect, as the chooser sees it.
    #[inline]
    fn effect_point<'a>(
        &self,
        disks: &'a [Disk],
        ordinal: u32,
        effect: &'a Effect<N>,
    ) -> EffectPoint<'a, N> {
        EffectPoint {
            node: self.id,
            incarnation: self.incarnation,
            ordinal,
            disks,
            effect,
            after: self.last_appended,
        }
    }

    /// Issues an operation to the disk, with its faults.
    #[inline(always)]
    pub(super) fn perform_disk_op<K, C>(
        &mut self,
        run: &mut Run<K, C>,
        ordinal: u32,
        op: &DiskOp,
        effect: &Effect<N>,
        buffer: &[u8],
    ) where
        K: Checker<N>,
        C: Chooser,
    {
        let bytes = if let DiskOp::Append { bytes, .. } = op { bytes.of(buffer) } else { &[] };
        let write_fault = if run.faults.concern_writes() && !self.is_second_process() {
            self.write_fault(run, ordinal, op, effect)
        } else {
            None
        };
        // Before the disk changes: the checker asks what is durable at the moment of the effect.
        self.observe_inline(run, &Fact::Effect(effect, bytes));
        let barrier_fault = if self.is_second_process() {
            None
        } else {
            let (faults, disks) = run.faults_and_disks();
            faults.of_barrier(op, &self.effect_point(disks, ordinal, effect))
        };
        if let Some(fault) = barrier_fault {
            self.observe(run, &Fact::Fault(FaultFact::Barrier(fault)));
        }
        match write_fault {
            None => run.disk_mut(self.id).issue(op, bytes),
            Some(fault) => {
                let keep = fault.keep.of(bytes.len());
                run.disk_mut(self.id).issue_failing(op, bytes, keep, fault.error);
            }
        }
        match op {
            DiskOp::Append { about, .. } => self.last_appended = Some(*about),
            DiskOp::Sync { op, .. } | DiskOp::SyncDir { op } => {
                self.schedule_barrier(run, *op, barrier_fault);
            }
            DiskOp::Truncate { .. } | DiskOp::Rename { .. } | DiskOp::Remove { .. } => {}
        }
    }

    #[inline]
    fn write_fault<K, C>(
        &mut self,
        run: &mut Run<K, C>,
        ordinal: u32,
        op: &DiskOp,
        effect: &Effect<N>,
    ) -> Option<WriteFault>
    where
        K: Checker<N>,
        C: Chooser,
    {
        if matches!(op, DiskOp::Sync { .. } | DiskOp::SyncDir { .. }) {
            return None; // D8 is the failure of a write. A barrier fails by D7.
        }
        let still_failing = self.writes_fail_until > run.timeline.now();
        // Asked while the disk is full, too, so that a fault of the schedule counts as reached.
        let (faults, disks) = run.faults_and_disks();
        let new_fault = faults.of_write(&self.effect_point(disks, ordinal, effect));
        if new_fault.is_none() && !still_failing {
            None
        } else {
            self.begin_write_fault(run, new_fault)
        }
    }

    #[cold]
    fn begin_write_fault<K, C>(
        &mut self,
        run: &mut Run<K, C>,
        new_fault: Option<WriteFault>,
    ) -> Option<WriteFault>
    where
        K: Checker<N>,
    {
        // A disk that has failed once fails every later operation of this incarnation anyway.
        if run.disk(self.id).first_failure().is_some() {
            return None;
        }
        // Only a full disk fails for a while. A device that fails reports it once, and the node
        // halts.
        let error = DiskError::NoSpace;
        let fault =
            new_fault.unwrap_or(WriteFault { error, keep: Permille::ZERO, lasts: Micros::ZERO });
        let until = run.timeline.now() + fault.lasts;
        self.writes_fail_until = self.writes_fail_until.max(until);
        run.monitor.hit(Rule::WriteFailed);
        self.observe(run, &Fact::Fault(FaultFact::Write(fault)));
        Some(fault)
    }

    /// Schedules the completion of a barrier: on time, failed (D7), reported without syncing (D11),
    /// or slower than any message (D9). A disk that hangs (D9) holds the completion later.
    #[inline]
    fn schedule_barrier<K, C: Chooser>(
        &mut self,
        run: &mut Run<K, C>,
        op: OpId,
        fault: Option<BarrierFault>,
    ) {
        let timing = &run.plan().timing;
        let mut duration = timing.barrier_time(self.id, self.incarnation, self.barriers);
        // Each duration depends on the number of its barrier only, so that a fault that is removed
        // from a schedule re-times no other barrier.
        self.barriers += 1;
        let mut outcome = BarrierOutcome::Done;
        match fault {
            None => {}
            Some(BarrierFault::Fail(error)) => outcome = BarrierOutcome::Failed(error),
            Some(BarrierFault::Slow { by }) => {
                duration += by;
                outcome = BarrierOutcome::Slow;
            }
            Some(BarrierFault::Lie) => outcome = BarrierOutcome::Lied,
        }
        let op = u32::try_from(op.0).expect("an incarnation has fewer than 2^32 barriers");
        run.timeline.push_after(
            duration,
            Event::Barrier { node: self.id.0, incarnation: self.incarnation, op, outcome },
        );
    }

    /// D9: no barrier completes before this time. The node learns nothing of it, and goes on with
    /// what needs no disk; the page cache takes its writes.
    pub(super) fn hang_disk(&mut self, until: Micros) {
        // Of overlapping hangs the one that ends last counts.
        self.disk_hangs_until = self.disk_hangs_until.max(until);
    }

    /// Handles a barrier event: what the node learns, unless the process that issued the
    /// barrier has ended or is paused.
    pub(super) fn complete_barrier<K, C>(
        &mut self,
        run: &mut Run<K, C>,
        incarnation: u32,
        op: u32,
        outcome: BarrierOutcome,
    ) -> Option<Input<N>> {
        let event = Event::Barrier { node: self.id.0, incarnation, op, outcome };
        // The process that issued this barrier has ended, and the disk has dropped the barrier with
        // it; or it is set aside, and learns of it later.
        if !self.is_up() || self.incarnation != incarnation {
            self.postpone_if_set_aside(run, incarnation, event);
            return None;
        }
        let event = Event::Barrier { node: self.id.0, incarnation, op, outcome };
        if self.disk_hangs_until > run.timeline.now() {
            run.monitor.hit(Rule::SlowBarrier);
            run.timeline.push_at(self.disk_hangs_until, event);
            return None;
        }
        if self.postpone_if_paused(run, event) {
            return None;
        }
        let op = OpId(op.into());
        let result = match outcome {
            BarrierOutcome::Done => run.disk_mut(self.id).complete(op, Ok(())),
            BarrierOutcome::Slow => {
                run.monitor.hit(Rule::SlowBarrier);
                run.disk_mut(self.id).complete(op, Ok(()))
            }
            BarrierOutcome::Failed(error) => {
                run.monitor.hit(Rule::SyncFailed);
                run.disk_mut(self.id).complete(op, Err(error))
            }
            BarrierOutcome::Lied => {
                run.monitor.hit(Rule::LyingSync);
                run.disk_mut(self.id).complete_lying(op)
            }
        };
        Some(Input::DiskDone { op, result })
    }

    /// A crash of this incarnation once no barrier is pending is not a crash during its boot (P5).
    #[inline]
    pub(super) fn note_boot_complete<K, C>(&mut self, run: &Run<K, C>) {
        self.boot_complete = self.boot_complete || !run.disk(self.id).barrier_pending();
    }
}

/// Crashes, halts and restarts.
impl<N: Node> Host<N> {
    /// The node halts itself. No power is lost, so the page cache survives: after a failed sync the
    /// next boot reads back bytes that never reached the disk (D7).
    pub(super) fn halt<K, C>(&mut self, run: &mut Run<K, C>, reason: &HaltReason)
    where
        K: Checker<N>,
        C: Chooser,
    {
        self.node = None;
        let disk = run.disk_mut(self.id);
        disk.kill(disk.in_driver_queue());
        self.has_given_up = halt_is_final(reason);
        self.observe(run, &Fact::Process(ProcessFact::Halted(reason)));
        if !self.resume_first_process(run) && !self.has_given_up {
            self.schedule_boot(run);
        }
    }

    /// Kills the process (P1) or cuts the power (P2), possibly before its boot is complete (P5) or
    /// with a barrier pending (D12), and changes the disk while the node is down (D10, D13-D16).
    /// `other_disk` is the disk that replaces this one, if it is that of another node (D13). A
    /// second process (D17) ends by it, and the first one goes on.
    pub(super) fn crash<K, C>(
        &mut self,
        run: &mut Run<K, C>,
        crash: &Crash,
        other_disk: Option<&Disk>,
    ) where
        K: Checker<N>,
        C: Chooser,
    {
        if self.is_second_process() {
            self.end_second_process(run);
            return;
        }
        // A kill of a process that has ended changes nothing; a power cut still affects its disk.
        if !self.is_up() && self.incarnation > 0 && matches!(crash.how, CrashKind::Kill { .. }) {
            return;
        }
        // The first boot finds an empty disk, so a crash in it interrupts no recovery.
        if self.is_up() && !self.boot_complete && self.incarnation > 1 {
            run.monitor.hit(Rule::CrashDuringBoot);
        }
        self.node = None;
        self.paused_until = Micros::ZERO;
        // Before the disk handles the crash, as that drops the barriers.
        if run.disk(self.id).barrier_pending() {
            run.monitor.hit(Rule::CrashDuringBarrier);
        }
        match &crash.how {
            CrashKind::Kill { keep } => {
                let disk = run.disk_mut(self.id);
                let report = disk.kill(keep.of(disk.in_driver_queue()));
                run.monitor.hit(Rule::ProcessKilled);
                self.observe(run, &Fact::Process(ProcessFact::Killed(&report)));
            }
            CrashKind::PowerCut(survival) => self.cut_power(run, survival),
        }
        // After the crash: bytes at rest are those that it has left.
        if let Some(fault) = &crash.at_rest {
            self.change_at_rest(run, fault, other_disk);
        }
        if let Some(down_for) = crash.down_for {
            run.timeline.push_after(down_for, Event::Boot { node: self.id.0 });
        }
    }

    /// D10, D13-D16: what happens to the disk while the node is down.
    #[cold]
    fn change_at_rest<K: Checker<N>, C>(
        &mut self,
        run: &mut Run<K, C>,
        fault: &AtRestFault,
        other_disk: Option<&Disk>,
    ) {
        match fault {
            AtRestFault::Damaged(damage) => {
                if let Some(entry) = run.disk_mut(self.id).damage(damage) {
                    run.monitor.hit(Rule::DamageAtRest);
                    self.observe(run, &Fact::Process(ProcessFact::Damaged(&entry)));
                }
            }
            AtRestFault::Restored { incarnations_back } => {
                let change = self.restore_backup(run, *incarnations_back);
                self.note_disk_change(run, Rule::DiskReplaced, change);
            }
            AtRestFault::OfNode(node) => {
                let disk = run.disk_mut(self.id);
                let is_replaced = other_disk.is_some_and(|other| disk.restore(other));
                let change = is_replaced.then_some(DiskChange::OfNode(*node));
                self.note_disk_change(run, Rule::DiskReplaced, change);
            }
            AtRestFault::Emptied => {
                let change = run.disk_mut(self.id).empty();
                self.note_disk_change(run, Rule::DiskEmptied, change);
            }
            AtRestFault::Lost(loss) => {
                let change = run.disk_mut(self.id).lose(loss);
                self.note_disk_change(run, Rule::FileLost, change);
            }
            AtRestFault::Unreadable(file) => self.unreadable_at_boot = Some(*file),
        }
    }

    /// D13: the disk is as that incarnation found it. `None` if it is so already, or was empty.
    fn restore_backup<K, C>(
        &self,
        run: &mut Run<K, C>,
        incarnations_back: u32,
    ) -> Option<DiskChange> {
        // 1 is the incarnation that has ended.
        let at = self.backups.len().checked_sub(incarnations_back as usize)?;
        let (incarnation, backup) = self.backups.get(at)?;
        let is_changed = run.disk_mut(self.id).restore(backup);
        is_changed.then_some(DiskChange::Restored { incarnation: *incarnation })
    }

    fn note_disk_change<K: Checker<N>, C>(
        &self,
        run: &mut Run<K, C>,
        rule: Rule,
        change: Option<DiskChange>,
    ) {
        if let Some(change) = change {
            run.monitor.hit(rule);
            self.observe(run, &Fact::Process(ProcessFact::DiskChanged(&change)));
        }
    }

    fn cut_power<K: Checker<N>, C>(&mut self, run: &mut Run<K, C>, survival: &Survival) {
        // A disk without power does not hang. After a kill it still does.
        self.disk_hangs_until = Micros::ZERO;
        let report = run.disk_mut(self.id).power_cut(survival);
        run.monitor.hit(Rule::PowerCut);
        for (rule, times) in report.hits() {
            run.monitor.tally().rules[rule as usize] += times;
        }
        self.observe(run, &Fact::Process(ProcessFact::PowerCut(&report)));
    }

    fn schedule_boot<K, C: Chooser>(&self, run: &mut Run<K, C>) {
        let boot_delay = run.plan().timing.boot_delay(self.id, self.incarnation);
        run.timeline.push_after(boot_delay, Event::Boot { node: self.id.0 });
    }

    /// The fault phase is over: the node is no longer paused, and its disk has space again and can
    /// be read. Its wake is queued anew with the other events.
    pub(super) fn end_faults(&mut self) {
        self.paused_until = Micros::ZERO;
        self.unreadable_at_boot = None;
        self.disk_hangs_until = Micros::ZERO;
        self.writes_fail_until = Micros::ZERO;
    }

    /// The queue has dropped the wake of this node.
    pub(super) fn forget_wake(&mut self) {
        self.wake_at = Micros::MAX;
    }

    /// P6: the node goes down for good, and only what was synced survives.
    pub(super) fn shut_down_permanently<K, C>(&mut self, run: &mut Run<K, C>)
    where
        K: Checker<N>,
        C: Chooser,
    {
        run.monitor.hit(Rule::NeverRestarts);
        let how = CrashKind::PowerCut(Survival::None);
        self.crash(run, &Crash { how, down_for: None, at_rest: None }, None);
    }

    /// Kills the process if its disk has failed: without a later barrier it would never receive the
    /// error (D8).
    pub(super) fn kill_if_disk_failed<K, C>(&mut self, run: &mut Run<K, C>)
    where
        K: Checker<N>,
        C: Chooser,
    {
        if self.is_up() && run.disk(self.id).first_failure().is_some() {
            // No power is lost, so all operations that the disk has accepted reach the page cache.
            let how = CrashKind::Kill { keep: Permille::ALL };
            self.crash(run, &Crash { how, down_for: None, at_rest: None }, None);
        }
    }

    /// Schedules a boot of a node that is down and may boot again.
    pub(super) fn restart_if_down<K, C: Chooser>(&self, run: &mut Run<K, C>) {
        if !self.is_up() && !self.has_given_up && !run.plan().permanently_down.contains(&self.id) {
            self.schedule_boot(run);
        }
    }
}
