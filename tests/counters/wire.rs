//! A proxy before Postgres that reads the protocol as it goes by: what is counted is what was really asked and answered, whatever
//! the store says of itself, preparation of statements included.

use pitcrew::sqlx::{ConnectOptions, postgres::PgConnectOptions, postgres::PgSslMode};
use std::{
    str::FromStr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream, UnixStream},
    sync::watch,
};

/// One round trip: the client has asked and cannot go on before this.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    /// What was done, in the server's words: `BEGIN`, `INSERT 0 256`, `COMMIT`. Empty where a statement was only prepared.
    pub(crate) done: Vec<String>,
    /// A transaction is open after it.
    pub(crate) in_transaction: bool,
}

/// What has gone by.
#[derive(Clone, Debug, Default)]
pub(crate) struct Log {
    /// Round trips, without those that open a connection.
    pub(crate) answers: Vec<Answer>,
    /// `BEGIN`s that the client has sent, held back or not.
    pub(crate) begun: usize,
}

impl Log {
    /// `COMMIT`s, and deletions in a transaction of their own: what a message can cause. A heartbeat is neither.
    pub(crate) fn commits(&self) -> usize {
        self.words().iter().filter(|done| **done == "COMMIT").count() + self.lone_deletes()
    }

    /// Statements that deleted something in a transaction of their own.
    pub(crate) fn lone_deletes(&self) -> usize {
        let alone = self.answers.iter().filter(|answer| !answer.in_transaction).flat_map(|answer| &answer.done);
        alone.filter(|done| done.starts_with("DELETE") && *done != "DELETE 0").count()
    }

    /// Round trips inside transactions, the ends included. What only prepares a statement is done once a connection: not these.
    pub(crate) fn in_transactions(&self) -> Vec<&Answer> {
        let ends = |answer: &Answer| answer.done.iter().any(|done| done == "COMMIT" || done == "ROLLBACK");
        self.answers.iter().filter(|a| (a.in_transaction && !a.done.is_empty()) || ends(a)).collect()
    }

    /// What was done in all transactions, statement by statement; those that ran at once are not told apart.
    pub(crate) fn words_in_transactions(&self) -> Vec<&str> {
        self.in_transactions().into_iter().flat_map(|answer| &answer.done).map(String::as_str).collect()
    }

    /// What was done in all.
    pub(crate) fn words(&self) -> Vec<&str> {
        self.answers.iter().flat_map(|answer| &answer.done).map(String::as_str).collect()
    }

    /// Statements that were prepared inside transactions.
    pub(crate) fn prepared(&self) -> usize {
        self.answers.iter().filter(|answer| answer.in_transaction && answer.done.is_empty()).count()
    }

    /// Round trips outside transactions.
    pub(crate) fn alone(&self) -> usize {
        self.answers.len() - self.in_transactions().len() - self.prepared()
    }
}

/// The proxy. It ends with the runtime of its test.
pub(crate) struct Wire {
    /// Where a store finds it.
    pub(crate) url: String,
    log: Arc<Mutex<Log>>,
    held: watch::Sender<bool>,
}

impl Wire {
    /// Before the Postgres at `url`.
    pub(crate) async fn before(url: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let server = PgConnectOptions::from_str(url).expect("the address of a Postgres");
        let port = listener.local_addr().expect("its address").port();
        // Encrypted, the proxy could not read it.
        let through = server.clone().host("127.0.0.1").port(port).ssl_mode(PgSslMode::Disable).to_url_lossy();
        let (held, holding) = watch::channel(false);
        let log = Arc::<Mutex<Log>>::default();
        tokio::spawn(accept(listener, server, log.clone(), holding));
        Self { url: through.to_string(), log, held }
    }

    /// What has gone by since the last `take`.
    pub(crate) fn take(&self) -> Log {
        std::mem::take(&mut *lock(&self.log))
    }

    /// What has gone by, without forgetting it.
    pub(crate) fn look(&self) -> Log {
        lock(&self.log).clone()
    }

