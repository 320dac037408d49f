//! One HTTP/2 connection to a member.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use hyper::client::conn::http2::{self, SendRequest};
use hyper::http::uri::{PathAndQuery, Uri};
use hyper::http::{Request as HttpRequest, Response as HttpResponse};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio_stream::Stream;
use tonic::client::Grpc;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::{Request, Status, Streaming};
use tonic_prost::ProstCodec;
use tower_service::Service;

use super::error::CallErrorKind;
use super::messages::{Call, LeaseKeepAliveRequest, LeaseKeepAliveResponse};
use super::messages::{WatchRequest, WatchResponse};
use crate::engine::dflockd::BoxStream;
use crate::mutex::Mutex;

/// The longest response that is read, in bytes. A range over a queue has about 100 bytes for each
/// entry, so this is enough for 600,000 entries.
const MAX_RESPONSE: usize = 64 * 1024 * 1024;

/// The token of an authenticated user.
pub(super) type UserToken = MetadataValue<Ascii>;

/// A connection to one member. Dropping it ends its task, and with it all streams.
pub(super) struct Connection {
    http: Http2,
    origin: Uri,
    member: Arc<str>,
    driver: AbortHandle,
    /// The error of TLS that the stream has returned.
    tls_error: Arc<Mutex<Option<CallErrorKind>>>,
    retired: watch::Sender<bool>,
}

impl Connection {
    /// Performs the HTTP/2 handshake with `member` over `stream`.
    pub(super) async fn open(
        stream: BoxStream,
        member: Arc<str>,
        scheme: &str,
    ) -> Result<Self, hyper::Error> {
        let tls_error = Arc::<Mutex<Option<CallErrorKind>>>::default();
        let stream = MonitoredStream {
            stream,
            tls_error: tls_error.clone(),
        };
        let handshake = http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
        let (sender, connection) = handshake.await?;
        // Its error is also returned to every request on the connection.
        let driver = tokio::spawn(async { drop(connection.await) }).abort_handle();
        let origin = Uri::builder()
            .scheme(scheme)
            .authority(&*member)
            .path_and_query("/")
            .build()
            // An address that the client checked is a valid authority. Otherwise the requests
            // have no `:authority`, which etcd accepts.
            .unwrap_or_default();
        Ok(Self {
            http: Http2(sender),
            origin,
            member,
            driver,
            tls_error,
            retired: watch::Sender::new(false),
        })
    }

    pub(super) fn member(&self) -> &Arc<str> {
        &self.member
    }

    /// Returns whether the connection can be used for another request.
    pub(super) fn is_usable(&self) -> bool {
        !*self.retired.borrow() && !self.http.0.is_closed()
    }

    /// Marks the connection as not to be used: streams on it are opened again elsewhere.
    pub(super) fn retire(&self) {
        self.retired.send_replace(true);
    }

    /// Completes when the connection is not to be used any more.
    pub(super) async fn wait_retired(&self) {
        // The sender lives as long as `self`.
        _ = self.retired.subscribe().wait_for(|retired| *retired).await;
    }

    /// Returns the error of TLS with which the connection has ended, if one has.
    pub(super) fn tls_error(&self) -> Option<CallErrorKind> {
        self.tls_error.lock().clone()
    }

    /// Sends `request` and returns the response.
    pub(super) async fn unary<C: Call>(
        &self,
        request: C,
        token: Option<&UserToken>,
    ) -> Result<C::Response, Status> {
        let mut grpc = self.grpc().await?;
        let codec = ProstCodec::<C, C::Response>::default();
        let path = PathAndQuery::from_static(C::METHOD);
        let response = grpc.unary(with_metadata(request, token), path, codec);
        Ok(response.await?.into_inner())
    }

    /// Sends one keep-alive of a lease and returns the response.
    pub(super) async fn keep_alive(
        &self,
        request: LeaseKeepAliveRequest,
        token: Option<&UserToken>,
    ) -> Result<LeaseKeepAliveResponse, Status> {
        let requests = with_metadata(tokio_stream::once(request), token);
        let mut responses = self.streaming::<LeaseKeepAliveRequest>(requests).await?;
        let response = responses.message().await?;
        response.ok_or_else(|| Status::unavailable("the stream of keep-alives ended"))
    }

    /// Opens the stream of watches.
    pub(super) async fn watch(
        &self,
        requests: UnboundedReceiver<WatchRequest>,
        token: Option<&UserToken>,
    ) -> Result<Streaming<WatchResponse>, Status> {
        self.streaming::<WatchRequest>(with_metadata(Requests(requests), token))
            .await
    }

    async fn streaming<C: Call>(
        &self,
        requests: Request<impl Stream<Item = C> + Send + 'static>,
    ) -> Result<Streaming<C::Response>, Status> {
        let mut grpc = self.grpc().await?;
        let codec = ProstCodec::<C, C::Response>::default();
        let path = PathAndQuery::from_static(C::METHOD);
        Ok(grpc.streaming(requests, path, codec).await?.into_inner())
    }

    async fn grpc(&self) -> Result<Grpc<Http2>, Status> {
        let mut grpc = Grpc::with_origin(self.http.clone(), self.origin.clone())
            .max_decoding_message_size(MAX_RESPONSE);
        let ready = grpc.ready().await;
        ready.map_err(|error| Status::from_error(error.into()))?;
        Ok(grpc)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // A member that has stopped would otherwise keep the task and the socket.
        self.driver.abort();
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("member", &self.member)
            .finish_non_exhaustive()
    }
}

/// Returns `message` with the metadata of every request. A member without a leader fails a request
/// with `hasleader` at once instead of after its own timeout of 7 s.
fn with_metadata<T>(message: T, token: Option<&UserToken>) -> Request<T> {
    let mut request = Request::new(message);
    let metadata = request.metadata_mut();
    metadata.insert("hasleader", MetadataValue::from_static("true"));
    if let Some(token) = token {
        metadata.insert("token", token.clone());
    }
    request
}

/// A stream that keeps its error of TLS. HTTP/2 drops it, and a server refuses the certificate of a
/// client only after the handshake.
struct MonitoredStream {
    stream: BoxStream,
    tls_error: Arc<Mutex<Option<CallErrorKind>>>,
}

impl AsyncRead for MonitoredStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut *self.stream).poll_read(cx, buffer);
        if let Poll::Ready(Err(error)) = &read
            && let Some(kind) = CallErrorKind::from_tls(error)
        {
            *self.tls_error.lock() = Some(kind);
        }
        read
    }
}

impl AsyncWrite for MonitoredStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

/// The sender of an HTTP/2 connection as a service, which gRPC is built on.
#[derive(Clone)]
struct Http2(SendRequest<tonic::body::Body>);

impl Service<HttpRequest<tonic::body::Body>> for Http2 {
    type Response = HttpResponse<hyper::body::Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, hyper::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), hyper::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: HttpRequest<tonic::body::Body>) -> Self::Future {
        Box::pin(self.0.send_request(request))
    }
}

/// The requests of a stream that stays open until the sender is dropped.
struct Requests<T>(UnboundedReceiver<T>);

impl<T> Stream for Requests<T> {
    type Item = T;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        self.0.poll_recv(cx)
    }
}
