//! What is left of a secret in memory: it is looked for wherever the process can write.
//!
//! A binary of its own, so that there is little to look through. Linux only, which shows a process its own memory as a file.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod secret;

use std::fs::File;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Mutex;
use std::{env, fs, process, thread};

use dflock::{Client, ClientBuilder};
use secret::Secret;

/// Held by each test: one that looks through memory has copies of what it sees.
static ALONE: Mutex<()> = Mutex::new(());

#[test]
fn a_secret_is_there_once_while_a_client_knows_it_and_then_no_more() {
    type Way = (&'static str, fn(Secret) -> ClientBuilder);
    let _alone = ALONE.lock();
    let ways: [Way; 3] = [
        ("an option", with_option),
        ("a variable", with_variable),
        ("a file", with_file),
    ];
    for (seed, (way, builder)) in (1..).zip(ways) {
        let secret = Secret::new(seed);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let client = builder(secret)
            .servers([listener.local_addr().unwrap().to_string()])
            .build()
            .unwrap();
        let server = thread::spawn(move || answer(&listener.accept().unwrap().0));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(client.ping()).unwrap();
        // the client's own, and nothing of what went out
        assert_eq!(secret.places().len(), 1, "from {way}");
        drop((client, runtime));
        server.join().unwrap();
        assert_eq!(secret.places().len(), 0, "from {way}");
    }
}

#[test]
fn a_secret_that_was_replaced_in_its_file_is_there_no_more() {
    let _alone = ALONE.lock();
    let (old, new) = (Secret::new(101), Secret::new(102));
    let path = env::temp_dir().join(format!("dflock-memory-rotated-{}", process::id()));
    write(&path, old);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let builder = Client::builder().auth_file(&path);
    let client = builder
        .servers([listener.local_addr().unwrap().to_string()])
        .build()
        .unwrap();
    for (secret, gone) in [(old, new), (new, old)] {
        write(&path, secret);
        let server = thread::scope(|scope| {
            let server = scope.spawn(|| answer(&listener.accept().unwrap().0));
            // a runtime of its own has a connection of its own
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(client.ping()).unwrap();
            assert_eq!((secret.places().len(), gone.places().len()), (1, 0));
            drop(runtime);
            server.join()
        });
        server.unwrap();
    }
    drop(client);
    fs::remove_file(&path).unwrap();
    assert_eq!((old.places().len(), new.places().len()), (0, 0));
}

fn with_option(secret: Secret) -> ClientBuilder {
    Client::builder().auth(secret.letters().collect::<String>())
}

fn with_variable(secret: Secret) -> ClientBuilder {
    let lookup =
        |name| (name == "DFLOCK_AUTH_TOKEN").then(|| secret.letters().collect::<String>().into());
    ClientBuilder::from_lookup(lookup).unwrap()
}

fn with_file(secret: Secret) -> ClientBuilder {
    let path = env::temp_dir().join(format!("dflock-memory-{}", process::id()));
    write(&path, secret);
    let builder = ClientBuilder::from_lookup(|name| {
        (name == "DFLOCK_AUTH_TOKEN_FILE").then(|| path.clone().into())
    });
    fs::remove_file(&path).unwrap();
    builder.unwrap()
}

fn write(path: &Path, secret: Secret) {
    let mut file = File::create(path).unwrap();
    // one by one: what is written at once is in memory at once
    secret
        .letters()
        .for_each(|letter| write!(file, "{letter}").unwrap());
}

/// Says `ok` to each request until the client leaves.
#[expect(clippy::unbuffered_bytes, reason = "a buffer would have the secret")]
fn answer(mut stream: &TcpStream) {
    let mut lines = 0;
    for byte in stream.bytes() {
        if byte.unwrap() == b'\n' {
            lines += 1;
            if lines % 3 == 0 {
                stream.write_all(b"ok\n").unwrap();
            }
        }
    }
}
