//! Requests to the members of a cluster.

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::error::Elapsed;
use tokio::time::{Instant, sleep, timeout_at};
use tonic::{Status, Streaming};

use super::connection::{Connection, UserToken};
use super::error::{CallError, CallErrorKind, Refusal};
use super::messages::{
    AuthenticateRequest, Call, HasHeader, LeaseKeepAliveRequest, LeaseKeepAliveResponse,
    StatusRequest, WatchRequest, WatchResponse,
};
use crate::engine::dflockd::{AuthTokenFile, Connector, Reloadable, Tls};

/// The pause after all members have failed, so that no client sends requests without a pause.
const ROUND_PAUSE: Duration = Duration::from_millis(50);

/// The shortest attempt. A shorter one would end with a time limit, and hide the reason of those
/// before it.
const MIN_ATTEMPT: Duration = Duration::from_millis(50);

/// The number of times that one request fetches another token of its user.
const MAX_AUTHENTICATIONS: u32 = 2;

/// The time limits of one request on all members together.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// The end of the last attempt.
    pub(super) end: Instant,
    /// The longest time for one attempt, with its connection.
    pub(super) max_attempt: Duration,
}

/// The members, the connection to one of them, and the means to connect to another.
pub(super) struct Cluster {
    members: Vec<Arc<str>>,
    dialer: Dialer,
    user: Option<Reloadable<AuthTokenFile>>,
    /// The index of the member in use.
    current: Cell<usize>,
    connection: RefCell<Option<Rc<Connection>>>,
    /// Locked while a connection is made, so that concurrent requests make one.
    connecting: tokio::sync::Mutex<()>,
    token: RefCell<Option<UserToken>>,
    known_id: Cell<Option<u64>>,
}

/// A response, the member that sent it, and whether there were other attempts.
pub(super) struct CallOutcome<T> {
    pub(super) response: T,
    pub(super) member: Arc<str>,
    /// An earlier attempt may have had an effect as well, or may still have one.
    pub(super) repeated: bool,
}

impl Cluster {
    /// Returns a cluster of `members`, each `host:port`; the first that is used is that of `start`.
    pub(super) fn new(
        members: Vec<Arc<str>>,
        dialer: Dialer,
        user: Option<Reloadable<AuthTokenFile>>,
        start: usize,
    ) -> Self {
        let current = Cell::new(start % members.len().max(1));
        Self {
            members,
            dialer,
            user,
            current,
            connection: RefCell::default(),
            connecting: tokio::sync::Mutex::new(()),
            token: RefCell::default(),
            known_id: Cell::new(None),
        }
    }

    pub(super) fn members(&self) -> &[Arc<str>] {
        &self.members
    }

    /// Returns the member in use.
    pub(super) fn current_member(&self) -> Arc<str> {
        self.members[self.current.get()].clone()
    }

    /// Sends `request` to the member in use, and to the other members in turn while it fails without
    /// an answer. The request must be safe to repeat.
    pub(super) async fn call<C: Call>(
        &self,
        request: &C,
        limits: Limits,
    ) -> Result<CallOutcome<C::Response>, CallError> {
        self.send_with_retries(limits, |connection, token| {
            let request = request.clone();
            async move { connection.unary(request, token.as_ref()).await }
        })
        .await
    }

    /// Sends one keep-alive of a lease.
    pub(super) async fn keep_alive(
        &self,
        request: LeaseKeepAliveRequest,
        limits: Limits,
    ) -> Result<LeaseKeepAliveResponse, CallError> {
        let outcome = self.send_with_retries(limits, |connection, token| async move {
            connection.keep_alive(request, token.as_ref()).await
        });
        Ok(outcome.await?.response)
    }

    /// Opens the stream of watches on the member in use. Returns the connection as well, which the
    /// caller keeps as long as the stream.
    pub(super) async fn watch(
        &self,
        requests: UnboundedReceiver<WatchRequest>,
        limits: Limits,
    ) -> Result<(Streaming<WatchResponse>, Rc<Connection>), CallError> {
        let attempt = limits.next_attempt();
        let connection = self.connect(attempt).await?;
        let token = self.token(&connection, attempt).await?;
        let stream = connection.watch(requests, token.as_ref());
        match timeout_at(attempt.end, stream).await {
            Ok(Ok(stream)) => Ok((stream, connection)),
            failed => {
                let kind = attempt.failure(failed, &connection);
                if let CallErrorKind::Refused(Refusal::TokenExpired) = kind {
                    self.token.take();
                } else {
                    self.discard(&connection);
                }
                Err(sent_error(kind, &connection))
            }
        }
    }

