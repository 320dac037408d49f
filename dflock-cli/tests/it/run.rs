//! Exit statuses of `dflock run`, and the arguments and environment of the command.

use dflock::server::Server;

use crate::process::{
    Process, acquire, dflock, hold, output, output_of, run, status, text, wait_for_waiters,
};

#[tokio::test]
async fn the_exit_status_is_that_of_the_command() {
    let server = Server::start().await.unwrap();
    for (script, expected) in [
        ("exit 0", 0),
        ("exit 3", 3),
        ("exit 255", 255),
        ("kill -KILL $$", 137),
        ("kill -TERM $$", 143),
    ] {
        let output = output(&server, &["run", "--key", "job", "sh", "-c", script]).await;
        assert_eq!(status(&output), expected, "{script}");
        assert_eq!(text(&output.stderr), "");
    }
}

#[tokio::test]
async fn a_command_that_cannot_be_executed_exits_with_126_or_127() {
    let server = Server::start().await.unwrap();
    for (command, expected) in [
        ("/", 126),
        ("no-such-command", 127),
        ("/no/such/command", 127),
    ] {
        let output = output(&server, &["run", "--key", "job", command]).await;
        assert_eq!(status(&output), expected, "{command}");
        assert!(
            text(&output.stderr).contains(command),
            "{}",
            text(&output.stderr)
        );
    }
}

#[tokio::test]
async fn a_double_hyphen_ends_only_the_options_of_dflock() {
    let server = Server::start().await.unwrap();
    for (args, expected) in [
        (&["--", "echo", "--limit", "x"][..], "--limit x\n"),
        (&["echo", "--limit", "x"], "--limit x\n"),
        (&["--", "echo", "--", "x"], "-- x\n"),
        (&["echo", "--", "x"], "-- x\n"),
        (&["sh", "-c", "echo $1", "sh", "--help"], "--help\n"),
    ] {
        let output = output(&server, &[&["run", "--key", "job"], args].concat()).await;
        assert_eq!(
            (status(&output), text(&output.stdout)),
            (0, expected),
            "{args:?}: {}",
            text(&output.stderr)
        );
    }
}

#[tokio::test]
async fn the_command_gets_its_slot_in_the_environment() {
    let server = Server::start().await.unwrap();
    let script = "echo $DFLOCK_KEY ${#DFLOCK_TOKEN} ${DFLOCK_FENCE-none}";
    let first = output(
        &server,
        &["run", "--key", "job", "--fencing", "sh", "-c", script],
    )
    .await;
    let second = output(
        &server,
        &["run", "--key", "job", "--fencing", "sh", "-c", script],
    )
    .await;
    let fence = |output: &std::process::Output| {
        text(&output.stdout)
            .trim()
            .strip_prefix("job 32 ")
            .unwrap()
            .parse::<u64>()
            .unwrap()
    };
    assert!(fence(&second) > fence(&first));

    // A fence that `dflock` inherits belongs to another slot.
    let args = ["run", "--key", "job", "sh", "-c", script];
    let inner = output_of(
        dflock(&args)
            .env("DFLOCK_SERVERS", server.addr().to_string())
            .env("DFLOCK_FENCE", "7"),
    )
    .await;
    assert_eq!(text(&inner.stdout), "job 32 none\n");
}

#[tokio::test]
async fn an_acquire_timeout_exits_with_75() {
    let server = Server::start().await.unwrap();
    let held = hold(&server).await;
    for (wait, why) in [
        ("0", "is free now"),
        ("300ms", "timed out"),
        ("1s", "timed out"),
    ] {
        let output = output(
            &server,
            &["run", "--key", "job", "--timeout", wait, "echo", "ran"],
        )
        .await;
        assert_eq!((status(&output), text(&output.stdout)), (75, ""), "{wait}");
        assert!(
            text(&output.stderr).contains(why),
            "{wait}: {}",
            text(&output.stderr)
        );
    }
    held.release().await.unwrap();
}

