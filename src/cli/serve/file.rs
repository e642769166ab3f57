//! The settings file. Errors are reported with their line.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, Visitor};
use stormglass_node::NodeId;

use super::Tuning;
use crate::cli::UsageError;
use crate::cli::address::Address;
use stormglass::commit::op_text::{ParseOpError, node_of};

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct File {
    pub id: Option<u16>,
    pub peers: Peers,
    pub data: Option<PathBuf>,
    pub listen: Option<Address>,
    pub cluster: Option<String>,
    pub patience_s: Option<u64>,
    pub events: Option<PathBuf>,
    pub tuning: Tuning,
}

/// The address of each node; no node is listed twice.
#[derive(Debug, Default)]
pub(super) struct Peers(pub(super) BTreeMap<NodeId, String>);

/// `0` or `n0`.
#[derive(Deserialize)]
#[serde(try_from = "String")]
struct NodeKey(NodeId);

impl TryFrom<String> for NodeKey {
    type Error = ParseOpError;
    fn try_from(text: String) -> Result<NodeKey, ParseOpError> {
        node_of(&text).map(NodeKey)
    }
}

impl<'de> Deserialize<'de> for Peers {
    fn deserialize<D: Deserializer<'de>>(table: D) -> Result<Peers, D::Error> {
        table.deserialize_map(PeerTableVisitor)
    }
}

/// Reads the table entry by entry: `0` and `n0` are one node, and two keys.
struct PeerTableVisitor;

impl<'de> Visitor<'de> for PeerTableVisitor {
    type Value = Peers;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a table of nodes and their addresses, like 0 = \"127.0.0.1:3000\"")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut lines: A) -> Result<Peers, A::Error> {
        let mut peers = BTreeMap::new();
        // A `BTreeMap` would be read without complaint if `0` and `n0` were both in the table.
        while let Some((NodeKey(id), Address(address))) = lines.next_entry()? {
            if peers.insert(id, address).is_some() {
                return Err(A::Error::custom(format!("{id} appears twice in the list of peers")));
            }
        }
        Ok(Peers(peers))
    }
}

pub(super) fn read(path: &Path) -> Result<File, UsageError> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    toml::from_str(&text).map_err(|error| {
        // The parser gives a range of bytes; people look for a line.
        let line = error
            .span()
            .map_or(1, |span| text[..span.start.min(text.len())].matches('\n').count() + 1);
        // The first line says what is wrong; those after it repeat the text of the file.
        let what = error.message().lines().next().unwrap_or("not understood").to_owned();
        UsageError(format!("{}, line {line}: {what}", path.display()))
    })
}
