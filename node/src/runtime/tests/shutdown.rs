//! The shutdown of a node, and the end of one that has lost a task.

use std::fs::rename;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat, open};
use tokio::time::Instant;

use super::super::packet::{Caller, ClientPacket, ClientReply, PeerPacket};
use super::super::stream::write_value;
use super::super::{Ending, FileStatus, Settings, StartError, Status, file_name_of, start};
use super::listener::{AS_PEER, TestConnection, greet};
use super::{AppendNode, FILE, TIMEOUT, TestNodeDir, Text};
use crate::id::{Micros, RequestId};

/// 1. A request is in progress when the node is stopped: it waits for a message of a peer.
/// 2. The peer sends messages that would begin new work, again and again. They would keep the node
///    from ever being idle.
/// 3. Only the message that ends the work in progress is handled.
#[test]
fn node_shutting_down_starts_no_new_work_and_finishes_pending_requests() {
    let directory = TestNodeDir::new("closing");
    directory.block_on(async |settings| {
        let mut node = start::<AppendNode>(settings, &(), None).await.expect("it starts");
        let ((mut from_node, mut client), _) = greet(node.address, Caller::Client).await;
        let id = RequestId { client: 1, serial: 1, attempt: 0 };
        let wait = ClientPacket::Request { id, request: Text("wait".to_owned()) };
        write_value(&mut client, &wait, TIMEOUT).await.expect("it reads");
        // Answers come in order: then the request is in progress.
        write_value(&mut client, &ClientPacket::<Text>::Status, TIMEOUT).await.expect("it reads");
        let status = from_node.next::<ClientReply<Text>>(TIMEOUT).await.expect("an answer");
        assert!(matches!(status, Some(ClientReply::Status { .. })), "{status:?}");
        node.stop();

        let (mut peer, _) = greet(node.address, AS_PEER).await;
        for (number, text) in (1..).zip(["begin", "begin", "now"]) {
            let packet = PeerPacket::Message { number, message: Text(text.to_owned()) };
            write_value(&mut peer.1, &packet, TIMEOUT).await.expect("it reads");
        }
        let answer = from_node.next::<ClientReply<Text>>(TIMEOUT).await.expect("an answer");
        assert_eq!(answer, Some(ClientReply::Answer { id, response: Text("now".to_owned()) }));
        assert!(matches!(node.ended().await, Ending::Stopped { idle: true }));
    });
}

/// A node without its listener receives nothing and would run forever.
#[test]
fn panic_in_a_network_task_stops_the_node() {
    let directory = TestNodeDir::new("task-panic");
    directory.block_on(async |settings| {
        let mut node = start::<AppendNode>(settings, &(), None).await.expect("it starts");
        let ((_, mut client), _) = greet(node.address, Caller::Client).await;
        let id = RequestId { client: 1, serial: 1, attempt: 0 };
        let packet = ClientPacket::Request { id, request: Text("undecodable".to_owned()) };
        write_value(&mut client, &packet, TIMEOUT).await.expect("it reads");
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

async fn request(client: &mut TestConnection, serial: u32) {
    let id = RequestId { client: 1, serial, attempt: 0 };
    let packet = ClientPacket::Request { id, request: Text("x".to_owned()) };
    write_value(&mut client.1, &packet, TIMEOUT).await.expect("it reads");
}

async fn status_of(client: &mut TestConnection) -> Status<usize> {
    write_value(&mut client.1, &ClientPacket::<Text>::Status, TIMEOUT).await.expect("it reads");
    let status = client.0.next::<ClientReply<Text>>(TIMEOUT).await.expect("an answer");
    let Some(ClientReply::Status { json }) = status else { panic!("{status:?}") };
    serde_json::from_str(&json).expect("a status")
}

/// A disk that hangs while the node is idle would hang on a list of the files as well. Here the
/// directory has another name: whatever is asked of it finds nothing.
#[test]
fn status_lists_the_files_without_asking_the_disk() {
    let directory = TestNodeDir::new("listed");
    directory.block_on(async |settings| {
        let mut node = start::<AppendNode>(settings.clone(), &(), None).await.expect("it starts");
        let (mut client, _) = greet(node.address, Caller::Client).await;
        request(&mut client, 1).await;
        let answer = client.0.next::<ClientReply<Text>>(TIMEOUT).await.expect("an answer");
        assert!(matches!(answer, Some(ClientReply::Answer { .. })), "{answer:?}");
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
        request(&mut client, 1).await;
        status_of(&mut client).await;
        let requested = Instant::now();
        for serial in 2..=200 {
            request(&mut client, serial).await;
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
