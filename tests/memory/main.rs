//! Tests that no copy of the auth token stays in memory. They search all memory that the process
//! can write.
//!
//! A separate test binary, so that there is little memory to search. Linux only, because the memory
//! of a process is read from a file there.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test that cannot continue has failed")]

mod token;

use std::fs::File;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Mutex;
use std::{env, fs, process, thread};

use dflock::{Client, ClientBuilder};
use token::AuthToken;

/// Held by each test, because a search copies memory and another test could find the copy.
static EXCLUSIVE: Mutex<()> = Mutex::new(());

#[test]
fn memory_holds_the_auth_token_once_while_a_client_exists_and_then_never() {
    type Source = (&'static str, fn(AuthToken) -> ClientBuilder);
    let _exclusive = EXCLUSIVE.lock();
    let sources: [Source; 3] = [
        ("the option", with_option),
        ("the variable", with_variable),
        ("the file", with_file),
    ];
    for (seed, (source, builder)) in (1..).zip(sources) {
        let token = AuthToken::new(seed);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let client = builder(token)
            .servers([listener.local_addr().unwrap().to_string()])
            .build()
            .unwrap();
        let server = thread::spawn(move || serve(&listener.accept().unwrap().0));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(client.ping()).unwrap();
        // The only copy is that of the client; no copy of the sent request is left.
        assert_eq!(token.addresses().len(), 1, "from {source}");
        drop((client, runtime));
        server.join().unwrap();
        assert_eq!(token.addresses().len(), 0, "from {source}");
    }
}

#[test]
fn memory_does_not_hold_an_auth_token_that_was_replaced_in_its_file() {
    let _exclusive = EXCLUSIVE.lock();
    let (old, new) = (AuthToken::new(101), AuthToken::new(102));
    let path = env::temp_dir().join(format!("dflock-memory-rotated-{}", process::id()));
    write(&path, old);
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let builder = Client::builder().auth_file(&path);
    let client = builder
        .servers([listener.local_addr().unwrap().to_string()])
        .build()
        .unwrap();
    for (token, gone) in [(old, new), (new, old)] {
        write(&path, token);
        let server = thread::scope(|scope| {
            let server = scope.spawn(|| serve(&listener.accept().unwrap().0));
            // A new runtime opens a new connection.
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(client.ping()).unwrap();
            assert_eq!((token.addresses().len(), gone.addresses().len()), (1, 0));
            drop(runtime);
            server.join()
        });
        server.unwrap();
    }
    drop(client);
    fs::remove_file(&path).unwrap();
    assert_eq!((old.addresses().len(), new.addresses().len()), (0, 0));
}

fn with_option(token: AuthToken) -> ClientBuilder {
    Client::builder().auth(token.letters().collect::<String>())
}

fn with_variable(token: AuthToken) -> ClientBuilder {
    let lookup =
        |name| (name == "DFLOCK_AUTH_TOKEN").then(|| token.letters().collect::<String>().into());
    ClientBuilder::from_lookup(lookup).unwrap()
}

fn with_file(token: AuthToken) -> ClientBuilder {
    let path = env::temp_dir().join(format!("dflock-memory-{}", process::id()));
    write(&path, token);
    let builder = ClientBuilder::from_lookup(|name| {
        (name == "DFLOCK_AUTH_TOKEN_FILE").then(|| path.clone().into())
    });
    fs::remove_file(&path).unwrap();
    builder.unwrap()
}

fn write(path: &Path, token: AuthToken) {
    let mut file = File::create(path).unwrap();
    // The letters are written one by one, because a buffer would hold the whole token.
    token
        .letters()
        .for_each(|letter| write!(file, "{letter}").unwrap());
}

/// Answers `ok` to each request until the client disconnects.
#[expect(clippy::unbuffered_bytes, reason = "a buffer would hold the token")]
fn serve(mut stream: &TcpStream) {
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
