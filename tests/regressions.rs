//! Every schedule of `regressions/`, each a test of its own. The path is fixed at build time, so
//! that tests can run from any directory.

fn main() -> std::process::ExitCode {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/regressions");
    stormglass_sim::regress::harness(stormglass_commit_sim::Commit, directory)
}
