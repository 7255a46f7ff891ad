//! `solyx schemas`: the contract in a schema registry.

use std::path::Path;

use clap::{Args, Subcommand};
use serde::Serialize;
use serde_json::json;
use solyx_connectors::registry::{FULL_TRANSITIVE, Registered, Registry, RegistryConfig};
use solyx_schemas::codec::{Codec, KnownSchema};
use solyx_schemas::log::LogError;

use crate::failure::{Exit, Failure, Outcome};
use crate::output;

/// Register the contract's schemas in a schema registry with Confluent's API, or compare them with it.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  solyx schemas register --registry http://localhost:8081\n  \
                        solyx schemas check --registry kafka.toml --json\n\n\
                        A file needs a table [registry] with url, and may have username, password_file or password_env,\n\
                        token_file or token_env, ca_file.")]
pub struct Schemas {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Register every schema that is not there: subject = the record's full name, compatibility FULL_TRANSITIVE.
    #[command(after_help = "Example: solyx schemas register --registry http://localhost:8081\n\n\
                            Exit code 1 when the registry refuses a schema.")]
    Register(Where),
    /// Compare without writing: what is missing, how subjects may evolve, what would be refused.
    #[command(
        after_help = "Example: solyx schemas check --registry kafka.toml\n\nExit code 1 when something is found."
    )]
    Check(Where),
}

#[derive(Debug, Args)]
struct Where {
    /// Address of the registry's API, or a toml file with a table [registry].
    #[arg(long, value_name = "FILE_OR_URL")]
    registry: String,
}

/// What became of a schema, or how it stands.
#[derive(Debug, Serialize)]
struct Row {
    subject: &'static str,
    version: Option<u32>,
    id: Option<u32>,
    /// `new`, `there`, `refused`; when comparing `there`, `missing`, `refused`.
    state: &'static str,
    /// Compatibility of the subject; absent where none is set.
    compatibility: Option<String>,
    /// What somebody should look at; absent when all is well.
    finding: Option<String>,
}

/// Runs it.
pub fn run(command: &Schemas, json: bool) -> Outcome {
    let (What::Register(place) | What::Check(place)) = &command.what;
    let registry = Registry::open(&config(&place.registry)?).map_err(misconfigured)?;
    let row = |schema: KnownSchema| match &command.what {
        What::Register(_) => register(&registry, &schema),
        What::Check(_) => check(&registry, &schema),
    };
    let rows = Codec::global().schemas().map(row).collect::<Result<Vec<_>, _>>()?;
    let findings = rows.iter().filter(|row| row.finding.is_some()).count();
    if json {
        output::json(&json!({"registry": registry.url(), "schemas": rows, "findings": findings}));
    } else {
        show(&registry, &rows, findings);
    }
    Ok(if findings == 0 { Exit::Good } else { Exit::Finding })
}

/// An address is taken as it is; anything else names a file.
fn config(place: &str) -> Result<RegistryConfig, Failure> {
    if place.contains("://") {
        return Ok(RegistryConfig::at(place));
    }
    RegistryConfig::read(Path::new(place)).map_err(misconfigured)
}

fn misconfigured(e: LogError) -> Failure {
    Failure::usage(e.what, e.detail, e.hint)
}

fn register(registry: &Registry, schema: &KnownSchema) -> Result<Row, LogError> {
    let row = |version, id, state, finding| {
        let compatibility = Some(FULL_TRANSITIVE.to_owned());
        Row { subject: schema.name, version, id, state, compatibility, finding }
    };
    Ok(match registry.register(schema.name, schema.avsc)? {
        Registered::New(found) => row(Some(found.version), Some(found.id), "new", None),
        Registered::There(found) => {
            if registry.compatibility(schema.name)?.as_deref() != Some(FULL_TRANSITIVE) {
                registry.set_compatibility(schema.name, FULL_TRANSITIVE)?;
            }
            row(Some(found.version), Some(found.id), "there", None)
        }
        Registered::Refused(reason) => {
            row(None, None, "refused", Some(format!("{} is refused: {reason}", schema.name)))
        }
    })
}

fn check(registry: &Registry, schema: &KnownSchema) -> Result<Row, LogError> {
    let name = schema.name;
    let compatibility = registry.compatibility(name)?;
    let (version, id, state, finding) = match registry.lookup(name, schema.avsc)? {
        Some(found) => (Some(found.version), Some(found.id), "there", None),
        None => match registry.refusal(name, schema.avsc)? {
            None => (None, None, "missing", Some(format!("{name} is missing; `solyx schemas register` adds it"))),
            Some(reason) => {
                let finding = format!("{name} would be refused: {reason}; another schema has its subject");
                (None, None, "refused", Some(finding))
            }
        },
    };
    let otherwise = (version.is_some() && compatibility.as_deref() != Some(FULL_TRANSITIVE)).then(|| {
        let level = compatibility.as_deref().unwrap_or("not set");
        format!("compatibility of {name} is {level}, expected {FULL_TRANSITIVE}; `solyx schemas register` sets it")
    });
    Ok(Row { subject: name, version, id, state, compatibility, finding: finding.or(otherwise) })
}

fn show(registry: &Registry, rows: &[Row], findings: usize) {
    let number = |n: Option<u32>| n.map(|n| n.to_string()).unwrap_or_default();
    let cells = rows.iter().map(|row| {
        let compatibility = row.compatibility.clone().unwrap_or_default();
        [row.subject.to_owned(), number(row.version), number(row.id), row.state.to_owned(), compatibility]
    });
    output::line(output::table(["subject", "version", "id", "state", "compatibility"], &[1, 2], cells));
    for finding in rows.iter().filter_map(|row| row.finding.as_deref()) {
        output::line(finding);
    }
    let count = |state: &str| rows.iter().filter(|row| row.state == state).count();
    let states = ["new", "there", "missing", "refused"].map(|state| (count(state), state));
    let counts = states.iter().filter(|(n, _)| *n > 0).map(|(n, state)| format!("{n} {state}")).collect::<Vec<_>>();
    output::line(format!("{} schemas at {}: {}; {findings} findings", rows.len(), registry.url(), counts.join(", ")));
}
