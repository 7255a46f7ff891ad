//! The client: a few calls of Confluent's API, which block and end in time.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use solyx_schemas::log::LogError;
use ureq::Agent;
use ureq::http::{Method, Request};
use ureq::tls::{PemItem, RootCerts, TlsConfig, TlsProvider, parse_pem};

use super::answer::{Answer, Found, unanswered};
use super::config::{Identity, RegistryConfig, stop};
use super::normal;

/// What evolution of our schemas allows: every version reads every other.
pub const FULL_TRANSITIVE: &str = "FULL_TRANSITIVE";

/// Longest wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Longest wait for a whole answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest answer in bytes; the longest of our schemas has 30 thousand.
const ANSWER_LEN_MAX: u64 = 4 << 20;
/// What Confluent's API speaks.
const CONTENT_TYPE: &str = "application/vnd.schemaregistry.v1+json";

/// A version of a subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version {
    /// Counted from 1 in its subject.
    pub version: u32,
    /// The registry's id of the schema.
    pub id: u32,
}

/// What became of a schema that was to be registered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Registered {
    /// It was there.
    There(Version),
    /// It is new.
    New(Version),
    /// The registry refuses it, for this reason.
    Refused(String),
}

/// A schema registry.
#[derive(Debug)]
pub struct Registry {
    url: String,
    agent: Agent,
    identity: Identity,
    may_register: bool,
}

impl Registry {
    /// The registry of a configuration. Nothing is asked yet.
    pub fn open(config: &RegistryConfig) -> Result<Self, LogError> {
        let url = config.url.trim().trim_end_matches('/').to_owned();
        let hint = "write it as in http://localhost:8081";
        let Some((scheme @ ("http" | "https"), rest)) = url.split_once("://") else {
            return Err(stop(
                "the schema registry's address is wrong",
                "expected http:// or https:// and a host",
                hint,
            ));
        };
        if rest.split('/').next().is_none_or(|host| host.is_empty() || host.contains('@')) {
            // The address is printed and kept in files.
            let detail = "expected a host and a port, without a name or password in it";
            return Err(stop(
                "the schema registry's address is wrong",
                detail,
                "use username and password_file, or token_file",
            ));
        }
        let identity = config.identity()?;
        // What is missing is said now, not at the first record.
        identity.authorization()?;
        let mut tls = TlsConfig::builder().provider(TlsProvider::NativeTls).root_certs(RootCerts::PlatformVerifier);
        if let Some(path) = &config.ca_file {
            if scheme == "http" {
                let detail = format!("ca_file is there, but {url} is not https");
                return Err(stop("the [registry] table is wrong", detail, "take out ca_file, or use https"));
            }
            tls = tls.root_certs(authorities(path)?);
        }
        let agent = Agent::config_builder()
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .timeout_global(Some(ANSWER_TIMEOUT))
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent(concat!("solyx/", env!("CARGO_PKG_VERSION")))
            .tls_config(tls.build())
            .build()
            .new_agent();
        Ok(Self { url, agent, identity, may_register: config.register })
    }

    /// Its address.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The id of a schema; it is registered if the configuration allows that and it is not there yet.
    pub fn id_of(&self, subject: &str, schema: &str) -> Result<u32, LogError> {
        if let Some(version) = self.lookup(subject, schema)? {
            return Ok(version.id);
        }
        if !self.may_register {
            let detail = format!("{} has no such version of {subject}", self.url);
            return Err(stop(
                "a schema is not in the registry",
                detail,
                "`solyx schemas register` registers all of them",
            ));
        }
        match self.register(subject, schema)? {
            Registered::There(version) | Registered::New(version) => Ok(version.id),
            Registered::Refused(reason) => Err(stop(
                format!("the schema registry refuses {subject}"),
                reason,
                "`solyx schemas check` compares; a version that does not fit was registered by somebody else",
            )),
        }
    }

    /// Registers a schema if it is not there, after its subject's compatibility was set.
    pub fn register(&self, subject: &str, schema: &str) -> Result<Registered, LogError> {
        if let Some(version) = self.lookup(subject, schema)? {
            return Ok(Registered::There(version));
        }
        self.set_compatibility(subject, FULL_TRANSITIVE)?;
        let path = format!("/subjects/{subject}/versions");
        if let Found::Refused(reason) = self.call(Method::POST, &path, Some(&json!({"schema": schema})))? {
            return Ok(Registered::Refused(reason));
        }
        match self.lookup(subject, schema)? {
            Some(version) => Ok(Registered::New(version)),
            None => Err(self.strange(&path, "the schema that it took is not there")),
        }
    }

