//! How `dflock run` ends, and what the command gets.

use dflock::server::Server;

use crate::program::{Run, dflock, done, output, status, text};

#[tokio::test]
async fn the_status_is_the_commands() {
    let server = Server::start().await.unwrap();
    for (script, want) in [
        ("exit 0", 0),
        ("exit 3", 3),
        ("exit 255", 255),
        ("kill -KILL $$", 137),
        ("kill -TERM $$", 143),
    ] {
        let output = output(&server, &["run", "--key", "job", "sh", "-c", script]).await;
        assert_eq!(status(&output), want, "{script}");
        assert_eq!(text(&output.stderr), "");
    }
}

#[tokio::test]
async fn a_command_that_cannot_be_run_is_126_or_127() {
    let server = Server::start().await.unwrap();
    for (command, want) in [
        ("/", 126),
        ("no-such-command", 127),
        ("/no/such/command", 127),
    ] {
        let output = output(&server, &["run", "--key", "job", command]).await;
        assert_eq!(status(&output), want, "{command}");
        assert!(
            text(&output.stderr).contains(command),
            "{}",
            text(&output.stderr)
        );
    }
}

#[tokio::test]
async fn two_hyphens_end_the_options_and_no_more_than_the_options() {
    let server = Server::start().await.unwrap();
    for (args, want) in [
        (&["--", "echo", "--limit", "x"][..], "--limit x\n"),
        (&["echo", "--limit", "x"], "--limit x\n"),
        (&["--", "echo", "--", "x"], "-- x\n"),
        (&["echo", "--", "x"], "-- x\n"),
        (&["sh", "-c", "echo $1", "sh", "--help"], "--help\n"),
    ] {
        let output = output(&server, &[&["run", "--key", "job"], args].concat()).await;
        assert_eq!(
            (status(&output), text(&output.stdout)),
            (0, want),
            "{args:?}: {}",
            text(&output.stderr)
        );
    }
}

