//! rusty-leveldb after every crash.

use std::collections::BTreeSet;

use rusty_leveldb::{DB, LdbIterator, WriteBatch};
use stormglass_crash_leveldb::options;
use stormglass_crash_test::{CrashFs, CrashTest, EngineError, Profile, models};

/// The commits whose keys are there, each with all of its bytes.
fn recover(fs: &CrashFs) -> Result<BTreeSet<u64>, EngineError> {
    let mut rows = DB::open("db", options(fs))?.new_iter()?;
    let mut commits = BTreeSet::new();
    while let Some((key, value)) = rows.next() {
        let commit = u64::from_be_bytes(key.as_slice().try_into()?);
        assert_eq!(value, vec![commit as u8; 300]);
        commits.insert(commit);
    }
    Ok(commits)
}

#[test]
fn write_with_sync_is_lost_in_a_power_cut() {
    let test = CrashTest::new(|fs: &CrashFs| {
        let mut db = DB::open("db", options(fs))?;
        for commit in 1..=4_u64 {
            let mut batch = WriteBatch::default();
            batch.put(&commit.to_be_bytes(), &[commit as u8; 300]);
            fs.commit(commit, || db.write(batch, true))?;
        }
        Ok(())
    });
    let report = test.recover(recover).expect(models::set()).run_until_found(&Profile::ALL);
    assert_eq!(report.profile, Profile::Ext4, "the weakest that shows it");
    assert_eq!(report.syncs, 0, "the engine syncs nothing");
    assert!(report.findings.iter().any(|finding| finding.reason.starts_with("lost")), "{report}");
}