    /// The version of a subject that says this schema, in whatever way the registry writes it.
    pub fn lookup(&self, subject: &str, schema: &str) -> Result<Option<Version>, LogError> {
        // As it is; then in the registry's own normal form, which may find one that somebody wrote otherwise.
        for path in [format!("/subjects/{subject}"), format!("/subjects/{subject}?normalize=true")] {
            let Found::Here(found) = self.call(Method::POST, &path, Some(&json!({"schema": schema})))? else {
                continue;
            };
            let (Some(version), Some(id)) = (number(&found["version"]), number(&found["id"])) else {
                return Err(self.strange(&path, "the answer has no version or id"));
            };
            // A registry's normal form may leave out units; such a version is not this one.
            if found["schema"].as_str().is_some_and(|text| normal::same(text, schema)) {
                return Ok(Some(Version { version, id }));
            }
        }
        Ok(None)
    }

    /// The text of a schema; absent when the registry says that it has none of this id.
    pub fn schema(&self, id: u32) -> Result<Option<String>, LogError> {
        let path = format!("/schemas/ids/{id}");
        let Found::Here(found) = self.call(Method::GET, &path, None)? else { return Ok(None) };
        // Other kinds of schemas (JSON, Protobuf) have a text as well, which is none of ours.
        let text = found["schema"].as_str().ok_or_else(|| self.strange(&path, "the answer has no schema"))?;
        Ok(Some(text.to_owned()))
    }

    /// How a subject may evolve, if that was set for it.
    pub fn compatibility(&self, subject: &str) -> Result<Option<String>, LogError> {
        let path = format!("/config/{subject}");
        let Found::Here(found) = self.call(Method::GET, &path, None)? else { return Ok(None) };
        Ok(found["compatibilityLevel"].as_str().map(str::to_owned))
    }

    /// Says how a subject may evolve.
    pub fn set_compatibility(&self, subject: &str, level: &str) -> Result<(), LogError> {
        let path = format!("/config/{subject}");
        match self.call(Method::PUT, &path, Some(&json!({"compatibility": level})))? {
            Found::Here(_) => Ok(()),
            Found::NotThere => Err(self.strange(&path, "it cannot set a subject's compatibility")),
            Found::Refused(reason) => Err(self.strange(&path, &reason)),
        }
    }

    /// Why the registry would refuse a schema as a new version of its subject; nothing is written.
    pub fn refusal(&self, subject: &str, schema: &str) -> Result<Option<String>, LogError> {
        let path = format!("/compatibility/subjects/{subject}/versions?verbose=true");
        match self.call(Method::POST, &path, Some(&json!({"schema": schema})))? {
            Found::NotThere => Ok(None),
            Found::Refused(reason) => Ok(Some(reason)),
            Found::Here(found) => match found["is_compatible"].as_bool() {
                Some(true) => Ok(None),
                Some(false) => {
                    let messages = found["messages"].as_array().into_iter().flatten().filter_map(Value::as_str);
                    let reasons = messages.collect::<Vec<_>>().join("; ");
                    Ok(Some(if reasons.is_empty() { "it is not compatible".to_owned() } else { reasons }))
                }
                None => Err(self.strange(&path, "the answer has no is_compatible")),
            },
        }
    }

    fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Found, LogError> {
        let uri = format!("{}{path}", self.url);
        let asked = format!("{method} {uri}");
        let mut request = Request::builder().method(method).uri(&uri).header("accept", CONTENT_TYPE);
        if let Some(authorization) = self.identity.authorization()? {
            request = request.header("authorization", authorization);
        }
        let answer = match body {
            Some(json) => {
                request.header("content-type", CONTENT_TYPE).body(json.to_string()).map(|r| self.agent.run(r))
            }
            None => request.body(()).map(|r| self.agent.run(r)),
        };
        let mut answer = answer.map_err(ureq::Error::Http).flatten().map_err(|e| unanswered(&asked, &e))?;
        let status = answer.status().as_u16();
        let text = answer.body_mut().with_config().limit(ANSWER_LEN_MAX).lossy_utf8(true).read_to_string();
        let body = text.map_err(|e| unanswered(&asked, &e))?;
        Answer { status, body, asked }.sorted()
    }

    fn strange(&self, path: &str, detail: &str) -> LogError {
        let detail = format!("{}{path}: {detail}", self.url);
        stop("the answer is not what a schema registry says", detail, "check the url and the registry's version")
    }
}

fn number(value: &Value) -> Option<u32> {
    value.as_u64()?.try_into().ok()
}

fn authorities(path: &Path) -> Result<RootCerts, LogError> {
    let what = || format!("cannot read the certificates in {}", path.display());
    let hint = "ca_file of the [registry] table names a PEM file";
    let text = std::fs::read(path).map_err(|e| stop(what(), e, hint))?;
    let mut certificates = Vec::new();
    for item in parse_pem(&text) {
        if let PemItem::Certificate(certificate) = item.map_err(|e| stop(what(), e, hint))? {
            certificates.push(certificate);
        }
    }
    if certificates.is_empty() {
        return Err(stop(what(), "there is no certificate in it", hint));
    }
    Ok(RootCerts::new_with_certs(&certificates))
}