    /// Asks every member for its version and its cluster. Returns the versions once more than half of
    /// the members have answered. Two clients with the same list then use the same cluster, even if
    /// a member of another one is in the list.
    ///
    /// # Errors
    ///
    /// [`CallErrorKind::ForeignMember`] if two members belong to different clusters; the most specific
    /// reason of a member if more than half of them have not answered within `limits`.
    pub(super) async fn identify(&self, limits: Limits) -> Result<Vec<String>, CallError> {
        let mut most_specific = None;
        loop {
            let attempt = limits.next_attempt();
            let error = match self.identify_once(attempt).await {
                Ok(versions) => return Ok(versions),
                Err(error) => error,
            };
            let is_final = matches!(error.kind, CallErrorKind::ForeignMember);
            if is_final {
                return Err(error);
            }
            let known = CallError::more_specific(most_specific.take(), error);
            if Instant::now() + ROUND_PAUSE + MIN_ATTEMPT >= limits.end {
                return Err(known);
            }
            most_specific = Some(known);
            sleep(ROUND_PAUSE).await;
        }
    }

    async fn identify_once(&self, attempt: AttemptLimit) -> Result<Vec<String>, CallError> {
        let mut statuses = tokio::task::JoinSet::new();
        for member in &self.members {
            let (member, dialer) = (member.clone(), self.dialer.clone());
            statuses.spawn(async move {
                let status = async {
                    let connection = dialer.dial(&member).await?;
                    let sent = connection.unary(StatusRequest {}, None).await;
                    sent.map_err(|status| refusal(&status, &connection))
                };
                let status = timeout_at(attempt.end, status).await;
                let unresponsive = |_| Err(CallErrorKind::Unresponsive(attempt.limit));
                (member.clone(), status.unwrap_or_else(unresponsive))
            });
        }
        let mut versions = Vec::new();
        let mut most_specific = None;
        while let Some(joined) = statuses.join_next().await {
            let Ok((member, status)) = joined else {
                continue;
            };
            match status {
                Ok(status) => {
                    self.check_cluster(&status, &member)?;
                    versions.push(status.version);
                }
                Err(kind) => {
                    let error = CallError {
                        kind,
                        member,
                        uncertain: false,
                    };
                    most_specific = Some(CallError::more_specific(most_specific, error));
                }
            }
            if versions.len() > self.members.len() / 2 {
                return Ok(versions);
            }
        }
        Err(most_specific.unwrap_or_else(|| CallError {
            kind: CallErrorKind::Unresponsive(attempt.limit),
            member: self.current_member(),
            uncertain: false,
        }))
    }

    /// Sends a request by `send` until a member answers, a member refuses it, or the time is up.
    async fn send_with_retries<T: HasHeader, F: Future<Output = Result<T, Status>>>(
        &self,
        limits: Limits,
        send: impl Fn(Rc<Connection>, Option<UserToken>) -> F,
    ) -> Result<CallOutcome<T>, CallError> {
        let mut uncertain = false;
        let mut authentications = 0;
        let mut most_specific = None;
        for failures in 1.. {
            let error = match self.send_once(limits, &send).await {
                Ok((response, member)) => {
                    return Ok(CallOutcome {
                        response,
                        member,
                        repeated: uncertain,
                    });
                }
                Err(error) => error,
            };
            let refusal = match &error.kind {
                CallErrorKind::Refused(refusal) => Some(refusal),
                _ => None,
            };
            if refusal == Some(&Refusal::TokenExpired) && authentications < MAX_AUTHENTICATIONS {
                authentications += 1;
                continue;
            }
            let is_final = refusal.is_some_and(|refusal| !refusal.is_temporary())
                || matches!(error.kind, CallErrorKind::ForeignMember);
            uncertain |= error.uncertain && !is_final;
            let pause = if failures % self.members.len() == 0 {
                ROUND_PAUSE
            } else {
                Duration::ZERO
            };
            if is_final {
                return Err(CallError { uncertain, ..error });
            }
            // A member that refuses a certificate may reset the connection before its alert is
            // read, and a member without a leader answers beside dead ones. One such answer is more
            // specific than the other attempts.
            let known = CallError::more_specific(most_specific.take(), error);
            if Instant::now() + pause + MIN_ATTEMPT >= limits.end {
                return Err(CallError { uncertain, ..known });
            }
            most_specific = Some(known);
            sleep(pause).await;
        }
        unreachable!("the loop has no end")
    }

