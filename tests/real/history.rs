//! Starts of the program on directories whose files are not all there.

use std::fs;
use std::path::{Path, PathBuf};

use super::program::{Node, TestDir, ports, run, stderr_text, stdout_text};

/// The only node of a cluster, and its directory.
struct OneNode {
    dir: TestDir,
    args: Vec<String>,
    at: String,
}

impl OneNode {
    fn new(name: &str) -> OneNode {
        let dir = TestDir::new(name);
        let at = format!("127.0.0.1:{}", ports(1));
        let peer = format!("0={at}");
        let args = ["--log", "off", "--id", "0", "--peer", &peer, "--data", &dir.join("n0")];
        let args = args.map(ToOwned::to_owned).to_vec();
        OneNode { dir, args, at }
    }

    fn data(&self) -> PathBuf {
        self.dir.0.join("n0")
    }

    fn start(&self) -> Node {
        let args: Vec<&str> = self.args.iter().map(String::as_str).collect();
        Node::serve(&args, &self.dir.0.join("log"))
    }

    /// The only line of a start that is refused.
    fn refusal(&self) -> String {
        let args: Vec<&str> =
            std::iter::once("serve").chain(self.args.iter().map(String::as_str)).collect();
        let refused = run(&args);
        let text = stderr_text(&refused);
        assert_eq!(refused.status.code(), Some(1), "{text}");
        assert_eq!(text.lines().count(), 1, "{text}");
        text
    }

    fn put(&self, operation: &str) {
        let put = run(&["tx", "--at", &self.at, operation]);
        assert_eq!(put.status.code(), Some(0), "{}{}", stdout_text(&put), stderr_text(&put));
    }

    fn get(&self, key: &str) -> String {
        stdout_text(&run(&["get", "--at", &self.at, key]))
    }
}

/// The logs and snapshots of a node.
fn node_files(data: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(data).expect("a directory").flatten();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    files.retain(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("wal.") || name.starts_with("snapshot.")
    });
    files.sort();
    files
}

/// A cut at the end of the last group of records looks like a torn tail, so the log itself does not
/// show it.
#[test]
fn files_cut_short_after_a_clean_stop_are_refused() {
    let one = OneNode::new("cut");
    let mut node = one.start();
    one.put("put a=1 @0");
    assert_eq!(node.terminate(), Some(0));
    for file in node_files(&one.data()) {
        let bytes = fs::read(&file).expect("it can be read");
        for len in [0, bytes.len() / 3, bytes.len() - 1] {
            fs::write(&file, &bytes[..len]).expect("it can be written");
            let text = one.refusal();
            let expected = format!("has {len} bytes, but had {} when", bytes.len());
            assert!(text.contains(&expected), "{text}");
        }
        fs::remove_file(&file).expect("it exists");
        assert!(one.refusal().contains("has 0 bytes, but had "), "a file is gone");
        fs::write(&file, &bytes).expect("it can be written");
    }
    let mut node = one.start();
    assert_eq!(one.get("a@0"), "a @0 = 1\n");
    assert_eq!(node.terminate(), Some(0));
}

/// After a kill nothing is known of the length, but that there must be a log.
#[test]
fn node_that_has_served_does_not_start_without_its_log() {
    let one = OneNode::new("gone");
    let node = one.start();
    one.put("put a=1 @0");
    drop(node);
    for file in node_files(&one.data()) {
        fs::remove_file(&file).expect("it exists");
    }
    let text = one.refusal();
    assert!(text.contains("its log and snapshot are gone"), "{text}");
    assert!(text.contains("docs/log-format.md"), "it says what to do: {text}");
    // On purpose, with the whole directory.
    fs::remove_dir_all(one.data()).expect("it exists");
    let mut node = one.start();
    one.put("put b=1 @0");
    assert_eq!(node.terminate(), Some(0));
}

#[test]
fn removed_lock_file_lets_no_second_process_in() {
    let one = OneNode::new("lock");
    let node = one.start();
    one.put("put a=1 @0");
    fs::remove_file(one.data().join("lock")).expect("it exists");
    let text = one.refusal();
    assert!(text.contains("is in use by another process"), "{text}");
    drop(node);
}
