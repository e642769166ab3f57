//! The panic hook of the process, alone in a process of its own.

#![allow(clippy::disallowed_methods, reason = "a panic outside the engine needs a thread")]

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};

use stormglass_crash_test::{CrashFs, CrashTest, Profile, models};

static PANICS: AtomicUsize = AtomicUsize::new(0);

/// While an engine runs, its panics are not printed, and others are; afterwards all are.
#[test]
fn hook_is_that_of_the_process_again_after_a_run() {
    std::panic::set_hook(Box::new(|_| {
        PANICS.fetch_add(1, Ordering::Relaxed);
    }));
    let test = CrashTest::new(|fs: &CrashFs| {
        let outside = std::thread::spawn(|| panic!("counted"));
        outside.join().expect_err("it panics");
        fs.commit(1, || fs.create("1"))?;
        Ok(())
    });
    let test = test.recover(|_| -> io::Result<Vec<u64>> { panic!("not counted") });
    let test = test.expect(models::log());
    let report = test.run(Profile::Kill);
    assert_eq!(report.findings[0].reason, "recovery fails: panic: not counted");
    let during = PANICS.load(Ordering::Relaxed);
    // The workload runs once, and once more for each of three failures of its one write.
    assert_eq!(during, 4);
    let engine = std::thread::Builder::new().name("crash-test engine".into());
    engine.spawn(|| panic!("counted")).expect("a thread").join().expect_err("it panics");
    assert_eq!(PANICS.load(Ordering::Relaxed), during + 1);
}