    async fn send_once<T: HasHeader, F: Future<Output = Result<T, Status>>>(
        &self,
        limits: Limits,
        send: impl Fn(Rc<Connection>, Option<UserToken>) -> F,
    ) -> Result<(T, Arc<str>), CallError> {
        let attempt = limits.next_attempt();
        let connection = self.connect(attempt).await?;
        let token = self.token(&connection, attempt).await?;
        let response = send(connection.clone(), token);
        let member = connection.member();
        match timeout_at(attempt.end, response).await {
            Ok(Ok(response)) => match self.check_cluster(&response, member) {
                Ok(()) => Ok((response, member.clone())),
                Err(error) => {
                    self.discard(&connection);
                    Err(error)
                }
            },
            failed => {
                let kind = attempt.failure(failed, &connection);
                match &kind {
                    CallErrorKind::Refused(Refusal::TokenExpired) => drop(self.token.take()),
                    CallErrorKind::Refused(refusal) if !refusal.is_temporary() => {}
                    _ => self.discard(&connection),
                }
                Err(sent_error(kind, &connection))
            }
        }
    }

    /// Returns the connection to the member in use, or makes one.
    async fn connect(&self, attempt: AttemptLimit) -> Result<Rc<Connection>, CallError> {
        if let Some(connection) = self.usable_connection() {
            return Ok(connection);
        }
        let connecting = timeout_at(attempt.end, self.connecting.lock()).await;
        if let Some(connection) = self.usable_connection() {
            return Ok(connection);
        }
        // Read after the lock was acquired: its last owner may have changed the member.
        let member = self.current_member();
        let dialed = match connecting {
            Ok(_) => timeout_at(attempt.end, self.dialer.dial(&member)).await,
            Err(elapsed) => Err(elapsed),
        };
        let kind = match dialed {
            Ok(Ok(connection)) => {
                let connection = Rc::new(connection);
                *self.connection.borrow_mut() = Some(connection.clone());
                return Ok(connection);
            }
            Ok(Err(kind)) => kind,
            Err(_) => CallErrorKind::ConnectTimeout(attempt.limit),
        };
        self.change_member(&member);
        Err(CallError {
            kind,
            member,
            uncertain: false,
        })
    }

    fn usable_connection(&self) -> Option<Rc<Connection>> {
        let connection = self.connection.borrow();
        connection.as_ref().filter(|c| c.is_usable()).cloned()
    }

    /// Stops using `connection`, and its member if that is the one in use.
    fn discard(&self, connection: &Rc<Connection>) {
        connection.retire();
        let mut current = self.connection.borrow_mut();
        if current.as_ref().is_some_and(|c| Rc::ptr_eq(c, connection)) {
            current.take();
            drop(current);
            self.change_member(connection.member());
        }
    }

    /// Changes to the next member if `member` is in use. Concurrent failures change once.
    fn change_member(&self, member: &Arc<str>) {
        let current = self.current.get();
        if Arc::ptr_eq(&self.members[current], member) {
            self.current.set((current + 1) % self.members.len());
        }
    }

