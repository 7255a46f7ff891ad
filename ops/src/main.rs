//! The solyx binary: wires the parts and shows them to people. It decides nothing.

mod cli;
mod commands;
mod failure;
mod output;
mod progress;
mod signals;
mod svg;
mod this_build;
mod world;

use std::io::IsTerminal;

use clap::Parser;

use crate::cli::Cli;
use crate::failure::Exit;

/// Millions of small rows and ids: the system's allocator takes a third of the time of a restart.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    let cli = Cli::parse();
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_env("SOLYX_LOG")
                .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn")),
        )
        .without_time()
        .init();
    let exit = match output::reveal_with(cli.keys.as_deref()).and_then(|()| commands::run(&cli)) {
        Ok(exit) => exit,
        Err(failure) => {
            failure.report(cli.json);
            failure.exit
        }
    };
    exit.code()
}

impl Exit {
    fn code(self) -> std::process::ExitCode {
        std::process::ExitCode::from(self as u8)
    }
}
