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
    Answer, AuthenticateRequest, Call, LeaseKeepAliveRequest, LeaseKeepAliveResponse,
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
    pub(super) attempt: Duration,
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

/// A response, and whether an earlier attempt may have had an effect.
pub(super) struct Answered<T> {
    pub(super) response: T,
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

    /// Returns the error of a response that is not one to the `request`.
    pub(super) fn malformed(&self, request: &str) -> CallError {
        let status = format!("a response that is none to the {request}");
        CallError {
            kind: CallErrorKind::Refused(Refusal::Other(status)),
            member: self.current_member(),
            uncertain: true,
        }
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
    ) -> Result<Answered<C::Response>, CallError> {
        self.attempt(limits, |connection, token| {
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
        let answered = self.attempt(limits, |connection, token| async move {
            connection.keep_alive(request, token.as_ref()).await
        });
        Ok(answered.await?.response)
    }

    /// Opens the stream of watches on the member in use. Returns the connection as well, which the
    /// caller keeps as long as the stream.
    pub(super) async fn watch(
        &self,
        requests: UnboundedReceiver<WatchRequest>,
        limits: Limits,
    ) -> Result<(Streaming<WatchResponse>, Rc<Connection>), CallError> {
        let attempt = limits.attempt();
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
                    self.leave(&connection);
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
    /// [`CallErrorKind::ForeignMember`] if two members belong to different clusters; the most telling
    /// reason of a member if more than half of them have not answered within `limits`.
    pub(super) async fn identify(&self, limits: Limits) -> Result<Vec<String>, CallError> {
        let mut telling: Option<CallError> = None;
        loop {
            let attempt = limits.attempt();
            let error = match self.identify_once(attempt).await {
                Ok(versions) => return Ok(versions),
                Err(error) => error,
            };
            let is_final = matches!(error.kind, CallErrorKind::ForeignMember);
            let weight = telling.as_ref().map(|told| told.kind.weight());
            if weight.is_none_or(|weight| error.kind.weight() >= weight) {
                telling = Some(error.clone());
            }
            if is_final || Instant::now() + ROUND_PAUSE + MIN_ATTEMPT >= limits.end {
                return Err(telling.filter(|_| !is_final).unwrap_or(error));
            }
            sleep(ROUND_PAUSE).await;
        }
    }

    async fn identify_once(&self, attempt: Attempt) -> Result<Vec<String>, CallError> {
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
        let mut failure: Option<CallError> = None;
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
                    let known = failure.as_ref().map(|failure| failure.kind.weight());
                    if known.is_none_or(|known| kind.weight() >= known) {
                        failure = Some(CallError {
                            kind,
                            member,
                            uncertain: false,
                        });
                    }
                }
            }
            if versions.len() > self.members.len() / 2 {
                return Ok(versions);
            }
        }
        Err(failure.unwrap_or_else(|| CallError {
            kind: CallErrorKind::Unresponsive(attempt.limit),
            member: self.current_member(),
            uncertain: false,
        }))
    }

