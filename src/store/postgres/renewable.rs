//! Timeout: a server that never answers is told from a slow one, and its connections are left behind.
//!
//! A machine that loses its power, or a network that drops packets, closes no connection: the kernel finds out after a quarter of
//! an hour, or never. sqlx sets no keepalive, and would ask such a connection how it is before it takes it back into its pool.

use super::{PostgresStore, errors::Sure};
use crate::store::{StoreError, StoreResult};
use sqlx::{
    PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use std::{
    future::Future,
    sync::{PoisonError, RwLock, atomic::Ordering::Relaxed},
};

/// A pool that can be left behind for another of the same kind.
#[derive(Debug)]
pub(super) struct Renewable {
    options: PgPoolOptions,
    address: PgConnectOptions,
    pool: RwLock<PgPool>,
}

impl Renewable {
    /// Connects when it is asked for a connection.
    pub(super) fn new(options: PgPoolOptions, address: PgConnectOptions) -> Self {
        let pool = options.clone().connect_lazy_with(address.clone());
        Self { options, address, pool: RwLock::new(pool) }
    }

    pub(super) fn get(&self) -> PgPool {
        self.pool.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What still runs in the old one ends there; an author who has it keeps it.
    fn renew(&self) {
        let new = self.options.clone().connect_lazy_with(self.address.clone());
        *self.pool.write().unwrap_or_else(PoisonError::into_inner) = new;
    }
}

impl PostgresStore {
    /// Waits for an answer, but not for ever. Without one the outcome is unknown, and the next try uses new connections.
    pub(super) async fn answered<T>(&self, asked: impl Future<Output = Sure<T>>) -> StoreResult<T> {
        let renewed = self.renewed.load(Relaxed);
        if let Ok(answer) = tokio::time::timeout(self.patience, asked).await {
            return Ok(answer?);
        }
        // Once for all that wait for the same silent server.
        if self.renewed.compare_exchange(renewed, renewed + 1, Relaxed, Relaxed).is_ok() {
            self.commits.forget();
            self.other.renew();
        }
        let seconds = self.patience.as_secs_f64();
        Err(StoreError::Away(anyhow::anyhow!("Postgres has not answered for {seconds} s; it is asked anew")))
    }
}
