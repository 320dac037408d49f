//! Early returns of a plain function, whose future would run without a slot.

use std::pin::Pin;

type Boxed = Pin<Box<dyn Future<Output = Result<u32, dflock::Error>>>>;

#[dflock::semaphore(key = "early", limit = 3)]
fn early(depth: u32) -> Boxed {
    if depth == 0 {
        return Box::pin(async move { Ok(0) });
    }
    let depth = match depth {
        1 => return Box::pin(std::future::ready(Ok(1))),
        _ => depth - 1,
    };
    Box::pin(async move { early(depth).await })
}

#[dflock::lock(key = "question")]
fn question(text: &str) -> Boxed {
    let number = text.parse::<u32>()?;
    Box::pin(async move { Ok(number) })
}

// These return from an inner function, a closure or a future.
#[dflock::lock(key = "fine")]
fn fine(text: &'static str) -> impl Future<Output = Result<u32, dflock::Error>> {
    fn inner(text: &str) -> Result<u32, std::num::ParseIntError> {
        return Ok(text.parse::<u32>()? + 1);
    }
    let closure = |text: &str| -> Option<u32> { return Some(inner(text).ok()? + 1) };
    let future = async move { Ok::<_, std::num::ParseIntError>(inner(text)?) };
    async move {
        if text.is_empty() {
            return Ok(0);
        }
        Ok(closure(text).unwrap_or(0) + future.await.unwrap_or(0))
    }
}

fn main() {}
