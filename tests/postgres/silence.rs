//! A server that falls silent without closing a connection: its machine has lost its power, or packets are dropped.

use super::*;
use pitcrew::{sqlx::postgres::PgConnectOptions, store::StoreError};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::Notify,
};

/// Between a store and its server.
#[derive(Default)]
struct Line {
    silence: Notify,
    connections: AtomicUsize,
}

impl Line {
    /// The address of its own end.
    async fn lay(self: Arc<Self>, url: &str) -> String {
        let address: PgConnectOptions = url.parse().expect("an address");
        let server = format!("{}:{}", address.get_host(), address.get_port());
        let server_text = server.clone();
        assert!(url.contains(&server), "{server} is written out in the address");
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let here = listener.local_addr().expect("it is bound").to_string();
        tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let (line, server) = (self.clone(), server.clone());
                line.connections.fetch_add(1, SeqCst);
                tokio::spawn(async move {
                    let mut far = TcpStream::connect(server).await.expect("the server answers");
                    tokio::select! {
                        _ = copy_bidirectional(&mut near, &mut far) => {}
                        // Both ends stay open, and nothing passes any more.
                        () = line.silence.notified() => std::future::pending().await,
                    }
                });
            }
        });
        url.replacen(&server_text, &here, 1)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_falls_silent_is_asked_anew_on_other_connections() {
    let Some(bed) = Bed::make().await else { return };
    let line = Arc::new(Line::default());
    let url = line.clone().lay(&bed.url).await;
    let options = Options { patience: Duration::from_secs(2), ..options(&bed.schema) };
    let store = PostgresStore::connect(&url, options).await.expect("connects");
    let me = worker();
    store.start_worker(&me, clock::now()).await.expect("starts");
    let first = finished(id_at(clock::now()));
    assert_eq!(commit(&store, std::slice::from_ref(&first)).await.expect("commits"), [Verdict::Stored]);

    pitcrew::testing::poll_pause().await; // the connections are back in their pools

    let before = line.connections.load(SeqCst);
    line.silence.notify_waiters();
    let second = finished(id_at(clock::now()));
    let key = [first.key()];
    let commits = commit(&store, std::slice::from_ref(&second));
    let (commits, beats, reads) = tokio::join!(commits, store.beat(me.id, &[], clock::now()), store.seen(&key));
    let answers = [commits.map(drop), beats.map(drop), reads.map(drop)];
    assert!(answers.iter().all(|answer| matches!(answer, Err(StoreError::Away(_)) | Ok(()))), "{answers:?}");
    assert!(answers.iter().any(Result::is_err), "nobody was met by the silence");

    let third = finished(id_at(clock::now()));
    assert_eq!(commit(&store, &[third]).await.expect("commits"), [Verdict::Stored]);
    assert!(store.beat(me.id, &[], clock::now()).await.expect("beats"));
    assert!(store.seen(&key).await.expect("answers")[0].is_some());
    assert!(line.connections.load(SeqCst) > before, "on other connections");
    bed.end().await;
}