#[tokio::test]
async fn the_limit_is_the_number_of_concurrent_commands() {
    let server = Server::start().await.unwrap();
    let addr = server.addr().to_string();
    let one = Process::run_script(&addr, &["--limit", "2"], "echo ready; exec sleep 60").await;
    let two = Process::run_script(&addr, &["--limit", "2"], "echo ready; exec sleep 60").await;
    let third = output(
        &server,
        &[
            "run",
            "--key",
            "job",
            "--limit",
            "2",
            "--timeout",
            "0",
            "true",
        ],
    )
    .await;
    assert_eq!(status(&third), 75);
    drop((one, two));
    let third = output(&server, &["run", "--key", "job", "--limit", "2", "true"]).await;
    assert_eq!(status(&third), 0);
}

#[tokio::test]
async fn an_unreachable_server_exits_with_69() {
    let server = Server::start().await.unwrap();
    server.faults().refuse_connections(true);
    let output = output(&server, &["run", "--key", "job", "echo", "ran"]).await;
    assert_eq!((status(&output), text(&output.stdout)), (69, ""));
    assert!(
        text(&output.stderr).contains(&server.addr().to_string()),
        "{}",
        text(&output.stderr)
    );

    // A port that is bound, so that no other process can listen on it.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let unused = socket.local_addr().unwrap().to_string();
    let output = output_of(&mut run(&unused, &["echo", "ran"])).await;
    assert_eq!((status(&output), text(&output.stdout)), (69, ""));
    let stderr = text(&output.stderr);
    assert!(
        stderr.contains(&unused) && stderr.contains(" --servers "),
        "{stderr}"
    );
}

#[tokio::test]
async fn a_server_that_stops_during_the_wait_exits_with_69() {
    let server = Server::start().await.unwrap();
    let _held = hold(&server).await;
    let args = ["--timeout", "3s", "echo", "ran"];
    let mut waiting = Process::spawn(&mut run(server.addr(), &args));
    wait_for_waiters(&server, 1).await;
    drop(server);
    assert_eq!(waiting.status().await, 69);
    assert_eq!(waiting.wait_for_eof().await, "");
}

#[tokio::test]
async fn a_usage_error_exits_with_64_and_runs_nothing() {
    let server = Server::start().await.unwrap();
    let _other = acquire(&server.client(), "other", 2).await;
    for args in [
        &[][..],
        &["frob"],
        &["run"],
        &["run", "echo", "ran"],
        &["run", "--key", "job"],
        &["run", "--key", "job", "--frob", "echo", "ran"],
        &["run", "--key", "two words", "echo", "ran"],
        &["run", "--key", "job", "--limit", "0", "echo", "ran"],
        &["run", "--key", "other", "--limit", "3", "echo", "ran"],
        &["run", "--key", "job", "--lease", "1500ms", "echo", "ran"],
        &["run", "--key", "job", "--timeout", "soon", "echo", "ran"],
        &["run", "--key", "job", "--servers", "nowhere", "echo", "ran"],
        &[
            "run",
            "--key",
            "job",
            "--server-read-timeout",
            "0",
            "echo",
            "ran",
        ],
        &[
            "run",
            "--key",
            "job",
            "--auth-token-file",
            "no/such/file",
            "echo",
            "ran",
        ],
        &["stats", "--interval", "2s"],
        &["serve", "--auth-token", " "],
        &["man", "frob"],
    ] {
        let output = output(&server, args).await;
        assert_eq!(
            (status(&output), text(&output.stdout)),
            (64, ""),
            "{args:?}"
        );
        assert!(!output.stderr.is_empty(), "{args:?}");
    }
    let bad_variable =
        output_of(dflock(&["run", "--key", "job", "true"]).env("DFLOCK_SERVERS", "nowhere")).await;
    assert_eq!(status(&bad_variable), 64);
    assert!(
        text(&bad_variable.stderr).contains("DFLOCK_SERVERS"),
        "{}",
        text(&bad_variable.stderr)
    );
    let long_heartbeat = output_of(
        dflock(&["run", "--key", "job", "--server-read-timeout", "3s", "true"])
            .env("DFLOCK_HEARTBEAT", "8"),
    )
    .await;
    assert_eq!(status(&long_heartbeat), 64);
    let stderr = text(&long_heartbeat.stderr);
    assert!(
        stderr.contains("DFLOCK_HEARTBEAT 8s") && stderr.contains("--server-read-timeout"),
        "{stderr}"
    );
}

