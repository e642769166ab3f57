//! Runs the program.

#![allow(clippy::disallowed_methods, reason = "real processes take real time")]

use std::ffi::OsStr;
use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::thread::sleep;
use std::time::Duration;

pub(super) const PROGRAM: &str = env!("CARGO_BIN_EXE_stormglass");

/// Runs the program to its end.
pub(super) fn run(args: &[impl AsRef<OsStr>]) -> Output {
    Command::new(PROGRAM).args(args).stdin(Stdio::null()).output().expect("the program can be run")
}

/// Its standard output.
pub(super) fn stdout_text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Its standard error.
pub(super) fn stderr_text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A directory for one test.
pub(super) struct TestDir(pub(super) PathBuf);

impl TestDir {
    pub(super) fn new(name: &str) -> TestDir {
        let path =
            std::env::temp_dir().join(format!("stormglass-test-{name}-{}", std::process::id()));
        // A process with the same id may have left it, if it was killed.
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).expect("a temporary directory");
        TestDir(path)
    }

    pub(super) fn join(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }
}

impl Drop for TestDir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The first of several consecutive unused ports.
pub(super) fn ports(count: u16) -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Test binaries run at the same time, and each starts to search elsewhere.
    let begin = u16::try_from(std::process::id() % 200).expect("small") * 20;
    loop {
        // Above the ports of `cargo tools`, and below those of outgoing connections.
        let from = 27_000 + (begin + NEXT.fetch_add(count, Ordering::Relaxed)) % 5_000;
        if (from..from + count).all(|port| TcpListener::bind(("127.0.0.1", port)).is_ok()) {
            return from;
        }
    }
}

/// A node that is killed at the end of the test.
pub(super) struct Node(Child);

impl Node {
    pub(super) fn serve(args: &[impl AsRef<OsStr>], log: &Path) -> Node {
        Node::serve_with(args, fs::File::create(log).expect("a log"))
    }

    pub(super) fn serve_with(args: &[impl AsRef<OsStr>], stderr: impl Into<Stdio>) -> Node {
        let mut serve = Command::new(PROGRAM);
        serve.arg("serve").args(args).stdin(Stdio::null()).stderr(stderr);
        Node(serve.spawn().expect("the program can be run"))
    }

    /// A node whose process may open this many files at most.
    pub(super) fn serve_with_descriptors(
        limit: u32,
        args: &[impl AsRef<OsStr>],
        log: &Path,
    ) -> Node {
        let mut serve = Command::new("sh");
        serve.arg("-c").arg(format!("ulimit -n {limit}; exec \"$0\" serve \"$@\""));
        serve.arg(PROGRAM).args(args).stdin(Stdio::null());
        serve.stderr(fs::File::create(log).expect("a log"));
        Node(serve.spawn().expect("the shell can be run"))
    }

    /// Sends SIGTERM; returns the exit code.
    pub(super) fn terminate(&mut self) -> Option<i32> {
        let pid = self.0.id().to_string();
        // The standard library sends no signal but SIGKILL.
        let sent = Command::new("kill").args(["-TERM", &pid]).status().expect("kill can be run");
        assert!(sent.success());
        self.wait_for_exit_code()
    }

    /// The greatest resident memory that its process has had, in KiB.
    pub(super) fn peak_memory_kib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0.id()));
        let status = status.expect("Linux, and the process runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB")).expect("a number of kB");
        kib.parse().expect("a number")
    }

    pub(super) fn wait_for_exit_code(&mut self) -> Option<i32> {
        self.0.wait().expect("it is our child").code()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The only node of a cluster, n0, and its directory.
pub(super) struct OneNode {
    dir: TestDir,
    pub(super) at: String,
}

impl OneNode {
    pub(super) fn new(name: &str) -> OneNode {
        OneNode { dir: TestDir::new(name), at: format!("127.0.0.1:{}", ports(1)) }
    }

    pub(super) fn data(&self) -> PathBuf {
        self.dir.0.join("n0")
    }

    /// The arguments of `serve`, and these.
    pub(super) fn args(&self, more: &[&str]) -> Vec<String> {
        let peer = format!("0={}", self.at);
        let args = ["--id", "0", "--peer", &peer, "--data", &self.dir.join("n0")];
        args.iter().chain(more).map(|arg| (*arg).to_owned()).collect()
    }

    pub(super) fn start(&self) -> Node {
        self.start_with(&[])
    }

    pub(super) fn start_with(&self, more: &[&str]) -> Node {
        Node::serve(&self.args(more), &self.log_file())
    }

    pub(super) fn log_file(&self) -> PathBuf {
        self.dir.0.join("log")
    }

    /// What the node has logged since its last start.
    pub(super) fn log(&self) -> String {
        fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    pub(super) fn commit(&self, operation: &str) {
        let put = run(&["tx", "--at", &self.at, operation]);
        let text = format!("{}{}{}", stdout_text(&put), stderr_text(&put), self.log());
        assert_eq!(put.status.code(), Some(0), "{text}");
    }

    pub(super) fn get(&self, key: &str) -> String {
        stdout_text(&run(&["get", "--at", &self.at, key]))
    }

    /// The output of `status`.
    pub(super) fn status(&self) -> String {
        let status = run(&["status", "--at", &self.at]);
        assert_eq!(status.status.code(), Some(0), "{}{}", stderr_text(&status), self.log());
        stdout_text(&status)
    }
}

/// Waits until the file contains the text.
pub(super) fn wait_for_text(file: &Path, expected: &str) {
    wait_for_any_text(file, &[expected]);
}

/// Waits until the file contains one of these texts; returns its contents.
pub(super) fn wait_for_any_text(file: &Path, expected: &[&str]) -> String {
    for _ in 0..3_000 {
        let text = fs::read_to_string(file).unwrap_or_default();
        if expected.iter().any(|expected| text.contains(expected)) {
            return text;
        }
        sleep(Duration::from_millis(10));
    }
    panic!("none of {expected:?} in {}", fs::read_to_string(file).unwrap_or_default());
}
