//! What is left of a secret in memory: it is looked for wherever the process can write.
//!
//! A binary of its own, so that there is little to look through. Linux only, which shows a process its own memory as a file.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod secret;

use std::fs::File;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::{env, fs, process, thread};

use dflock::{Client, ClientBuilder};
use secret::Secret;

#[test]
fn a_secret_is_there_once_while_a_client_knows_it_and_then_no_more() {
    type Way = (&'static str, fn(Secret) -> ClientBuilder);
    let ways: [Way; 3] = [("an option", with_option), ("a variable", with_variable), ("a file", with_file)];
    for (seed, (way, builder)) in (1..).zip(ways) {
        let secret = Secret::new(seed);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let client = builder(secret).servers([listener.local_addr().unwrap().to_string()]).build().unwrap();
        let server = thread::spawn(move || answer(&listener.accept().unwrap().0));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(client.ping()).unwrap();
        // the client's own, and nothing of what went out
        assert_eq!(secret.places().len(), 1, "from {way}");
        drop((client, runtime));
        server.join().unwrap();
        assert_eq!(secret.places().len(), 0, "from {way}");
    }
}

fn with_option(secret: Secret) -> ClientBuilder {
    Client::builder().auth(secret.letters().collect::<String>())
}

fn with_variable(secret: Secret) -> ClientBuilder {
    let lookup = |name| (name == "DFLOCK_AUTH_TOKEN").then(|| secret.letters().collect::<String>().into());
    ClientBuilder::from_lookup(lookup).unwrap()
}

fn with_file(secret: Secret) -> ClientBuilder {
    let path = env::temp_dir().join(format!("dflock-memory-{}", process::id()));
    let mut file = File::create(&path).unwrap();
    // one by one: what is written at once is in memory at once
    secret.letters().for_each(|letter| write!(file, "{letter}").unwrap());
    let builder = ClientBuilder::from_lookup(|name| (name == "DFLOCK_AUTH_TOKEN_FILE").then(|| path.clone().into()));
    fs::remove_file(&path).unwrap();
    builder.unwrap()
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
