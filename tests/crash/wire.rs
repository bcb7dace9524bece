//! The wire between a worker and its Postgres, for cutting it at the worst moment.

use super::bed::Place;
use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering::SeqCst},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
};

/// How a client asks, and how the server answers: both end with a NUL.
const COMMIT: &[u8] = b"COMMIT\0";

pub(crate) struct Wire {
    pub(crate) place: Place,
    switch: Arc<Switch>,
}

struct Switch {
    /// Commits whose answer will be lost.
    lose: AtomicU32,
    lost: AtomicU32,
    state: watch::Sender<State>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum State {
    Whole,
    /// All connections end, and no new one comes up.
    Cut,
    /// Connections stand, and nothing comes through.
    Silent,
}

impl Wire {
    /// Listens on a port of its own, for as long as the test's runtime lives.
    pub(crate) async fn to(place: &Place) -> Self {
        let Place::Postgres { url, schema } = place else { panic!("a wire leads to a Postgres") };
        let (server, detour) = {
            let (scheme, rest) = url.split_once("://").expect("an address");
            let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
            let (user, server) = authority.rsplit_once('@').unwrap_or(("", authority));
            let server = if server.contains(':') { server.to_owned() } else { format!("{server}:5432") };
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
            let here = listener.local_addr().expect("a port");
            let more = if path.contains('?') { '&' } else { '?' };
            let url = format!("{scheme}://{user}@{here}/{path}{more}sslmode=disable");
            ((server, listener), Place::Postgres { url, schema: schema.clone() })
        };
        let switch = Arc::new(Switch { lose: 0.into(), lost: 0.into(), state: watch::Sender::new(State::Whole) });
        tokio::spawn(serve(server.1, server.0, switch.clone()));
        Self { place: detour, switch }
    }

    /// The server will commit so many times, and nobody will hear of it.
    pub(crate) fn lose_answers(&self, commits: u32) {
        self.switch.lose.store(commits, SeqCst);
    }

    pub(crate) fn lost(&self) -> u32 {
        self.switch.lost.load(SeqCst)
    }

    pub(crate) fn becomes(&self, state: State) {
        self.switch.state.send_replace(state);
    }
}

async fn serve(listener: TcpListener, server: String, switch: Arc<Switch>) {
    while let Ok((client, _)) = listener.accept().await {
        let (server, switch) = (server.clone(), switch.clone());
        tokio::spawn(async move {
            let mut state = switch.state.subscribe();
            tokio::select! {
                biased;
                _ = state.wait_for(|state| *state == State::Cut) => {}
                _ = carry(client, &server, &switch) => {}
            }
        });
    }
}

/// Both ways, until one side ends or an answer is to be lost: then both connections end here.
async fn carry(mut client: TcpStream, server: &str, switch: &Switch) -> std::io::Result<()> {
    let mut server = TcpStream::connect(server).await?;
    let (mut asked, mut answered) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    let mut losing = false;
    let mut state = switch.state.subscribe();
    loop {
        // Cut ends this from outside.
        let _ = state.wait_for(|state| *state != State::Silent).await;
        tokio::select! {
            _ = state.changed() => {}
            read = client.read(&mut asked) => {
                let asked = &asked[..read?];
                if asked.is_empty() {
                    return Ok(());
                }
                let commits = asked.windows(COMMIT.len()).any(|bytes| bytes == COMMIT);
                losing = commits && switch.lose.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1)).is_ok();
                server.write_all(asked).await?;
            }
            read = server.read(&mut answered) => {
                let answered = &answered[..read?];
                if answered.is_empty() {
                    return Ok(());
                }
                if losing && answered.windows(COMMIT.len()).any(|bytes| bytes == COMMIT) {
                    switch.lost.fetch_add(1, SeqCst);
                    return Ok(());
                }
                client.write_all(answered).await?;
            }
        }
    }
}
