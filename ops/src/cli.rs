//! The command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::commands;

/// The control plane of a hybrid GPU fleet: one log, and what follows from it.
#[derive(Debug, Parser)]
#[command(
    name = "solyx",
    version,
    propagate_version = true,
    arg_required_else_help = true,
    max_term_width = 110,
    after_help = "Exit codes: 0 good, 1 a finding, 2 wrong use, 3 environment.\n\
                  SOLYX_LOG=info (or debug) says more on stderr.\n\n\
                  Examples:\n  \
                  solyx events example JobRequested\n  \
                  solyx publish fleet.toml --log world\n  \
                  solyx run --log world --virtual --until-idle\n  \
                  solyx audit --log world --json"
)]
pub struct Cli {
    /// Write JSON with stable field names instead of text.
    #[arg(long, global = true)]
    pub json: bool,
    /// Open sealed texts with the keys (*.key) in this directory; what none of them opens is shown as erased.
    #[arg(long, global = true, value_name = "DIR")]
    pub keys: Option<PathBuf>,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Publish a fleet file, or a file of events.
    Publish(commands::publish::Publish),
    /// Import a trace or a feed to the staged topics of a virtual run.
    Import(commands::import::Import),
    /// Generate a world from a seed.
    Generate(commands::generate::Generate),
    /// Run the engine, in real or in virtual time.
    Run(commands::run::Run),
    /// Show the billing, DCIM, failover or jobs view.
    View(commands::view::View),
    /// Say what became of a job and why.
    Explain(commands::explain::Explain),
    /// Ask what the kernel would do, without writing anything.
    Whatif(commands::whatif::Whatif),
    /// Put worlds side by side, on the terminal or as a page with charts.
    Compare(commands::compare::Compare),
    /// Derive everything again and compare.
    Audit(commands::audit::Audit),
    /// Sign the tree of epochs, and hand heads to witnesses.
    Proofs(commands::proofs::Proofs),
    /// Write a receipt that is checked without the log.
    Prove(commands::prove::Prove),
    /// Check a receipt or a signed head, without any log.
    Verify(commands::verify::Verify),
    /// Find the first epoch that two builds, or two sets of features, decide differently.
    Bisect(commands::bisect::Bisect),
    /// Say what this build decides on a log's recorded inputs, for comparing builds.
    Derive(commands::derive::Derive),
    /// Write, read back and verify archives.
    Archive(commands::archive::Archive),
    /// Run a published experiment through the kernel's own rules.
    Backtest(Box<commands::backtest::Backtest>),
    /// Look after a world: what waits, what is stale, disk, versions.
    Doctor(commands::doctor::Doctor),
    /// Make keys with which tenants' texts are sealed.
    Keys(commands::keys::Keys),
    /// Carry out decisions in real time, in a simulated world.
    Execute(commands::execute::Execute),
    /// Copy a log to another kind of log.
    Mirror(commands::mirror::Mirror),
    /// Show the records of a topic, decoded.
    Tail(commands::tail::Tail),
    /// Keep views up to date while an engine runs.
    Project(commands::project::Project),
    /// Show which engine leads, or hand over to another one.
    Leader(commands::leader::Leader),
    /// Create the topics of a cell on Apache Kafka, or say what differs.
    Topics(commands::topics::Topics),
    /// Look at the contract: list, describe and validate events.
    Events(commands::events::Events),
    /// Register the contract's schemas in a schema registry, or compare them with it.
    Schemas(commands::schemas::Schemas),
    /// Write the completions of a shell to stdout.
    Completions(commands::completions::Completions),
}
