//! The shutdown of a node, and the end of one that has lost a task.

use std::fs::rename;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat, open};
use tokio::time::Instant;

use super::super::packet::Caller;
use super::super::{Ending, FileStatus, Settings, StartError, file_name_of, start};
use super::{
    AppendNode, FILE, TIMEOUT, TestNodeDir, answer, greet, peer_with_messages, reply_to,
    send_request, status_of, waiting_client,
};
use crate::id::Micros;

/// 1. A request is in progress when the node is stopped: it waits for a message of a peer.
/// 2. The peer sends messages that would begin new work, again and again. They would keep the node
///    from ever being idle.
/// 3. Only the message that ends the work in progress is handled.
#[test]
fn node_shutting_down_starts_no_new_work_and_finishes_pending_requests() {
    let directory = TestNodeDir::new("closing");
    directory.block_on(async |settings| {
        let mut node = start::<AppendNode>(settings, &(), None).await.expect("it starts");
        let mut client = waiting_client(node.address).await;
        node.stop();

        let _peer = peer_with_messages(node.address, &["begin", "begin", "now"]).await;
        assert_eq!(reply_to(&mut client).await, answer(1, "now"));
        assert!(matches!(node.ended().await, Ending::Stopped { idle: true }));
    });
}

/// A node without its listener receives nothing and would run forever.
#[test]
fn panic_in_a_network_task_stops_the_node() {
    let directory = TestNodeDir::new("task-panic");
    directory.block_on(async |settings| {
        let mut node = start::<AppendNode>(settings, &(), None).await.expect("it starts");
        let (mut client, _) = greet(node.address, Caller::Client).await;
        send_request(&mut client, 1, "undecodable").await;
        let ending = tokio::time::timeout(TIMEOUT, node.ended()).await.expect("it ends");
        let Ending::EngineFailed { what } = ending else { panic!("{ending:?}") };
        assert!(what.contains("network task") && what.contains("panicked"), "{what}");
    });
}

/// A disk that hangs: in the place of the log there is a FIFO, which can be opened for writing only
/// once it has a reader.
struct HangingDisk(PathBuf);

impl HangingDisk {
    /// The log must not exist yet.
    fn new(data: &Path) -> HangingDisk {
        let fifo = data.join(file_name_of(FILE));
        mknodat(CWD, &fifo, FileType::Fifo, Mode::RWXU, 0).expect("a FIFO");
        HangingDisk(fifo)
    }
}

impl Drop for HangingDisk {
    /// The disk thread goes on, and fails.
    fn drop(&mut self) {
        open(&self.0, OFlags::RDONLY | OFlags::NONBLOCK, Mode::empty()).expect("a reader");
    }
}

/// A disk that hangs while the node is idle would hang on a list of the files as well. Here the
/// directory has another name: whatever is asked of it finds nothing.
#[test]
fn status_lists_the_files_without_asking_the_disk() {
    let directory = TestNodeDir::new("listed");
    directory.block_on(async |settings| {
        let mut node = start::<AppendNode>(settings.clone(), &(), None).await.expect("it starts");
        let (mut client, _) = greet(node.address, Caller::Client).await;
        send_request(&mut client, 1, "x").await;
        assert_eq!(reply_to(&mut client).await, answer(1, "x"));
        let elsewhere = settings.data.with_extension("elsewhere");
        rename(&settings.data, &elsewhere).expect("a new name");
        let files = status_of(&mut client).await.disk.files;
        rename(&elsewhere, &settings.data).expect("its name");
        assert_eq!(files, [FileStatus { name: "wal.0".to_owned(), bytes: 1 }]);
        node.stop();
        node.ended().await;
    });
}

/// 1. The disk hangs. When its thread has as many batches as it takes, requests wait.
/// 2. The status is still answered, and says for how long the disk has been silent. The node is
///    stopped.
/// 3. It ends after its patience and a second at most. No clean stop is noted, and the directory
///    stays locked while the thread may write.
#[test]
fn node_whose_disk_hangs_answers_the_status_and_can_be_stopped() {
    let directory = TestNodeDir::new("hanging");
    directory.block_on(async |settings| {
        let settings = Settings { shutdown_timeout: Duration::from_millis(300), ..settings };
        let mut node = start::<AppendNode>(settings.clone(), &(), None).await.expect("it starts");
        node.ready().await;
        let hung = Instant::now();
        let disk = HangingDisk::new(&settings.data);
        let (mut client, _) = greet(node.address, Caller::Client).await;
        assert_eq!(status_of(&mut client).await.disk.silent, Micros(0));
        send_request(&mut client, 1, "x").await;
        status_of(&mut client).await;
        let requested = Instant::now();
        for serial in 2..=200 {
            send_request(&mut client, serial, "x").await;
            status_of(&mut client).await;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
        let at_least = requested.elapsed();
        let status = status_of(&mut client).await;
        // One in the thread, 64 in its queue, and one turn of the driver, with up to 64 requests.
        assert!((65..=129).contains(&status.pending_requests), "{}", status.pending_requests);
        let silent = Duration::from_micros(status.disk.silent.0);
        assert!((at_least..hung.elapsed()).contains(&silent), "{silent:?} of {at_least:?}");

        let begun = Instant::now();
        node.stop();
        assert!(status_of(&mut client).await.closing);
        let ending = tokio::time::timeout(TIMEOUT, node.ended()).await.expect("it ends");
        assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
        let Ending::DiskHung { operation } = ending else { panic!("{ending:?}") };
        assert!(operation.starts_with("writing wal.0 for "), "{operation}");
        let identity = std::fs::read_to_string(settings.data.join("identity.json"));
        assert!(!identity.expect("its identity").contains("stopped"));
        let again = start::<AppendNode>(settings, &(), None).await.map(|_| ());
        assert!(matches!(again, Err(StartError::Directory(_))), "{again:?}");
        drop(disk);
    });
}
