//! The users of etcd.