#[tokio::test]
async fn a_password_in_an_address_is_never_shown() {
    let address = "redis://:hun,ter2@lock-1:6388/0";
    for (args, variable) in [
        (
            &["run", "--key", "job", "--servers", address, "true"][..],
            None,
        ),
        (&["stats", "--servers", address], None),
        (&["stats"], Some(address)),
        // The address in the wrong place.
        (&["stats", address], None),
        (&[address], None),
        (&["run", "--key", "job", "--timeout", address, "true"], None),
        (&["run", "--key", "job", "--limit", address, "true"], None),
        (&["run", "--key", "job", "--server", address, "true"], None),
        (
            &[
                "run",
                "--key",
                "job",
                "--server=redis://:hunter2%40lock-1:6388",
                "true",
            ],
            None,
        ),
        (&["stats", "--redis://:hunter2@lock-1:6388"], None),
        (&["serve", "--host", address], None),
        (&["completions", address], None),
    ] {
        let mut command = dflock(args);
        let output = output_of(command.envs(variable.map(|list| ("DFLOCK_SERVERS", list)))).await;
        let stderr = text(&output.stderr);
        assert!(
            [64, 69].contains(&status(&output)) && !stderr.is_empty(),
            "{args:?}: {stderr}"
        );
        assert!(
            !stderr.contains("hun") && !stderr.contains("ter2"),
            "{args:?}: {stderr}"
        );
        if args.contains(&"--servers") || variable.is_some() {
            assert!(
                stderr.contains("lock-1:6388") && stderr.contains("user and password"),
                "{stderr}"
            );
            assert!(stderr.contains("--auth-token-file"), "{stderr}");
        }
    }
}

#[tokio::test]
async fn the_auth_token_is_read_from_a_file_and_a_wrong_one_exits_with_77() {
    let server = Server::builder()
        .auth_token("hush")
        .build()
        .start()
        .await
        .unwrap();
    let directory = std::env::temp_dir();
    for (token, expected) in [("hush\n", 0), ("loud\n", 77)] {
        let file = directory.join(format!("dflock-cli-{}-{expected}", std::process::id()));
        std::fs::write(&file, token).unwrap();
        let output = output(
            &server,
            &[
                "run",
                "--key",
                "job",
                "--auth-token-file",
                file.to_str().unwrap(),
                "true",
            ],
        )
        .await;
        std::fs::remove_file(&file).unwrap();
        assert_eq!(status(&output), expected, "{}", text(&output.stderr));
        assert!(!text(&output.stderr).contains(token.trim()));
    }
    let without_token = output(&server, &["run", "--key", "job", "true"]).await;
    assert_eq!(status(&without_token), 77);
    assert!(
        text(&without_token.stderr).contains("--auth-token-file"),
        "{}",
        text(&without_token.stderr)
    );
}

#[tokio::test]
async fn a_variable_that_an_option_replaces_is_ignored() {
    let server = Server::builder()
        .auth_token("hush")
        .build()
        .start()
        .await
        .unwrap();
    let addr = server.addr().to_string();
    let file = std::env::temp_dir().join(format!("dflock-cli-{}-replaced", std::process::id()));
    std::fs::write(&file, "hush\n").unwrap();
    let args = [
        "run",
        "--key",
        "job",
        "--servers",
        &addr,
        "--auth-token-file",
        file.to_str().unwrap(),
        "--server-read-timeout",
        "20s",
    ];
    let mut command = dflock(&[&args[..], &["true"]].concat());
    command
        .env("DFLOCK_SERVERS", "nowhere")
        .env("DFLOCK_SERVER_READ_TIMEOUT", "soon");
    command
        .env("DFLOCK_AUTH_TOKEN", "loud")
        .env("DFLOCK_AUTH_TOKEN_FILE", "no/such/file");
    let output = output_of(&mut command).await;
    std::fs::remove_file(&file).unwrap();
    assert_eq!((status(&output), text(&output.stderr)), (0, ""));
}

