//! Python interpreter with the required packages, and the scripts that it runs.

use std::cell::Cell;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::OnceLock;
use std::time::Duration;
use std::{env, fs, thread};

use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::time::timeout;

/// Environment variable with the path of an interpreter that has the packages.
const INTERPRETER: &str = "DFLOCK_INTEROP_PYTHON";

/// Environment variable with the path of the report. Each test appends the number of its passed
/// cases and its name.
const REPORT: &str = "DFLOCK_INTEROP_REPORT";

const REQUIREMENTS: &str = include_str!("../../interop/requirements.txt");

/// Timeout of a test.
const TEST_TIMEOUT: Duration = Duration::from_mins(1);

/// Python interpreter of one test.
pub(super) struct Python {
    interpreter: PathBuf,
    cases: Cell<u32>,
}

/// Runs `test` and reports its cases. Without a Python the test is skipped, and fails in CI.
pub(super) async fn interop(test: impl AsyncFnOnce(&Python)) {
    let Some(interpreter) = interpreter() else {
        return skip(NO_PYTHON);
    };
    run(interpreter, test).await;
}

/// Runs a `test` of the Python server like [`interop`]. Older interpreters lack that server.
pub(super) async fn interop_server(test: impl AsyncFnOnce(&Python)) {
    let Some(interpreter) = interpreter() else {
        return skip(NO_PYTHON);
    };
    if !*HAS_SERVER.get_or_init(|| has_server(&interpreter)) {
        return skip(NO_SERVER);
    }
    run(interpreter, test).await;
}

async fn run(interpreter: PathBuf, test: impl AsyncFnOnce(&Python)) {
    let python = Python {
        interpreter,
        cases: Cell::new(0),
    };
    timeout(TEST_TIMEOUT, test(&python))
        .await
        .unwrap_or_else(|_| panic!("the test exceeds {TEST_TIMEOUT:?}"));
    report(python.cases.get().max(1));
}

impl Python {
    /// Returns the command of a script. The process is killed when its handle is dropped.
    pub(super) fn script(&self, name: &str) -> Command {
        let mut command = self.command();
        command.arg(
            Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("interop")
                .join(name),
        );
        command
    }

    /// Returns the command that runs a module of a package.
    pub(super) fn module(&self, name: &str) -> Command {
        let mut command = self.command();
        command.args(["-m", name]);
        command
    }

    /// Runs a script with `input` and asserts that all its cases pass.
    pub(super) async fn run_cases(&self, name: &str, args: &[&str], input: &str) {
        let output = self.output(name, args, input).await;
        let cases = output
            .lines()
            .filter(|line| line.starts_with("ok "))
            .count();
        assert_eq!(
            output.lines().last(),
            Some(&*format!("{cases} passed, 0 failed")),
            "{name}:\n{output}"
        );
        assert!(cases > 0, "{name} has no case");
        println!("{name}:\n{output}");
        self.cases
            .set(self.cases.get() + u32::try_from(cases).unwrap());
    }

    /// Runs a script and returns its output. The script must succeed.
    pub(super) async fn output(&self, name: &str, args: &[&str], input: &str) -> String {
        let mut command = self.script(name);
        command
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child
            .stdin
            .take()
            .unwrap()
            .write_all(input.as_bytes())
            .await
            .unwrap();
        let output = child.wait_with_output().await.unwrap();
        let (stdout, stderr) = (
            String::from_utf8(output.stdout).unwrap(),
            String::from_utf8_lossy(&output.stderr),
        );
        assert!(
            output.status.success(),
            "{name}: {}\n{stdout}{stderr}",
            output.status
        );
        stdout
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.interpreter);
        // Environment variables of the caller must not affect the tests.
        for (name, _) in
            env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"DFLOCK"))
        {
            command.env_remove(name);
        }
        command
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .kill_on_drop(true);
        command
    }
}

/// Returns the interpreter named by the environment, or that of the virtual environment of
/// `venv.sh`.
fn interpreter() -> Option<PathBuf> {
    if let Some(named) = env::var_os(INTERPRETER) {
        return Some(named.into());
    }
    let venv = target_dir().join("interop-venv");
    let is_complete =
        fs::read_to_string(venv.join("requirements.txt")).is_ok_and(|made| made == REQUIREMENTS);
    is_complete.then(|| venv.join("bin").join("python"))
}

/// Returns Cargo's target directory. This program is `PROFILE/deps/NAME` in it.
pub(super) fn target_dir() -> PathBuf {
    env::current_exe()
        .unwrap()
        .ancestors()
        .nth(3)
        .unwrap()
        .to_owned()
}

/// Cached result of [`has_server`].
static HAS_SERVER: OnceLock<bool> = OnceLock::new();

fn has_server(interpreter: &Path) -> bool {
    let mut command = std::process::Command::new(interpreter);
    command
        .args(["-c", "import dflockd.server"])
        .stderr(Stdio::null())
        .status()
        .unwrap()
        .success()
}

const NO_PYTHON: &str = "no Python with the packages; run `bash tests/interop/venv.sh`, \
     or set DFLOCK_INTEROP_PYTHON";
const NO_SERVER: &str = "this Python has no `dflockd`; the Python server needs Python 3.13";

/// Reports the current test as skipped. CI allows no skipped interop test.
fn skip(why: &str) {
    assert!(env::var_os("CI").is_none_or(|ci| ci.is_empty()), "{why}");
    dflock_tests::skip(why);
}

fn report(cases: u32) {
    let line = format!(
        "{cases} {}\n",
        thread::current().name().unwrap_or("interop")
    );
    print!("cases passed: {line}");
    if let Some(path) = env::var_os(REPORT) {
        OpenOptions::new()
            .append(true)
            .create(true)
            .open(path)
            .unwrap()
            .write_all(line.as_bytes())
            .unwrap();
    }
}
