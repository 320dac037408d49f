//! The future is `Send` if the body is, and it need not be.
#![deny(warnings)]

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Mutex;
use std::time::Duration;

use dflock::{Client, Error};

struct Shared {
    names: Mutex<HashMap<u32, String>>,
    locks: Client,
}

impl Shared {
    // A lock guard in an expression of the attribute is dropped before the wait.
    #[dflock::semaphore(
        key = self.names.lock().unwrap()[&id].as_str(),
        limit = 1,
        client = self.locks
    )]
    async fn guarded(&self, id: u32) -> Result<String, Error> {
        tokio::time::sleep(Duration::from_millis(1)).await;
        Ok(self.names.lock().unwrap()[&id].clone())
    }
}

struct Borrowing<'a>(&'a str);

#[dflock::semaphore(key = "borrowing", limit = 1, slot = held)]
async fn borrowing<'a>(
    each: &[Borrowing<'a>],
    text: &mut String,
    by: impl Fn(&str) -> bool + Sync,
) -> Result<&'a str, Error> {
    for Borrowing(name) in each.iter().filter(|it| by(it.0)) {
        tokio::time::sleep(Duration::from_millis(1)).await;
        held.check()?;
        text.push_str(name);
    }
    let (sender, mut receiver) = tokio::sync::mpsc::channel::<&str>(1);
    let sends = async || sender.send(held.key()).await;
    sends().await.ok();
    receiver.recv().await;
    Ok(each[0].0)
}

#[dflock::lock(key = "dyn")]
async fn dynamic(
    call: &(dyn Fn(&str) -> String + Sync),
    list: Vec<Box<dyn Fn() + Send>>,
) -> Result<Box<dyn Send>, Error> {
    tokio::time::sleep(Duration::from_millis(1)).await;
    list.iter().for_each(|call| call());
    Ok(Box::new(call("")))
}

#[dflock::lock(key = "recursion")]
async fn recursion(depth: u32) -> Result<u32, Error> {
    if depth == 0 {
        Ok(0)
    } else {
        Box::pin(recursion(depth - 1)).await
    }
}

// Not `Send`, because the value is kept during the release.
#[dflock::lock(key = "value")]
async fn value() -> Result<Rc<u8>, Error> {
    tokio::time::sleep(Duration::from_millis(1)).await;
    Ok(Rc::new(1))
}

// Not `Send`, because the body is not.
#[dflock::lock(key = "local")]
async fn local(counted: Rc<u8>) -> Result<Rc<u8>, Error> {
    tokio::time::sleep(Duration::from_millis(1)).await;
    Ok(counted)
}

fn send<T: Send>(_: T) {}

fn all(shared: &Shared, text: &mut String) {
    send(shared.guarded(1));
    send(async {
        let name = String::new();
        let borrowed = [Borrowing(&name)];
        borrowing(&borrowed, text, |it| it.is_empty()).await.is_ok()
    });
    send(async { dynamic(&|text| text.to_owned(), vec![]).await.is_ok() });
    send(recursion(3));
    drop(value());
    drop(local(Rc::new(1)));
}

fn main() {
    let _ = all;
}
