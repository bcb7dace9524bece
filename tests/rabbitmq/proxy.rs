//! A TCP proxy whose connections can be cut, as a network does it.

use std::sync::Arc;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Notify,
};

/// Forwards to one address until it is dropped.
pub(crate) struct Proxy {
    pub(crate) port: u16,
    cut: Arc<Notify>,
    accepting: tokio::task::JoinHandle<()>,
}

impl Proxy {
    pub(crate) async fn to(address: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let (port, cut) = (listener.local_addr().expect("it has an address").port(), Arc::new(Notify::new()));
        let cutting = cut.clone();
        let accepting = tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let (cut, address) = (cutting.clone(), address.clone());
                tokio::spawn(async move {
                    let Ok(mut broker) = TcpStream::connect(address).await else { return };
                    let _ = client.set_nodelay(true);
                    let _ = broker.set_nodelay(true);
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut client, &mut broker) => {}
                        () = cut.notified() => {}
                    }
                });
            }
        });
        Self { port, cut, accepting }
    }

    /// Ends all connections there are; new ones are taken.
    pub(crate) fn cut(&self) {
        self.cut.notify_waiters();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
        self.cut();
    }
}
