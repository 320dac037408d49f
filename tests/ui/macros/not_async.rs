//! The function must be async or end with a future.

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
fn blocks(runtime: &tokio::runtime::Runtime) -> Result<(), dflock::Error> {
    runtime.block_on(async { Ok(()) })
}

fn calls_the_function() -> Result<(), dflock::Error> {
    plain()
}

fn main() {}
