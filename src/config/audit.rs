//! `[audit]`: where the audit trail goes when the store keeps it no longer.

use super::{check::Gravity, check::Problem, units};
use serde::{Deserialize, Deserializer, Serialize};
use std::path::PathBuf;

/// `[audit]`: the sink. How long the store keeps what goes there is in `[store.retention]`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AuditConfig {
    /// A folder that takes, as NDJSON, what retention is about to drop. `None`: it is dropped.
    #[serde(deserialize_with = "folder", skip_serializing_if = "Option::is_none")]
    pub sink: Option<PathBuf>,
}

const FOLDER: &str = "a folder (no address: what should be in an object store is copied there from the folder, or the folder is a mount of it)";

fn folder<'de, D: Deserializer<'de>>(from: D) -> Result<Option<PathBuf>, D::Error> {
    let is_folder = |text: &str| !text.is_empty() && !text.contains("://") && !text.contains('\0');
    units::text(from, FOLDER, |text| is_folder(text).then(|| PathBuf::from(text))).map(Some)
}

/// What keeps it from taking anything.
pub(super) fn problems(audit: &AuditConfig) -> Vec<Problem> {
    let missing = audit.sink.iter().filter(|folder| !folder.is_dir());
    let problem = |folder: &PathBuf| Problem {
        key: "[audit] sink".into(),
        reason: format!(
            "there is no folder {}: nothing that retention has passed could be written or dropped",
            folder.display()
        ),
        fix: "make it, or mount it; a worker makes none, lest it fill the wrong disk".into(),
        gravity: Gravity::Weak,
    };
    missing.map(problem).collect()
}
