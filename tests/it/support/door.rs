//! A door between the bridge and a server that is open, shut, or leads nowhere. `proxy` sees what goes through; this does not.

use sync_bridge::config::DatabaseUrl;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::proxy::through;

/// How a door to a server behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    Open,
    /// Nobody listens, and connections that there were are cut.
    Shut,
    /// Connections are taken, and nothing goes through any of them.
    Nowhere,
}

/// A door between the bridge and a server.
pub struct Door {
    port: u16,
    way: watch::Sender<Way>,
}

impl Door {
    pub async fn new(server: u16) -> Door {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("its own address").port();
        let (way, mut now) = watch::channel(Way::Open);
        tokio::spawn(async move {
            let mut listener = Some(listener);
            loop {
                let way = *now.borrow_and_update();
                match (way, &listener) {
                    (Way::Shut, _) => listener = None,
                    (_, None) => listener = TcpListener::bind(("127.0.0.1", port)).await.ok(),
                    (_, Some(open)) => tokio::select! {
                        Ok((client, _)) = open.accept() => {
                            tokio::spawn(relay(client, server, now.clone()));
                        }
                        changed = now.changed() => match changed {
                            Ok(()) => {}
                            Err(_) => return,
                        },
                    },
                }
                if way == Way::Shut && now.changed().await.is_err() {
                    return;
                }
            }
        });
        Door { port, way }
    }

    pub fn is(&self, way: Way) {
        self.way.send(way).expect("the door stands");
    }

    /// The same database, behind this door.
    pub fn url(&self, url: &str) -> DatabaseUrl {
        through(self.port, url)
    }
}

async fn relay(mut client: TcpStream, server: u16, mut way: watch::Receiver<Way>) {
    let Ok(mut server) = TcpStream::connect(("127.0.0.1", server)).await else { return };
    loop {
        let now = *way.borrow_and_update();
        tokio::select! {
            biased;
            changed = way.changed() => if changed.is_err() { return },
            _ = tokio::io::copy_bidirectional(&mut client, &mut server), if now == Way::Open => return,
            () = std::future::ready(()), if now == Way::Shut => return,
        }
    }
}
