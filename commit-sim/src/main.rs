//! The command line of two-phase commit in the simulator: `cargo sim`.

fn main() -> std::process::ExitCode {
    stormglass_sim::cli::main(&stormglass_commit_sim::Commit)
}