#[tokio::test]
async fn a_busy_slot_is_skipped() {
    let server = Server::start().await.unwrap();
    let run = ["run", "--key", "job", "--skip", "echo", "ran"];
    let ran = output(&server, &run).await;
    assert_eq!((status(&ran), text(&ran.stdout)), (0, "ran\n"));

    let held = hold(&server).await;
    let skipped = output(&server, &run).await;
    assert_eq!(
        (
            status(&skipped),
            text(&skipped.stdout),
            text(&skipped.stderr)
        ),
        (0, "", "")
    );
    let args = ["run", "--key", "job", "--limit", "2", "--skip", "true"];
    let other_limit = output(&server, &args).await;
    assert_eq!(status(&other_limit), 64, "only a busy slot is skipped");
    let args = ["run", "--key", "job", "--skip", "--timeout", "1s", "true"];
    let both = output(&server, &args).await;
    assert_eq!(status(&both), 64);
    held.release().await.unwrap();
}

#[tokio::test]
async fn another_limit_of_the_key_is_adopted_or_waited_out() {
    let server = Server::start().await.unwrap();
    let held = acquire(&server.client(), "job", 8).await;
    let run = async |options: &[&str], variable: &str| {
        let args = [&["run", "--key", "job"], options, &["echo", "ran"]].concat();
        let mut command = dflock(&args);
        command.env("DFLOCK_SERVERS", server.addr().to_string());
        command.env("DFLOCK_ON_LIMIT_MISMATCH", variable);
        output_of(&mut command).await
    };
    let adopt = &["--on-limit-mismatch", "adopt"][..];
    for (options, variable) in [(adopt, "not a word"), (&[], "adopt")] {
        let output = run(options, variable).await;
        let stderr = text(&output.stderr);
        assert_eq!(
            (status(&output), text(&output.stdout)),
            (0, "ran\n"),
            "{stderr}"
        );
        assert!(stderr.contains("the limit 8, not 1"), "{stderr}");
    }
    for (options, variable, expected) in [
        (
            &["--on-limit-mismatch", "fail"][..],
            "adopt",
            "the limit 8, not 1",
        ),
        (
            &["--on-limit-mismatch", "wait-out", "--timeout", "300ms"],
            "fail",
            "the limit 8, not 1",
        ),
        (&[], "not a word", "DFLOCK_ON_LIMIT_MISMATCH"),
        (&["--on-limit-mismatch", "wait_out"], "fail", "wait-out"),
    ] {
        let output = run(options, variable).await;
        let stderr = text(&output.stderr);
        assert_eq!(
            (status(&output), text(&output.stdout)),
            (64, ""),
            "{options:?}"
        );
        assert!(stderr.contains(expected), "{options:?}: {stderr}");
    }
    held.release().await.unwrap();
}

#[tokio::test]
async fn several_permits_are_held_all_or_none() {
    let server = Server::start().await.unwrap();
    let run = |options: &[&'static str]| {
        let first = ["run", "--key", "job", "--limit", "3", "--permits", "2"];
        [&first, options].concat()
    };
    let ran = output(&server, &run(&["echo", "ran"])).await;
    assert_eq!((status(&ran), text(&ran.stdout)), (0, "ran\n"));

    let others = server.client().semaphore("job", 3).unwrap();
    let others = others.acquire_many(2).await.unwrap();
    let skipped = output(&server, &run(&["--skip", "echo", "ran"])).await;
    assert_eq!((status(&skipped), text(&skipped.stdout)), (0, ""));
    for timeout in ["0", "200ms"] {
        let failed = output(&server, &run(&["--timeout", timeout, "echo", "ran"])).await;
        assert_eq!(
            (status(&failed), text(&failed.stdout)),
            (75, ""),
            "{timeout}"
        );
    }
    // Nothing of the failed ones is left.
    let stats = server.stats();
    let job = stats.semaphores.iter().find(|entry| entry.key == "job");
    assert_eq!(job.map(|job| (job.holders, job.waiters)), Some((2, 0)));
    others.release().await.unwrap();
}
