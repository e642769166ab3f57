//! Every schedule of `regressions/`, each a test of its own. The path is taken at build time: tests may be run from
//! anywhere.

fn main() -> std::process::ExitCode {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/regressions");
    stormglass_sim::regress::harness::<stormglass_sim::commit::Commit>(directory)
}
