//! Bodies that are coerced to the declared type.
#![deny(warnings)]

use std::error::Error as StdError;
use std::fmt::Display;

use dflock::Error;

struct Named {
    string: String,
    list: Vec<u8>,
}

impl Named {
    #[dflock::lock(key = "str")]
    async fn as_str(&self) -> Result<&str, Error> {
        Ok(&self.string)
    }

    #[dflock::lock(key = "slice")]
    async fn slice(&mut self) -> Result<&mut [u8], Error> {
        Ok(&mut self.list)
    }
}

#[dflock::lock(key = "dyn")]
async fn boxed(x: u8) -> Result<Box<dyn Display>, Error> {
    Ok(Box::new(x))
}

#[dflock::lock(key = "branches")]
async fn branches(x: u8) -> Result<Box<dyn Display + Send>, Box<dyn StdError>> {
    match x {
        0 => Ok(Box::new("zero")),
        1 => return Ok(Box::new('1')),
        2 => Err("two")?,
        _ => Err(Box::new(std::fmt::Error)),
    }
}

#[dflock::lock(key = "pointers")]
async fn pointers() -> Result<(fn(u8) -> u8, Option<&'static [u8]>), Error> {
    Ok((|x| x + 1, Some(&[1, 2, 3])))
}

#[dflock::lock(key = "inference")]
async fn inference() -> Result<Vec<u64>, Error> {
    Ok("1,2".split(',').filter_map(|n| n.parse().ok()).collect())
}

#[dflock::lock(key = "partly")]
async fn partly(x: u8) -> Result<(Box<dyn Display>, impl Display), Error> {
    Ok((Box::new(x), x))
}

fn main() {
    let mut named = Named {
        string: String::new(),
        list: Vec::new(),
    };
    drop(named.as_str());
    drop(named.slice());
    drop(boxed(1));
    drop(branches(1));
    drop(pointers());
    drop(inference());
    drop(partly(1));
}
