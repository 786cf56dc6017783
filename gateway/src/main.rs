//! The binary `portcullis`: parses the command line and runs one command.

use std::process::ExitCode;

use clap::Parser as _;
use mimalloc::MiMalloc;
use portcullis_gateway::cli::Cli;

/// A tenth of the processor time of a request is allocation with the C library's allocator, and musl's
/// is slower still.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    Cli::parse().run()
}
