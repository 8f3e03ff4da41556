//! Takes connections over HTTP, and lets none of them take the process, or the places of others. Owns: how many are served at a time, who gives
//! a place up when all are taken, how long a request's head and the whole may take. Never: what is answered.

use std::error::Error;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::clock;

/// A head is a packet or two; who takes longer than this for one has none.
const HEAD_MAX: Duration = Duration::from_secs(5);

/// Before connections are taken again that could not be.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// While all places are at work: how often it is looked whether one of them only waits for its reader by now.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What connections may take of the process.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Served at a time; more than that wait to be taken, where they cost no open file.
    pub at_once: usize,
    /// For all of one: its request, the answer, and its reader.
    pub whole: Duration,
}

impl Bounds {
    /// Places that one address may have: a quarter is for others.
    fn of_one(self) -> usize {
        (self.at_once - self.at_once / 4).max(1)
    }
}

/// Answers a request on each connection until `stop`, and then those under way.
pub async fn serve<S, B>(
    listener: TcpListener,
    bounds: Bounds,
    stop: &CancellationToken,
    service: impl Fn(SocketAddr) -> S,
) where
    S: Service<Request<Arriving>, Response = Response<B>> + Send + 'static,
    S::Future: Send,
    S::Error: Into<Box<dyn Error + Send + Sync>>,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let (free, seats, served) = (Arc::new(Semaphore::new(bounds.at_once)), Seats::default(), TaskTracker::new());
    while let Some(taken) = stop.run_until_cancelled(listener.accept()).await {
        match taken {
            Ok((stream, from)) => {
                let seating = seats.seat(&free, bounds, place(from.ip()));
                let Some(Some((seat, permit))) = stop.run_until_cancelled(seating).await else { continue };
                let serving = one(stream, service(from), seat.clone(), stop.clone());
                let seats = seats.clone();
                served.spawn(async move {
                    let _ = clock::within(bounds.whole, seat.left.run_until_cancelled(serving)).await;
                    seats.leave(&seat);
                    drop(permit);
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
async fn one<S, B>(stream: TcpStream, service: S, seat: Seat, stop: CancellationToken)
where
    S: Service<Request<Arriving>, Response = Response<B>>,
    S::Error: Into<Box<dyn Error + Send + Sync>>,
    B: Body + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let service = service_fn(move |request: Request<Incoming>| {
        let seat = seat.clone();
        let answer = service.call(request.map(|body| Arriving::of(body, seat.clone())));
        async move {
            let answered = answer.await;
            seat.works(false);
            answered
        }
    });
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

/// Who has a place, the oldest first.
#[derive(Debug, Clone, Default)]
struct Seats(Arc<Mutex<Vec<Seat>>>);

/// One's place.
#[derive(Debug, Clone)]
struct Seat {
    from: IpAddr,
    /// Its request is here whole, and is being answered.
    at_work: Arc<AtomicBool>,
    /// Others need it more.
    left: CancellationToken,
}

impl Seat {
    fn works(&self, works: bool) {
        self.at_work.store(works, Ordering::Relaxed);
    }

    fn gives_way(&self) -> bool {
        !self.at_work.load(Ordering::Relaxed) && !self.left.is_cancelled()
    }
}

impl Seats {
    /// A place for one more; `None` for an address that has its share of them at work.
    async fn seat(&self, free: &Arc<Semaphore>, bounds: Bounds, from: IpAddr) -> Option<(Seat, OwnedSemaphorePermit)> {
        let permit = loop {
            let found = {
                let seats = self.all();
                let found = room(&seats, bounds.of_one(), free.available_permits() > 0, from);
                if let Room::Of(at) = found {
                    seats[at].left.cancel();
                }
                found
            };
            if found == Room::Never {
                return None;
            }
            // Nobody else takes one, and who is asked to leave frees it at once.
            if let Some(permit) = clock::within(LOOK_EVERY, free.clone().acquire_owned()).await {
                break permit.expect("it is never closed");
            }
        };
        let seat = Seat { from, at_work: Arc::default(), left: CancellationToken::new() };
        self.all().push(seat.clone());
        Some((seat, permit))
    }

    fn leave(&self, seat: &Seat) {
        self.all().retain(|one| !Arc::ptr_eq(&one.at_work, &seat.at_work));
    }

    fn all(&self) -> MutexGuard<'_, Vec<Seat>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where one more finds room.
#[derive(Debug, PartialEq, Eq)]
enum Room {
    Free,
    /// In the place of this one.
    Of(usize),
    /// Once an answer has gone out.
    Later,
    /// Its address has its share, and all of that is at work.
    Never,
}

/// Whose place one more gets: where its address has its share, one of its own; where all are taken, one of the address that has most. The oldest of
/// those that have not brought their request, or do not fetch their answer; whoever does either needs a moment for it.
fn room(seats: &[Seat], share: usize, has_free: bool, from: IpAddr) -> Room {
    let count = |from: IpAddr| seats.iter().filter(|seat| seat.from == from && !seat.left.is_cancelled()).count();
    let oldest = |from: IpAddr| seats.iter().position(|seat| seat.from == from && seat.gives_way());
    if count(from) >= share {
        return oldest(from).map_or(Room::Never, Room::Of);
    }
    if has_free {
        return Room::Free;
    }
    // Of those that have as many the one that came first, which is the last this way.
    let idle = seats.iter().enumerate().rev().filter(|(_, seat)| seat.gives_way());
    idle.max_by_key(|(_, seat)| count(seat.from)).map_or(Room::Later, |(at, _)| Room::Of(at))
}

/// An address, or the network that its owner has all addresses of.
pub fn place(from: IpAddr) -> IpAddr {
    const NETWORK: u128 = !0 << 64;
    match from.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & NETWORK)),
        address @ IpAddr::V4(_) => address,
    }
}

/// A request's body; its place is at work once it is here.
#[derive(Debug)]
pub struct Arriving {
    body: Incoming,
    seat: Seat,
}

impl Arriving {
    fn of(body: Incoming, seat: Seat) -> Arriving {
        seat.works(body.is_end_stream());
        Arriving { body, seat }
    }
}

impl Body for Arriving {
    type Data = <Incoming as Body>::Data;
    type Error = <Incoming as Body>::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        let ended = match &polled {
            Poll::Ready(Some(Ok(_))) => self.body.is_end_stream(),
            Poll::Ready(_) => true,
            Poll::Pending => false,
        };
        if ended {
            self.seat.works(true);
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use http_body_util::{BodyExt as _, Full};
    use hyper::body::Bytes;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpSocket;

    use super::*;

    fn ip(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    #[test]
    fn whoever_has_most_places_and_asks_nothing_gives_one_up() {
        let seat = |from: u8, works: bool| {
            let seat = Seat { from: ip(from), at_work: Arc::default(), left: CancellationToken::new() };
            seat.works(works);
            seat
        };
        let one_more = |seats: &[(u8, bool)], has_free: bool, from: u8| {
            let seats: Vec<Seat> = seats.iter().map(|(from, works)| seat(*from, *works)).collect();
            room(&seats, 3, has_free, ip(from))
        };
        assert_eq!(one_more(&[], true, 1), Room::Free);
        assert_eq!(one_more(&[(1, false), (1, false)], true, 1), Room::Free);
        assert_eq!(
            one_more(&[(2, false), (1, true), (1, false), (1, false)], true, 1),
            Room::Of(2),
            "its share is taken"
        );
        assert_eq!(one_more(&[(2, false), (1, true), (1, true), (1, true)], true, 1), Room::Never);
        assert_eq!(
            one_more(&[(2, false), (1, true), (1, false), (1, false)], false, 3),
            Room::Of(2),
            "of who has most"
        );
        assert_eq!(one_more(&[(2, false), (3, false), (2, true), (3, true)], false, 4), Room::Of(0), "the oldest");
        assert_eq!(one_more(&[(2, false), (1, true), (1, true), (1, true)], false, 3), Room::Of(0));
        assert_eq!(one_more(&[(2, true), (1, true), (1, true), (1, true)], false, 3), Room::Later);
        // Who leaves already is not asked again.
        let seats: Vec<Seat> = [(1, false), (1, false), (1, false)].map(|(from, works)| seat(from, works)).into();
        seats[0].left.cancel();
        assert_eq!(room(&seats, 3, false, ip(1)), Room::Of(1));
        assert_eq!(room(&seats, 2, false, ip(1)), Room::Of(1));
    }

    #[test]
    fn a_network_is_one_place() {
        let of = |text: &str| place(text.parse().expect("an address"));
        assert_eq!(of("2001:db8:0:1::7"), of("2001:db8:0:1:ffff::"));
        assert_ne!(of("2001:db8:0:1::7"), of("2001:db8:0:2::7"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
    }

    /// Repeats the body that it was sent.
    async fn echo(request: Request<Arriving>) -> Result<Response<Full<Bytes>>, Infallible> {
        let said = request.into_body().collect().await.map(|all| all.to_bytes());
        Ok(Response::new(Full::new(said.unwrap_or_default())))
    }

    async fn connect(from: [u8; 4], to: SocketAddr, request: &str) -> TcpStream {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind(SocketAddr::from((from, 0))).expect("an address of this machine");
        let mut stream = socket.connect(to).await.expect("it listens");
        stream.write_all(request.as_bytes()).await.expect("asking");
        stream
    }

    async fn answer(mut stream: TcpStream) -> String {
        let mut answer = String::new();
        // Whoever had to leave was told nothing.
        let _ = stream.read_to_string(&mut answer).await;
        answer
    }

    #[tokio::test]
    async fn bodies_that_never_come_keep_nobody_out() {
        const HERE: [u8; 4] = [127, 0, 0, 1];
        const THERE: [u8; 4] = [127, 0, 0, 2];
        const WHOLE: &str = "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nhi";
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let (to, stop) = (listener.local_addr().expect("its address"), CancellationToken::new());
        // Nothing here ends by its time.
        let bounds = Bounds { at_once: 4, whole: Duration::from_secs(3600) };
        let serving = tokio::spawn({
            let stop = stop.clone();
            async move { serve(listener, bounds, &stop, |_| service_fn(echo)).await }
        });
        let half = &WHOLE[..WHOLE.len() - 1];
        let mut held = Vec::new();
        for _ in 0..9 {
            held.push(connect(THERE, to, half).await);
        }
        let asked =
            clock::within(Duration::from_secs(60), async { answer(connect(HERE, to, WHOLE).await).await }).await;
        assert!(asked.is_some_and(|answer| answer.ends_with("\r\n\r\nhi")), "a place is left for others");
        // Others take all places; then those who have most of them leave.
        for last in 3..9 {
            held.push(connect([127, 0, 0, last], to, half).await);
        }
        let asked =
            clock::within(Duration::from_secs(60), async { answer(connect(HERE, to, WHOLE).await).await }).await;
        assert!(asked.is_some_and(|answer| answer.ends_with("\r\n\r\nhi")), "a place was made");
        // Four at most are still there: what they ask is answered when it comes.
        let mut answered = 0;
        for mut stream in held {
            let _ = stream.write_all(b"i").await;
            let said = clock::within(Duration::from_secs(60), answer(stream)).await.expect("it ends");
            answered += usize::from(said.ends_with("\r\n\r\nhi"));
        }
        assert!((1..=4).contains(&answered), "{answered}");
        stop.cancel();
        serving.await.expect("no panic");
    }
}
