//! Power cuts of an ext4 file system in a file.

#![allow(clippy::disallowed_methods, reason = "processes run in the time of the machine")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use stormglass_crash_test::Profile;
use stormglass_sim::profile::Rng;

use super::files::{Files, files_below, model_files};
use super::program::Program;
use super::{Process, describe};
use crate::{CliError, progress, say};

/// # Errors
/// If this process may not mount file systems, or cannot make them.
pub(super) fn require() -> Result<(), CliError> {
    if !rustix::process::geteuid().is_root() {
        return Err("--power-cuts mounts file systems: run it as root".into());
    }
    if !Path::new("/dev/loop-control").exists() {
        return Err("--power-cuts needs loop devices: there is no /dev/loop-control".into());
    }
    Ok(())
}

/// A file system that is mounted from a file, and unmounted at the end.
struct Mounted<'a>(&'a Path);

impl Mounted<'_> {
    fn new<'a>(image: &Path, at: &'a Path) -> Result<Mounted<'a>, CliError> {
        run(Command::new("mount").args(["-o", "loop"]).arg(image).arg(at))?;
        Ok(Mounted(at))
    }
}

impl Drop for Mounted<'_> {
    fn drop(&mut self) {
        // What is left can be unmounted by hand; there is nobody to return an error to.
        let _failed = run(Command::new("umount").arg(self.0));
    }
}

/// # Errors
/// If the command fails; what it printed.
fn run(command: &mut Command) -> Result<(), CliError> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim()).into())
}

/// Cuts the power of programs with syncs. Returns whether the model of ext4 allows everything that
/// was found.
pub(super) fn cuts(first_seed: u64, count: u64) -> Result<bool, CliError> {
    let directory = tempfile::tempdir()?;
    let image = directory.path().join("image");
    let (live, after) = (directory.path().join("live"), directory.path().join("after"));
    fs::create_dir(&live)?;
    fs::create_dir(&after)?;
    fs::File::create(&image)?.set_len(32 << 20)?;
    run(Command::new("mkfs.ext4").arg("-q").arg(&image))?;
    let _mounted = Mounted::new(&image, &live)?;
    let progress = progress();
    let mut ends: BTreeMap<&str, u64> = BTreeMap::new();
    for seed in first_seed..first_seed.saturating_add(count) {
        progress.set_message(format!("{} of {count} power cuts", seed - first_seed));
        let data = live.join(seed.to_string());
        fs::create_dir(&data)?;
        rustix::fs::syncfs(fs::File::open(&live)?)?;
        let process = Process::start(seed, true, &data)?;
        std::thread::sleep(Duration::from_micros(Rng::new(!seed).between(0, 20_000)));
        process.stop()?;
        let survived = directory.path().join("survived");
        fs::copy(&image, &survived)?;
        let steps_done = process.kill()?;
        let found = {
            let _mounted = Mounted::new(&survived, &after)?;
            files_below(&after.join(seed.to_string()))?
        };
        fs::remove_dir_all(&data)?;
        let program = Program::draw(seed, true);
        if let Some(end) = end_of(&program, steps_done, &found) {
            *ends.entry(end).or_default() += 1;
            continue;
        }
        progress.finish_and_clear();
        say!("seed {seed}: after {steps_done} steps the model of ext4 allows no such files:")?;
        describe(&program, steps_done, &found)?;
        return Ok(false);
    }
    progress.finish_and_clear();
    say!("{count} power cuts: the model of profile {} allows what each has left", Profile::Ext4)?;
    for (end, count) in &ends {
        say!("  {count:>7} {end}")?;
    }
    Ok(true)
}

/// How much has survived, if the model allows these files after so many steps, or after one more
/// that was not reported yet.
fn end_of(program: &Program, steps_done: usize, found: &Files) -> Option<&'static str> {
    let next = (steps_done + 1).min(program.steps.len());
    for steps in steps_done..=next {
        let fs = program.model_after(steps);
        if model_files(&fs) == *found {
            return Some("everything has survived");
        }
        if fs.images_after_crash(Profile::Ext4).iter().any(|image| model_files(image) == *found) {
            return Some("something is lost");
        }
    }
    None
}
