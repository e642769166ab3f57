//! Small engines, right and with mistakes that released ones have.

use std::collections::BTreeSet;
use std::io;

use stormglass_crash_test::{CrashFs, CrashTest, EngineError, Profile, Report, Verdict, models};

/// A log with one record of 8 bytes a commit, each with its complement behind it.
fn append(fs: &CrashFs, commit: u64, synced: bool) -> io::Result<()> {
    let file = fs.open_or_create("log")?;
    file.append(&[commit.to_le_bytes(), (!commit).to_le_bytes()].concat())?;
    if synced { file.sync_data() } else { Ok(()) }
}

fn read_log(fs: &CrashFs) -> io::Result<Vec<u64>> {
    let bytes = fs.read("log").unwrap_or_default();
    let mut items = Vec::new();
    for record in bytes.chunks_exact(16) {
        let value = u64::from_le_bytes(record[..8].try_into().expect("eight bytes"));
        if value != !u64::from_le_bytes(record[8..].try_into().expect("eight bytes")) {
            break;
        }
        items.push(value);
    }
    // What is behind a torn record must not come back when the file grows again.
    if let Ok(file) = fs.open("log") {
        file.set_len(items.len() as u64 * 16)?;
        file.sync_all()?;
        fs.sync_dir("")?;
    }
    Ok(items)
}

#[derive(Clone, Copy, Default)]
struct Mistakes {
    no_sync: bool,
    no_dir_sync: bool,
}

fn log_test(mistakes: Mistakes, profile: Profile) -> Report {
    let workload = move |fs: &CrashFs| -> Result<(), EngineError> {
        fs.create("log")?.sync_all()?;
        if !mistakes.no_dir_sync {
            fs.sync_dir("")?;
        }
        for commit in 1..=4 {
            fs.commit(commit, || append(fs, commit, !mistakes.no_sync))?;
        }
        Ok(())
    };
    CrashTest::new(workload).recover(read_log).expect(models::log()).run(profile)
}

#[test]
fn right_log_survives_every_profile() {
    for profile in Profile::ALL {
        let report = log_test(Mistakes::default(), profile);
        assert_eq!(report.verdict(), Verdict::Survived, "{report}");
        assert_eq!(report.images_not_tried, 0);
    }
}

#[test]
fn log_without_syncs_is_lost_in_a_power_cut_and_not_in_a_kill() {
    let mistakes = Mistakes { no_sync: true, ..Mistakes::default() };
    assert!(log_test(mistakes, Profile::Kill).findings.is_empty());
    let report = log_test(mistakes, Profile::Ext4);
    let finding = report.findings.first().expect("it is found");
    assert!(finding.reason.starts_with("lost: item "), "{report}");
    assert_eq!(finding.lost, ["length 16 of #1 (operation 4)"], "no more than needed: {report}");
}

#[test]
fn log_without_a_sync_of_its_directory_is_lost_in_strict_posix() {
    let mistakes = Mistakes { no_dir_sync: true, ..Mistakes::default() };
    assert!(log_test(mistakes, Profile::Ext4).is_clean());
    assert!(log_test(mistakes, Profile::OwnName).is_clean());
    let report = log_test(mistakes, Profile::PosixStrict);
    assert_eq!(report.findings[0].lost, ["name log of #1 (operation 0)"], "{report}");
}

/// As tantivy 0.27 does: the name of the metadata is not durable when `commit` returns.
#[test]
fn replaced_file_without_a_sync_of_its_directory_is_lost() {
    let put = |fs: &CrashFs, value: u64| {
        let new = fs.create("meta.new")?;
        new.write_at(0, &value.to_le_bytes())?;
        new.sync_data()?;
        fs.rename("meta.new", "meta")
    };
    let test = CrashTest::new(move |fs: &CrashFs| {
        for value in 1..=3 {
            fs.commit(value, || put(fs, value))?;
        }
        Ok(())
    });
    let test = test
        .recover(|fs| {
            let bytes = fs.read("meta").unwrap_or_else(|_| vec![0; 8]);
            let bytes =
                bytes.try_into().map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
            io::Result::Ok(u64::from_le_bytes(bytes))
        })
        .expect(models::states(vec![0, 1, 2, 3]));
    let report = test.run_until_found(&Profile::ALL);
    assert_eq!(report.profile, Profile::Ext4, "the weakest that shows it");
    assert!(report.findings[0].lost[0].starts_with("rename of meta.new to meta"), "{report}");
}

fn items(fs: &CrashFs) -> io::Result<BTreeSet<u64>> {
    fs.read_dir("")?.iter().map(|name| name.parse().map_err(io::Error::other)).collect()
}

