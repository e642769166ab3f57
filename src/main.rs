//! The program: nodes of two-phase commit, and everything one does with them. See `stormglass --help`.

mod cli;

fn main() -> std::process::ExitCode {
    cli::main()
}