#[tokio::test]
async fn the_command_knows_its_slot() {
    let server = Server::start().await.unwrap();
    let show = "echo $DFLOCK_KEY ${#DFLOCK_TOKEN} ${DFLOCK_FENCE-none}";
    let first = output(
        &server,
        &["run", "--key", "job", "--fencing", "sh", "-c", show],
    )
    .await;
    let second = output(
        &server,
        &["run", "--key", "job", "--fencing", "sh", "-c", show],
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

    // one from outside is another slot's
    let args = ["run", "--key", "job", "sh", "-c", show];
    let inner = done(
        dflock(&args)
            .env("DFLOCK_SERVERS", server.addr().to_string())
            .env("DFLOCK_FENCE", "7"),
    )
    .await;
    assert_eq!(text(&inner.stdout), "job 32 none\n");
}

#[tokio::test]
async fn no_slot_in_time_is_75() {
    let server = Server::start().await.unwrap();
    let held = server
        .client()
        .semaphore("job", 1)
        .unwrap()
        .acquire()
        .await
        .unwrap();
    for (wait, why) in [
        ("0", "is free now"),
        ("300ms", "in time"),
        ("1s", "in time"),
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
async fn as_many_run_at_once_as_the_limit_says() {
    let server = Server::start().await.unwrap();
    let addr = server.addr().to_string();
    let one = Run::start(&addr, &["--limit", "2"], "echo ready; exec sleep 60").await;
    let two = Run::start(&addr, &["--limit", "2"], "echo ready; exec sleep 60").await;
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
async fn no_server_is_69() {
    let server = Server::start().await.unwrap();
    server.faults().refuse_connections(true);
    let output = output(&server, &["run", "--key", "job", "echo", "ran"]).await;
    assert_eq!((status(&output), text(&output.stdout)), (69, ""));
    assert!(
        text(&output.stderr).contains(&server.addr().to_string()),
        "{}",
        text(&output.stderr)
    );

    // a port that is taken, and that nobody listens on
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let nobody = socket.local_addr().unwrap().to_string();
    let output = done(&mut dflock(&[
        "run",
        "--key",
        "job",
        "--servers",
        &nobody,
        "echo",
        "ran",
    ]))
    .await;
    assert_eq!((status(&output), text(&output.stdout)), (69, ""));
    let said = text(&output.stderr);
    assert!(
        said.contains(&nobody) && said.contains(" --servers "),
        "{said}"
    );
}

#[tokio::test]
async fn a_server_that_goes_away_while_in_line_is_69() {
    let server = Server::start().await.unwrap();
    let _held = server
        .client()
        .semaphore("job", 1)
        .unwrap()
        .acquire()
        .await
        .unwrap();
    let addr = server.addr().to_string();
    let mut waiting = Run::of(&mut dflock(&[
        "run",
        "--servers",
        &addr,
        "--key",
        "job",
        "--timeout",
        "3s",
        "echo",
        "ran",
    ]));
    while server
        .stats()
        .semaphores
        .iter()
        .all(|semaphore| semaphore.waiters == 0)
    {
        tokio::task::yield_now().await;
    }
    drop(server);
    assert_eq!(waiting.status().await, 69);
    assert_eq!(waiting.silence().await, "");
}

#[tokio::test]
async fn what_makes_no_sense_is_64_and_runs_nothing() {
    let server = Server::start().await.unwrap();
    let _other = server
        .client()
        .semaphore("other", 2)
        .unwrap()
        .acquire()
        .await
        .unwrap();
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
    let odd = done(dflock(&["run", "--key", "job", "true"]).env("DFLOCK_SERVERS", "nowhere")).await;
    assert_eq!(status(&odd), 64);
    assert!(
        text(&odd.stderr).contains("DFLOCK_SERVERS"),
        "{}",
        text(&odd.stderr)
    );
    let slow = done(
        dflock(&["run", "--key", "job", "--server-read-timeout", "3s", "true"])
            .env("DFLOCK_HEARTBEAT", "8"),
    )
    .await;
    assert_eq!(status(&slow), 64);
    let said = text(&slow.stderr);
    assert!(
        said.contains("DFLOCK_HEARTBEAT 8s") && said.contains("--server-read-timeout"),
        "{said}"
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
        // in the wrong place
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
        let output = done(command.envs(variable.map(|list| ("DFLOCK_SERVERS", list)))).await;
        let said = text(&output.stderr);
        assert!(
            [64, 69].contains(&status(&output)) && !said.is_empty(),
            "{args:?}: {said}"
        );
        assert!(
            !said.contains("hun") && !said.contains("ter2"),
            "{args:?}: {said}"
        );
        if args.contains(&"--servers") || variable.is_some() {
            assert!(
                said.contains("lock-1:6388") && said.contains("user and password"),
                "{said}"
            );
            assert!(said.contains("--auth-token-file"), "{said}");
        }
    }
}

#[tokio::test]
async fn the_secret_comes_from_a_file_and_the_wrong_one_is_77() {
    let server = Server::builder()
        .auth_token("hush")
        .build()
        .start()
        .await
        .unwrap();
    let folder = std::env::temp_dir();
    for (secret, want) in [("hush\n", 0), ("loud\n", 77)] {
        let file = folder.join(format!("dflock-cli-{}-{want}", std::process::id()));
        std::fs::write(&file, secret).unwrap();
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
        assert_eq!(status(&output), want, "{}", text(&output.stderr));
        assert!(!text(&output.stderr).contains(secret.trim()));
    }
    let none = output(&server, &["run", "--key", "job", "true"]).await;
    assert_eq!(status(&none), 77);
    assert!(
        text(&none.stderr).contains("--auth-token-file"),
        "{}",
        text(&none.stderr)
    );
}

#[tokio::test]
async fn what_an_option_replaces_is_not_looked_at() {
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
    let output = done(&mut command).await;
    std::fs::remove_file(&file).unwrap();
    assert_eq!((status(&output), text(&output.stderr)), (0, ""));
}
