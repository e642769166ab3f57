//! The program: nodes of two-phase commit, clients and tools. See `stormglass --help`.

mod cli;

fn main() -> std::process::ExitCode {
    cli::main()
}
