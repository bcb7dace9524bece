//! Exception Translator: what a database error means for the batch that met it.

use crate::store::StoreError;
use sqlx::postgres::PgDatabaseError;

/// Inside this adapter: an answer of the database, or a decision of ours.
#[derive(Debug)]
pub(super) enum Trouble {
    Sql(sqlx::Error),
    Store(StoreError),
}

pub(super) type Sure<T> = Result<T, Trouble>;

impl From<sqlx::Error> for Trouble {
    fn from(error: sqlx::Error) -> Self {
        Self::Sql(error)
    }
}

impl From<StoreError> for Trouble {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<Trouble> for StoreError {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Sql(error) => translate(error),
            Trouble::Store(error) => error,
        }
    }
}

impl Trouble {
    /// Rolled back, try again: what this store decides when somebody else was faster.
    pub(super) fn busy(why: &'static str) -> Self {
        Self::Store(StoreError::Busy(anyhow::anyhow!(why)))
    }

    pub(super) fn sqlstate(&self) -> Option<String> {
        match self {
            Self::Sql(sqlx::Error::Database(error)) => error.code().map(Into::into),
            _ => None,
        }
    }

    /// Whether another connection might do better: the server was demoted or is ending, or it did not answer. What the data or a
    /// neighbour caused leaves the connection as good as it was.
    pub(super) fn is_of_the_server(&self) -> bool {
        match self {
            Self::Sql(sqlx::Error::Database(error)) => {
                let code = error.code().unwrap_or_default();
                !["21", "22", "23", "40", "54", "55"].contains(&&code[..2.min(code.len())])
            }
            Self::Sql(_) => true,
            Self::Store(_) => false,
        }
    }

    /// Whether it says that the inbox of `schema` has no partition for a row. It has the SQLSTATE of a failed CHECK, and its
    /// text is translated: the routine that raised it is neither.
    pub(super) fn is_missing_partition(&self, schema: &str) -> bool {
        let Self::Sql(sqlx::Error::Database(error)) = self else { return false };
        error.try_downcast_ref::<PgDatabaseError>().is_some_and(|error| {
            error.code() == "23514"
                && error.routine() == Some("ExecFindPartition")
                && error.table() == Some("inbox")
                && error.schema() == Some(schema)
        })
    }
}

/// Whether the connection is gone: cut, or ended by the server (57P01 to 57P03) while it was idle.
pub(super) fn is_dead(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_) => true,
        sqlx::Error::Database(error) => error.code().is_some_and(|code| code.starts_with("57P")),
        _ => false,
    }
}

/// Only what the data of a message caused may condemn it; what is not known for sure holds.
fn translate(error: sqlx::Error) -> StoreError {
    let code = match &error {
        sqlx::Error::Database(database) => database.code().unwrap_or_default().into_owned(),
        sqlx::Error::Encode(_) => return StoreError::Refused(error.into()),
        _ => return StoreError::Away(error.into()),
    };
    match &*code {
        "40001" | "40P01" | "55P03" => StoreError::Busy(error.into()),
        // data exception, cardinality violation, integrity constraint violation, program limit exceeded
        code if ["22", "21", "23", "54"].contains(&&code[..2.min(code.len())]) => StoreError::Refused(error.into()),
        _ => StoreError::Away(error.into()),
    }
}

/// For calls that set up: what the database will say again and again is for the operator.
pub(super) fn unfit(trouble: Trouble, what: &str) -> StoreError {
    let code = trouble.sqlstate().unwrap_or_default();
    match (&trouble, code.as_str()) {
        // no such database or schema; wrong user or password; no such table, column or privilege; read-only; not supported
        (Trouble::Sql(error), code)
            if ["3D", "3F", "28", "42", "0A"].contains(&&code[..2.min(code.len())]) || code == "25006" =>
        {
            StoreError::Unfit(format!("{what}: {error}"))
        }
        _ => trouble.into(),
    }
}
