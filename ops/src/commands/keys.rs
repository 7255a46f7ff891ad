//! `solyx keys`: keys of sealed texts, in files.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::json;
use solyx_connectors::seal::TenantKey;
use solyx_schemas::ids::TenantId;

use crate::failure::{Exit, Failure, Outcome};
use crate::output;

/// Make the key with which a tenant's texts are sealed before they are published.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  solyx keys new --tenant acme --key-id acme/2026 keys/acme-2026.key\n  \
                  solyx publish jobs.jsonl --encrypt keys/acme-2026.key --log world\n  solyx tail jobs --log world --keys keys\n\n\
                  Whoever destroys every copy of the file erases the texts: no record changes, and audits pass as before. Then say so in the log with \
                  a TenantKeyDestroyed.")]
pub struct Keys {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Make a key and write it to a new file of mode 0600.
    New {
        /// The tenant.
        #[arg(long)]
        tenant: TenantId,
        /// Id of the key, in every text that it seals: 1 to 64 characters of A-Z a-z 0-9 . _ / -
        #[arg(long, value_name = "ID")]
        key_id: String,
        /// The file; its name ends with .key so that --keys finds it.
        file: PathBuf,
    },
}

/// Runs it.
pub fn run(command: &Keys, json: bool) -> Outcome {
    let What::New { tenant, key_id, file } = &command.what;
    let key = TenantKey::generate(tenant.clone(), key_id)
        .map_err(|e| Failure::usage("the key cannot be made", e, "see `solyx keys new --help`"))?;
    key.store(file).map_err(|e| {
        Failure::environment("the key was not written", e, "name a new file in a directory that is there")
    })?;
    if json {
        output::json(&json!({"tenant": tenant, "key_id": key_id, "file": file}));
    } else {
        output::line(format!("key {key_id} of {tenant} is in {}", file.display()));
    }
    Ok(Exit::Good)
}
