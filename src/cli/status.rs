//! `stormglass status`: a table for people, JSON for programs.

use clap::Args;
use stormglass::commit::view::View;
use stormglass_node::NodeId;
use stormglass_node::runtime::{DiskStatus, Status};

use super::say::say;
use super::tx::TargetArgs;
use super::{CliError, Exit};

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  stormglass status --at 127.0.0.1:3000\n  stormglass status --at 127.0.0.1:3000 --json"
)]
pub(super) struct StatusArgs {
    #[command(flatten)]
    at: TargetArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(status: &StatusArgs) -> Result<Exit, CliError> {
    let mut client = status.at.connect_as_operator().await?;
    if status.json {
        say!("{}", client.status_json().await?)?;
    } else {
        say!("{}", table(&client.status().await?).trim_end())?;
    }
    Ok(Exit::Success)
}

/// The greatest number of locks and transactions in doubt that are listed.
const LISTED_MAX: usize = 20;

pub(super) fn table(status: &Status<View>) -> String {
    let view = &status.view;
    let mut text = String::new();
    let mut row = |name: &str, value: String| text += &format!("{name:<12} {value}\n");
    let closing = if status.closing { ", shutting down" } else { "" };
    row(
        "node",
        format!(
            "{} of {:?}, {}, up {} ms{closing}",
            status.node,
            status.cluster,
            format_args!("incarnation {:#}", view.incarnation),
            status.up
        ),
    );
    if !view.unconfirmed.is_empty() {
        let peers: Vec<String> = view.unconfirmed.iter().map(ToString::to_string).collect();
        let meaning = if view.ready { "" } else { ", and until then it serves nobody" };
        row("", format!("waits for the welcome of {}{meaning}", peers.join(", ")));
    }
    // KiB: the memory of a node is a few thousand of them.
    row("memory", format!("{} KiB", status.memory_bytes >> 10));
    let undecided = view.collecting + view.deciding;
    row(
        "coordinates",
        format!("{undecided} undecided, {} committed and not acknowledged by all", view.committing),
    );
    row(
        "participates",
        format!("{} waiting for locks, {} in doubt", view.waiting, view.in_doubt_total),
    );
    for doubt in view.in_doubt.iter().take(LISTED_MAX) {
        let peers: Vec<String> = doubt.peers.iter().map(ToString::to_string).collect();
        // The first inquiry goes to the coordinator alone, later ones to all participants.
        let waits = match (doubt.voted, doubt.inquiries) {
            (false, _) => "its own disk".to_owned(),
            (true, 0 | 1) => format!("{}'s decision", doubt.coordinator),
            (true, inquiries) => {
                format!(
                    "{} or {}, after {inquiries} inquiries",
                    doubt.coordinator,
                    peers.join(", ")
                )
            }
        };
        row(
            "",
            format!("{} ({}) for {} ms, waits for {waits}", doubt.tx, doubt.request, doubt.age),
        );
        if !is_listed(status, doubt.coordinator) {
            row(
                "",
                format!(
                    "WARNING: {} is not in the list of peers (--peer) and cannot be asked; without \
                     it, the transaction may stay in doubt",
                    doubt.coordinator
                ),
            );
        }
    }
    row("locks", view.locks_total.to_string());
    for lock in view.locks.iter().take(LISTED_MAX) {
        let kind = if lock.exclusive { "exclusive" } else { "shared" };
        row("", format!("{} {kind}, by {}", lock.key, lock.holder));
    }
    row(
        "state",
        format!("{} keys, {} outcomes, {} clients", view.keys, view.outcomes, view.clients),
    );
    row(
        "requests",
        format!("{} begun in this incarnation, {} pending", view.begun, status.pending_requests),
    );
    let log = &view.log;
    row(
        "log",
        format!(
            "records {} appended, {} durable; wal.{} has {} B",
            log.appended, log.durable, log.segment, log.segment_bytes
        ),
    );
    row(
        "incarnation",
        format!(
            "{} records, {} forced; {} snapshots of {} B",
            log.records, log.forced, log.snapshots, log.snapshot_bytes
        ),
    );
    let disk = &status.disk;
    row(
        "disk",
        format!(
            "{} syncs, {} of them of the directory; {} B written",
            disk.syncs, disk.directory_syncs, disk.bytes
        ),
    );
    if disk.silent > DiskStatus::SILENT_MAX {
        row(
            "",
            format!(
                "WARNING: a sync has been pending for {} ms; the disk is slow or hangs",
                disk.silent
            ),
        );
    }
    for file in &disk.files {
        row("", format!("{} {} B", file.name, file.bytes));
    }
    for link in &status.links {
        let state = if link.connected { "connected" } else { "not connected" };
        row(
            "peer",
            format!(
                "{} {state}, {} B queued, {} dropped",
                link.peer, link.queued_bytes, link.dropped
            ),
        );
    }
    text
}

/// Whether the node has this one in its list of peers.
fn is_listed(status: &Status<View>, node: NodeId) -> bool {
    // A node that answers has a link to every peer, connected or not.
    node == status.node || status.links.iter().any(|link| link.peer == node)
}

#[cfg(test)]
mod tests {
    use super::*;
    use stormglass::commit::TxId;
    use stormglass::commit::view::{InDoubt, LogView};
    use stormglass_node::runtime::LinkStatus;
    use stormglass_node::{Incarnation, Micros, RequestId};

