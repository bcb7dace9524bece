//! `config`, `migrate`, `schema`: what can be known and prepared without working.

use super::{Globals, output};
use crate::{
    Handlers,
    worker::{self, open_store},
};
use anyhow::Context as _;
use serde_json::{Map, json};
use std::path::PathBuf;

#[derive(clap::Subcommand)]
pub(super) enum ConfigCommand {
    /// Say everything that a start would refuse; opens no connection
    Check,
    /// Print what is in force, without secrets
    Show,
}

/// Bring the store's schema up to this build; safe beside running workers.
#[derive(clap::Args)]
pub(super) struct Migrate {}

#[derive(clap::Subcommand)]
pub(super) enum Schema {
    /// JSON Schemas of all messages, handled and sent
    Export {
        /// One file a type into this directory, in place of one document to standard output
        #[arg(long)]
        dir: Option<PathBuf>,
    },
}

impl ConfigCommand {
    pub(super) fn run(self, globals: &Globals, handlers: &Handlers) -> anyhow::Result<bool> {
        let config = globals.config()?;
        match self {
            Self::Show if globals.json => output::line(config.show_json().to_string()),
            Self::Show => output::line(config.show().trim_end()),
            Self::Check => {
                let topology = worker::plan(handlers, &config)?;
                let listens: Vec<String> =
                    topology.subscriptions.iter().map(|p| p.subscription.name.to_string()).collect();
                output::line(if globals.json {
                    json!({ "ok": true, "subscriptions": listens }).to_string()
                } else {
                    format!("the configuration is fine; a worker would listen to {}", listens.join(", "))
                });
            }
        }
        Ok(true)
    }
}

impl Migrate {
    pub(super) async fn run(self, globals: &Globals) -> anyhow::Result<bool> {
        let opened = open_store(&globals.config()?, false).await?;
        let migrated = opened.store.migrate().await?;
        opened.store.close().await;
        output::line(if globals.json {
            json!({ "store": opened.store.kind(), "from": migrated.from, "to": migrated.to }).to_string()
        } else if migrated.from == migrated.to {
            format!("the {} store is at version {} already", opened.store.kind(), migrated.to)
        } else {
            format!("the {} store went from version {} to {}", opened.store.kind(), migrated.from, migrated.to)
        });
        Ok(true)
    }
}

impl Schema {
    pub(super) fn run(self, handlers: &Handlers) -> anyhow::Result<bool> {
        let Self::Export { dir } = self;
        let schemas = handlers.schemas();
        let Some(dir) = dir else {
            let all: Map<_, _> = schemas.into_iter().map(|(ty, schema)| (ty.to_owned(), schema.to_value())).collect();
            output::line(serde_json::to_string_pretty(&all)?);
            return Ok(true);
        };
        std::fs::create_dir_all(&dir).with_context(|| format!("making {}", dir.display()))?;
        for (ty, schema) in schemas {
            let file = dir.join(format!("{ty}.json"));
            let text = serde_json::to_string_pretty(&schema.to_value())?;
            std::fs::write(&file, text + "\n").with_context(|| format!("writing {}", file.display()))?;
            output::line(file.display().to_string());
        }
        Ok(true)
    }
}