#[test]
fn panics_and_hangs_of_recovery_are_findings() {
    let workload = |fs: &CrashFs| {
        fs.commit(1, || fs.create("1"))?;
        Ok(())
    };
    let test = CrashTest::new(workload)
        .recover(|fs| {
            assert!(fs.exists("1"), "the file is gone");
            items(fs)
        })
        .expect(models::set());
    let report = test.run(Profile::PosixStrict);
    assert!(report.findings[0].reason.starts_with("recovery fails: panic: the file is gone"));
    let test = CrashTest::new(workload)
        .recover(|fs| {
            while !fs.exists("1") {
                std::thread::yield_now();
            }
            items(fs)
        })
        .expect(models::set())
        .hang_after(std::time::Duration::from_millis(50));
    let report = test.run(Profile::Kill);
    assert!(report.findings[0].reason.starts_with("recovery fails: hangs"), "{report}");
}

/// The tail of a failed write is overwritten by nobody, and the next record is behind it.
#[test]
fn failed_syncs_and_writes_are_tried() {
    let workload = |fs: &CrashFs| -> Result<(), EngineError> {
        fs.create("log")?.sync_all()?;
        fs.sync_dir("")?;
        for commit in 1..=3 {
            // The mistake: an error of a sync is taken for nothing.
            let _ignored = fs.commit(commit, || {
                let file = fs.open("log")?;
                file.append(&[commit.to_le_bytes(), (!commit).to_le_bytes()].concat())?;
                let _ignored = file.sync_data();
                io::Result::Ok(())
            });
        }
        Ok(())
    };
    let report =
        CrashTest::new(workload).recover(read_log).expect(models::log()).run(Profile::Ext4);
    let finding =
        report.findings.iter().find(|finding| finding.to_string().contains("sync 2 fails"));
    assert!(finding.is_some_and(|finding| finding.reason.starts_with("lost: ")), "{report}");
}

fn overwrite(fs: &CrashFs, commit: u64) -> io::Result<()> {
    let file = fs.open("value")?;
    file.write_at(0, &[commit as u8])?;
    file.sync_all()
}

fn replace(fs: &CrashFs, commit: u64) -> io::Result<()> {
    let file = fs.create("new")?;
    file.write_at(0, &[commit as u8])?;
    file.sync_all()?;
    fs.rename("new", "value")?;
    fs.sync_dir("")
}

/// A commit whose sync fails is not acknowledged, and what it has left does not come back over that
/// of the next, which succeeds.
#[test]
fn sync_that_succeeds_supersedes_what_a_failed_one_has_left() {
    for put in [overwrite, replace] {
        let test = CrashTest::new(move |fs: &CrashFs| {
            fs.create("value")?;
            overwrite(fs, 0)?;
            fs.sync_dir("")?;
            for commit in 1..=3 {
                let _next_one_succeeds = fs.commit(commit, || put(fs, commit));
            }
            Ok(())
        });
        let test = test
            .recover(|fs| {
                let bytes = fs.read("value").unwrap_or_default();
                // Garbage is what creation may leave, and no commit.
                io::Result::Ok(bytes.first().copied().filter(|value| *value <= 3).unwrap_or(0))
            })
            .expect(models::states(vec![0, 1, 2, 3]));
        for profile in Profile::ALL {
            let report = test.run(profile);
            assert_eq!(report.verdict(), Verdict::Survived, "{report}");
        }
    }
}

#[test]
fn test_that_measures_nothing_says_so() {
    let nothing = CrashTest::new(|_: &CrashFs| Ok(()));
    let report = nothing.recover(items).expect(models::set()).run(Profile::Ext4);
    assert_eq!(report.verdict(), Verdict::NothingAcknowledged);
    let unsynced = CrashTest::new(|fs: &CrashFs| {
        fs.commit(1, || fs.create("1"))?;
        Ok(())
    });
    let report = unsynced.recover(items).expect(|_, _| Ok(())).run(Profile::Ext4);
    assert_eq!(report.verdict(), Verdict::NothingSynced);
    let synced = CrashTest::new(|fs: &CrashFs| {
        fs.commit(1, || {
            fs.create("1")?;
            fs.sync_dir("")
        })?;
        Ok(())
    });
    let report = synced.recover(items).expect(|_, _| Ok(())).run(Profile::Ext4);
    assert_eq!(report.verdict(), Verdict::CannotFail);
    assert!(!report.is_clean());
}

/// The same test tries the same images.
#[test]
fn runs_are_repeatable() {
    let first = log_test(Mistakes::default(), Profile::PosixStrict);
    let second = log_test(Mistakes::default(), Profile::PosixStrict);
    assert_eq!(
        (first.images, first.distinct_images, first.nested),
        (second.images, second.distinct_images, second.nested)
    );
}