    fn in_doubt(coordinator: NodeId) -> InDoubt {
        InDoubt {
            tx: TxId { coordinator, incarnation: Incarnation::numbered(1), serial: 3 },
            request: RequestId { client: 1, serial: 1, attempt: 0 },
            age: Micros(5_000),
            coordinator,
            peers: Vec::new(),
            voted: true,
            inquiries: 1,
        }
    }

    fn status(in_doubt: Vec<InDoubt>, silent: Micros) -> Status<View> {
        let link = LinkStatus { peer: NodeId(1), connected: false, queued_bytes: 0, dropped: 0 };
        let log = LogView {
            segment: 0,
            segment_bytes: 0,
            appended: 0,
            durable: 0,
            records: 0,
            forced: 0,
            barriers: 0,
            snapshots: 0,
            snapshot_bytes: 0,
        };
        Status {
            node: NodeId(0),
            cluster: "test".to_owned(),
            up: Micros(0),
            memory_bytes: 0,
            closing: false,
            pending_requests: 0,
            disk: DiskStatus { silent, ..DiskStatus::default() },
            links: vec![link],
            view: View {
                incarnation: Incarnation::numbered(1),
                ready: true,
                unconfirmed: Vec::new(),
                begun: 0,
                collecting: 0,
                deciding: 0,
                committing: 0,
                waiting: 0,
                in_doubt_total: in_doubt.len() as u64,
                in_doubt,
                outcomes: 0,
                idle: true,
                clients: 0,
                keys: 0,
                locks: Vec::new(),
                locks_total: 0,
                log,
            },
        }
    }

    fn warnings(status: &Status<View>) -> Vec<String> {
        let table = table(status);
        table.lines().filter(|line| line.contains("WARNING")).map(str::to_owned).collect()
    }

    #[test]
    fn coordinator_that_is_not_in_the_list_of_peers_is_named() {
        let listed = status(vec![in_doubt(NodeId(1))], Micros(0));
        assert_eq!(warnings(&listed), Vec::<String>::new());
        let unlisted = status(vec![in_doubt(NodeId(1)), in_doubt(NodeId(7))], Micros(0));
        let [warning] = &warnings(&unlisted)[..] else { panic!("{}", table(&unlisted)) };
        assert!(warning.contains("n7 is not in the list of peers (--peer)"), "{warning}");
    }

    #[test]
    fn disk_that_is_silent_for_more_than_a_second_is_a_warning() {
        assert_eq!(warnings(&status(Vec::new(), DiskStatus::SILENT_MAX)), Vec::<String>::new());
        let silent = status(Vec::new(), Micros(12_345_678));
        let [warning] = &warnings(&silent)[..] else { panic!("{}", table(&silent)) };
        assert!(warning.contains("a sync has been pending for 12345.678 ms"), "{warning}");
    }
}