    /// From now on no question reaches the server.
    pub(crate) fn hold(&self) {
        self.held.send_replace(true);
    }

    /// Everything that was held goes on.
    pub(crate) fn release(&self) {
        self.held.send_replace(false);
    }
}

fn lock(log: &Mutex<Log>) -> MutexGuard<'_, Log> {
    log.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn accept(listener: TcpListener, server: PgConnectOptions, log: Arc<Mutex<Log>>, held: watch::Receiver<bool>) {
    while let Ok((client, _)) = listener.accept().await {
        client.set_nodelay(true).expect("a TCP connection");
        let connection = Connection { log: log.clone(), open: Arc::default(), held: held.clone() };
        let (read, write) = client.into_split();
        match server.get_socket() {
            Some(directory) => {
                let socket = directory.join(format!(".s.PGSQL.{}", server.get_port()));
                let Ok(server) = UnixStream::connect(socket).await else { continue };
                let (from, to) = server.into_split();
                connection.start(read, to, from, write);
            }
            None => {
                let Ok(server) = TcpStream::connect((server.get_host(), server.get_port())).await else { continue };
                server.set_nodelay(true).expect("a TCP connection");
                let (from, to) = server.into_split();
                connection.start(read, to, from, write);
            }
        }
    }
}

#[derive(Clone)]
struct Connection {
    log: Arc<Mutex<Log>>,
    /// The server has let it in.
    open: Arc<AtomicBool>,
    held: watch::Receiver<bool>,
}

impl Connection {
    fn start<A, B, C, D>(self, client: A, to_server: B, server: C, to_client: D)
    where
        A: AsyncRead + Send + Unpin + 'static,
        B: AsyncWrite + Send + Unpin + 'static,
        C: AsyncRead + Send + Unpin + 'static,
        D: AsyncWrite + Send + Unpin + 'static,
    {
        tokio::spawn(self.clone().questions(client, to_server));
        tokio::spawn(self.answers(server, to_client));
    }

    /// Client to server. Its first message has no letter before its length.
    async fn questions(mut self, from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) {
        let mut from = BufReader::new(from);
        let Some(hello) = read_body(&mut from, Vec::new()).await else { return };
        let mut sent = to.write_all(&hello).await.is_ok();
        while sent {
            let Some((letter, message)) = read(&mut from).await else { break };
            if letter == b'Q' && message[5..].starts_with(b"BEGIN") {
                lock(&self.log).begun += 1;
            }
            if self.open.load(Relaxed) && self.held.wait_for(|held| !held).await.is_err() {
                break;
            }
            sent = to.write_all(&message).await.is_ok();
        }
        let _ = to.shutdown().await;
    }

    /// Server to client.
    async fn answers(self, from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) {
        let (mut from, mut done) = (BufReader::new(from), Vec::new());
        while let Some((letter, message)) = read(&mut from).await {
            match letter {
                b'C' => done.push(String::from_utf8_lossy(&message[5..message.len() - 1]).into_owned()),
                // Ready for the next question; the first one ends the opening.
                b'Z' if self.open.swap(true, Relaxed) => {
                    let answer = Answer { done: std::mem::take(&mut done), in_transaction: message[5] != b'I' };
                    lock(&self.log).answers.push(answer);
                }
                _ => {}
            }
            if to.write_all(&message).await.is_err() {
                break;
            }
        }
        let _ = to.shutdown().await;
    }
}

/// A message with its letter.
async fn read(from: &mut (impl AsyncRead + Unpin)) -> Option<(u8, Vec<u8>)> {
    let letter = from.read_u8().await.ok()?;
    Some((letter, read_body(from, vec![letter]).await?))
}

/// Length and content, after what was read before.
async fn read_body(from: &mut (impl AsyncRead + Unpin), mut message: Vec<u8>) -> Option<Vec<u8>> {
    let length = from.read_u32().await.ok()?;
    message.extend(length.to_be_bytes());
    let begin = message.len();
    message.resize(begin + length as usize - 4, 0);
    from.read_exact(&mut message[begin..]).await.ok()?;
    Some(message)
}
