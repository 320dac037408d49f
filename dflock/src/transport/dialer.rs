//! New connections: connected, secured, and past the secret.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::{AuthToken, AuthTokenFile, Connection, Connector, Reloadable, Tls};
use crate::error::{Attempt, AuthFault, ConnectStage, Error, Operation};
use crate::wire::{Reply, Request, Status};

/// Makes connections that are ready for the first request.
pub(crate) struct Dialer {
    pub(crate) connector: Arc<dyn Connector>,
    pub(crate) tls: Option<Tls>,
    pub(crate) secret: Option<Reloadable<AuthTokenFile>>,
    pub(crate) connect_timeout: Duration,
    pub(crate) socket_timeout: Duration,
}

impl Dialer {
    /// Connects to the server of `at`, puts TLS over it and shows the secret, if there are any.
    ///
    /// # Cancel safety
    ///
    /// Dropped before it is done, it closes what it opened.
    pub(crate) async fn dial(&self, at: &Attempt) -> Result<Box<Connection>, Error> {
        let end = Instant::now() + self.connect_timeout;
        let late = |stage| Error::ConnectTimeout { at: at.clone(), limit: self.connect_timeout, stage };
        let connected = timeout_at(end, self.connector.connect(&at.server)).await.map_err(|_| late(ConnectStage::Reach))?;
        let mut stream = connected.map_err(|source| Error::Connect { at: at.clone(), source })?;
        if let Some(tls) = &self.tls {
            stream = timeout_at(end, tls.handshake(stream, at)).await.map_err(|_| late(ConnectStage::Tls))??;
        }
        let connection = Connection::new(stream);
        match &self.secret {
            Some(secret) => self.show(&secret.current(), connection, at).await,
            None => Ok(connection),
        }
    }

    async fn show(&self, secret: &AuthToken, connection: Box<Connection>, at: &Attempt) -> Result<Box<Connection>, Error> {
        let at = Attempt { operation: Operation::Auth, ..at.clone() };
        let request = Request::Auth { secret: secret.as_str() };
        match connection.call(&request, self.socket_timeout).await {
            Ok((connection, Reply::Ok)) => Ok(connection),
            Ok((_, Reply::Refused(Status::Error))) => Err(Error::Auth { at, fault: secret.not_understood() }),
            Ok((_, Reply::Refused(Status::Auth))) => Err(Error::Auth { at, fault: AuthFault::Wrong { long: secret.is_long() } }),
            Ok((_, reply)) => Err(Error::unexpected(at, &reply).unquoted()),
            Err(fault) => Err(fault.into_error(at).unquoted()),
        }
    }
}

impl fmt::Debug for Dialer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dialer")
            .field("tls", &self.tls)
            .field("secret", &self.secret)
            .field("connect_timeout", &self.connect_timeout)
            .finish_non_exhaustive()
    }
}
