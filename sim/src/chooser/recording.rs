use std::collections::BTreeMap;

use stormglass::{About, Node, NodeId};

use super::{Chooser, DeedPoint, SendPoint};
use crate::fault::{
    BarrierFault, Crash, Deed, DeedAt, End, Fault, MessageAt, MessageFault, Skew, Weather, WriteFault,
};

/// Wraps another chooser and writes its non-benign answers down, by coordinates. Running the record
/// ([`Scripted`](super::Scripted)) gives the very fingerprint of the recorded run.
#[derive(Clone, Debug)]
pub struct Recording<C> {
    inner: C,
    faults: Vec<Fault>,
    messages: BTreeMap<(End, End, About), u32>,
    deeds: BTreeMap<(NodeId, u32, Deed), u32>,
    /// The deed whose count is up to date: an effect is asked about up to three times, and counts once.
    counted: Option<(NodeId, u32, u32)>,
}

impl<C: Chooser> Recording<C> {
    /// Records what `inner` answers.
    pub fn new(inner: C) -> Self {
        Recording {
            inner,
            faults: Vec::new(),
            messages: BTreeMap::new(),
            deeds: BTreeMap::new(),
            counted: None,
        }
    }

    /// What has been answered so far, benign answers left out.
    pub fn into_faults(self) -> Vec<Fault> {
        self.faults
    }

    fn name<N: Node>(&mut self, at: &DeedPoint<'_, N>) -> Option<DeedAt> {
        let deed = at.deed()?;
        let count = self.deeds.entry((at.node, at.life, deed)).or_insert(0);
        let this = Some((at.node, at.life, at.ordinal));
        if self.counted != this {
            *count += 1;
            self.counted = this;
        }
        Some(DeedAt { node: at.node, life: at.life, deed, nth: *count })
    }
}

impl<C: Chooser> Chooser for Recording<C> {
    fn weather(&mut self) -> Vec<(u64, Weather)> {
        let weather = self.inner.weather();
        self.faults.extend(weather.iter().map(|(at_us, what)| Fault::At(*at_us, what.clone())));
        weather
    }

    fn message(&mut self, at: &SendPoint) -> Option<MessageFault> {
        let count = self.messages.entry((at.from, at.to, at.about)).or_insert(0);
        *count += 1;
        let nth = *count;
        let fault = self.inner.message(at)?;
        let place = MessageAt { from: at.from, to: at.to, about: at.about, nth };
        self.faults.push(Fault::Message(place, fault));
        Some(fault)
    }

    fn crash<N: Node>(&mut self, at: &DeedPoint<'_, N>) -> Option<Crash> {
        let place = self.name(at);
        let crash = self.inner.crash(at)?;
        self.faults.push(Fault::Crash(place.expect("crashes follow deeds that count"), crash.clone()));
        Some(crash)
    }

    fn barrier<N: Node>(&mut self, at: &DeedPoint<'_, N>) -> Option<BarrierFault> {
        let place = self.name(at);
        let fault = self.inner.barrier(at)?;
        self.faults.push(Fault::Barrier(place.expect("a barrier is a deed"), fault));
        Some(fault)
    }

    fn write<N: Node>(&mut self, at: &DeedPoint<'_, N>) -> Option<WriteFault> {
        let place = self.name(at);
        let fault = self.inner.write(at)?;
        self.faults.push(Fault::Write(place.expect("a write is a deed"), fault));
        Some(fault)
    }

    fn skew(&mut self, node: NodeId, life: u32) -> Skew {
        let skew = self.inner.skew(node, life);
        if skew != Skew::default() {
            self.faults.push(Fault::Skew { node, life, skew });
        }
        skew
    }
}
