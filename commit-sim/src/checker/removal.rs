//! W8: a log or a snapshot is removed only once a later snapshot replaces it.

use stormglass_node::{FileId, NodeId, ReadDisk};

use crate::property::Property;
use stormglass_sim::disk::Disk;
use stormglass_sim::property::Violation;

/// W8: a log or a snapshot is removed only if a later snapshot is durable, contents and name. The
/// removal of a nonexistent file is allowed.
pub(super) fn check(node: NodeId, file: FileId, disk: &Disk) -> Result<(), Violation> {
    if disk.len(file).is_none() {
        return Ok(());
    }
    let snapshots = disk.files().into_iter().filter(|file| matches!(file, FileId::Snapshot(_)));
    let (FileId::Wal(_) | FileId::Snapshot(_), Some(newest)) = (file, snapshots.max()) else {
        return Ok(());
    };
    if file_number(file) >= file_number(newest) {
        let explanation = format!("{node} removes {file}, which is not older than {newest}");
        return Err(Property::OnlyFilesBeforeTheSnapshotAreRemoved.violated(explanation));
    }
    // Its whole length: half of a snapshot replaces nothing.
    if disk.is_durable(newest, disk.len(newest).unwrap_or(0)) {
        return Ok(());
    }
    let explanation = format!("{node} removes {file} before {newest} is durable");
    Err(Property::SnapshotIsDurableBeforeRemoval.violated(explanation))
}

fn file_number(file: FileId) -> Option<u32> {
    match file {
        FileId::Wal(file_number) | FileId::Snapshot(file_number) => Some(file_number),
        FileId::Scratch => None,
    }
}
