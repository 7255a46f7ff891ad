//! `solyx proofs`: keys, signed heads and what witnesses get.

mod export;
mod keys;
mod sign;

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use solyx_proofs::{
    HeadsReport, History, HistoryError, PublicKey, SecretKey, Signed, SignedEvent, judge, signed_events,
};
use solyx_schemas::ids::RefId;
use solyx_schemas::log::Log;

pub(super) use self::export::{summary, text};
use crate::failure::{Failure, Outcome, unreadable};
use crate::world::unreadable_history;

/// Sign the tree of epochs, and hand heads to witnesses.
#[derive(Debug, Args)]
#[command(
    arg_required_else_help = true,
    after_help = "Examples:\n  solyx proofs keygen --out signing.key\n  solyx proofs declare --key signing.key.pub --log world\n  \
                  solyx proofs sign --key signing.key --log world      # after an epoch has taken the declaration\n  \
                  solyx proofs export --log world -o head.txt           # for a witness\n  \
                  solyx proofs export --since head.txt --log world -o later.txt"
)]
pub struct Proofs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a key: FILE, which only its owner may read, and FILE.pub.
    Keygen(keys::Keygen),
    /// Declare a public key on the policy topic.
    Declare(keys::Declare),
    /// Say that a key is no longer trusted.
    Revoke(keys::Revoke),
    /// Sign the tree of all epochs that the log has.
    Sign(sign::Sign),
    /// Sign the next key, which signs from then on.
    Rotate(sign::Rotate),
    /// Show keys and heads, and what is wrong with them.
    Show(export::Show),
    /// Write the last signed head for a witness.
    Export(export::Export),
}

/// Runs it.
pub fn run(command: &Proofs, json: bool) -> Outcome {
    match &command.command {
        Command::Keygen(command) => keys::keygen(command, json),
        Command::Declare(command) => keys::declare(command, json),
        Command::Revoke(command) => keys::revoke(command, json),
        Command::Sign(command) => sign::sign(command, json),
        Command::Rotate(command) => sign::rotate(command, json),
        Command::Show(command) => export::show(command, json),
        Command::Export(command) => export::export(command, json),
    }
}

/// The largest key file that is read.
const KEY_BYTES_MAX: u64 = 64 << 10;

/// A small text file; larger ones are none of ours.
pub(super) fn read_text(path: &Path, bytes_max: u64) -> Result<String, Failure> {
    use std::io::Read;
    let file = std::fs::File::open(path).map_err(|e| unreadable(path, e))?;
    let mut text = String::new();
    file.take(bytes_max + 1).read_to_string(&mut text).map_err(|e| unreadable(path, e))?;
    if text.len() as u64 > bytes_max {
        return Err(Failure::usage(
            format!("{} is too large", path.display()),
            format!("found more than {bytes_max} bytes, expected at most that"),
            "check the path",
        ));
    }
    Ok(text)
}

fn bad_key(path: &Path, detail: String) -> Failure {
    Failure::usage(format!("{} is no key", path.display()), detail, "`solyx proofs keygen` makes one")
}

fn secret_key(path: &Path) -> Result<SecretKey, Failure> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::metadata(path).map_err(|e| unreadable(path, e))?.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(Failure::usage(
                format!("others could read the key {}", path.display()),
                format!("its mode is {mode:04o}, expected 0600"),
                format!("chmod 600 {}", path.display()),
            ));
        }
    }
    SecretKey::from_file(&read_text(path, KEY_BYTES_MAX)?).map_err(|detail| bad_key(path, detail))
}

fn public_key(path: &Path) -> Result<PublicKey, Failure> {
    PublicKey::from_file(&read_text(path, KEY_BYTES_MAX)?).map_err(|detail| bad_key(path, detail))
}

/// Public keys of a file: one object a line, as `solyx proofs keygen` writes it to FILE.pub.
pub(super) fn public_keys(path: &Path) -> Result<Vec<PublicKey>, Failure> {
    let text = read_text(path, KEY_BYTES_MAX)?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let keys = lines.map(|(i, line)| {
        PublicKey::from_file(line).map_err(|detail| bad_key(path, format!("line {}: {detail}", i + 1)))
    });
    let keys = keys.collect::<Result<Vec<_>, _>>()?;
    if keys.is_empty() { Err(bad_key(path, "it is empty".to_owned())) } else { Ok(keys) }
}

/// A public key given on the command line.
pub(super) fn given_key(digits: &str) -> Result<PublicKey, String> {
    PublicKey::parse(&RefId::from("given"), digits)
}

/// What is signed in a log, and all that it takes to judge it. `sizes` are further trees whose roots are wanted.
pub(super) fn judged(
    log: &dyn Log,
    sizes: impl IntoIterator<Item = u64>,
) -> Result<(Vec<Signed>, History, HeadsReport), Failure> {
    let signed = signed_events(log)?;
    let of_signed = signed.iter().filter_map(|signed| signed.event.as_ref().ok().map(SignedEvent::size));
    let sizes = of_signed.chain(sizes).collect();
    let history = History::read(log, &sizes, |_| Ok::<_, HistoryError>(())).map_err(history_failure)?;
    let report = judge(&signed, &history);
    Ok((signed, history, report))
}

pub(super) fn history_failure(error: HistoryError) -> Failure {
    match error {
        HistoryError::Read(error) => unreadable_history(&error),
        error => {
            Failure::finding("history is not what its hashes say", error, "`solyx audit` names the first difference")
        }
    }
}

/// A file that is never written over another one, and taken away again where it cannot be written to its end.
pub(super) fn write_new(path: &Path, text: &str, secret: bool) -> Result<(), Failure> {
    use std::io::Write;
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    if secret {
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    }
    let written = options.open(path).and_then(|mut file| {
        let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
        if written.is_err() {
            let _ = std::fs::remove_file(path);
        }
        written
    });
    written.map_err(|e| match e.kind() {
        std::io::ErrorKind::AlreadyExists => Failure::usage(
            format!("{} is there already", path.display()),
            e,
            "name another file, or move that one away",
        ),
        _ => Failure::environment(
            format!("cannot write {}", path.display()),
            e,
            "check the path, the permissions and the disk",
        ),
    })
}

/// The file of the public half beside a secret key.
fn public_file(secret: &Path) -> PathBuf {
    let mut name = secret.as_os_str().to_owned();
    name.push(".pub");
    name.into()
}
