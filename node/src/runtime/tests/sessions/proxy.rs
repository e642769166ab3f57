//! A proxy between a node that dials and one that listens, which disturbs their connections.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

/// What happens to the connections that are open.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fault {
    /// Both sides are closed.
    Cut,
    /// The side of the dialling node is closed. The other side learns of it late, and receives then
    /// what was sent before.
    CutDialler,
    /// The side of the listening node is closed. The other side learns of it late.
    CutListener,
    /// The listening node receives an end, and can still send.
    HalfCloseListener,
    /// The same for the dialling node.
    HalfCloseDialler,
    /// Nothing is forwarded for a while.
    Hold(Duration),
    /// The same, and then both sides are closed.
    HoldAndCut,
}

/// Longer than the first pauses between two attempts to dial.
const LATE: Duration = Duration::from_millis(150);

impl Fault {
    /// Every fault that ends a session soon.
    pub(super) const ALL: [Fault; 6] = [
        Fault::Cut,
        Fault::CutDialler,
        Fault::HalfCloseListener,
        Fault::HoldAndCut,
        Fault::CutListener,
        Fault::HalfCloseDialler,
    ];
}

/// Clones share it.
#[derive(Clone, Debug)]
pub(super) struct Proxy {
    /// Where it listens.
    pub(super) address: SocketAddr,
    target: Arc<Mutex<Option<SocketAddr>>>,
    faults: watch::Sender<Fault>,
}

impl Proxy {
    pub(super) async fn start() -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("a port");
        let proxy =
            Proxy { address, target: Arc::default(), faults: watch::Sender::new(Fault::Cut) };
        tokio::spawn(proxy.clone().accept(listener));
        proxy
    }

    /// Where new connections go from now on.
    pub(super) fn forward_to(&self, target: SocketAddr) {
        *self.target.lock().expect("no panic happens while this lock is held") = Some(target);
    }

    pub(super) fn inject(&self, fault: Fault) {
        self.faults.send_replace(fault);
    }

    async fn accept(self, listener: TcpListener) {
        loop {
            let (dialler, _) = listener.accept().await.expect("a connection");
            let target = *self.target.lock().expect("no panic happens while this lock is held");
            let Some(target) = target else { continue };
            if let Ok(listener) = TcpStream::connect(target).await {
                tokio::spawn(forward(dialler, listener, self.faults.subscribe()));
            }
        }
    }
}

/// Forwards in both directions until either side closes, or a fault ends the connection.
async fn forward(dialler: TcpStream, listener: TcpStream, mut faults: watch::Receiver<Fault>) {
    let (mut from_dialler, mut to_dialler) = dialler.into_split();
    let (mut from_listener, mut to_listener) = listener.into_split();
    // Small, so that frames are cut in the middle.
    let mut up = [0; 1_000];
    let mut down = [0; 1_000];
    loop {
        let open = tokio::select! {
            read = from_dialler.read(&mut up) => pass(read.ok(), &up, &mut to_listener).await,
            read = from_listener.read(&mut down) => pass(read.ok(), &down, &mut to_dialler).await,
            changed = faults.changed() => {
                if changed.is_err() {
                    return;
                }
                let fault = *faults.borrow_and_update();
                match fault {
                    Fault::Cut => return,
                    Fault::CutDialler => {
                        let held = read_for(&mut from_dialler, LATE / 8).await;
                        drop((from_dialler, to_dialler));
                        sleep(LATE).await;
                        let _ = to_listener.write_all(&held).await;
                        sleep(LATE).await;
                        return;
                    }
                    Fault::CutListener => {
                        drop((from_listener, to_listener));
                        sleep(LATE).await;
                        return;
                    }
                    Fault::HalfCloseListener => to_listener.shutdown().await.is_ok(),
                    Fault::HalfCloseDialler => to_dialler.shutdown().await.is_ok(),
                    Fault::Hold(how_long) => {
                        sleep(how_long).await;
                        true
                    }
                    Fault::HoldAndCut => {
                        sleep(LATE).await;
                        return;
                    }
                }
            }
        };
        if !open {
            return;
        }
    }
}

/// Passes on what was read; false if the connection has ended.
async fn pass(read: Option<usize>, buffer: &[u8], to: &mut OwnedWriteHalf) -> bool {
    match read {
        None | Some(0) => false,
        Some(read) => to.write_all(&buffer[..read]).await.is_ok(),
    }
}

async fn read_for(from: &mut OwnedReadHalf, how_long: Duration) -> Vec<u8> {
    let mut held = Vec::new();
    let _ =
        timeout(how_long, async { while from.read_buf(&mut held).await.is_ok_and(|n| n > 0) {} })
            .await;
    held
}