    /// Sends a request by `send` until a member answers, a member refuses it, or the time is up.
    async fn attempt<T: Answer, F: Future<Output = Result<T, Status>>>(
        &self,
        limits: Limits,
        send: impl Fn(Rc<Connection>, Option<UserToken>) -> F,
    ) -> Result<Answered<T>, CallError> {
        let mut uncertain = false;
        let mut authentications = 0;
        let mut telling: Option<CallError> = None;
        for failures in 1.. {
            let attempt = self.attempt_once(limits, &send).await;
            let mut error = match attempt {
                Ok(response) => {
                    return Ok(Answered {
                        response,
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
            let weight = error.kind.weight();
            if telling
                .as_ref()
                .is_none_or(|told| weight >= told.kind.weight())
            {
                telling = Some(error.clone());
            }
            let pause = if failures % self.members.len() == 0 {
                ROUND_PAUSE
            } else {
                Duration::ZERO
            };
            if is_final || Instant::now() + pause + MIN_ATTEMPT >= limits.end {
                // A member that refuses a certificate may reset the connection before its alert is
                // read, and a member without a leader answers beside dead ones. One such answer says
                // more than the other attempts.
                error = telling.unwrap_or(error);
                error.uncertain = uncertain;
                return Err(error);
            }
            sleep(pause).await;
        }
        unreachable!("the loop has no end")
    }

    async fn attempt_once<T: Answer, F: Future<Output = Result<T, Status>>>(
        &self,
        limits: Limits,
        send: impl Fn(Rc<Connection>, Option<UserToken>) -> F,
    ) -> Result<T, CallError> {
        let attempt = limits.attempt();
        let connection = self.connect(attempt).await?;
        let token = self.token(&connection, attempt).await?;
        let response = send(connection.clone(), token);
        match timeout_at(attempt.end, response).await {
            Ok(Ok(response)) => match self.check_cluster(&response, connection.member()) {
                Ok(()) => Ok(response),
                Err(error) => {
                    self.leave(&connection);
                    Err(error)
                }
            },
            failed => {
                let kind = attempt.failure(failed, &connection);
                match &kind {
                    CallErrorKind::Refused(Refusal::TokenExpired) => drop(self.token.take()),
                    CallErrorKind::Refused(refusal) if !refusal.is_temporary() => {}
                    _ => self.leave(&connection),
                }
                Err(sent_error(kind, &connection))
            }
        }
    }

    /// Returns the connection to the member in use, or makes one.
    async fn connect(&self, attempt: Attempt) -> Result<Rc<Connection>, CallError> {
        if let Some(connection) = self.usable() {
            return Ok(connection);
        }
        let member = self.members[self.current.get()].clone();
        let failed = |kind| CallError {
            kind,
            member: member.clone(),
            uncertain: false,
        };
        let connected = timeout_at(attempt.end, async {
            let _connecting = self.connecting.lock().await;
            if let Some(connection) = self.usable() {
                return Ok(connection);
            }
            let connection = Rc::new(self.dialer.dial(&member).await?);
            *self.connection.borrow_mut() = Some(connection.clone());
            Ok::<_, CallErrorKind>(connection)
        });
        match connected.await {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(kind)) => {
                self.leave_member(&member);
                Err(failed(kind))
            }
            Err(_) => {
                self.leave_member(&member);
                Err(failed(CallErrorKind::ConnectTimeout(attempt.limit)))
            }
        }
    }

    fn usable(&self) -> Option<Rc<Connection>> {
        let connection = self.connection.borrow();
        connection.as_ref().filter(|c| c.is_usable()).cloned()
    }

    /// Stops using `connection`, and its member if that is the one in use.
    fn leave(&self, connection: &Rc<Connection>) {
        connection.retire();
        let mut current = self.connection.borrow_mut();
        if current.as_ref().is_some_and(|c| Rc::ptr_eq(c, connection)) {
            current.take();
            drop(current);
            self.leave_member(connection.member());
        }
    }

    /// Changes to the next member if `member` is in use. Concurrent failures change once.
    fn leave_member(&self, member: &Arc<str>) {
        let current = self.current.get();
        if Arc::ptr_eq(&self.members[current], member) {
            self.current.set((current + 1) % self.members.len());
        }
    }

    /// Returns the token of the user, which is fetched if there is none.
    async fn token(
        &self,
        connection: &Rc<Connection>,
        attempt: Attempt,
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
                    self.leave(connection);
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
    fn check_cluster(&self, response: &impl Answer, member: &Arc<str>) -> Result<(), CallError> {
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
struct Attempt {
    end: Instant,
    limit: Duration,
}

impl Limits {
    /// Returns the limits of a request that may take `total`, and `attempt` on one member.
    pub(super) fn new(total: Duration, attempt: Duration) -> Self {
        Self {
            end: Instant::now() + total,
            attempt,
        }
    }

    fn attempt(&self) -> Attempt {
        let now = Instant::now();
        let end = self.end.min(now + self.attempt);
        let limit = end.saturating_duration_since(now);
        Attempt { end, limit }
    }
}

impl Attempt {
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
