//! The options of a semaphore or a lock before validation, and the macro of their builders.

use std::time::Duration;

use crate::client::Client;
use crate::lease::OnLost;
use crate::wire::Capacity;

/// The options of a semaphore or a lock as they were given.
pub(crate) struct RawOptions {
    pub(crate) key: String,
    pub(crate) capacity: Capacity,
    pub(crate) acquire_timeout: Duration,
    pub(crate) lease_ttl: Option<Duration>,
    pub(crate) renew_ratio: f64,
    pub(crate) on_lost: Option<OnLost>,
    pub(crate) client: Option<Client>,
}

/// Defines the builder of a semaphore or a lock: the options of both, and its own.
macro_rules! handle_builder {
    ($builder:ident, $built:ty, $about:literal, { $($own:tt)* }) => {
        #[derive(typed_builder::TypedBuilder)]
        #[builder(
            builder_method(vis = "pub(super)"),
            builder_type(name = $builder, vis = "pub", doc = $about),
            build_method(
                into = Result<$built, $crate::ConfigError>,
                doc = "Checks the options.\n\n# Errors\n\nA [`ConfigError`](crate::ConfigError) that says which option is refused and what is allowed. Nothing is sent."
            )
        )]
        pub(super) struct Options {
            #[builder(setter(
                into,
                doc = "The name that all who share it give. Required: 1 to 256 bytes without space, tab, line break or NUL."
            ))]
            key: String,

            $($own)*

            #[builder(
                default = ::std::time::Duration::from_secs(10),
                setter(doc = "Longest time that `acquire` and `wait` take. Defaults to 10 s. Zero means \"only if free now\"; at most 9,223,372,036 s.\n\nIt is the whole call: to connect, with TLS and the secret, and the wait in the queue. [`acquire`](crate::Semaphore::acquire) tells how exactly it is kept. With zero the limits are [`connect_timeout`](crate::ClientBuilder::connect_timeout) and [`socket_timeout`](crate::ClientBuilder::socket_timeout), together.")
            )]
            acquire_timeout: ::std::time::Duration,

            #[builder(
                default,
                setter(
                    strip_option,
                    doc = "How long the server keeps the slot without hearing of its holder. Defaults to the server's own (33 s unless it was started with another). Whole seconds from 1 s to 9,223,372,036 s; anything else is refused. The lease is renewed for as long as the slot is held."
                )
            )]
            lease_ttl: Option<::std::time::Duration>,

            #[builder(
                default = 0.5,
                setter(doc = "The part of a lease after which it is renewed. Defaults to 0.5; between 0 and 1, both excluded. However long the lease, it is renewed at the client's [`heartbeat`](crate::ClientBuilder::heartbeat) at the latest.")
            )]
            renew_ratio: f64,

            #[builder(
                default,
                setter(
                    fn transform(callback: impl Fn(&$crate::Lost) + Send + Sync + 'static) -> Option<$crate::lease::OnLost> {
                        Some(::std::sync::Arc::new(callback) as $crate::lease::OnLost)
                    },
                    doc = "Called once for each hold that is lost, mostly on the task that keeps its lease, so it must not block. Not called for slots that are released or dropped; called when the runtime that a slot was got on ends while somebody still has it. A panic in it is caught and logged."
                )
            )]
            on_lost: Option<$crate::lease::OnLost>,

            #[builder(default, setter(strip_option, doc = "The client to use. Defaults to [`Client::current`](crate::Client::current)."))]
            client: Option<$crate::Client>,
        }

        impl<F> ::std::fmt::Debug for $builder<F> {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                f.debug_struct(stringify!($builder)).finish_non_exhaustive()
            }
        }

        impl Options {
            /// Returns the options with `capacity`.
            fn into_raw(self, capacity: $crate::wire::Capacity) -> $crate::slot::RawOptions {
                let Self { key, acquire_timeout, lease_ttl, renew_ratio, on_lost, client, .. } = self;
                $crate::slot::RawOptions { key, capacity, acquire_timeout, lease_ttl, renew_ratio, on_lost, client }
            }
        }
    };
}

pub(crate) use handle_builder;
