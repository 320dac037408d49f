//! The engine on an etcd cluster: entries in queues, leases, and a session thread.
//!
//! A queue is a range of keys. An entry is held once its rank by create revision is below the limit.
//! The rank only falls, so "held" follows from committed state, and no grant is written that could
//! be lost.
//!
//! | file | content |
//! |---|---|
//! | `messages` | the messages of etcd's gRPC interface |
//! | `keys` | the names of entries in etcd |
//! | `txn` | the transactions of a queue |
//! | `connection` | one HTTP/2 connection |
//! | `cluster` | requests to the members in turn |
//! | `lease` | grant, renewal and end of a lease |
//! | `queue` | the entries of this client that wait |
//! | `watcher` | the watches of the queues |
//! | `entry` | an entry, shared by its owner and the session |
//! | `session` | the thread that serves all of them |

mod cluster;
mod connection;
mod entry;
mod error;
mod keys;
mod lease;
mod messages;
mod queue;
mod session;
#[cfg(test)]
mod tests;
mod txn;
mod watcher;
