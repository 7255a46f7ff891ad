//! The `[registry]` table of a configuration file: where the registry is, and with what it is asked. Secrets are in files or in the
//! environment, never in the table itself.

use std::fmt;
use std::path::{Path, PathBuf};

use base64::prelude::{BASE64_STANDARD, Engine};
use serde::Deserialize;
use solyx_schemas::log::{LogError, LogErrorKind};

/// Where a schema registry is and how it is asked. Of the ways to say who asks, at most one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RegistryConfig {
    /// Address of the Confluent API, as in `http://localhost:8081` or `http://localhost:8080/apis/ccompat/v7`.
    pub url: String,
    /// Name for basic authentication; needs a password.
    pub username: Option<String>,
    /// File with the password.
    pub password_file: Option<PathBuf>,
    /// Environment variable with the password.
    pub password_env: Option<String>,
    /// File with a bearer token; read at each request, so that it may be renewed.
    pub token_file: Option<PathBuf>,
    /// Environment variable with a bearer token.
    pub token_env: Option<String>,
    /// Certificates (PEM) to trust instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// Whether a schema that the registry does not have yet may be registered.
    #[serde(default)]
    pub register: bool,
}

/// The one table of a file that is read here; the others belong to the log.
#[derive(Deserialize)]
struct File {
    registry: Option<RegistryConfig>,
}

impl RegistryConfig {
    /// The registry at an address, asked without authentication.
    pub fn at(url: impl Into<String>) -> Self {
        Self { url: url.into(), ..Self::default() }
    }

    /// The `[registry]` table of a file; relative paths in it begin at the file's directory.
    pub fn read(path: &Path) -> Result<Self, LogError> {
        let what = || format!("cannot read {}", path.display());
        let text = std::fs::read_to_string(path).map_err(|e| stop(what(), e, "check the path and the permissions"))?;
        let file: File = toml::from_str(&text).map_err(|e| stop(what(), e, "correct the file"))?;
        let Some(config) = file.registry else {
            return Err(stop(what(), "there is no table [registry]", "add one with a url"));
        };
        Ok(config.relative_to(path.parent().unwrap_or(Path::new(""))))
    }

    /// The same with relative paths put below a directory.
    pub fn relative_to(mut self, dir: &Path) -> Self {
        for path in [&mut self.password_file, &mut self.token_file, &mut self.ca_file].into_iter().flatten() {
            *path = dir.join(&*path);
        }
        self
    }

    /// Who asks; an error when the table says too much or too little.
    pub(super) fn identity(&self) -> Result<Identity, LogError> {
        let wrong = |detail: &str, hint: &str| Err(stop("the [registry] table is wrong", detail, hint));
        let password = Secret::of(&self.password_file, &self.password_env);
        let token = Secret::of(&self.token_file, &self.token_env);
        match (&self.username, password, token) {
            (_, Err(()), _) => wrong("both password_file and password_env are there", "keep one of them"),
            (_, _, Err(())) => wrong("both token_file and token_env are there", "keep one of them"),
            (None, Ok(None), Ok(None)) => Ok(Identity::Nobody),
            (Some(name), Ok(Some(password)), Ok(None)) => Ok(Identity::Basic(name.clone(), password)),
            (None, Ok(None), Ok(Some(token))) => Ok(Identity::Bearer(token)),
            (Some(_), Ok(None), _) => {
                wrong("username is there, its password is not", "add password_file or password_env")
            }
            (None, Ok(Some(_)), _) => wrong("a password is there, its username is not", "add username"),
            (Some(_), Ok(Some(_)), Ok(Some(_))) => {
                wrong("a username and a token are there", "keep username and password, or the token")
            }
        }
    }
}

/// Who asks.
#[derive(Debug)]
pub(super) enum Identity {
    Nobody,
    Basic(String, Secret),
    Bearer(Secret),
}

