//! A server in the same process: for tests, and for programs on a single machine.

use dflock::server::Server;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let server = Server::start().await?; // 127.0.0.1, a free port; `Server::builder` has the options
    let held = server.client().lock("nightly")?.acquire().await?;
    println!("{} holds {:?}", server.addr(), held.key());
    held.release().await?;
    server.shutdown().await;
    Ok(())
}
