//! The systemd units and Kubernetes manifests in `examples/deploy`.

mod etcd;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use k8s_openapi::api::batch::v1::CronJob;
use k8s_openapi::api::core::v1::{Container, EnvVar};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::process::Command;

use crate::process::{Process, dflock, output_of, status, text};

const KEY: &str = "nightly-report";

/// The sections of a unit and the keys that may occur in them.
const UNIT_KEYS: [(&str, &[&str]); 4] = [
    (
        "Unit",
        &[
            "After",
            "Description",
            "Documentation",
            "StartLimitBurst",
            "StartLimitIntervalSec",
            "Wants",
        ],
    ),
    (
        "Service",
        &[
            "DynamicUser",
            "Environment",
            "EnvironmentFile",
            "ExecStart",
            "IOSchedulingClass",
            "IOSchedulingPriority",
            "KillMode",
            "LimitNOFILE",
            "LoadCredential",
            "NoNewPrivileges",
            "OOMScoreAdjust",
            "PrivateTmp",
            "ProtectHome",
            "ProtectSystem",
            "Restart",
            "RestartForceExitStatus",
            "RestartSec",
            "RuntimeMaxSec",
            "StateDirectory",
            "StateDirectoryMode",
            "TimeoutStartSec",
            "TimeoutStopSec",
            "Type",
            "User",
        ],
    ),
    ("Timer", &["AccuracySec", "OnCalendar", "Persistent"]),
    ("Install", &["WantedBy"]),
];

/// A command line of `dflock` in a deployment, and its environment.
struct Job {
    file: &'static str,
    args: Vec<String>,
    env: BTreeMap<String, String>,
}

/// A folder that is deleted on drop.
struct TempFolder(PathBuf);

impl TempFolder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("dflock-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    /// Writes a file and returns its path.
    fn write(&self, name: &str, content: &str) -> String {
        let path = self.0.join(name);
        fs::write(&path, content).unwrap();
        path.into_os_string().into_string().unwrap()
    }
}

