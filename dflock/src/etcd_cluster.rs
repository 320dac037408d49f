//! An etcd cluster on loopback for tests: each member is a process with a free port and a temporary
//! data directory.
//!
//! `ETCD` names the binary, else `etcd` on the path. Without it the tests are skipped; where `CI`
//! is set that is a failure.
//!
//! `tests/lib.rs` includes this file for the tests of the other packages.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Condvar, Mutex, OnceLock};
use std::time::{Duration, Instant};
use std::{env, fs, process, thread};

use crate::skipped::skip;

/// The time in which a cluster must elect a leader.
const START_TIMEOUT: Duration = Duration::from_secs(30);

/// The number of attempts. Another process may take a free port first.
const START_ATTEMPTS: usize = 5;

/// Runs the program with its arguments, and ends it when the standard input ends, so that no member
/// outlives the tests, however they end. The first line of the output is the process id.
///
/// The folder of the cluster is removed as well, unless a line was written before: a cluster in a
/// static is never dropped, and its write-ahead logs have 64 MB each.
const SUPERVISE: &str = r#""$@" </dev/null >/dev/null 2>"$LOG" & echo $!; read keep || remove=1
    kill -9 $! 2>/dev/null; wait $! 2>/dev/null; [ -z "$remove" ] || rm -rf "$FOLDER""#;

/// A cluster. Dropping it kills its members and removes their data.
#[derive(Debug)]
pub struct EtcdCluster {
    folder: PathBuf,
    members: Vec<Member>,
    turn: Option<Turn>,
}

/// Options of a cluster.
#[derive(Clone, Debug, Default)]
pub struct ClusterOptions {
    /// Further arguments of every member.
    pub arguments: Vec<String>,
    /// The scheme of the client URLs; `http` if it is empty.
    pub scheme: String,
    /// The address at which each member listens for the others, and the one that it advertises to
    /// them. Free ports if it is empty.
    pub peers: Vec<(SocketAddr, SocketAddr)>,
}

#[derive(Debug)]
struct Member {
    name: String,
    client: SocketAddr,
    /// Serves `/metrics` without TLS.
    metrics: SocketAddr,
    arguments: Vec<String>,
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    supervisor: Child,
    /// Its end ends the member.
    stdin: ChildStdin,
    pid: u32,
}

impl EtcdCluster {
    /// Starts three members, or reports the test of this thread as skipped.
    pub fn start() -> Option<Self> {
        Self::start_with(3, &ClusterOptions::default())
    }

    /// Starts `size` members with `options`, or reports the test of this thread as skipped.
    pub fn start_with(size: usize, options: &ClusterOptions) -> Option<Self> {
        let binary = binary()?;
        for _ in 1..START_ATTEMPTS {
            if let Ok(cluster) = Self::try_start(binary, size, options) {
                return Some(cluster);
            }
        }
        Some(Self::try_start(binary, size, options).expect("the cluster has a leader"))
    }

