//! Combinations with other attributes, above and below.
#![deny(warnings)]

use dflock::Error;

#[tracing::instrument(skip_all, err(Debug))]
#[dflock::semaphore(key = "above:{tenant}", limit = 3)]
async fn instrument_above(tenant: &str) -> Result<(), Error> {
    Ok(())
}

#[dflock::semaphore(key = "below:{tenant}", limit = 3)]
#[tracing::instrument(ret)]
async fn instrument_below(tenant: &str) -> Result<usize, Error> {
    Ok(tenant.len())
}

#[async_trait::async_trait]
trait Store: Send + Sync {
    async fn required(&self, id: u32, name: &str) -> Result<&str, Error>;

    #[dflock::semaphore(key = "provided:{id}", limit = 2, slot = held)]
    async fn provided(&mut self, id: u32) -> anyhow::Result<Box<dyn std::fmt::Display + Send>> {
        held.check()?;
        Ok(Box::new(self.required(id, "name").await?.to_owned()))
    }
}

struct Disk {
    region: String,
}

#[async_trait::async_trait]
impl Store for Disk {
    #[tracing::instrument(skip(self))]
    #[dflock::semaphore(key = format!("{}:{id}:{name}", self.region), limit = 2)]
    async fn required(&self, id: u32, name: &str) -> Result<&str, Error> {
        if id == 0 {
            return Ok("");
        }
        tokio::task::yield_now().await;
        Ok(&self.region)
    }
}

#[async_trait::async_trait(?Send)]
impl Local for Disk {
    #[dflock::lock(key = "local:{id}")]
    async fn local(&self, mut id: u32, (a, _): (u8, u8)) -> Result<std::rc::Rc<u32>, Error> {
        id += u32::from(a);
        tokio::task::yield_now().await;
        Ok(std::rc::Rc::new(id))
    }
}

#[async_trait::async_trait(?Send)]
trait Local {
    async fn local(&self, id: u32, pair: (u8, u8)) -> Result<std::rc::Rc<u32>, Error>;
}

#[dflock::lock(key = "test")]
#[tokio::test]
async fn a_test() -> Result<(), Error> {
    Ok(())
}

#[dflock::lock(key = "main", client = server())]
#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    drop(instrument_above(""));
    drop(instrument_below(""));
    let mut disk = Disk {
        region: String::new(),
    };
    drop(disk.provided(1));
    drop(disk.local(1, (2, 3)));
    Ok(())
}

/// Returns a client whose server lives as long as the program.
fn server() -> dflock::Client {
    let (runtime, server) = std::thread::spawn(|| {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let server = runtime.block_on(dflock::server::Server::start()).unwrap();
        (runtime, server)
    })
    .join()
    .unwrap();
    let client = server.client();
    std::mem::forget((runtime, server));
    client
}
