//! Performs the effects of a node, and reports its status.

use std::path::Path;

use super::Driver;
use crate::contract::{DiskOp, Effect, Label};
use crate::id::{NodeId, RequestId, Time};
use crate::runtime::disk::Job;
use crate::runtime::files::file_id_of;
use crate::runtime::packet::{ClientReply, PeerPacket};
use crate::runtime::serve::{DiskStatus, FileStatus, LinkStatus, ServedNode, Status};
use crate::runtime::start::Ending;

/// Effects.
impl<N: ServedNode> Driver<N> {
    pub(super) fn perform(&mut self, now: Time) {
        let mut outbox = std::mem::take(&mut self.outbox);
        let (effects, buffer) = outbox.drain();
        for effect in effects {
            if self.ended.is_some() {
                break;
            }
            if let Some(observer) = &mut self.observer {
                let bytes = match &effect {
                    Effect::Disk(DiskOp::Append { bytes, .. }) => bytes.of(buffer),
                    Effect::Disk(_)
                    | Effect::Send { .. }
                    | Effect::Reply { .. }
                    | Effect::Report(_)
                    | Effect::Halt(_) => &[],
                };
                let continuation =
                    observer.effect(now, &effect, bytes, self.last_message_number + 1);
                if self.ends_run(Some(continuation)) {
                    break;
                }
            }
            match effect {
                Effect::Send { to, message } => self.send(to, message),
                Effect::Disk(op) => self.queue_disk_op(op, buffer),
                Effect::Reply { id, response } => self.reply(id, response),
                Effect::Report(event) => report(self.settings.node, &event),
                Effect::Halt(reason) => {
                    let detail = std::mem::take(&mut self.detail);
                    self.end(Ending::Halted { reason, detail });
                }
            }
        }
        outbox.clear();
        self.outbox = outbox;
    }

    fn send(&mut self, to: NodeId, message: N::Message) {
        self.last_message_number += 1;
        let number = self.last_message_number;
        // A link's queue takes messages before there is a connection, and before the listener runs.
        if self.settings.peers.contains_key(&to) {
            self.links.entry(to).or_default().put(&PeerPacket::Message { number, message });
        }
    }

    fn reply(&mut self, id: RequestId, response: N::Response) {
        // The client may have disconnected; it then repeats the request under the same request id.
        if let Some(queue) = self.pending_requests.remove(&id)
            && !queue.put(&ClientReply::Answer { id, response })
        {
            queue.close();
        }
    }

    fn queue_disk_op(&mut self, op: DiskOp, buffer: &[u8]) {
        match op {
            DiskOp::Append { file, bytes, .. } => {
                self.disk.bytes += bytes.len() as u64;
                return self.batch.append(file, bytes.of(buffer));
            }
            DiskOp::SyncDir { .. } => self.disk.directory_syncs += 1,
            DiskOp::Truncate { .. }
            | DiskOp::Rename { .. }
            | DiskOp::Remove { .. }
            | DiskOp::Sync { .. } => {}
        }
        self.batch.jobs.push(Job::of(&op, 0..0));
    }

    pub(super) fn status(&self) -> Status<N::View> {
        let links = self.links.iter().map(|(peer, link)| {
            let (queued_bytes, dropped) = link.load();
            LinkStatus { peer: *peer, connected: link.is_connected(), queued_bytes, dropped }
        });
        let now = self.clock.now();
        Status {
            node: self.settings.node,
            cluster: self.settings.cluster.clone(),
            up: now.since(Time(0)),
            memory_bytes: memory_bytes(),
            closing: self.closing.is_some(),
            pending_requests: self.pending_requests.len() as u64,
            disk: DiskStatus { files: files_in(&self.settings.data), ..self.disk.clone() },
            links: links.collect(),
            view: self.node.view(now),
        }
    }
}

fn report<E: Label>(node: NodeId, event: &E) {
    let mut detail = String::new();
    if event.detail(&mut detail).is_ok() {
        tracing::info!(%node, event = %event.about(), "{detail}");
    }
}

/// Resident memory of this process in bytes, from Linux's `/proc`; 0 where that cannot be read.
fn memory_bytes() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").ok();
    let resident = pages.as_deref().and_then(|text| text.split(' ').nth(1)?.parse::<u64>().ok());
    resident.unwrap_or(0) * rustix::param::page_size() as u64
}

fn files_in(data: &Path) -> Vec<FileStatus> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(data).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if file_id_of(&name).is_some()
            && let Ok(metadata) = entry.metadata()
        {
            files.push(FileStatus { name, bytes: metadata.len() });
        }
    }
    files.sort_by(|a, b| a.name.cmp(&b.name));
    files
}
