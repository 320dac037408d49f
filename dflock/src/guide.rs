//! User guide, with one page for each topic.

#[doc = include_str!("../docs/leases.md")]
pub mod leases {}

#[doc = include_str!("../docs/fencing.md")]
pub mod fencing {}

#[doc = include_str!("../docs/choosing.md")]
pub mod choosing {}

#[cfg(feature = "etcd")]
#[doc = include_str!("../docs/engines.md")]
pub mod engines {}

#[doc = include_str!("../docs/cancel_safety.md")]
pub mod cancel_safety {}

#[doc = include_str!("../docs/sharding.md")]
pub mod sharding {}

#[doc = include_str!("../docs/testing.md")]
pub mod testing {}

#[doc = include_str!("../docs/wishes.md")]
pub mod wishes {}

#[doc = include_str!("../docs/coming_from.md")]
pub mod coming_from {}
