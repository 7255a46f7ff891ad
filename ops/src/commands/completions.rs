//! `solyx completions`: completions for a shell.

use clap::{Args, CommandFactory};

use crate::cli::Cli;
use crate::failure::{Exit, Outcome};
use crate::output;

/// Write the completions of a shell to stdout.
#[derive(Debug, Args)]
#[command(after_help = "Example: solyx completions bash > ~/.local/share/bash-completion/completions/solyx")]
pub struct Completions {
    /// The shell.
    shell: clap_complete::Shell,
}

/// Writes them.
pub fn run(command: &Completions) -> Outcome {
    let mut text = Vec::new();
    clap_complete::generate(command.shell, &mut Cli::command(), "solyx", &mut text);
    output::line(String::from_utf8_lossy(&text).trim_end());
    Ok(Exit::Good)
}
