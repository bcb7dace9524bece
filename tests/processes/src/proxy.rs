//! A network that fails: a TCP proxy which delays, falls silent, cuts, and knows where a COMMIT of Postgres goes up and its answer
//! comes down.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    task::JoinHandle,
};

/// Whose wire it is: of Postgres it knows the messages (without TLS), of others only bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire {
    /// Of Postgres.
    Postgres,
    /// Of anything.
    Bytes,
}

/// Which `COMMIT` is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Commit {
    /// It never reaches the server.
    Lost,
    /// The server has said that it is done, and the client does not hear it.
    AnswerLost,
}

#[derive(Debug)]
struct State {
    wire: Wire,
    /// Where it forwards to (host:port).
    address: Mutex<String>,
    /// Milliseconds that each piece waits, in both directions.
    delay: AtomicU64,
    /// What happens to commits, and to every how-manieth.
    commits: Option<(Commit, u32)>,
    seen: AtomicU32,
    cut: AtomicU32,
    /// Counts up at each cut; connections older than it end.
    cuts: watch::Sender<u64>,
    /// Nothing passes, and nobody is told.
    silent: watch::Sender<bool>,
}

/// Forwards to one address, or to the next one, until it is dropped.
#[derive(Debug)]
pub struct Proxy {
    /// Where it listens on this machine.
    pub port: u16,
    state: Arc<State>,
    accepting: JoinHandle<()>,
}

impl Proxy {
    /// To `address` (host:port).
    pub async fn to(address: String, wire: Wire, commits: Option<(Commit, u32)>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let port = listener.local_addr().expect("it has an address").port();
        let state = Arc::new(State {
            wire,
            address: Mutex::new(address),
            delay: AtomicU64::new(0),
            commits,
            seen: AtomicU32::new(0),
            cut: AtomicU32::new(0),
            cuts: watch::Sender::new(0),
            silent: watch::Sender::new(false),
        });
        let accepting = tokio::spawn(accept(listener, state.clone()));
        Self { port, state, accepting }
    }

    /// From now on to this address, as a name or an address that moves from a server to its standby: all connections end.
    pub fn move_to(&self, address: String) {
        *self.state.address.lock().unwrap_or_else(PoisonError::into_inner) = address;
        self.cut();
    }

    /// Every piece takes so long, in each direction.
    pub fn delay(&self, by: Duration) {
        self.state.delay.store(by.as_millis().try_into().expect("not for ever"), SeqCst);
    }

    /// Half-open: connections stay, new ones are taken, and no byte passes until the next [`cut`](Self::cut).
    pub fn fall_silent(&self) {
        self.state.silent.send_replace(true);
    }

    /// Ends all connections there are; new ones are taken and speak.
    pub fn cut(&self) {
        self.state.silent.send_replace(false);
        self.state.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// How many commits were cut.
    pub fn commits_cut(&self) -> u32 {
        self.state.cut.load(SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
        self.cut();
    }
}

async fn accept(listener: TcpListener, state: Arc<State>) {
    while let Ok((client, _)) = listener.accept().await {
        let state = state.clone();
        let address = state.address.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut cuts = state.cuts.subscribe();
        tokio::spawn(async move {
            let Ok(server) = TcpStream::connect(address).await else { return };
            let _ = (client.set_nodelay(true), server.set_nodelay(true));
            let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
            // Whatever ends first takes the other with it: the halves are dropped.
            tokio::select! {
                () = pump(from_client, to_server, &state, Way::Up) => {}
                () = pump(from_server, to_client, &state, Way::Down) => {}
                _ = cuts.changed() => {}
            }
        });
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Up,
    Down,
}

/// Until one side ends, or a commit is cut.
async fn pump(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, state: &State, way: Way) {
    let (mut held, mut piece) = (Vec::new(), vec![0; 64 * 1024]);
    // The first message of a client of Postgres has a length and no type.
    let mut untyped = way == Way::Up;
    let mut silent = state.silent.subscribe();
    loop {
        let Ok(read) = from.read(&mut piece).await else { return };
        if read == 0 {
            return;
        }
        held.extend_from_slice(&piece[..read]);
        let mut whole = held.len();
        if state.wire == Wire::Postgres {
            whole = 0;
            while let Some(length) = message(&held[whole..], untyped) {
                if !untyped && is_cut(&held[whole..whole + length], state, way) {
                    return;
                }
                (whole, untyped) = (whole + length, false);
            }
        }
        let delay = state.delay.load(SeqCst);
        if delay > 0 {
            tokio::time::sleep(Duration::from_millis(delay)).await; // tidy: sleeps, because the network is slow.
        }
        // The sender is held by the state: this ends only with the silence.
        let _ = silent.wait_for(|silent| !silent).await;
        if to.write_all(&held[..whole]).await.is_err() {
            return;
        }
        held.drain(..whole);
    }
}

/// The length of the whole message at the beginning, if all of it is there.
fn message(bytes: &[u8], untyped: bool) -> Option<usize> {
    let at = usize::from(!untyped);
    let length = bytes.get(at..at + 4)?.try_into().map(u32::from_be_bytes).ok()?;
    let whole = at + usize::try_from(length).ok()?;
    (bytes.len() >= whole).then_some(whole)
}

fn is_cut(message: &[u8], state: &State, way: Way) -> bool {
    let Some((which, every)) = state.commits else { return false };
    let is_one = match which {
        Commit::Lost => way == Way::Up && message[0] == b'Q' && message[5..].eq_ignore_ascii_case(b"COMMIT\0"),
        Commit::AnswerLost => way == Way::Down && message[0] == b'C' && &message[5..] == b"COMMIT\0",
    };
    let is_cut = is_one && (state.seen.fetch_add(1, SeqCst) + 1).is_multiple_of(every);
    state.cut.fetch_add(u32::from(is_cut), SeqCst);
    is_cut
}
