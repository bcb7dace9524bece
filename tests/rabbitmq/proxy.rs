//! A TCP proxy whose connections can be cut, as a network does it.

use std::sync::Arc;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Notify,
};

/// Forwards to one address until it is dropped.
pub(crate) struct Proxy {
    pub(crate) port: u16,
    address: String,
    cut: Arc<Notify>,
    accepting: tokio::task::JoinHandle<()>,
}

impl Proxy {
    pub(crate) fn to(address: String) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
        listener.set_nonblocking(true).expect("it can be polled");
        let listener = TcpListener::from_std(listener).expect("a listener");
        let (port, cut) = (listener.local_addr().expect("it has an address").port(), Arc::new(Notify::new()));
        let accepting = tokio::spawn(forward(listener, address.clone(), cut.clone()));
        Self { port, address, cut, accepting }
    }

    /// Ends all connections there are; new ones are taken.
    pub(crate) fn cut(&self) {
        self.cut.notify_waiters();
    }

    /// Ends all connections, and takes none until [`accept`](Self::accept).
    pub(crate) fn refuse(&self) {
        self.accepting.abort();
        self.cut();
    }

    /// Takes connections again, on the same port.
    pub(crate) async fn accept(&mut self) {
        let listener = loop {
            match TcpListener::bind(("127.0.0.1", self.port)).await {
                Ok(listener) => break listener,
                Err(_) => pitcrew::testing::poll_pause().await, // the aborted task has not let go of it yet
            }
        };
        self.accepting = tokio::spawn(forward(listener, self.address.clone(), self.cut.clone()));
    }
}

async fn forward(listener: TcpListener, address: String, cutting: Arc<Notify>) {
    while let Ok((mut client, _)) = listener.accept().await {
        let (cut, address) = (cutting.clone(), address.clone());
        tokio::spawn(async move {
            let Ok(mut server) = TcpStream::connect(address).await else { return };
            let _ = client.set_nodelay(true);
            let _ = server.set_nodelay(true);
            tokio::select! {
                _ = tokio::io::copy_bidirectional(&mut client, &mut server) => {}
                () = cut.notified() => {}
            }
        });
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.refuse();
    }
}
