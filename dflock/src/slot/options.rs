//! Unvalidated options of a semaphore or a lock, and the macro that defines their builders.

use std::time::Duration;

use crate::client::Client;
use crate::lease::OnLost;
use crate::wire::Primitive;

/// Unvalidated options of a semaphore or a lock.
pub(crate) struct RawOptions {
    pub(crate) key: String,
    pub(crate) primitive: Primitive,
    pub(crate) acquire_timeout: Duration,
    pub(crate) lease_ttl: Option<Duration>,
    pub(crate) renew_ratio: f64,
    pub(crate) on_lost: Option<OnLost>,
    pub(crate) client: Option<Client>,
}

/// Defines the builder of a semaphore or a lock, from the common options and those of the type.
macro_rules! handle_builder {
    ($builder:ident, $handle:ty, $doc:literal, { $($options:tt)* }) => {
        #[derive(typed_builder::TypedBuilder)]
        #[builder(
            builder_method(vis = "pub(super)"),
            builder_type(name = $builder, vis = "pub", doc = $doc),
            build_method(
                into = Result<$handle, $crate::ConfigError>,
                doc = "Checks the options. Nothing is sent.\n\n\
                       # Errors\n\n\
                       A [`ConfigError`](crate::ConfigError) that names the invalid option and the \
                       valid values."
            )
        )]
        pub(super) struct Options {
            #[builder(setter(
                into,
                doc = "Sets the key, the name that all programs share. Required.\n\n\
                       Valid are 1 to 256 bytes without space, tab, line break or NUL."
            ))]
            key: String,

            $($options)*

            #[builder(
                default = ::std::time::Duration::from_secs(10),
                setter(
                    doc = "Sets the longest time of `acquire` and `wait`. Defaults to 10 s.\n\n\
                           At most 9,223,372,036 s. Zero acquires only what is free now.\n\n\
                           It covers the whole call: the connection with TLS and the auth token, \
                           and the wait in the queue. [`acquire`](crate::Semaphore::acquire) \
                           documents its precision. With zero the call is limited by \
                           [`connect_timeout`](crate::ClientBuilder::connect_timeout) and \
                           [`socket_timeout`](crate::ClientBuilder::socket_timeout) together."
                )
            )]
            acquire_timeout: ::std::time::Duration,

            #[builder(
                default,
                setter(
                    strip_option,
                    doc = "Sets the lease: the time for which the server keeps the slot without \
                           a renewal. Defaults to the server's default, which is 33 s unless \
                           configured.\n\n\
                           Valid are whole seconds from 1 s to 9,223,372,036 s. The lease is \
                           renewed for as long as the slot is held."
                )
            )]
            lease_ttl: Option<::std::time::Duration>,

            #[builder(
                default = 0.5,
                setter(
                    doc = "Sets the part of a lease after which it is renewed. Defaults to 0.5.\n\n\
                           Valid are values between 0 and 1, both excluded. A long lease is \
                           renewed after the client's \
                           [`heartbeat`](crate::ClientBuilder::heartbeat) at the latest."
                )
            )]
            renew_ratio: f64,

            #[builder(
                default,
                setter(
                    fn transform(
                        callback: impl Fn(&$crate::Lost) + Send + Sync + 'static,
                    ) -> Option<$crate::lease::OnLost> {
                        Some(::std::sync::Arc::new(callback) as $crate::lease::OnLost)
                    },
                    doc = "Sets the callback that is called once for each lost slot.\n\n\
                           It mostly runs on the task that renews the lease, so it must not block. \
                           It is not called for slots that are released or dropped. It is called \
                           if the runtime on which a slot was acquired ends while the slot is \
                           held. A panic in it is caught and logged."
                )
            )]
            on_lost: Option<$crate::lease::OnLost>,

            #[builder(
                default,
                setter(
                    strip_option,
                    doc = "Sets the client. Defaults to \
                           [`Client::current`](crate::Client::current)."
                )
            )]
            client: Option<$crate::Client>,
        }

        impl<F> ::std::fmt::Debug for $builder<F> {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                f.debug_struct(stringify!($builder)).finish_non_exhaustive()
            }
        }

        impl Options {
            /// Returns the options with `primitive`.
            fn into_raw(self, primitive: $crate::wire::Primitive) -> $crate::slot::RawOptions {
                $crate::slot::RawOptions {
                    key: self.key,
                    primitive,
                    acquire_timeout: self.acquire_timeout,
                    lease_ttl: self.lease_ttl,
                    renew_ratio: self.renew_ratio,
                    on_lost: self.on_lost,
                    client: self.client,
                }
            }
        }
    };
}

pub(crate) use handle_builder;
