//! Waiting takes an async fn.

#[dflock::semaphore(key = "pool", limit = 3)]
fn plain() -> Result<(), dflock::Error> {
    Ok(())
}

#[dflock::lock(key = "pool")]
fn boxed_in_another_form() -> std::pin::Pin<Box<dyn Future<Output = Result<(), dflock::Error>>>> {
    let future = Box::pin(async move { Ok(()) });
    future
}

#[dflock::lock(key = "pool")]
fn blocks(runtime: &tokio::macro_support::Runtime) -> Result<(), dflock::Error> {
    runtime.block_on(async { Ok(()) })
}

fn callers_find_it() -> Result<(), dflock::Error> {
    plain()
}

fn main() {}
