//! redb after every crash.

use redb::{Database, Error, ReadableDatabase, ReadableTable, TableDefinition, TableError};
use stormglass_crash_redb::CrashBackend;
use stormglass_crash_test::{CrashFs, CrashTest, EngineError, Profile, models};

const TABLE: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("t");

fn open(fs: &CrashFs) -> Result<Database, EngineError> {
    let backend = CrashBackend::open(fs, "db")?;
    Ok(Database::builder().set_cache_size(1 << 16).create_with_backend(backend)?)
}

/// The commits whose rows are there, each with all of its bytes.
fn recover(fs: &CrashFs) -> Result<Vec<u64>, EngineError> {
    let db = open(fs)?;
    let transaction = db.begin_read()?;
    let table = match transaction.open_table(TABLE) {
        Err(TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
        table => table?,
    };
    let mut commits = Vec::new();
    for row in table.iter()? {
        let (commit, value) = row?;
        assert_eq!(value.value(), vec![commit.value() as u8; 700]);
        commits.push(commit.value());
    }
    Ok(commits)
}

fn put(db: &Database, commit: u64) -> Result<(), Error> {
    let transaction = db.begin_write()?;
    transaction.open_table(TABLE)?.insert(commit, &[commit as u8; 700][..])?;
    transaction.commit()?;
    Ok(())
}

#[test]
fn nothing_acknowledged_is_lost_and_a_kill_during_creation_leaves_a_file_that_is_refused() {
    let test = CrashTest::new(|fs: &CrashFs| {
        // redb leaves the name of its file to the application.
        fs.create("db")?;
        fs.sync_dir("")?;
        let db = open(fs)?;
        for commit in 1..=3 {
            fs.commit(commit, || put(&db, commit))?;
        }
        Ok(())
    });
    let test = test.recover(recover).expect(models::log());
    for profile in Profile::ALL {
        let report = test.run(profile);
        assert!(report.notices_sabotage && !report.findings.is_empty(), "{report}");
        for finding in &report.findings {
            assert!(finding.reason.contains("Not a redb database"), "{report}");
        }
    }
}