    /// Returns the token of the user, which is fetched if there is none.
    async fn token(
        &self,
        connection: &Rc<Connection>,
        attempt: AttemptLimit,
    ) -> Result<Option<UserToken>, CallError> {
        let Some(user) = &self.user else {
            return Ok(None);
        };
        if let Some(token) = &*self.token.borrow() {
            return Ok(Some(token.clone()));
        }
        let user = user.current();
        // A file may have lost its colon after the client was built.
        let (name, password) = user.as_str().split_once(':').unwrap_or((user.as_str(), ""));
        let request = AuthenticateRequest {
            name: name.to_owned(),
            password: password.to_owned(),
        };
        let sent = connection.unary(request, None);
        match timeout_at(attempt.end, sent).await {
            Ok(Ok(response)) => {
                let mut token: UserToken = response.token.parse().map_err(|_| {
                    let why = "it sent a token that is no text".to_owned();
                    sent_error(CallErrorKind::Refused(Refusal::Other(why)), connection)
                })?;
                // HTTP/2 keeps it out of its compression table and of debug output.
                token.set_sensitive(true);
                Ok(self.token.borrow_mut().insert(token).clone().into())
            }
            failed => {
                let kind = attempt.failure(failed, connection);
                let is_final =
                    matches!(&kind, CallErrorKind::Refused(refusal) if !refusal.is_temporary());
                if !is_final {
                    self.discard(connection);
                }
                Err(CallError {
                    uncertain: false,
                    ..sent_error(kind, connection)
                })
            }
        }
    }

    /// Checks that `response` comes from the cluster of the first response. Two clusters would both
    /// grant the same slot.
    fn check_cluster(&self, response: &impl HasHeader, member: &Arc<str>) -> Result<(), CallError> {
        let Some(header) = response.header() else {
            return Ok(());
        };
        match self.known_id.get() {
            Some(known) if known != header.cluster_id => Err(CallError {
                kind: CallErrorKind::ForeignMember,
                member: member.clone(),
                uncertain: false,
            }),
            _ => {
                self.known_id.set(Some(header.cluster_id));
                Ok(())
            }
        }
    }
}

/// Returns the error of a request that was sent on `connection`.
fn sent_error(kind: CallErrorKind, connection: &Connection) -> CallError {
    CallError {
        kind,
        member: connection.member().clone(),
        uncertain: true,
    }
}

/// Returns the reason for which a request on `connection` failed with `status`.
fn refusal(status: &Status, connection: &Connection) -> CallErrorKind {
    let tls = connection.tls_error();
    tls.unwrap_or_else(|| CallErrorKind::Refused(Refusal::new(status)))
}

/// Opens connections to members.
#[derive(Clone)]
pub(super) struct Dialer {
    pub(super) connector: Arc<dyn Connector>,
    pub(super) tls: Option<Tls>,
}

impl Dialer {
    async fn dial(&self, member: &Arc<str>) -> Result<Connection, CallErrorKind> {
        let connect = |error| CallErrorKind::Connect(Arc::new(error));
        let mut stream = self.connector.connect(member).await.map_err(connect)?;
        let mut scheme = "http";
        if let Some(tls) = &self.tls {
            scheme = "https";
            let handshake = tls.handshake_http2(stream, member).await;
            stream = handshake.map_err(|(error, kind)| match kind {
                Some(kind) => CallErrorKind::Tls(kind, Arc::new(error)),
                None => connect(error),
            })?;
        }
        let opened = Connection::open(stream, member.clone(), scheme).await;
        opened.map_err(|error| connect(io::Error::other(error)))
    }
}

/// The time limit of one attempt.
#[derive(Clone, Copy, Debug)]
struct AttemptLimit {
    end: Instant,
    limit: Duration,
}

impl Limits {
    /// Returns the limits of a request that may take `total`, and `max_attempt` on one member.
    pub(super) fn new(total: Duration, max_attempt: Duration) -> Self {
        Self {
            end: Instant::now() + total,
            max_attempt,
        }
    }

    fn next_attempt(self) -> AttemptLimit {
        let now = Instant::now();
        let end = self.end.min(now + self.max_attempt);
        let limit = end.saturating_duration_since(now);
        AttemptLimit { end, limit }
    }
}

impl AttemptLimit {
    /// Returns the reason for which an attempt has no response.
    fn failure<T>(
        &self,
        failed: Result<Result<T, Status>, Elapsed>,
        connection: &Connection,
    ) -> CallErrorKind {
        match failed {
            Ok(Err(status)) => refusal(&status, connection),
            _ => CallErrorKind::Unresponsive(self.limit),
        }
    }
}
