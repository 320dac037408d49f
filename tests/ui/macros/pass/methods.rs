//! Methods, associated functions and trait methods.
#![deny(warnings, rust_2018_idioms)]

use dflock::{Client, Error};

struct Region<T> {
    name: String,
    limit: u32,
    locks: Client,
    served: Vec<T>,
}

impl<T: Clone + Send + Sync> Region<T> {
    #[dflock::semaphore(key = format!("new:{name}"), limit = 1, client = locks)]
    async fn new(name: &str, locks: Client) -> Result<Self, Error> {
        Ok(Self {
            name: name.to_owned(),
            limit: 3,
            locks,
            served: Vec::new(),
        })
    }

    #[dflock::semaphore(key = &self.name, limit = self.limit, client = self.locks)]
    async fn by_reference(&self) -> Result<&[T], Error> {
        Ok(&self.served)
    }

    #[dflock::semaphore(
        key = format!("{}:{id}", self.name),
        limit = self.limit,
        client = &self.locks
    )]
    async fn by_mutable_reference(&mut self, id: u32, order: T) -> Result<&mut T, Error> {
        self.served.push(order);
        let last = self.served.len() - 1;
        println!("{id}");
        Ok(&mut self.served[last])
    }

    #[dflock::semaphore(key = self.name.clone(), limit = self.limit, client = self.locks)]
    async fn by_value(mut self) -> Result<Vec<T>, Error> {
        self.served.clear();
        Ok(self.served)
    }

    #[dflock::lock(key = "arc")]
    async fn by_arc(
        self: std::sync::Arc<Self>,
        range: &'static str,
    ) -> Result<(u32, &'static str), Error>
    where
        T: 'static,
    {
        Ok((self.limit, range))
    }
}

trait Store {
    type Error: From<Error>;

    async fn required(&self, id: u32) -> Result<u32, Self::Error>;

    #[dflock::semaphore(key = "provided:{id}", limit = 2)]
    async fn provided(&self, id: u32) -> Result<u32, Self::Error> {
        self.required(id).await
    }
}

impl Store for Region<u32> {
    type Error = Error;

    #[dflock::semaphore(key = "required:{id}", limit = self.limit)]
    async fn required(&self, id: u32) -> Result<u32, Self::Error> {
        Ok(id + self.limit)
    }
}

async fn all(client: Client) -> Result<(), Error> {
    let mut region = Region::new("eu", client).await?;
    *region.by_mutable_reference(1, 2).await? += 1;
    region.by_reference().await?;
    region.provided(1).await?;
    region.by_value().await?;
    std::sync::Arc::new(Region::<u32>::new("us", Client::current()?).await?)
        .by_arc("")
        .await?;
    Ok(())
}

fn main() {
    drop(Client::current().map(all));
}
