//! A door between the bridge and a server, through which a test sees the statements of writing sessions and can cut the
//! connections at any one of them. It speaks just enough of PostgreSQL's protocol to tell messages apart.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use sync_bridge::config::DatabaseUrl;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// What the bridge's writing sessions are called.
const WRITER: &[u8] = b"sync-bridge write";

/// A message is never longer than this in a test.
const MESSAGE_BYTES_MAX: u32 = 64 << 20;

pub struct Proxy {
    port: u16,
    plan: Arc<Plan>,
    accepting: tokio::task::JoinHandle<()>,
}

#[derive(Default)]
struct Plan {
    /// Statements of writing sessions so far, over all connections.
    statements: AtomicU64,
    /// How often a session, of whichever kind, has waited for an answer.
    round_trips: AtomicU64,
    /// Before which of them all connections are cut; 0: before none.
    cut_before: AtomicU64,
    /// Of which COMMIT, counted from now on, the answer gets lost; 0: of none.
    lose_answer: AtomicU64,
    /// All connections are cut.
    cut: CancellationToken,
    /// Whether nothing gets through any more, though connections stay open and new ones are taken.
    black_hole: AtomicBool,
    /// Notified at every change of the above.
    hole_changed: Notify,
    forgotten: Notify,
}

impl Proxy {
    /// To the server on `port` of this machine.
    pub async fn new(port: u16) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let own = listener.local_addr().expect("its own address").port();
        let plan = Arc::new(Plan::default());
        let shared = plan.clone();
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let plan = shared.clone();
                tokio::spawn(async move {
                    let cut = plan.cut.clone();
                    tokio::select! {
                        () = cut.cancelled() => {}
                        () = half_open_or_relay(client, port, &plan) => {}
                    }
                });
            }
        });
        Proxy { port: own, plan, accepting }
    }

    /// The same database, through this door.
    pub fn url(&self, url: &str) -> DatabaseUrl {
        through(self.port, url)
    }

    /// Cuts all connections before the n-th statement of writing sessions from the beginning on, counted from 1.
    pub fn cut_before(&self, n: u64) {
        self.plan.cut_before.store(n, Ordering::SeqCst);
    }

    /// Half opens every connection, those of now and later: bytes are taken and lead nowhere. What was under way when it
    /// ends is lost for good, as with a router that forgot it; new connections get through again.
    pub fn black_hole(&self, hole: bool) {
        self.plan.black_hole.store(hole, Ordering::SeqCst);
        self.plan.hole_changed.notify_waiters();
    }

    /// Closes the half-open connections, as each end's own keepalive does at last.
    pub fn forget(&self) {
        self.plan.forgotten.notify_waiters();
    }

    /// How many statements of writing sessions there were.
    pub fn statements(&self) -> u64 {
        self.plan.statements.load(Ordering::SeqCst)
    }

    /// How often any session has sent something and waited for the answer: a statement, or several that were sent together.
    pub fn round_trips(&self) -> u64 {
        self.plan.round_trips.load(Ordering::SeqCst)
    }

    /// Cuts the connection of the n-th COMMIT from now on, after the server has answered it and before the bridge hears of it.
    pub fn lose_answer(&self, n: u64) {
        self.plan.lose_answer.store(n, Ordering::SeqCst);
    }

    /// Whether such an answer still waits to be lost.
    pub fn still_to_lose(&self) -> bool {
        self.plan.lose_answer.load(Ordering::SeqCst) > 0
    }

    /// Ends when all connections are cut.
    pub async fn is_cut(&self) {
        self.plan.cut.cancelled().await;
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
        self.plan.cut.cancel();
    }
}

/// The port in a URL of the tests' server.
pub fn port_of(url: &str) -> u16 {
    let address = url.rsplit_once('@').map_or(url, |(_, address)| address);
    let port = address.split_once(':').and_then(|(_, rest)| rest.split_once('/')).map(|(port, _)| port);
    port.and_then(|port| port.parse().ok()).expect("a URL with a port")
}

