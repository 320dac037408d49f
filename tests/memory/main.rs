//! Tests that no copy of the auth token stays in memory. They search all memory that the process
//! can write.
//!
//! A separate test binary, so that there is little memory to search. Linux only, because the memory
//! of a process is read from a file there.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test that cannot continue has failed")]

mod secret;

use std::fs::File;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Mutex;
use std::{env, fs, process, thread};

use dflock::{Client, ClientBuilder};
use secret::Secret;

/// Held by each test, because a search copies memory and another test could find the copy.
static ALONE: Mutex<()> = Mutex::new(());

#[test]
fn a_secret_is_there_once_while_a_client_knows_it_and_then_no_more() {
    type Way = (&'static str, fn(Secret) -> ClientBuilder);
    let _alone = ALONE.lock();
    let ways: [Way; 3] = [
        ("the option", with_option),
        ("the variable", with_variable),
        ("the file", with_file),
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
        // The only copy is that of the client; no copy of the sent request is left.
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
            // A new runtime opens a new connection.
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
    // The letters are written one by one, because a buffer would hold the whole token.
    secret
        .letters()
        .for_each(|letter| write!(file, "{letter}").unwrap());
}

/// Answers `ok` to each request until the client disconnects.
#[expect(clippy::unbuffered_bytes, reason = "a buffer would hold the token")]
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