impl Identity {
    /// The header `Authorization`, read anew from where the secret is kept.
    pub(super) fn authorization(&self) -> Result<Option<String>, LogError> {
        Ok(match self {
            Self::Nobody => None,
            Self::Basic(name, password) => {
                Some(format!("Basic {}", BASE64_STANDARD.encode(format!("{name}:{}", password.read()?))))
            }
            Self::Bearer(token) => Some(format!("Bearer {}", token.read()?)),
        })
    }
}

/// Where a secret is kept. The secret itself is in no field and is never printed.
pub(super) enum Secret {
    File(PathBuf),
    Env(String),
}

impl Secret {
    fn of(file: &Option<PathBuf>, env: &Option<String>) -> Result<Option<Self>, ()> {
        match (file, env) {
            (Some(_), Some(_)) => Err(()),
            (Some(file), None) => Ok(Some(Self::File(file.clone()))),
            (None, Some(name)) => Ok(Some(Self::Env(name.clone()))),
            (None, None) => Ok(None),
        }
    }

    fn read(&self) -> Result<String, LogError> {
        let hint = "check the [registry] table and what it points to";
        let text = match self {
            Self::File(path) => std::fs::read_to_string(path)
                .map_err(|e| stop(format!("cannot read the registry's secret in {}", path.display()), e, hint))?,
            Self::Env(name) => std::env::var(name)
                .map_err(|_| stop("the registry's secret is not there", format!("{name} is not set"), hint))?,
        };
        let text = text.trim_end_matches(['\r', '\n']);
        // What a header cannot hold must not come back in the text of an error.
        if text.is_empty() || text.bytes().any(|b| b.is_ascii_control()) {
            return Err(stop("the registry's secret cannot be used", "it is empty or has control characters", hint));
        }
        Ok(text.to_owned())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "Secret in {}", path.display()),
            Self::Env(name) => write!(f, "Secret in ${name}"),
        }
    }
}

pub(super) fn stop(what: impl Into<String>, detail: impl ToString, hint: impl Into<String>) -> LogError {
    LogError::new(LogErrorKind::Stop, what, detail, hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_read_beside_the_tables_of_others() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kafka.toml");
        std::fs::write(dir.path().join("password"), "geheim\n").unwrap();
        let text = "bootstrap = \"localhost:9092\"\n[registry]\nurl = \"http://localhost:8081\"\nusername = \"solyx\"\npassword_file = \"password\"\nregister = true\n";
        std::fs::write(&path, text).unwrap();
        let config = RegistryConfig::read(&path).unwrap();
        assert!(config.register);
        assert_eq!(config.password_file, Some(dir.path().join("password")));
        let identity = config.identity().unwrap();
        assert_eq!(identity.authorization().unwrap().unwrap(), "Basic c29seXg6Z2VoZWlt");
        assert!(!format!("{identity:?} {config:?}").contains("geheim"));
    }

    #[test]
    fn a_table_that_says_too_much_or_too_little_is_refused() {
        let at = || RegistryConfig::at("http://localhost");
        let name = Some("solyx".to_owned());
        let variable = Some("SECRET".to_owned());
        let file = Some(PathBuf::from("secret"));
        let cases = [
            RegistryConfig { username: name.clone(), ..at() },
            RegistryConfig { password_env: variable.clone(), ..at() },
            RegistryConfig { token_env: variable.clone(), token_file: file.clone(), ..at() },
            RegistryConfig { username: name.clone(), password_env: variable.clone(), password_file: file, ..at() },
            RegistryConfig { username: name, password_env: variable.clone(), token_env: variable, ..at() },
        ];
        for config in cases {
            assert_eq!(config.identity().unwrap_err().kind, LogErrorKind::Stop, "{config:?}");
        }
    }

    #[test]
    fn a_secret_that_is_missing_is_named_by_its_place() {
        let config =
            RegistryConfig { token_file: Some("/nowhere/token".into()), ..RegistryConfig::at("http://localhost") };
        let error = config.identity().unwrap().authorization().unwrap_err();
        assert!(error.what.contains("/nowhere/token"), "{error}");
    }
}
