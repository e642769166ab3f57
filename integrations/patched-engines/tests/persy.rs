//! persy 1.8.1 after every crash.

use persy::{ByteVec, Config, Persy, ValueMode};
use stormglass_crash_test::{
    CrashFs, CrashTest, EngineError, Profile, Report, models, std_fs::Mount,
};

fn open(mount: &Mount) -> Result<Persy, EngineError> {
    let db = Persy::open_or_create_with(mount.path("db"), Config::new(), |db| {
        let mut transaction = db.begin()?;
        transaction.create_index::<u64, ByteVec>("i", ValueMode::Replace)?;
        Ok(transaction.prepare()?.commit()?)
    });
    db.map_err(|error| error.to_string().into())
}

/// The commits whose values are there, each with all of its bytes.
fn recover(fs: &CrashFs) -> Result<Vec<u64>, EngineError> {
    let mount = Mount::new(fs);
    let mut commits = Vec::new();
    for (commit, mut values) in open(&mount)?.range::<u64, ByteVec, _>("i", ..)? {
        let whole = ByteVec::new(vec![commit as u8; 900]);
        assert!(values.next() == Some(whole), "half of a value");
        commits.push(commit);
    }
    Ok(commits)
}

fn put(db: &Persy, commit: u64) -> Result<(), EngineError> {
    let mut transaction = db.begin()?;
    transaction.put("i", commit, ByteVec::new(vec![commit as u8; 900]))?;
    Ok(transaction.prepare()?.commit()?)
}

fn run(profile: Profile) -> Report {
    let test = CrashTest::new(|fs: &CrashFs| {
        let mount = Mount::new(fs);
        let db = open(&mount)?;
        (1..=4).try_for_each(|commit| fs.commit(commit, || put(&db, commit)))
    });
    test.recover(recover).expect(models::log()).run(profile)
}

fn has(report: &Report, reason: &str) -> bool {
    report.findings.iter().any(|finding| finding.reason.contains(reason))
}

#[test]
fn killed_during_creation_it_panics_when_it_is_opened() {
    let report = run(Profile::Kill);
    assert!(has(&report, "panic: cannot open this persy archive"), "{report}");
    assert!(!has(&report, "lost") && !has(&report, "half of a value"), "{report}");
}

#[test]
fn half_of_a_value_comes_back_after_a_power_cut() {
    let report = run(Profile::Ext4);
    assert!(has(&report, "half of a value") && has(&report, "lost: item"), "{report}");
}
