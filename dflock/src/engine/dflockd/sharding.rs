//! Key -> server.

/// Says on which of several servers a key lives.
///
/// All programs that share a key must agree: the default is what the other dflockd clients do. Implemented for every
/// `Fn(&str, usize) -> usize`.
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
    /// The index of the server for `key`, less than `servers`, which is at least 1.
    ///
    /// An answer out of range is [`ConfigError::Shard`](crate::ConfigError::Shard).
    fn shard(&self, key: &str, servers: usize) -> usize;
}

impl<F: Fn(&str, usize) -> usize + Send + Sync + 'static> Sharding for F {
    fn shard(&self, key: &str, servers: usize) -> usize {
        self(key, servers)
    }
}

/// CRC-32 (IEEE) of the key's UTF-8 bytes, modulo the number of servers: the same in the Go, Python and TypeScript clients.
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

    // the numbers are those of zlib.crc32, which the Python client uses
    #[test]
    fn the_index_is_the_one_of_the_other_clients() {
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
