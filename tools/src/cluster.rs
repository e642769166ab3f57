//! A cluster of real processes on this machine, for `bench` and `campaign`.

use std::fs::{self, OpenOptions};
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::time::Duration;

use stormglass::client::{Client, ClientOptions};
use stormglass::commit::view::View;
use stormglass_node::runtime::Status;

use crate::CliError;

/// Nodes, each a process of this program. They end with this process, however it ends.
#[derive(Debug)]
pub(super) struct Cluster {
    program: PathBuf,
    /// The cluster's name. No two clusters on one machine share one, so that a reused port does no
    /// harm.
    pub(super) name: String,
    directory: PathBuf,
    from_port: u16,
    nodes: Vec<Option<Process>>,
    flags: Vec<String>,
}

#[derive(Debug)]
struct Process {
    child: Child,
    // Held, not written to: it closes with this process, and the node ends then. Not in the child,
    // whose `wait` would close it too early.
    _tether: ChildStdin,
}

impl Cluster {
    /// A cluster of `count` nodes with their data in `directory`; none is started.
    pub(super) fn new(
        program: PathBuf,
        count: u16,
        directory: &Path,
        flags: &[&str],
    ) -> Result<Cluster, CliError> {
        fs::create_dir_all(directory)
            .map_err(|error| format!("cannot create {}: {error}", directory.display()))?;
        Ok(Cluster {
            program,
            name: format!("local-{}", std::process::id()),
            directory: directory.to_path_buf(),
            from_port: free_ports(count)?,
            nodes: (0..count).map(|_| None).collect(),
            flags: flags.iter().map(|flag| (*flag).to_owned()).collect(),
        })
    }

    pub(super) fn address(&self, node: usize) -> String {
        format!("127.0.0.1:{}", usize::from(self.from_port) + node)
    }

    pub(super) fn data(&self, node: usize) -> PathBuf {
        self.directory.join(format!("n{node}"))
    }

    /// The standard error of a node, in all its incarnations.
    pub(super) fn log(&self, node: usize) -> PathBuf {
        self.directory.join(format!("n{node}.log"))
    }

    pub(super) fn start(&mut self, node: usize) -> Result<(), CliError> {
        let log = OpenOptions::new().create(true).append(true).open(self.log(node))?;
        let mut command = Command::new(&self.program);
        command.args(["serve", "--cluster", &self.name, "--id", &node.to_string(), "--data"]);
        command.arg(self.data(node));
        for peer in 0..self.nodes.len() {
            command.arg("--peer").arg(format!("{peer}={}", self.address(peer)));
        }
        command.arg("--tethered").args(&self.flags);
        // Ctrl-C at the terminal ends this process alone, which then ends its nodes.
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(log).process_group(0);
        let mut child = command.spawn()?;
        let tether = child.stdin.take().expect("its standard input is a pipe");
        self.nodes[node] = Some(Process { child, _tether: tether });
        Ok(())
    }

    pub(super) fn is_up(&mut self, node: usize) -> bool {
        self.nodes[node]
            .as_mut()
            .is_some_and(|process| matches!(process.child.try_wait(), Ok(None)))
    }

    /// The CPU time that the running nodes have used so far, in steps of a tick, mostly 10 ms.
    /// Linux only.
    pub(super) fn cpu_time(&self) -> Result<Duration, CliError> {
        let mut ticks = 0;
        for process in self.nodes.iter().flatten() {
            let stat = fs::read_to_string(format!("/proc/{}/stat", process.child.id()))?;
            // The name of the program, in parentheses, may contain spaces. After it, the state is
            // field 3; utime and stime are fields 14 and 15 (proc_pid_stat(5)).
            let (_, fields) = stat.rsplit_once(") ").ok_or("no name in /proc/PID/stat")?;
            for field in fields.split(' ').skip(11).take(2) {
                ticks += field.parse::<u64>()?;
            }
        }
        Ok(Duration::from_millis(ticks * 1_000 / rustix::param::clock_ticks_per_second()))
    }

