//! The committer's own connections: a pool that never asks a connection how it is.
//!
//! Sqlx's pool pings each connection that is given back, which is one round trip more for every commit. Here a connection is given
//! back only when its transaction has ended for sure; in every other case, a dropped future too, it is closed.

use super::{CONNECT_TIMEOUT, errors::Sure};
use sqlx::{
    Connection as _, PgConnection,
    postgres::{PgConnectOptions, PgTransaction},
};
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::{Semaphore, SemaphorePermit};

/// So many connections at most, each made when it is first needed.
#[derive(Debug)]
pub(super) struct Lines {
    address: PgConnectOptions,
    free: Mutex<Vec<PgConnection>>,
    permits: Semaphore,
}

/// A connection in use; dropped, it is closed.
#[derive(Debug)]
pub(super) struct Line<'a> {
    lines: &'a Lines,
    connection: PgConnection,
    /// It may have died since.
    pub(super) was_used: bool,
    _permit: SemaphorePermit<'a>,
}

impl Lines {
    pub(super) fn new(address: PgConnectOptions, most: u32) -> Self {
        Self { address, free: Mutex::default(), permits: Semaphore::new(most as usize) }
    }

    /// Waits for one that is free, or makes one.
    pub(super) async fn take(&self) -> Sure<Line<'_>> {
        let permit = self.permits.acquire().await.map_err(|_| sqlx::Error::PoolClosed)?;
        let known = self.free().pop();
        let was_used = known.is_some();
        let connection = match known {
            Some(connection) => connection,
            None => tokio::time::timeout(2 * CONNECT_TIMEOUT, PgConnection::connect_with(&self.address))
                .await
                .map_err(|_| sqlx::Error::PoolTimedOut)??,
        };
        Ok(Line { lines: self, connection, was_used, _permit: permit })
    }

    /// Ends those that are free; those in use are closed when they are given back.
    pub(super) async fn close(&self) {
        self.permits.close();
        let free = std::mem::take(&mut *self.free());
        for connection in free {
            let _ = connection.close().await; // the server notices anyway
        }
    }

    /// Leaves those behind that are free: nobody answers there.
    pub(super) fn forget(&self) {
        self.free().clear();
    }

    fn free(&self) -> MutexGuard<'_, Vec<PgConnection>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Line<'_> {
    pub(super) async fn begin(&mut self) -> Result<PgTransaction<'_>, sqlx::Error> {
        self.connection.begin().await
    }

    /// Its transaction has ended: it is as good as new.
    pub(super) fn give_back(self) {
        if !self.lines.permits.is_closed() {
            self.lines.free().push(self.connection);
        }
    }
}
