//! What must be there after a crash: ready-made expectations.

use std::collections::BTreeSet;
use std::fmt::Debug;

/// How far a workload had come when the crash happened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// The commits that had begun. What has begun may be there or not.
    pub begun: BTreeSet<u64>,
    /// Of these, the ones that were acknowledged. They must be there.
    pub acknowledged: BTreeSet<u64>,
}

impl Progress {
    /// The greatest commit that was acknowledged; 0 if there is none.
    pub fn last_acknowledged(&self) -> u64 {
        self.acknowledged.last().copied().unwrap_or(0)
    }

    /// The greatest commit that had begun; 0 if there is none.
    pub fn last_begun(&self) -> u64 {
        self.begun.last().copied().unwrap_or(0)
    }
}

/// One commit after another, numbered from 1: after commit `k` the state is `states[k]`. The
/// recovered state must be that of a commit that had begun and not be older than one that was
/// acknowledged.
///
/// # Panics
/// The expectation, if a commit has no state in the list.
pub fn states<S: PartialEq + Debug>(
    states: Vec<S>,
) -> impl Fn(&S, &Progress) -> Result<(), String> {
    move |state, progress| {
        let acknowledged = progress.last_acknowledged() as usize;
        let begun = progress.last_begun() as usize;
        assert!(begun < states.len(), "commit {begun} has no state: there are {}", states.len());
        if states[acknowledged..=begun].contains(state) {
            return Ok(());
        }
        Err(match states.iter().position(|known| known == state) {
            Some(found) if found < acknowledged => format!(
                "lost: commit {acknowledged} was acknowledged, and the state is that of commit \
                 {found}"
            ),
            Some(found) => format!("the state is that of commit {found}, which had not begun"),
            None => {
                format!("the state is that of no commit: {}", abbreviated(&format!("{state:?}")))
            }
        })
    }
}

/// Items that are added one at a time, commit `k` adding item `k`: every acknowledged item must be
/// there, and none that was never added.
pub fn set() -> impl Fn(&BTreeSet<u64>, &Progress) -> Result<(), String> {
    |items, progress| {
        if let Some(lost) = progress.acknowledged.difference(items).next() {
            return Err(format!("lost: item {lost} was acknowledged"));
        }
        match items.difference(&progress.begun).next() {
            Some(invented) => Err(format!("item {invented} was never added")),
            None => Ok(()),
        }
    }
}

/// A log to which commit `k` appends item `k`, from 1: what is there must be a prefix that contains
/// every acknowledged item.
pub fn log() -> impl Fn(&Vec<u64>, &Progress) -> Result<(), String> {
    |items, progress| {
        if let Some((at, item)) = (1..).zip(items).find(|(at, item)| at != *item) {
            return Err(format!("item {item} is at place {at}"));
        }
        let count = items.len() as u64;
        if count < progress.last_acknowledged() {
            return Err(format!(
                "lost: item {} was acknowledged, and there are {count}",
                progress.last_acknowledged()
            ));
        }
        if count > progress.last_begun() {
            return Err(format!("item {count} was never appended"));
        }
        Ok(())
    }
}

/// The beginning of a long text.
pub(crate) fn abbreviated(text: &str) -> String {
    const CHARS_MAX: usize = 300;
    let mut short: String = text.chars().take(CHARS_MAX).collect();
    if short.len() < text.len() {
        short.push_str("...");
    }
    short
}
