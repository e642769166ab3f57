//! SQLite after every crash, in modes that promise durability and in modes that do not.

use std::collections::BTreeMap;
use std::ffi::c_int;

use rusqlite::{Connection, Error, ffi};
use stormglass_crash_sqlite::{CrashVfs, UNIX_CHARACTERISTICS};
use stormglass_crash_test::{CrashFs, CrashTest, Finding, Profile, Report, models};

type Rows = BTreeMap<i64, Vec<u8>>;

/// Commit `commit` writes one to four rows, over pages of overflow, too, and removes one.
fn change(commit: i64, rows: &mut Rows) {
    for row in 0..=commit % 4 {
        let len = [10, 200, 1500, 6000][((commit + row) % 4) as usize];
        rows.insert((commit * 7 + row) % 23, vec![commit as u8; len]);
    }
    if commit % 3 == 0 {
        rows.remove(&(commit * 5 % 23));
    }
}

#[derive(Clone, Copy)]
struct Mode {
    journal: &'static str,
    synchronous: &'static str,
    characteristics: c_int,
}

impl Mode {
    fn new(journal: &'static str, synchronous: &'static str) -> Mode {
        Mode { journal, synchronous, characteristics: UNIX_CHARACTERISTICS }
    }

    fn vfs(self, fs: &CrashFs) -> CrashVfs {
        CrashVfs::new(fs).with_characteristics(self.characteristics)
    }

    fn connect(self, vfs: &CrashVfs) -> Result<Connection, Error> {
        let db = vfs.connect("db")?;
        if self.journal == "WAL" {
            db.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
        }
        // Not `pragma_update`, which stops at the first row: the change is committed after it.
        let mut statement = db.prepare(&format!("PRAGMA journal_mode={}", self.journal))?;
        let mut rows = statement.query([])?;
        while rows.next()?.is_some() {}
        drop(rows);
        drop(statement);
        db.pragma_update(None, "synchronous", self.synchronous)?;
        Ok(db)
    }

    /// A connection that performs the commits, and one that reads everything after the crash.
    fn test(self) -> CrashTest<Rows> {
        let states = states(4);
        let commits = states.clone();
        CrashTest::new(move |fs: &CrashFs| {
            let vfs = self.vfs(fs);
            let mut db = self.connect(&vfs)?;
            db.execute_batch("CREATE TABLE t(k INTEGER PRIMARY KEY, v BLOB)")?;
            for (commit, pair) in (1..).zip(commits.windows(2)) {
                fs.commit(commit, || write(&mut db, &pair[0], &pair[1]))?;
                if commit % 3 == 0 && self.journal == "WAL" {
                    db.query_row("PRAGMA wal_checkpoint(RESTART)", [], |_| Ok(()))?;
                }
            }
            Ok(())
        })
        .recover(move |fs| read(&self.connect(&self.vfs(fs))?))
        .expect(models::states(states))
    }
}

fn states(commits: i64) -> Vec<Rows> {
    let mut states = vec![Rows::new()];
    for commit in 1..=commits {
        let mut rows = states[states.len() - 1].clone();
        change(commit, &mut rows);
        states.push(rows);
    }
    states
}

fn write(db: &mut Connection, before: &Rows, after: &Rows) -> Result<(), Error> {
    let transaction = db.transaction()?;
    for (row, value) in after {
        if before.get(row) != Some(value) {
            transaction.execute("INSERT OR REPLACE INTO t VALUES (?, ?)", (row, value))?;
        }
    }
    for row in before.keys().filter(|row| !after.contains_key(row)) {
        transaction.execute("DELETE FROM t WHERE k = ?", [row])?;
    }
    transaction.commit()
}

fn read(db: &Connection) -> Result<Rows, Error> {
    let verdict: String = db.query_row("PRAGMA integrity_check", [], |row| row.get(0))?;
    if verdict != "ok" {
        return Err(Error::ToSqlConversionFailure(verdict.into()));
    }
    if !db.table_exists(None, "t")? {
        return Ok(Rows::new());
    }
    let mut query = db.prepare("SELECT k, v FROM t")?;
    query.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
}

/// Why a report is not clean, but for one reason: SQLite ignores on purpose that a sync of a
/// directory fails, and so the name of a new database may be lost.
fn unexpected(report: &Report) -> Option<&Finding> {
    report.findings.iter().find(|finding| {
        let has_failure = finding.to_string().contains("after a failure: sync");
        !(has_failure && finding.lost == ["name db of #1 (operation 0)"])
    })
}

fn assert_survives(mode: Mode) {
    for profile in [Profile::Kill, Profile::Ext4] {
        let report = mode.test().run(profile);
        assert!(report.is_clean(), "{report}");
    }
    let report = mode.test().run(Profile::PosixStrict);
    assert!(unexpected(&report).is_none(), "{report}");
    assert!(report.notices_sabotage && report.distinct_images > 1000, "{report}");
}

#[test]
fn extra_survives() {
    assert_survives(Mode::new("DELETE", "EXTRA"));
}

#[test]
fn persist_survives() {
    assert_survives(Mode::new("PERSIST", "FULL"));
}

#[test]
fn truncate_survives() {
    assert_survives(Mode::new("TRUNCATE", "FULL"));
}

#[test]
fn wal_survives() {
    assert_survives(Mode::new("WAL", "FULL"));
}

/// The weakest profile that shows it, and the first finding that starts so.
fn found(mode: Mode, reason: &str) -> (Profile, Vec<String>) {
    let report = mode.test().run_until_found(&Profile::ALL);
    let finding = report.findings.iter().find(|finding| finding.reason.starts_with(reason));
    let finding = finding.unwrap_or_else(|| panic!("{reason} is not found: {report}"));
    (report.profile, finding.lost.clone())
}

/// As documented of `EXTRA`: only that syncs the directory after the journal is removed.
#[test]
fn full_may_lose_the_last_commit() {
    let (profile, lost) = found(Mode::new("DELETE", "FULL"), "lost: commit");
    assert_eq!(profile, Profile::Ext4);
    assert!(lost[0].starts_with("removal of db-journal"), "{lost:?}");
}

/// As documented: a power cut at the wrong time may corrupt the database.
#[test]
fn normal_may_corrupt() {
    let report = Mode::new("DELETE", "NORMAL").test().run(Profile::PosixStrict);
    let corrupt =
        report.findings.iter().any(|finding| finding.reason.starts_with("recovery fails"));
    assert!(corrupt, "{report}");
}

/// As documented: WAL with `NORMAL` may lose commits, and never corrupts.
#[test]
fn wal_with_normal_loses_commits_and_does_not_corrupt() {
    let report = Mode::new("WAL", "NORMAL").test().run(Profile::Ext4);
    let has_loss = report.findings.iter().any(|finding| finding.reason.starts_with("lost"));
    let corrupt = report.findings.iter().any(|finding| finding.reason.starts_with("recovery"));
    assert!(has_loss && !corrupt, "{report}");
}

/// A disk that is said to keep the order of writes needs no sync, and a disk that does not keep it
/// then loses both journal and database.
#[test]
fn lying_disk_corrupts_the_strongest_mode() {
    let characteristics = UNIX_CHARACTERISTICS | ffi::SQLITE_IOCAP_SEQUENTIAL as c_int;
    let mode = Mode { characteristics, ..Mode::new("DELETE", "EXTRA") };
    assert_eq!(found(mode, "recovery fails").0, Profile::Ext4);
}
