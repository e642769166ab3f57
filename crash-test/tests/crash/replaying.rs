//! Findings are reduced, replayed from a file, and looked for after more work.

use std::collections::BTreeSet;
use std::io;

use stormglass_crash_test::{
    CrashFs, CrashTest, EngineError, Profile, ReadCrashFileError, Verdict, models,
};

/// A file for each item; the name of item 3 alone is not synced.
fn files_test(syncs_third: bool) -> CrashTest<BTreeSet<u64>> {
    let workload = move |fs: &CrashFs| -> Result<(), EngineError> {
        for item in fs.commits(1..=5) {
            fs.commit(item, || {
                fs.create(&item.to_string())?;
                if item == 3 && !syncs_third { Ok(()) } else { fs.sync_dir("") }
            })?;
        }
        Ok(())
    };
    CrashTest::new(workload)
        .recover(|fs| -> Result<BTreeSet<u64>, EngineError> {
            Ok(fs.read_dir("")?.iter().map(|name| name.parse()).collect::<Result<_, _>>()?)
        })
        .expect(models::set())
}

#[test]
fn commits_that_a_finding_does_without_are_left_out() {
    let report = files_test(false).run(Profile::Ext4);
    let finding = report.findings.first().expect("item 3 is lost");
    assert_eq!(finding.operations, ["begin commit 3", "create 3 (#1)", "acknowledge commit 3"]);
    assert_eq!(finding.reason, "lost: item 3 was acknowledged");
    let file = finding.crash_file().expect("a crash").to_string();
    assert!(file.contains("left-out 1 2 4 5\n"), "{file}");
}

#[test]
fn crash_file_replays_until_the_engine_is_mended() {
    let report = files_test(false).run(Profile::Ext4);
    let file = report.findings[0].crash_file().expect("a crash").to_string();
    let again = files_test(false).replay(&file).expect("the same workload").expect("it is lost");
    assert_eq!(again.reason, report.findings[0].reason);
    assert_eq!(again.lost, ["name 3 of #1 (operation 1)"]);
    assert_eq!(again.crash_file(), Some(file.as_str()));
    // The mended engine syncs before it acknowledges, so its operations are others.
    let error = files_test(true).replay(&file).expect_err("other operations");
    assert!(matches!(error, ReadCrashFileError::OtherOperations { in_file: 3, .. }), "{error}");
}

/// A file that fits, with everything surviving, finds nothing.
#[test]
fn replay_of_a_harmless_crash_finds_nothing() {
    let report = files_test(false).run(Profile::Ext4);
    let file = report.findings[0].crash_file().expect("a crash").replace("lost 0\n", "");
    assert!(files_test(false).replay(&file).expect("the same workload").is_none());
}

#[test]
fn failure_of_a_sync_is_part_of_the_file() {
    let workload = |fs: &CrashFs| -> Result<(), EngineError> {
        fs.commit(1, || {
            fs.create("1")?;
            // The mistake: the error is taken for nothing.
            let _ignored = fs.sync_dir("");
            io::Result::Ok(())
        })?;
        Ok(())
    };
    let test = || {
        CrashTest::new(workload)
            .recover(|fs| Ok::<_, EngineError>(fs.read_dir("")?.len() as u64))
            .expect(|found, progress| {
                let is_there = *found == 1 || progress.acknowledged.is_empty();
                if is_there { Ok(()) } else { Err("lost".to_string()) }
            })
    };
    let report = test().run(Profile::Ext4);
    let file = report.findings[0].crash_file().expect("a crash");
    assert!(file.contains("fault sync 0\n"), "{file}");
    assert_eq!(test().replay(file).expect("the same").expect("lost").reason, "lost");
    let without = file.replace("fault sync 0\n", "");
    test().replay(&without).expect_err("the sync succeeds, so the operations are others");
}

#[test]
fn malformed_crash_files_are_refused_with_their_line() {
    let refused = |text: &str| match files_test(true).replay(text) {
        Err(error) => error.to_string(),
        Ok(_) => panic!("it is refused: {text:?}"),
    };
    let file = files_test(false).run(Profile::Ext4);
    let file = file.findings[0].crash_file().expect("a crash");
    assert!(refused("").starts_with("line 1 is \"\" and not \"stormglass-crash-test 1\""));
    assert!(refused(&file.replace("test 1", "test 2")).starts_with("line 1 is"));
    assert_eq!(
        refused(&file.replace("profile ext4", "profile ext5")),
        "line 3: no profile \"ext5\": kill, ext4, own-name, posix-strict"
    );
    assert_eq!(refused(&file.replace("lost 0", "lost x")), "line 7: \"x\" is not a number");
    assert_eq!(refused(&file.replace("lost 0", "kept 0")), "line 7: not understood: \"kept 0\"");
    assert_eq!(refused(&file.replace("pending 1\n", "")), "the line `pending COUNT` is missing");
    assert!(refused(&file.replace("lost 0", "lost 7")).starts_with("8 parts are pending"));
    let longer = file.replace("operations 3", "operations 300");
    assert!(refused(&longer).starts_with("the workload ends after"), "{}", refused(&longer));
}

/// A log whose recovery leaves a torn record where it is, so that the next one is behind it: the
/// first crash harms nothing, and the second loses what was acknowledged after it.
fn log_test(cuts_torn_tail: bool) -> CrashTest<Vec<u64>> {
    fn append(fs: &CrashFs, item: u64) -> io::Result<()> {
        let file = fs.open("log")?;
        file.append(&[item.to_le_bytes(), (!item).to_le_bytes()].concat())?;
        file.sync_all()
    }
    let recover = move |fs: &CrashFs| -> io::Result<Vec<u64>> {
        let bytes = fs.read("log").unwrap_or_default();
        let word = |at: usize| bytes.get(at..at + 8).map(|word| word.try_into().expect("eight"));
        let record = |at: usize| Some((word(at)?, word(at + 8)?));
        let intact = (0..).map_while(|index| {
            let (item, check) = record(index * 16)?;
            (u64::from_le_bytes(item) == !u64::from_le_bytes(check))
                .then_some(u64::from_le_bytes(item))
        });
        let items: Vec<u64> = intact.collect();
        let intact_len = items.len() as u64 * 16;
        if cuts_torn_tail && fs.exists("log") {
            fs.open("log")?.set_len(intact_len)?;
            fs.open("log")?.sync_all()?;
        }
        Ok(items)
    };
    let workload = |fs: &CrashFs| -> Result<(), EngineError> {
        fs.create("log")?.sync_all()?;
        fs.sync_dir("")?;
        for item in 1..=2 {
            fs.commit(item, || append(fs, item))?;
        }
        Ok(())
    };
    CrashTest::new(workload).recover(recover).expect(models::log()).work_after_recovery(
        move |fs, _| -> io::Result<Vec<u64>> {
            let mut items = recover(fs)?;
            if !fs.exists("log") {
                return Ok(items);
            }
            append(fs, 9)?;
            items.push(9);
            Ok(items)
        },
    )
}

#[test]
fn what_is_written_after_recovery_survives_another_crash() {
    assert_eq!(log_test(true).run(Profile::PosixStrict).verdict(), Verdict::Survived);
    let report = log_test(false).run(Profile::PosixStrict);
    let finding = report.findings.first().expect("item 9 is lost behind the torn record");
    let reason = "recovery fails before more work: after more work and a second crash it contains";
    assert!(finding.reason.starts_with(reason), "{report}");
    let file = finding.crash_file().expect("a crash");
    let again = log_test(false).replay(file).expect("the same workload").expect("it is lost");
    assert_eq!(again.reason, finding.reason);
}
