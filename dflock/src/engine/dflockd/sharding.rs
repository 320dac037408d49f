//! The mapping of keys to servers.

/// A function that maps a key to one of several servers.
///
/// All programs that share a key must use the same function. The default, [`Crc32`], is that of the
/// other dflockd clients. Every `Fn(&str, usize) -> usize` implements this trait.
///
/// # Examples
///
/// ```
/// use dflock::{Client, ConfigError};
///
/// let client = Client::builder()
///     .servers(["lock-1:6388", "lock-2:6388"])
///     .sharding(|key: &str, servers: usize| key.len() % servers)
///     .build()?;
/// # Ok::<(), ConfigError>(())
/// ```
pub trait Sharding: Send + Sync + 'static {
    /// Returns the index of the server for `key`, which must be less than `servers`. There is at
    /// least one server.
    ///
    /// An index out of range is the error [`ConfigError::Shard`](crate::ConfigError::Shard).
    fn shard(&self, key: &str, servers: usize) -> usize;
}

impl<F: Fn(&str, usize) -> usize + Send + Sync + 'static> Sharding for F {
    fn shard(&self, key: &str, servers: usize) -> usize {
        self(key, servers)
    }
}

/// The CRC-32 (IEEE) of the UTF-8 bytes of the key, modulo the number of servers, as in the Go,
/// Python and TypeScript clients.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Crc32;

impl Sharding for Crc32 {
    fn shard(&self, key: &str, servers: usize) -> usize {
        crc32fast::hash(key.as_bytes()) as usize % servers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // The numbers are those of `zlib.crc32`, which the Python client uses.
    #[test]
    fn the_index_is_that_of_the_other_clients() {
        for (key, crc) in [
            ("worker-pool", 0xe746_ac78_u32),
            ("a", 0xe8b7_be43),
            ("123456789", 0xcbf4_3926),
            ("键☃", 0x6ef4_d249),
            ("clé-à-molette", 0x5917_02e5),
        ] {
            for servers in [1, 2, 3, 5, 16] {
                assert_eq!(
                    Crc32.shard(key, servers),
                    crc as usize % servers,
                    "{key} of {servers}"
                );
            }
        }
    }
}
