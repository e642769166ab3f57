//! Prints how many distinct images a second recovery is run on, on one core, and the peak of the
//! memory after each run:
//!
//! ```sh
//! cargo run --release -p stormglass-crash-test --example speed
//! ```
//!
//! The engine is a log of records with check words that is compacted every four commits: a new
//! file, renamed over the old one.

use std::error::Error;
use std::io;
use std::time::Duration;

use stormglass_crash_test::{CrashFs, CrashTest, EngineError, Profile, models};

const COMMITS: u64 = 8;

/// Runs of each profile: memory must not grow from one to the next.
const RUNS: usize = 4;

fn record(item: u64) -> Vec<u8> {
    let mut bytes = [item.to_le_bytes(), (!item).to_le_bytes()].concat();
    bytes.resize(400, item as u8);
    bytes
}

fn read(fs: &CrashFs) -> io::Result<Vec<u64>> {
    let bytes = fs.read("log").unwrap_or_default();
    let mut items = Vec::new();
    for (number, bytes) in (1..).zip(bytes.chunks(400)) {
        if bytes != record(number) {
            break;
        }
        items.push(number);
    }
    Ok(items)
}

fn append(fs: &CrashFs, item: u64) -> io::Result<()> {
    if item.is_multiple_of(4) {
        let new = fs.create("new")?;
        for item in 1..=item {
            new.append(&record(item))?;
        }
        new.sync_all()?;
        fs.rename("new", "log")?;
        return fs.sync_dir("");
    }
    let log = fs.open_or_create("log")?;
    log.append(&record(item))?;
    log.sync_all()?;
    fs.sync_dir("")
}

fn main() -> Result<(), Box<dyn Error>> {
    let test = CrashTest::new(|fs: &CrashFs| -> Result<(), EngineError> {
        for item in 1..=COMMITS {
            fs.commit(item, || append(fs, item))?;
        }
        Ok(())
    });
    let test = test.recover(read).expect(models::log());
    println!("profile       images  distinct  recoveries  seconds  distinct/s  peak memory");
    for profile in Profile::ALL {
        for _ in 0..RUNS {
            let report = test.run(profile);
            if !report.is_clean() {
                return Err(report.to_string().into());
            }
            println!(
                "{profile:<12} {:>7} {:>9} {:>11} {:>8.2} {:>11}  {}",
                report.images,
                report.distinct_images,
                report.recoveries + report.nested,
                report.seconds,
                per_second(report.distinct_images, report.seconds),
                peak_memory()?,
            );
        }
    }
    Ok(())
}

fn per_second(images: u64, seconds: f64) -> u64 {
    let micros = Duration::from_secs_f64(seconds).as_micros().max(1);
    u64::try_from(u128::from(images) * 1_000_000 / micros).unwrap_or(u64::MAX)
}

/// As Linux counts it.
fn peak_memory() -> io::Result<String> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    Ok(line.unwrap_or("unknown").trim().to_string())
}