    fn try_start(binary: &Path, size: usize, options: &ClusterOptions) -> Result<Self, String> {
        static CLUSTERS: AtomicU32 = AtomicU32::new(0);
        let number = CLUSTERS.fetch_add(1, Ordering::Relaxed);
        let folder = env::temp_dir().join(format!("dflock-etcd-{}-{number}", process::id()));
        fs::create_dir_all(&folder).map_err(|error| error.to_string())?;
        let scheme = if options.scheme.is_empty() {
            "http"
        } else {
            &options.scheme
        };
        // All ports are taken at once, so that they differ.
        let listeners: Vec<_> = (0..3 * size)
            .map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap())
            .collect();
        let ports: Vec<_> = listeners.iter().map(|l| l.local_addr().unwrap()).collect();
        drop(listeners);
        let peer = |i| {
            let free = ports[size + i];
            options.peers.get(i).copied().unwrap_or((free, free))
        };
        let peers: Vec<_> = (0..size)
            .map(|i| format!("m{i}=http://{}", peer(i).1))
            .collect();
        let members = (0..size).map(|i| {
            let (name, client) = (format!("m{i}"), ports[i]);
            let ((peer, advertised), metrics) = (peer(i), ports[2 * size + i]);
            let data = folder.join(&name);
            let arguments = [
                ("--name", name.clone()),
                ("--data-dir", data.to_string_lossy().into_owned()),
                ("--listen-client-urls", format!("{scheme}://{client}")),
                ("--advertise-client-urls", format!("{scheme}://{client}")),
                ("--listen-metrics-urls", format!("http://{metrics}")),
                ("--listen-peer-urls", format!("http://{peer}")),
                (
                    "--initial-advertise-peer-urls",
                    format!("http://{advertised}"),
                ),
                ("--initial-cluster", peers.join(",")),
                (
                    "--initial-cluster-token",
                    format!("dflock-{}-{number}", process::id()),
                ),
                ("--logger", "zap".to_owned()),
            ];
            let arguments = arguments
                .into_iter()
                .flat_map(|(flag, value)| [flag.to_owned(), value]);
            Member {
                name,
                client,
                metrics,
                arguments: arguments.chain(options.arguments.clone()).collect(),
                running: None,
            }
        });
        let mut cluster = Self {
            members: members.collect(),
            folder,
            turn: None,
        };
        for member in 0..size {
            cluster.run(binary, member);
        }
        cluster.wait_for_leader()?;
        Ok(cluster)
    }

    /// Returns the client addresses, each `host:port`.
    pub fn addresses(&self) -> Vec<String> {
        self.members
            .iter()
            .map(|member| member.client.to_string())
            .collect()
    }

    /// Sends a request to the JSON gateway of a member, and returns the response.
    pub fn post(&self, member: usize, path: &str, body: &str) -> String {
        http(self.members[member].client, &format!("POST {path}"), body).unwrap()
    }

    /// Sends SIGKILL to a member, and returns when it has ended.
    pub fn kill(&mut self, member: usize) {
        if let Some(mut running) = self.members[member].running.take() {
            signal("KILL", running.pid);
            // The member may be started again with its data.
            _ = writeln!(running.stdin);
            drop(running.stdin);
            running.supervisor.wait().unwrap();
        }
    }

    /// Sends SIGTERM to a member, and returns when it has ended. A leader passes its leadership on
    /// before it ends.
    pub fn terminate(&mut self, member: usize) {
        signal("TERM", self.pid(member));
        let end = Instant::now() + START_TIMEOUT;
        while Instant::now() < end && TcpStream::connect(self.members[member].client).is_ok() {
            thread::sleep(Duration::from_millis(5));
        }
        self.kill(member);
    }

    /// Starts a member again with its data.
    pub fn restart(&mut self, member: usize) {
        let binary = binary().unwrap();
        self.run(binary, member);
    }

    /// Sends SIGSTOP to a member.
    pub fn stop(&self, member: usize) {
        signal("STOP", self.pid(member));
    }

    /// Sends SIGCONT to a member.
    pub fn resume(&self, member: usize) {
        signal("CONT", self.pid(member));
    }

    /// Returns the process id of a member.
    pub fn pid(&self, member: usize) -> u32 {
        self.members[member].running.as_ref().unwrap().pid
    }

    /// Returns the metrics of a member, in the format of Prometheus.
    pub fn metrics(&self, member: usize) -> String {
        http(self.members[member].metrics, "GET /metrics", "").unwrap_or_default()
    }

    /// Returns the number of leaders that a member has seen; `None` if it does not answer.
    pub fn leaders_seen(&self, member: usize) -> Option<u64> {
        let metrics = self.metrics(member);
        let line = |line: &str| {
            let count = line.strip_prefix("etcd_server_leader_changes_seen_total ")?;
            count.parse().ok()
        };
        metrics.lines().find_map(line)
    }

    /// Waits until a member that was started or resumed follows or is the leader.
    pub fn wait_until_joined(&self, member: usize) -> Result<(), String> {
        let end = Instant::now() + START_TIMEOUT;
        while !self.metrics(member).contains("\netcd_server_has_leader 1") {
            if Instant::now() > end {
                return Err(format!("member {member} has not joined: {}", self.logs()));
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Returns the member that leads, if one says so.
    pub fn leader(&self) -> Option<usize> {
        (0..self.members.len()).find(|&member| self.leads(member))
    }

    /// Waits until a member leads.
    pub fn wait_for_leader(&self) -> Result<usize, String> {
        let end = Instant::now() + START_TIMEOUT;
        loop {
            if let Some(leader) = self.leader() {
                return Ok(leader);
            }
            if Instant::now() > end {
                return Err(format!(
                    "no leader within {START_TIMEOUT:?}: {}",
                    self.logs()
                ));
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Returns a member that does not lead.
    pub fn follower(&self) -> usize {
        let leader = self.wait_for_leader().unwrap();
        (leader + 1) % self.members.len()
    }

    /// Waits until a member knows no leader.
    pub fn wait_for_no_leader(&self, member: usize) {
        let end = Instant::now() + START_TIMEOUT;
        while !self.has_metric(member, "etcd_server_has_leader 0") {
            assert!(Instant::now() < end, "member {member} has a leader");
            thread::sleep(Duration::from_millis(20));
        }
    }

    fn leads(&self, member: usize) -> bool {
        self.has_metric(member, "etcd_server_is_leader 1")
    }

    fn has_metric(&self, member: usize, line: &str) -> bool {
        let member = &self.members[member];
        let has_line = |metrics: String| metrics.lines().any(|metric| metric == line);
        member.running.is_some() && http(member.metrics, "GET /metrics", "").is_ok_and(has_line)
    }

    fn logs(&self) -> String {
        let log = |member: &Member| fs::read_to_string(self.log(&member.name)).unwrap_or_default();
        self.members.iter().map(log).collect()
    }

    fn log(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.log"))
    }

    fn run(&mut self, binary: &Path, member: usize) {
        let log = self.log(&self.members[member].name);
        let member = &mut self.members[member];
        let mut supervisor = Command::new("sh")
            .args(["-c", SUPERVISE, "sh"])
            .arg(binary)
            .args(&member.arguments)
            .env("LOG", log)
            .env("FOLDER", &self.folder)
            .env_remove("ETCD_UNSUPPORTED_ARCH")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdin = supervisor.stdin.take().unwrap();
        let mut line = String::new();
        let stdout = supervisor.stdout.take().unwrap();
        BufReader::new(stdout).read_line(&mut line).unwrap();
        member.running = Some(Running {
            supervisor,
            stdin,
            pid: line.trim().parse().unwrap(),
        });
    }
}

impl Drop for EtcdCluster {
    fn drop(&mut self) {
        for member in 0..self.members.len() {
            self.kill(member);
        }
        self.turn.take();
        _ = fs::remove_dir_all(&self.folder);
    }
}

/// Returns a cluster shared by all tests that stop no member. Its members end with the test
/// program.
pub fn shared_cluster() -> Option<&'static EtcdCluster> {
    static CLUSTER: OnceLock<Option<EtcdCluster>> = OnceLock::new();
    binary()?;
    CLUSTER.get_or_init(EtcdCluster::start).as_ref()
}

/// Returns a separate cluster for a test that harms members. Such tests run one at a time, because
/// three more processes each would slow the machine down.
pub fn own_cluster() -> Option<EtcdCluster> {
    binary()?;
    let turn = Turn::take();
    let mut cluster = EtcdCluster::start()?;
    cluster.turn = Some(turn);
    Some(cluster)
}

/// The right to run one more cluster, until it is dropped. No mutex: its guard would be held across
/// the `await` of a test.
#[derive(Debug)]
struct Turn;

static IS_TAKEN: Mutex<bool> = Mutex::new(false);
static RETURNED: Condvar = Condvar::new();

impl Turn {
    fn take() -> Self {
        let is_taken = IS_TAKEN.lock().unwrap();
        *RETURNED.wait_while(is_taken, |is_taken| *is_taken).unwrap() = true;
        Self
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        *IS_TAKEN.lock().unwrap() = false;
        RETURNED.notify_one();
    }
}

/// Returns the binary, or reports the test of this thread as skipped.
fn binary() -> Option<&'static Path> {
    static BINARY: OnceLock<Option<PathBuf>> = OnceLock::new();
    let binary = BINARY.get_or_init(|| {
        let named = env::var_os("ETCD").map(PathBuf::from);
        let path = env::var_os("PATH").unwrap_or_default();
        let on_path = || env::split_paths(&path).map(|folder| folder.join("etcd"));
        named.or_else(|| on_path().find(|path| path.is_file()))
    });
    if binary.is_none() {
        assert!(
            env::var_os("CI").is_none(),
            "there is no etcd: set `ETCD`, or install it"
        );
        skip("there is no etcd: set `ETCD` to its binary, or install it");
    }
    binary.as_deref()
}

fn signal(name: &str, pid: u32) {
    let sent = Command::new("sh")
        .args(["-c", &format!("kill -{name} {pid}")])
        .status();
    assert!(sent.unwrap().success(), "SIG{name} to {pid}");
}

/// Returns the response of a member to an HTTP request.
fn http(address: SocketAddr, request: &str, body: &str) -> std::io::Result<String> {
    let limit = Duration::from_secs(2);
    let mut stream = TcpStream::connect_timeout(&address, limit)?;
    stream.set_read_timeout(Some(limit))?;
    let length = body.len();
    write!(
        stream,
        "{request} HTTP/1.0\r\nContent-Length: {length}\r\n\r\n{body}"
    )?;
    let mut response = String::new();
    stream.read_to_string(&mut response)?;
    Ok(response)
}
