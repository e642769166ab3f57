//! The routine of a cluster: messages that its nodes send over and over when nothing else happens,
//! heartbeats for example, and what answers them.
//!
//! A trace of a cluster with heartbeats consists of little else. No protocol has to name them:
//! 1. A kind is *periodic* if nodes send it as they wake, at regular intervals, and it concerns no
//!    request.
//! 2. A message of a periodic kind is routine if a wake sends it. One that a request sends, an
//!    append with an entry for example, is not.
//! 3. What a step sends to answer a routine message is routine, too, if it concerns no request.
//! 4. Only kinds that fill a good part of the trace count.

use std::collections::{BTreeMap, BTreeSet};

use stormglass_node::Micros;

use super::RecordedLine;
use super::line::Place;
use crate::fault::Endpoint;
use crate::property::MessageId;

/// Sendings by wakes that make a kind periodic. Fewer say nothing about their intervals.
const SENDINGS_MIN: usize = 8;
/// A routine kind has at least one line in so many.
const SHARE: usize = 16;

/// The messages that are routine.
pub(super) fn routine_messages(lines: &[RecordedLine]) -> BTreeSet<MessageId> {
    let inputs = inputs(lines);
    let periodic = periodic_kinds(lines, &inputs);
    let mut messages = BTreeSet::new();
    let mut count_of_kind: BTreeMap<&str, usize> = BTreeMap::new();
    // In order: the message that a step answers was sent before.
    for line in lines {
        let Place::Effect { step, sent: Some(sent) } = line.place else { continue };
        let is_routine = match inputs.get(&step) {
            Some(StepInput::Wake) => periodic.contains(line.kind),
            Some(StepInput::Message(answered)) => messages.contains(answered),
            Some(StepInput::Other) | None => false,
        };
        if is_routine && !sent.of_request {
            messages.insert(sent.id);
            *count_of_kind.entry(line.kind).or_default() += 1;
        }
    }
    // Each message has a line where it is sent, and one where it arrives.
    count_of_kind.retain(|_, count| *count * 2 * SHARE >= lines.len());
    for line in lines {
        if let Place::Effect { sent: Some(sent), .. } = line.place
            && !count_of_kind.contains_key(line.kind)
        {
            messages.remove(&sent.id);
        }
    }
    messages
}

#[derive(Clone, Copy)]
enum StepInput {
    Wake,
    Message(MessageId),
    Other,
}

fn inputs(lines: &[RecordedLine]) -> BTreeMap<u32, StepInput> {
    let mut inputs = BTreeMap::new();
    for line in lines {
        if let Place::Input { step, is_wake, arrived } = line.place {
            let input = match arrived {
                _ if is_wake => StepInput::Wake,
                Some(message) => StepInput::Message(message),
                None => StepInput::Other,
            };
            inputs.insert(step, input);
        }
    }
    inputs
}

fn periodic_kinds(
    lines: &[RecordedLine],
    inputs: &BTreeMap<u32, StepInput>,
) -> BTreeSet<&'static str> {
    let mut times: BTreeMap<(&'static str, Endpoint, Endpoint), Vec<Micros>> = BTreeMap::new();
    for line in lines {
        if let Place::Effect { step, sent: Some(sent) } = line.place
            && !sent.of_request
            && matches!(inputs.get(&step), Some(StepInput::Wake))
        {
            times.entry((line.kind, sent.id.from, sent.id.to)).or_default().push(line.at);
        }
    }
    let mut sendings: BTreeMap<&'static str, (usize, usize, usize)> = BTreeMap::new();
    for ((kind, ..), times) in times {
        let (count, gaps, regular) = sendings.entry(kind).or_default();
        let all: Vec<u64> = times.windows(2).map(|pair| (pair[1] - pair[0]).0).collect();
        let mut sorted = all.clone();
        sorted.sort_unstable();
        let median = sorted.get(sorted.len() / 2).copied().unwrap_or_default();
        *count += times.len();
        *gaps += all.len();
        // Clocks drift, and a node that is paused sends late.
        *regular += all.iter().filter(|gap| (median / 2..=median * 3 / 2).contains(gap)).count();
    }
    sendings
        .retain(|_, (count, gaps, regular)| *count >= SENDINGS_MIN && *regular * 4 >= *gaps * 3);
    sendings.into_keys().collect()
}
