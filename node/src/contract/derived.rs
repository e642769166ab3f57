//! `Clone` and `Debug` of inputs and effects.
//!
//! By hand, since a derived one asks for the node itself to be `Clone` or `Debug`. A value of these
//! types holds no node, but messages, requests, responses and events of one.

use std::fmt::{self, Debug};

use super::{Effect, Input, Node};

impl<N: Node> Clone for Input<N> {
    fn clone(&self) -> Self {
        match self {
            Input::Message { from, message } => {
                Input::Message { from: *from, message: message.clone() }
            }
            Input::Request { id, request } => Input::Request { id: *id, request: request.clone() },
            Input::Connected { peer } => Input::Connected { peer: *peer },
            Input::Disconnected { peer } => Input::Disconnected { peer: *peer },
            Input::DiskDone { op, result } => Input::DiskDone { op: *op, result: *result },
            Input::Wake => Input::Wake,
        }
    }
}

impl<N: Node> Debug for Input<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Input::Message { from, message } => {
                f.debug_struct("Message").field("from", from).field("message", message).finish()
            }
            Input::Request { id, request } => {
                f.debug_struct("Request").field("id", id).field("request", request).finish()
            }
            Input::Connected { peer } => f.debug_struct("Connected").field("peer", peer).finish(),
            Input::Disconnected { peer } => {
                f.debug_struct("Disconnected").field("peer", peer).finish()
            }
            Input::DiskDone { op, result } => {
                f.debug_struct("DiskDone").field("op", op).field("result", result).finish()
            }
            Input::Wake => f.write_str("Wake"),
        }
    }
}

impl<N: Node<Event: Clone>> Clone for Effect<N> {
    fn clone(&self) -> Self {
        match self {
            Effect::Send { to, message } => Effect::Send { to: *to, message: message.clone() },
            Effect::Disk(op) => Effect::Disk(*op),
            Effect::Reply { id, response } => Effect::Reply { id: *id, response: response.clone() },
            Effect::Report(event) => Effect::Report(event.clone()),
            Effect::Halt(reason) => Effect::Halt(reason.clone()),
        }
    }
}

impl<N: Node> Debug for Effect<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Effect::Send { to, message } => {
                f.debug_struct("Send").field("to", to).field("message", message).finish()
            }
            Effect::Disk(op) => f.debug_tuple("Disk").field(op).finish(),
            Effect::Reply { id, response } => {
                f.debug_struct("Reply").field("id", id).field("response", response).finish()
            }
            Effect::Report(event) => f.debug_tuple("Report").field(event).finish(),
            Effect::Halt(reason) => f.debug_tuple("Halt").field(reason).finish(),
        }
    }
}