    /// SIGKILL: the process gets no chance to finish anything.
    pub(super) fn kill(&mut self, node: usize) -> Result<(), CliError> {
        if let Some(Process { mut child, .. }) = self.nodes[node].take() {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    /// Sends SIGTERM, and waits for the end.
    pub(super) fn terminate_all(&mut self) -> Result<Vec<ExitStatus>, CliError> {
        // All signals first: the nodes shut down at the same time.
        for Process { child, .. } in self.nodes.iter().flatten() {
            if let Some(pid) =
                i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw)
            {
                rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
            }
        }
        let mut ended = Vec::new();
        for mut process in self.nodes.iter_mut().filter_map(Option::take) {
            ended.push(process.child.wait()?);
        }
        Ok(ended)
    }

    pub(super) async fn client(
        &self,
        node: usize,
        options: ClientOptions,
    ) -> Result<Client, CliError> {
        let options = ClientOptions { cluster: self.name.clone(), ..options };
        Ok(Client::connect(&self.address(node), options).await?)
    }

    /// The status of each node; waits until it is ready.
    pub(super) async fn statuses(&self) -> Result<Vec<Status<View>>, CliError> {
        read_statuses(&mut self.status_clients().await?).await
    }

    /// A client of each node that only queries its status.
    pub(super) async fn status_clients(&self) -> Result<Vec<Client>, CliError> {
        let mut all = Vec::new();
        for node in 0..self.nodes.len() {
            let options = ClientOptions {
                request_timeout: Duration::from_secs(20),
                ..ClientOptions::default()
            };
            all.push(self.client(node, options).await?);
        }
        Ok(all)
    }

    /// The last line that a node has logged, for error messages.
    pub(super) fn last_log_line(&self, node: usize) -> String {
        let log = fs::read_to_string(self.log(node)).unwrap_or_default();
        log.lines().last().unwrap_or("nothing").to_owned()
    }
}

/// The status of the nodes of these clients.
pub(super) async fn read_statuses(
    status_clients: &mut [Client],
) -> Result<Vec<Status<View>>, CliError> {
    let mut all = Vec::new();
    for client in status_clients {
        all.push(client.status().await?);
    }
    Ok(all)
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for Process { child, .. } in self.nodes.iter_mut().flatten() {
            // A process that cannot be killed is left alone.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Ports below those that the system uses for outgoing connections: one of those could take a
/// node's port while the node is down.
fn free_ports(count: u16) -> Result<u16, CliError> {
    // At least as many as a cluster may have nodes.
    const PORTS_PER_CLUSTER: u16 = 64;
    // Processes started together have consecutive ids: each starts to search elsewhere.
    let start = u16::try_from(std::process::id() % 234).expect("less than 234");
    for attempt in 0..234 {
        // 7 and 234 have no common divisor, so that the attempts visit every range once.
        let from = 12_000 + (start + attempt * 7) % 234 * PORTS_PER_CLUSTER;
        if (from..from + count).all(|port| TcpListener::bind(("127.0.0.1", port)).is_ok()) {
            return Ok(from);
        }
    }
    Err(format!("found no {count} free ports in a row between 12000 and 27000").into())
}

/// A directory that is removed when dropped, unless it is kept or was named by the user.
#[derive(Debug)]
pub(super) struct WorkDir {
    pub(super) path: PathBuf,
    temporary: bool,
}

impl WorkDir {
    pub(super) fn new(named: Option<&Path>, what: &str) -> Result<WorkDir, CliError> {
        if let Some(path) = named {
            if path.exists() {
                let mut entries = fs::read_dir(path).map_err(|error| {
                    format!("cannot read directory {}: {error}", path.display())
                })?;
                // A node would continue from the data of another cluster, and the checks would
                // blame the campaign for it.
                if entries.next().is_some() {
                    return Err(
                        format!("{} is not empty; name a new directory", path.display()).into()
                    );
                }
            }
            return Ok(WorkDir { path: path.to_path_buf(), temporary: false });
        }
        let path = std::env::temp_dir().join(format!("stormglass-{what}-{}", std::process::id()));
        if path.exists() {
            // Left behind by a killed process with the same id.
            fs::remove_dir_all(&path)?;
        }
        Ok(WorkDir { path, temporary: true })
    }

    /// Keeps the directory for inspection.
    pub(super) fn keep(&mut self) {
        self.temporary = false;
    }
}

impl Drop for WorkDir {
    fn drop(&mut self) {
        if self.temporary {
            // There is nobody to report it to, and the system clears its temporary files itself.
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

/// Random numbers that need not be good, only fast: splitmix64.
#[derive(Clone, Debug)]
pub(super) struct Rng(u64);

impl Rng {
    pub(super) fn new(seed: u64) -> Rng {
        Rng(seed)
    }

    pub(super) fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        x ^ (x >> 31)
    }

    /// A number below `bound`, which is at least 1.
    pub(super) fn below(&mut self, bound: usize) -> usize {
        // The product's upper half: without the division of a remainder, and nearly without its
        // bias.
        usize::try_from((u128::from(self.next_u64()) * bound as u128) >> 64).expect("below a usize")
    }
}
