//! The commands, one file each.

use crate::cli::{Cli, Command};
use crate::failure::Outcome;

mod answer;
pub mod archive;
pub mod audit;
mod audit_many;
mod audit_signed;
mod audit_untaken;
mod audit_views;
pub mod backtest;
pub mod bisect;
pub mod compare;
pub mod completions;
mod consequence;
pub mod derive;
pub mod doctor;
pub mod events;
pub mod execute;
pub mod explain;
pub mod generate;
pub mod import;
pub mod keys;
pub mod leader;
pub mod mirror;
pub mod project;
pub mod proofs;
pub mod prove;
pub mod publish;
pub mod run;
pub mod schemas;
mod shown;
pub mod tail;
pub mod topics;
pub mod verify;
pub mod view;
pub mod whatif;

/// Runs what the command line says.
pub fn run(cli: &Cli) -> Outcome {
    match &cli.command {
        Command::Publish(command) => publish::run(command, cli.json),
        Command::Import(command) => import::run(command, cli.json),
        Command::Generate(command) => generate::run(command, cli.json),
        Command::Run(command) => run::run(command, cli.json),
        Command::Whatif(command) => whatif::run(command, cli.json),
        Command::View(command) => view::run(command, cli.json),
        Command::Explain(command) => explain::run(command, cli.json),
        Command::Compare(command) => compare::run(command, cli.json),
        Command::Audit(command) => audit::run(command, cli.json),
        Command::Proofs(command) => proofs::run(command, cli.json),
        Command::Prove(command) => prove::run(command, cli.json),
        Command::Verify(command) => verify::run(command, cli.json),
        Command::Bisect(command) => bisect::run(command, cli.json),
        Command::Derive(command) => derive::run(command),
        Command::Archive(command) => archive::run(command, cli.json),
        Command::Backtest(command) => backtest::run(command, cli.json),
        Command::Doctor(command) => doctor::run(command, cli.json),
        Command::Keys(command) => keys::run(command, cli.json),
        Command::Execute(command) => execute::run(command, cli.json),
        Command::Mirror(command) => mirror::run(command, cli.json),
        Command::Tail(command) => tail::run(command, cli.json),
        Command::Project(command) => project::run(command, cli.json),
        Command::Leader(command) => leader::run(command, cli.json),
        Command::Topics(command) => topics::run(command, cli.json),
        Command::Events(command) => events::run(command, cli.json),
        Command::Schemas(command) => schemas::run(command, cli.json),
        Command::Completions(command) => completions::run(command),
    }
}
