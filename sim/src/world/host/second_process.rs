//! D17: a second process under the id of a node.
//!
//! 1. The running process is set aside as in a pause (P4): with its disk, its clock and its
//!    barriers in flight, and without the wake, which is scheduled anew later.
//! 2. The second process boots in its place. What arrives at the node arrives there.
//! 3. It ends for good, after the given time or with a crash, a halt or a refusal to boot. Its disk
//!    is discarded.
//! 4. The first process goes on in its incarnation. The next boot of the node takes a number that
//!    neither of the two has used.

use stormglass_node::{Micros, Node, ReadDisk};

use super::Host;
use crate::disk::Disk;
use crate::fault::SecondDisk;
use crate::property::{Checker, Fact, ProcessFact};
use crate::tally::Rule;
use crate::world::run::Run;
use crate::world::timeline::Event;

/// The first process of a node, while a second one runs.
#[derive(Clone)]
pub(super) struct SetAside<N> {
    first: Host<N>,
    first_disk: Disk,
    /// The timed fault that has set it aside, and ends with its time.
    timed_fault: u32,
    /// When it goes on at the latest. Its events wait until then.
    until: Micros,
}

impl<N: Node> Host<N> {
    /// Whether the present process is the second one under the id of this node.
    #[inline]
    pub(in crate::world) fn is_second_process(&self) -> bool {
        self.set_aside.is_some()
    }

    /// D17: sets the running process aside. False if there is none that has served anybody, as
    /// either of two that have promised nothing may be the first; if a second one runs already;
    /// or if there is no copy of the disk with files in it, as without files it would be an empty
    /// disk. Otherwise the node is to be booted.
    pub(in crate::world) fn set_aside<K, C>(
        &mut self,
        run: &mut Run<K, C>,
        disk: SecondDisk,
        timed_fault: u32,
        duration: Micros,
    ) -> bool
    where
        K: Checker<N>,
    {
        if !self.is_up() || !self.has_served || self.is_second_process() {
            return false;
        }
        let second_disk = match disk {
            SecondDisk::Empty => Disk::default(),
            SecondDisk::Copy => match self.backups.last() {
                Some((_, backup)) if !backup.files().is_empty() => backup.clone(),
                Some(_) | None => return false,
            },
        };
        run.monitor.hit(Rule::SecondProcess);
        self.observe(run, &Fact::Process(ProcessFact::SecondProcess(disk)));
        self.cancel_wake(run);
        let until = run.timeline.now() + duration;
        let second = Host { boots: self.boots, ..Host::new(self.id) };
        let first = std::mem::replace(self, second);
        let first_disk = std::mem::replace(run.disk_mut(self.id), second_disk);
        self.set_aside = Some(Box::new(SetAside { first, first_disk, timed_fault, until }));
        true
    }

    /// The time of a timed fault is over: the second process that it has started ends.
    pub(in crate::world) fn end_second_process_of<K, C>(
        &mut self,
        run: &mut Run<K, C>,
        timed_fault: u32,
    ) where
        K: Checker<N>,
    {
        // It may have ended before, and another one may run.
        if self.set_aside.as_ref().is_some_and(|aside| aside.timed_fault == timed_fault) {
            self.end_second_process(run);
        }
    }

    /// Kills the second process, if one runs.
    pub(in crate::world) fn end_second_process<K, C>(&mut self, run: &mut Run<K, C>)
    where
        K: Checker<N>,
    {
        if !self.is_second_process() {
            return;
        }
        self.node = None;
        // What is left of its disk does not matter.
        let report = run.disk_mut(self.id).kill(0);
        self.observe(run, &Fact::Process(ProcessFact::Killed(&report)));
        self.resume_first_process(run);
    }

    /// The first process goes on in the place of the second one, which has ended. False if there
    /// is no second one.
    pub(super) fn resume_first_process<K, C>(&mut self, run: &mut Run<K, C>) -> bool
    where
        K: Checker<N>,
    {
        let Some(set_aside) = self.set_aside.take() else { return false };
        self.cancel_wake(run);
        // The numbers that the second process has used are used.
        let SetAside { first, first_disk, .. } = *set_aside;
        *self = Host { boots: self.boots, ..first };
        *run.disk_mut(self.id) = first_disk;
        self.observe(run, &Fact::Process(ProcessFact::Resumed));
        self.schedule_wake(run);
        true
    }

    /// An event of the first process waits while a second one runs.
    #[cold]
    pub(super) fn postpone_if_set_aside<K, C>(
        &self,
        run: &mut Run<K, C>,
        incarnation: u32,
        event: Event,
    ) {
        if let Some(set_aside) = &self.set_aside
            && set_aside.first.incarnation == incarnation
        {
            run.timeline.push_at(set_aside.until, event);
        }
    }

    /// No wake of this process is queued any more, or it is stale.
    fn cancel_wake<K, C>(&mut self, run: &mut Run<K, C>) {
        let queued_wake = std::mem::replace(&mut self.wake_at, Micros::MAX);
        if queued_wake != Micros::MAX {
            run.timeline.cancel_wake(queued_wake, self.id.0);
        }
    }
}
