//! Shrinking: the same broken claim, told with as little as possible.
//!
//! Every candidate is really run, and counts only if the *same claim* breaks. Faults go (delta debugging), what
//! remains is softened, requests, operations, clients and nodes go, timing becomes base, time is cut; a story that is
//! still long is told afresh in a short one; again and again until nothing helps. The result is 1-minimal: without any
//! one of its faults, requests or operations the claim holds, or another one breaks. Where three faults or fewer are
//! left, all smaller sets of the faults that there once were are tried too, if they are not too many: then it is the
//! true minimum of that frame.

mod ddmin;
mod frame;
mod minimum;
mod possible;
mod rename;
mod retell;
mod soften;
mod timing;
mod witness;

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::fault::{Fault, Weather};
use crate::oracle::Broken;
use crate::play::{Player, stage};
use crate::protocol::Scene;
use crate::schedule::{Claim, Schedule};
pub(crate) use witness::Witness;

pub use minimum::Minimum;

/// How large a schedule is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Entries of what goes wrong, nodes that stay dead included.
    pub faults: usize,
    /// What clients want.
    pub requests: usize,
    /// Nodes of the cluster.
    pub nodes: u16,
    /// Clients.
    pub clients: u32,
    /// When the sky clears, in microseconds.
    pub storm_us: u64,
}

impl Size {
    /// The size of a schedule.
    pub fn of<O>(schedule: &Schedule<O>) -> Size {
        let plan = &schedule.plan;
        Size {
            faults: schedule.faults.len() + plan.dead.len(),
            requests: schedule.wishes.len(),
            nodes: plan.nodes,
            clients: plan.clients,
            storm_us: plan.storm_us,
        }
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Size { faults, requests, nodes, clients, storm_us } = self;
        let some = |count: u64, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
        let (faults, requests) = (some(*faults as u64, "fault"), some(*requests as u64, "request"));
        let (nodes, clients) = (some((*nodes).into(), "node"), some((*clients).into(), "client"));
        write!(f, "{faults}, {requests}, {nodes}, {clients}, {} ms", storm_us / 1000)
    }
}

/// What others see of a shrink, and how they end it.
pub struct Watch<'a> {
    /// Once set, the best so far is the result.
    pub stop: &'a AtomicBool,
    /// Runs at most.
    pub runs_max: u64,
    /// Told of every success: how many runs so far, and the size now.
    pub progress: &'a mut dyn FnMut(u64, Size),
}

/// What has become of a schedule.
#[derive(Clone, Debug)]
pub struct Shrunk<O> {
    /// The smallest that was found.
    pub schedule: Schedule<O>,
    /// What it breaks.
    pub broken: Broken,
    /// How large it was before.
    pub before: Size,
    /// How many candidates were run.
    pub runs: u64,
    /// Whether no one entry can be left out: false only if the shrink was ended before its time.
    pub one_minimal: bool,
    /// Whether fewer faults would do.
    pub minimum: Minimum,
}

/// Shrinks a schedule, if it breaks a claim.
pub fn shrink<S: Scene>(
    scene: &S,
    schedule: &Schedule<S::Order>,
    watch: Watch<'_>,
) -> Option<Shrunk<S::Order>> {
    let mut player = Player::new(scene);
    let (ending, reached) = player.play_reaching(schedule);
    let broken = ending.broken?;
    let mut best = schedule.clone();
    best.claim = Claim::Holds(Some(broken.claim.to_string()));
    let pool = schedule.faults.clone();
    keep_reached(&mut best, &reached);
    let mut shrinker = Shrinker {
        player,
        best,
        broken,
        runs: 0,
        pool,
        stories_left: retell::STORIES_MAX.min(watch.runs_max / 4),
        watch,
    };
    let (one_minimal, minimum) = shrinker.run();
    let Shrinker { mut best, broken, runs, .. } = shrinker;
    best.why = vec![sentence(&broken.why)];
    Some(Shrunk { schedule: best, broken, before: Size::of(schedule), runs, one_minimal, minimum })
}

/// Among more requests than that, joining two of them is not tried.
const JOINED_MAX: usize = 10;

struct Shrinker<'a, 'w, S: Scene> {
    player: Player<'a, S>,
    best: Schedule<S::Order>,
    broken: Broken,
    runs: u64,
    /// Every fault that there was, in the names of the present frame.
    pool: Vec<Fault>,
    /// How many stories may yet be tried to tell it afresh.
    stories_left: u64,
    watch: Watch<'w>,
}

impl<S: Scene> Shrinker<'_, '_, S> {
    fn run(&mut self) -> (bool, Minimum) {
        // Every candidate from here on costs as much as the storm is long.
        self.shorter_storm();
        self.shorter_log();
        self.drop_faults();
        self.drop_wishes();
        self.retell_in_short();
        loop {
            while self.round() {}
            if self.over() {
                return (false, Minimum::Unknown);
            }
            if self.retell() {
                continue;
            }
            // A round without success has tried every single removal, and nothing has changed since.
            match self.fewer_faults() {
                Some(minimum) => return (true, minimum),
                None => continue,
            }
        }
    }

