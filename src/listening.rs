//! Takes connections over HTTP, and lets none of them take the process. Owns: how many are served at a time, how long a request's head and the
//! whole may take. Never: what is answered.

use std::error::Error;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::{Body, Incoming};
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::clock;

/// A head is a packet or two; who takes longer than this for one has none.
const HEAD_MAX: Duration = Duration::from_secs(5);

/// Before connections are taken again that could not be.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// What connections may take of the process.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Served at a time; more than that wait to be taken, where they cost no open file.
    pub at_once: usize,
    /// For all of one: its request, the answer, and its reader.
    pub whole: Duration,
}

/// Answers a request on each connection until `stop`, and then those under way.
pub async fn serve<S, B>(
    listener: TcpListener,
    bounds: Bounds,
    stop: &CancellationToken,
    service: impl Fn(SocketAddr) -> S,
) where
    S: Service<Request<Incoming>, Response = Response<B>> + Send + 'static,
    S::Future: Send,
    S::Error: Into<Box<dyn Error + Send + Sync>>,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let (free, served) = (Arc::new(Semaphore::new(bounds.at_once)), TaskTracker::new());
    let next = async || {
        let place = free.clone().acquire_owned().await.expect("it is never closed");
        (listener.accept().await, place)
    };
    while let Some((taken, place)) = stop.run_until_cancelled(next()).await {
        match taken {
            Ok((stream, from)) => {
                let serving = one(stream, service(from), stop.clone());
                served.spawn(async move {
                    let _ = clock::within(bounds.whole, serving).await;
                    drop(place);
                });
            }
            // It left before it was taken.
            Err(error) if matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset) => {}
            // Out of file descriptors, perhaps: not at once again.
            Err(error) => {
                tracing::warn!("taking a connection: {error}");
                clock::sleep_unless(AGAIN_AFTER, stop).await;
            }
        }
    }
    drop(listener);
    served.close();
    served.wait().await;
}

/// One request: a connection that is kept for a next one would keep its place from others.
async fn one<S, B>(stream: TcpStream, service: S, stop: CancellationToken)
where
    S: Service<Request<Incoming>, Response = Response<B>>,
    S::Error: Into<Box<dyn Error + Send + Sync>>,
    B: Body + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let mut builder = http1::Builder::new();
    builder.keep_alive(false).timer(TokioTimer::new()).header_read_timeout(HEAD_MAX);
    let mut serving = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let done = tokio::select! {
        done = serving.as_mut() => done,
        () = stop.cancelled() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = done {
        tracing::debug!("answering a request: {error}");
    }
}