/// The same database, through a port of this machine.
pub fn through(port: u16, url: &str) -> DatabaseUrl {
    let (theirs, own) = (format!(":{}/", port_of(url)), format!(":{port}/"));
    DatabaseUrl::new(url.replace(&theirs, &own), "through another port")
}

/// Relays until a black hole opens; from then on the connection stays as it is and nothing moves on it, whatever becomes of
/// the hole: neither end is told, until `forget`.
async fn half_open_or_relay(client: TcpStream, port: u16, plan: &Plan) {
    let opens = async {
        loop {
            let changed = plan.hole_changed.notified();
            if plan.black_hole.load(Ordering::SeqCst) {
                return;
            }
            changed.await;
        }
    };
    let mut relaying = std::pin::pin!(relay(client, port, plan));
    tokio::select! {
        biased;
        () = opens => plan.forgotten.notified().await,
        _ = &mut relaying => {}
    }
}

async fn relay(client: TcpStream, port: u16, plan: &Plan) -> std::io::Result<()> {
    let server = TcpStream::connect(("127.0.0.1", port)).await?;
    // Else each statement waits 40 ms for an acknowledgement that carries nothing.
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let losing = AtomicBool::new(false);
    tokio::select! {
        ended = ask(from_client, to_server, plan, &losing) => ended,
        ended = answer(from_server, to_client, &losing) => ended,
    }
}

/// From the bridge to the server, message by message.
async fn ask(
    mut client: OwnedReadHalf,
    mut server: OwnedWriteHalf,
    plan: &Plan,
    losing: &AtomicBool,
) -> std::io::Result<()> {
    // The first messages have no type: perhaps a wish for TLS, which the tests' server declines, then the session's options.
    let mut first = message(&mut client, Vec::new()).await?;
    while first.len() == 8 {
        server.write_all(&first).await?;
        first = message(&mut client, Vec::new()).await?;
    }
    let writes = first.windows(WRITER.len()).any(|part| part == WRITER);
    server.write_all(&first).await?;
    loop {
        let kind = client.read_u8().await?;
        let next = message(&mut client, vec![kind]).await?;
        // A simple query, the end of what was sent together, the end of rows that are copied in.
        if matches!(kind, b'Q' | b'S' | b'c') {
            plan.round_trips.fetch_add(1, Ordering::SeqCst);
        }
        if writes && matches!(kind, b'Q' | b'E') {
            let number = plan.statements.fetch_add(1, Ordering::SeqCst) + 1;
            if number == plan.cut_before.load(Ordering::SeqCst) {
                plan.cut.cancel();
                return Ok(());
            }
            let commits = kind == b'Q' && next[5..].to_ascii_uppercase().starts_with(b"COMMIT");
            let lose = &plan.lose_answer;
            if commits && lose.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1)) == Ok(1) {
                losing.store(true, Ordering::SeqCst);
            }
        }
        server.write_all(&next).await?;
    }
}

/// From the server to the bridge, as it comes.
async fn answer(mut server: OwnedReadHalf, mut client: OwnedWriteHalf, losing: &AtomicBool) -> std::io::Result<()> {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let read = server.read(&mut buffer).await?;
        if read == 0 || losing.load(Ordering::SeqCst) {
            return Ok(());
        }
        client.write_all(&buffer[..read]).await?;
    }
}

/// A message behind what is known of it: its length, which counts itself, and as many bytes.
async fn message(client: &mut OwnedReadHalf, mut known: Vec<u8>) -> std::io::Result<Vec<u8>> {
    let length = client.read_u32().await?;
    assert!((4..MESSAGE_BYTES_MAX).contains(&length), "no message of PostgreSQL's protocol");
    known.extend_from_slice(&length.to_be_bytes());
    let start = known.len();
    known.resize(start + length as usize - 4, 0);
    client.read_exact(&mut known[start..]).await?;
    Ok(known)
}
