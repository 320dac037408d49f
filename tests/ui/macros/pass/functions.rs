//! Free functions with all kinds of signatures, without warnings.
#![deny(warnings, rust_2018_idioms, unused, unreachable_pub)]

use std::collections::BTreeMap;
use std::fmt::{Debug, Display};
use std::future::Future;
use std::pin::Pin;

use dflock::Error;

/// Documented.
///
/// In two paragraphs.
#[dflock::semaphore(key = "plain", limit = 3)]
pub(crate) async fn plain() -> Result<(), Error> {
    Ok(())
}

#[dflock::lock(key = "nightly")]
async fn nightly(mut rounds: u32) -> Result<u32, Error> {
    rounds += 1;
    if rounds > 3 {
        return Ok(0);
    }
    Ok(rounds)
}

#[dflock::semaphore(key = "generic:{id}", limit = N)]
async fn generic<T, const N: u32>(id: T, list: &[T]) -> Result<Option<&T>, Error>
where
    T: Display + PartialEq,
{
    Ok(list.iter().find(|found| **found == id))
}

#[dflock::semaphore(key = "lifetimes:{b}", limit = 1)]
async fn lifetimes<'a, 'b: 'a>(a: &'a str, b: &'b str) -> Result<&'a str, Error> {
    Ok(if a.is_empty() { b } else { a })
}

#[dflock::semaphore(key = "{shown}", limit = 1)]
async fn impl_trait(
    shown: impl Display + Send,
    each: impl IntoIterator<Item = u32>,
) -> Result<impl Iterator<Item = impl Debug>, Error> {
    let text = shown.to_string();
    Ok(each.into_iter().map(move |n| (n, text.clone())))
}

struct Point {
    x: i32,
    y: i32,
}

#[dflock::semaphore(key = "{x}/{left}", limit = 1)]
async fn destructured(
    Point { x, y }: Point,
    (left, mut right): (u8, u8),
    [first, ..]: [u16; 3],
    _: bool,
) -> Result<i32, Error> {
    right += left;
    Ok(x + y + i32::from(right) + i32::from(first))
}

#[dflock::lock(key = "unsafe")]
async unsafe fn of_unsafe(pointer: &u8) -> Result<u8, Error> {
    let pointer = &raw const *pointer;
    Ok(unsafe { pointer.read() })
}

#[dflock::semaphore(key = "recursion:{depth}", limit = 1)]
async fn recursion(depth: u32) -> Result<u32, Error> {
    if depth == 0 {
        Ok(0)
    } else {
        Ok(1 + Box::pin(recursion(depth - 1)).await?)
    }
}

#[dflock::semaphore(key = "boxed:{depth}", limit = 1)]
fn boxed<'a>(
    depth: u32,
    text: &'a str,
) -> Pin<Box<dyn Future<Output = Result<&'a str, Error>> + Send + 'a>> {
    Box::pin(async move {
        if depth == 0 {
            Ok(text)
        } else {
            boxed(depth - 1, text).await
        }
    })
}

#[dflock::semaphore(key = "returned:{text}", limit = 1)]
fn returned(text: &str) -> impl Future<Output = Result<usize, Error>> + Send {
    let length = text.len();
    async move { Ok(length) }
}

#[dflock::semaphore(key = "inner", limit = 1)]
async fn inner_attributes() -> Result<(), Error> {
    #![allow(unused_variables)]
    //! Documented inside.
    let unused = 1;
    Ok(())
}

#[must_use]
#[cfg(not(any()))]
#[allow(
    clippy::unused_async,
    dead_code,
    reason = "they are kept on the function"
)]
#[inline]
#[dflock::semaphore(key = "attributes", limit = 1)]
#[allow(unused_variables)]
#[deprecated]
pub async fn attributes(unused: u8) -> Result<(), Error> {
    Ok(())
}

#[cfg(any())]
#[dflock::semaphore(key = "absent", limit = 1)]
async fn absent() -> Nothing {}

struct Unclonable(Vec<u8>);

#[dflock::semaphore(key = "moved", limit = 1)]
async fn moved(thing: Unclonable, map: &mut BTreeMap<u8, Unclonable>) -> Result<usize, Error> {
    map.insert(0, thing);
    let found = map.get_mut(&0).map_or(0, |thing| {
        thing.0.push(1);
        thing.0.len()
    });
    Ok(found)
}

#[dflock::semaphore(key = "control flow".replace(' ', "-"), limit = 1)]
async fn control_flow(list: Vec<u32>) -> Result<u32, Box<dyn std::error::Error + Send + Sync>> {
    let mut sum = 0;
    for n in list {
        let Ok(n) = u8::try_from(n) else { continue };
        sum += u32::from(n) + "1".parse::<u32>()?;
    }
    let doubled = async { Ok::<_, Error>(sum * 2) }.await?;
    let last = || -> u32 { return 7 };
    Ok(doubled + last())
}

#[dflock::lock(key = "never")]
async fn never() -> Result<std::convert::Infallible, Error> {
    Err(dflock::ConfigError::NoServers.into())
}

macro_rules! annotated {
    ($name:ident, $key:literal, $limit:expr, $argument:ident: $type:ty) => {
        #[dflock::semaphore(key = $key, limit = $limit)]
        async fn $name($argument: $type) -> Result<$type, Error> {
            Ok($argument)
        }
    };
}
annotated!(by_a_macro, "macro:{n}", 2, n: u64);

fn main() {
    drop(plain());
    drop(nightly(1));
    drop(generic::<_, 3>(1, &[2]));
    drop(lifetimes("a", "b"));
    drop(impl_trait(1, [2]));
    drop(destructured(Point { x: 1, y: 2 }, (3, 4), [5; 3], true));
    drop(unsafe { of_unsafe(&1) });
    drop(recursion(3));
    drop(boxed(3, ""));
    drop(returned(""));
    drop(inner_attributes());
    drop(moved(Unclonable(vec![]), &mut BTreeMap::new()));
    drop(control_flow(vec![]));
    drop(never());
    drop(by_a_macro(3));
}
