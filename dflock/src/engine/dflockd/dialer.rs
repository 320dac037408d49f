//! Opens, encrypts and authenticates new connections.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::pool::CallContext;
use super::{AuthToken, AuthTokenFile, Connection, Connector, Reloadable, Tls};
use crate::clock;
use crate::driver;
use crate::error::{AuthErrorKind, ConnectStage, Error, Operation};
use crate::wire::{ErrorStatus, Reply, Request};

/// Opens connections that are ready for the first request.
pub(crate) struct Dialer {
    pub(crate) connector: Arc<dyn Connector>,
    pub(crate) tls: Option<Tls>,
    pub(crate) auth_token: Option<Reloadable<AuthTokenFile>>,
    pub(crate) connect_timeout: Duration,
    pub(crate) socket_timeout: Duration,
    /// The longest reply to `stats`, in bytes.
    pub(crate) max_stats_size: usize,
}

impl Dialer {
    /// Connects to the server of `context`, with TLS and authentication if configured. The total
    /// time is at most `limit`, and each part also observes its own timeout. The connection is not
    /// reused after `reuse_until`.
    ///
    /// # Errors
    ///
    /// [`Error::ConnectTimeout`] with the stage, or [`Error::Unresponsive`] for the authentication,
    /// when the time is up.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the connection.
    pub(super) async fn dial(
        &self,
        context: CallContext<'_>,
        limit: Duration,
        reuse_until: clock::Instant,
    ) -> Result<Box<Connection>, Error> {
        driver::require_timers()?;
        let began = Instant::now();
        let connect_limit = self.connect_timeout.min(limit);
        let end = began + connect_limit;
        let timed_out = |stage| Error::ConnectTimeout {
            context: context.to_error_context(),
            limit: connect_limit,
            stage,
        };
        let connect = driver::catch_missing_driver(self.connector.connect(context.server));
        let connected = timeout_at(end, connect)
            .await
            .map_err(|_| timed_out(ConnectStage::Transport))??;
        let mut stream = connected.map_err(|source| Error::Connect {
            context: context.to_error_context(),
            source,
        })?;
        if let Some(tls) = &self.tls {
            stream = timeout_at(end, tls.handshake(stream, context))
                .await
                .map_err(|_| timed_out(ConnectStage::Tls))??;
        }
        let mut connection = Connection::new(stream, reuse_until);
        connection.set_max_stats_size(self.max_stats_size);
        match &self.auth_token {
            Some(token) => {
                let left = limit.saturating_sub(began.elapsed());
                self.authenticate(
                    &token.current(),
                    connection,
                    context,
                    self.socket_timeout.min(left),
                )
                .await
            }
            None => Ok(connection),
        }
    }

    async fn authenticate(
        &self,
        token: &AuthToken,
        connection: Box<Connection>,
        context: CallContext<'_>,
        limit: Duration,
    ) -> Result<Box<Connection>, Error> {
        let context = || {
            CallContext {
                operation: Operation::Auth,
                ..context
            }
            .to_error_context()
        };
        let request = Request::Auth {
            token: token.as_str(),
        };
        match connection.call(&request, limit).await {
            Ok((connection, Reply::Ok)) => Ok(connection),
            Ok((_, Reply::Error(ErrorStatus::Unspecified))) => Err(Error::Auth {
                context: context(),
                kind: token.error_reply_kind(),
            }),
            Ok((_, Reply::Error(ErrorStatus::Auth))) => Err(Error::Auth {
                context: context(),
                kind: AuthErrorKind::Wrong {
                    long: token.is_long(),
                },
            }),
            Ok((_, reply)) => Err(Error::from_reply(context(), &reply).without_server_text()),
            Err(error) => Err(error.into_error(context()).without_server_text()),
        }
    }
}

impl fmt::Debug for Dialer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dialer")
            .field("tls", &self.tls)
            .field("auth_token", &self.auth_token)
            .field("connect_timeout", &self.connect_timeout)
            .finish_non_exhaustive()
    }
}