    /// Everything once; whether anything helped.
    fn round(&mut self) -> bool {
        let mut any = self.drop_faults();
        any |= self.drop_lives();
        any |= self.drop_wishes();
        any |= self.join_wishes();
        any |= self.calm_frame();
        any |= self.shorter_log();
        any |= self.plain_timing();
        any |= self.soften_faults();
        any |= self.simpler_orders();
        any |= self.fewer_nodes_and_clients();
        any |= self.less_time();
        any && !self.over()
    }

    fn over(&self) -> bool {
        self.watch.stop.load(Ordering::Relaxed) || self.runs >= self.watch.runs_max
    }

    /// Runs a candidate; if the same claim breaks, it is the best now.
    fn better(&mut self, candidate: &Schedule<S::Order>) -> bool {
        if self.over() {
            return false;
        }
        self.runs += 1;
        let (ending, reached) = self.player.play_reaching(candidate);
        let same = |broken: &Broken| broken.claim == self.broken.claim;
        let Some(broken) = ending.broken.filter(same) else { return false };
        self.broken = broken;
        self.best = candidate.clone();
        keep_reached(&mut self.best, &reached);
        (self.watch.progress)(self.runs, Size::of(&self.best));
        true
    }

    /// The first of these that is better.
    fn first_better(&mut self, candidates: impl IntoIterator<Item = Schedule<S::Order>>) -> bool {
        candidates.into_iter().any(|candidate| self.better(&candidate))
    }

    /// What a run of this is.
    fn fingerprint(&mut self, schedule: &Schedule<S::Order>) -> u64 {
        self.runs += 1;
        self.player.play(schedule).0.fingerprint
    }

    fn drop_faults(&mut self) -> bool {
        let before = self.best.faults.len();
        let all = self.best.faults.clone();
        ddmin::ddmin(&all, |some| {
            let candidate = Schedule { faults: some.to_vec(), ..self.best.clone() };
            self.better(&candidate)
        });
        self.best.faults.len() < before
    }

    /// Without a crash, what happened in the life after it happens in the one before.
    fn drop_lives(&mut self) -> bool {
        let mut any = false;
        let mut at = 0;
        while at < self.best.faults.len() {
            let candidate = match &self.best.faults[at] {
                Fault::Crash(place, _) => Some((place.node, place.life)),
                Fault::At(_, Weather::Crash { node, .. }) => Some((*node, 1)),
                Fault::At(..)
                | Fault::Message(..)
                | Fault::Barrier(..)
                | Fault::Write(..)
                | Fault::Skew { .. } => None,
            };
            let dropped = candidate.is_some_and(|(node, life)| {
                let mut next = self.best.clone();
                next.faults.remove(at);
                next.faults.iter_mut().for_each(|fault| rename::a_life_earlier(fault, node, life));
                self.better(&next)
            });
            any |= dropped;
            at += usize::from(!dropped);
        }
        any
    }

    fn drop_wishes(&mut self) -> bool {
        let before = self.best.wishes.len();
        let all = self.best.wishes.clone();
        ddmin::ddmin(&all, |some| {
            let candidate = Schedule { wishes: some.to_vec(), ..self.best.clone() };
            self.better(&candidate)
        });
        self.best.wishes.len() < before
    }

    /// One request for two, if there are few and yet too many.
    fn join_wishes(&mut self) -> bool {
        let mut any = false;
        while !self.is_short() && (2..=JOINED_MAX).contains(&self.best.wishes.len()) {
            let (wishes, scene) = (&self.best.wishes, self.player.scene());
            let pairs = (0..wishes.len()).flat_map(|at| (0..wishes.len()).map(move |gone| (at, gone)));
            let candidates: Vec<_> = pairs
                .filter(|(at, gone)| at != gone)
                .filter_map(|(at, gone)| {
                    let what = scene.joined(&wishes[at].what, &wishes[gone].what)?;
                    let mut candidate = self.best.clone();
                    candidate.wishes[at].what = what;
                    candidate.wishes.remove(gone);
                    Some(candidate)
                })
                .collect();
            if !self.first_better(candidates) {
                break;
            }
            any = true;
        }
        any
    }

    fn simpler_orders(&mut self) -> bool {
        let mut any = false;
        for at in 0..self.best.wishes.len() {
            let scene = self.player.scene();
            while at < self.best.wishes.len() && {
                let with = |what| {
                    let mut candidate = self.best.clone();
                    candidate.wishes[at].what = what;
                    candidate
                };
                let candidates: Vec<_> =
                    scene.simpler(&self.best.wishes[at].what).into_iter().map(with).collect();
                self.first_better(candidates)
            } {
                any = true;
            }
        }
        any
    }

    /// What happens in the best so far.
    fn witness(&mut self) -> Witness {
        self.runs += 1;
        let mut glass = stage(self.player.scene(), &self.best, Witness::default());
        glass.run();
        glass.judge().0.clone()
    }
}

/// What broke, as the first line of a story.
fn sentence(why: &str) -> String {
    if why.ends_with(['.', '?', '!']) { why.to_string() } else { format!("{why}.") }
}

/// A fault that never comes up changes nothing.
fn keep_reached<O>(schedule: &mut Schedule<O>, reached: &[bool]) {
    let mut reached = reached.iter();
    schedule.faults.retain(|_| *reached.next().expect("one for each fault"));
}