impl Drop for TempFolder {
    fn drop(&mut self) {
        // A failure leaves only temporary files behind.
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn read(file: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/deploy");
    fs::read_to_string(folder.join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// Parses a systemd unit. Returns its sections with their keys and values in the order of the file.
fn parse_unit(file: &str) -> Vec<(String, Vec<(String, String)>)> {
    let mut sections: Vec<(String, Vec<(String, String)>)> = Vec::new();
    let text = read(file).replace("\\\n", " ");
    for line in text.lines() {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(title) = line.strip_prefix('[') {
            let title = title.strip_suffix(']').expect("a section ends with `]`");
            sections.push((title.to_owned(), Vec::new()));
            continue;
        }
        let (key, value) = line.split_once('=').unwrap_or_else(|| panic!("{line}"));
        let (_, keys) = sections.last_mut().expect("a key is in a section");
        keys.push((key.to_owned(), value.to_owned()));
    }
    sections
}

/// Returns the values of a key of a unit.
fn values(file: &str, section: &str, key: &str) -> Vec<String> {
    parse_unit(file)
        .into_iter()
        .filter(|(title, _)| title == section)
        .flat_map(|(_, keys)| keys)
        .filter(|(name, _)| name == key)
        .map(|(_, value)| value)
        .collect()
}

/// Parses a manifest, and checks that `T` has each of its fields. A field with a wrong name or in a
/// wrong place would be missing when `T` is written again.
fn parse_manifest<T: DeserializeOwned + Serialize>(yaml: &str) -> T {
    let typed: T = serde_saphyr::from_str(yaml).unwrap();
    let given: Value = serde_saphyr::from_str(yaml).unwrap();
    let written = serde_json::to_value(&typed).unwrap();
    assert_eq!(unknown_field(&given, &written), None);
    typed
}

/// Returns the path of a field of `given` that `written` lacks, or has with another value.
fn unknown_field(given: &Value, written: &Value) -> Option<String> {
    match (given, written) {
        (Value::Object(given), Value::Object(written)) => given.iter().find_map(|(name, value)| {
            let written = written.get(name).unwrap_or(&Value::Null);
            unknown_field(value, written).map(|path| format!(".{name}{path}"))
        }),
        (Value::Array(given), Value::Array(written)) if given.len() == written.len() => {
            let pairs = given.iter().zip(written).enumerate();
            pairs.into_iter().find_map(|(index, (given, written))| {
                unknown_field(given, written).map(|path| format!("[{index}]{path}"))
            })
        }
        _ => (given != written).then(String::new),
    }
}

fn cron_job() -> CronJob {
    parse_manifest(&read("cronjob.yaml"))
}

fn job_of_unit() -> Job {
    let file = "nightly-report.service";
    let command = values(file, "Service", "ExecStart").remove(0);
    let mut args = command.split_whitespace().map(str::to_owned);
    assert_eq!(args.next().as_deref(), Some("/usr/local/bin/dflock"));
    let env = values(file, "Service", "Environment").into_iter();
    Job {
        file,
        args: args.collect(),
        env: env
            .map(|pair| {
                let (name, value) = pair.split_once('=').unwrap();
                (name.to_owned(), value.to_owned())
            })
            .collect(),
    }
}

fn job_of_manifest() -> Job {
    let job = cron_job().spec.unwrap().job_template.spec.unwrap();
    let Container { command, env, .. } = job.template.spec.unwrap().containers.remove(0);
    let mut command = command.unwrap();
    assert_eq!(command.remove(0), "dflock");
    let env = env.unwrap().into_iter();
    Job {
        file: "cronjob.yaml",
        args: command,
        env: env
            .map(|EnvVar { name, value, .. }| (name, value.unwrap()))
            .collect(),
    }
}

#[test]
fn the_units_have_known_sections_and_keys() {
    for file in [
        "nightly-report.service",
        "nightly-report.timer",
        "etcd/etcd-member.service",
    ] {
        let sections = parse_unit(file);
        assert!(sections.len() >= 2, "{file}");
        for (title, keys) in sections {
            let known = UNIT_KEYS.iter().find(|(known, _)| *known == title);
            let (_, known) = known.unwrap_or_else(|| panic!("{file}: [{title}]"));
            for (key, value) in keys {
                assert!(known.contains(&key.as_str()), "{file}: [{title}] {key}");
                assert!(!value.trim().is_empty(), "{file}: [{title}] {key}");
            }
        }
    }
    assert_eq!(
        values("nightly-report.timer", "Install", "WantedBy"),
        ["timers.target"]
    );
    assert_eq!(
        values("nightly-report.timer", "Timer", "OnCalendar").len(),
        1
    );
}

/// The paths of the programs are replaced, because systemd checks that they exist.
#[tokio::test]
async fn systemd_accepts_the_units() {
    let folder = TempFolder::new("units");
    let dflock = env!("CARGO_BIN_EXE_dflock");
    let replaced = |file: &str, program: &str| read(file).replace(program, dflock);
    let units = [
        (
            "nightly-report.service",
            replaced("nightly-report.service", "/usr/local/bin/dflock"),
        ),
        ("nightly-report.timer", read("nightly-report.timer")),
        (
            "etcd-member.service",
            replaced("etcd/etcd-member.service", "/usr/bin/etcd"),
        ),
    ]
    .map(|(name, unit)| folder.write(name, &unit));
    let mut verify = Command::new("systemd-analyze");
    verify.args(["verify", "--man=no"]).args(&units);
    if Command::new("systemd-analyze")
        .arg("--version")
        .output()
        .await
        .is_err()
    {
        dflock_tests::skip("systemd-analyze is not installed");
        return;
    }
    let output = output_of(&mut verify).await;
    let stderr = text(&output.stderr);
    assert!(output.status.success(), "{stderr}");
    // Unknown keys are only warnings. Others may be about units of this machine.
    let is_ours = |line: &str| line.contains(KEY) || line.contains("etcd-member");
    assert!(!stderr.lines().any(is_ours), "{stderr}");
}

#[test]
fn the_cron_job_has_all_fields_that_its_policies_need() {
    let cron_job = cron_job();
    assert!(cron_job.metadata.name.is_some());
    let spec = cron_job.spec.unwrap();
    assert_eq!(spec.schedule.split_whitespace().count(), 5);
    assert_eq!(spec.concurrency_policy.as_deref(), Some("Forbid"));
    let job = spec.job_template.spec.unwrap();
    let pod = job.template.spec.unwrap();
    // Required by `podFailurePolicy`.
    assert_eq!(pod.restart_policy.as_deref(), Some("Never"));
    let containers: Vec<&str> = pod.containers.iter().map(|one| one.name.as_str()).collect();
    for rule in job.pod_failure_policy.unwrap().rules {
        if let Some(container) = rule.on_exit_codes.and_then(|codes| codes.container_name) {
            assert!(containers.contains(&container.as_str()), "{container}");
        }
    }
    let volumes: Vec<String> = pod.volumes.unwrap().into_iter().map(|v| v.name).collect();
    for container in pod.containers {
        assert!(container.image.is_some());
        for mount in container.volume_mounts.unwrap() {
            assert!(volumes.contains(&mount.name), "{}", mount.name);
        }
    }
}

/// A time limit from outside that comes before that of `dflock` would end the job without a reason.
#[test]
fn the_time_limits_around_the_job_are_longer_than_its_own() {
    let option = |job: &Job, name: &str| {
        let at = job.args.iter().position(|arg| arg == name).unwrap();
        seconds(&job.args[at + 1])
    };
    let unit = job_of_unit();
    let limit = |key| seconds(&values("nightly-report.service", "Service", key)[0]);
    assert!(limit("RuntimeMaxSec") > option(&unit, "--max-hold") + option(&unit, "--grace"));
    assert!(limit("TimeoutStopSec") > option(&unit, "--grace"));
    let bursts: f64 = values(unit.file, "Unit", "StartLimitBurst")[0]
        .parse()
        .unwrap();
    assert!(option(&unit, "--min-hold") > 2.0 * bursts * limit("RestartSec"));

    let pod = job_of_manifest();
    let spec = cron_job().spec.unwrap();
    let late = f64::from(i32::try_from(spec.starting_deadline_seconds.unwrap()).unwrap());
    assert!(option(&pod, "--min-hold") > 2.0 * late);
    let job = spec.job_template.spec.unwrap();
    let active = f64::from(i32::try_from(job.active_deadline_seconds.unwrap()).unwrap());
    assert!(active > option(&pod, "--max-hold") + option(&pod, "--grace"));
    let stop = job.template.spec.unwrap().termination_grace_period_seconds;
    let stop = f64::from(i32::try_from(stop.unwrap()).unwrap());
    assert!(stop > option(&pod, "--grace"));
}

/// Returns the seconds of a time such as `10m`, `65min` or `30s`.
fn seconds(time: &str) -> f64 {
    let time = time.replace("min", "m");
    dflock::parse_duration(&time)
        .unwrap_or_else(|error| panic!("{time}: {error}"))
        .as_secs_f64()
}

#[tokio::test]
async fn the_jobs_run_with_their_command_line_and_environment() {
    let folder = TempFolder::new("deploy");
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let ca = folder.write("ca.pem", &cert.pem());
    let key = folder.write("key.pem", &signing_key.serialize_pem());
    let token = folder.write("auth-token", "of the test\n");
    let mut serve = Process::spawn(&mut dflock(&[
        "serve",
        "--port",
        "0",
        "--tls-cert",
        &ca,
        "--tls-key",
        &key,
        "--auth-token-file",
        &token,
    ]));
    let server = serve.next_line().await.unwrap();
    for mut job in [job_of_unit(), job_of_manifest()] {
        // The server and the files of a deployment do not exist here.
        for (name, value) in [
            ("DFLOCK_SERVERS", &server),
            ("DFLOCK_TLS_CA", &ca),
            ("DFLOCK_AUTH_TOKEN_FILE", &token),
        ] {
            let deployed = job.env.insert(name.to_owned(), value.clone());
            assert!(deployed.is_some(), "{}: {name}", job.file);
        }
        let command = job.args.iter().position(|arg| arg == "--").unwrap() + 1;
        let options = &job.args[..command];

        // A free slot.
        let options: Vec<&str> = options.iter().map(String::as_str).collect();
        let fast: Vec<&str> = options
            .iter()
            .map(|&arg| if arg == "10m" { "1ms" } else { arg })
            .collect();
        assert_ne!(fast, options, "{}: --min-hold", job.file);
        let output =
            output_of(dflock(&[&fast[..], &["echo", "ran"]].concat()).envs(&job.env)).await;
        let stderr = text(&output.stderr);
        assert_eq!(status(&output), 0, "{}: {stderr}", job.file);
        assert_eq!(
            (text(&output.stdout), stderr),
            ("ran\n", ""),
            "{}",
            job.file
        );

        // A slot of another machine.
        let other = ["run", "--key", KEY, "sh", "-c", "echo ready; read line"];
        let mut other = Process::spawn(
            dflock(&other)
                .stdin(std::process::Stdio::piped())
                .envs(&job.env),
        );
        assert_eq!(other.next_line().await.as_deref(), Some("ready"));
        let args: Vec<&str> = job.args.iter().map(String::as_str).collect();
        let output = output_of(dflock(&args).envs(&job.env)).await;
        let stderr = text(&output.stderr);
        assert_eq!((status(&output), stderr), (0, ""), "{}", job.file);
        drop(other.dflock.stdin.take());
        assert_eq!(other.status().await, 1);
    }
}
