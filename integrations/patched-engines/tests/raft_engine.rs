//! raft-engine 0.4.2 after every crash.

use protobuf::well_known_types::Timestamp;
use raft_engine::{Config, Engine, LogBatch, MessageExt, ReadableSize};
use stormglass_crash_test::{CrashFs, CrashTest, EngineError, Profile, models, std_fs::Mount};

/// An entry of a log: its index is its number of seconds.
#[derive(Clone)]
struct Entries;

impl MessageExt for Entries {
    type Entry = Timestamp;
    fn index(entry: &Timestamp) -> u64 {
        entry.seconds as u64
    }
}

fn open(mount: &Mount) -> Result<Engine, EngineError> {
    let dir = mount.path("log").display().to_string();
    let target_file_size = ReadableSize(1000);
    Ok(Engine::open(Config { dir, target_file_size, recovery_threads: 1, ..Config::default() })?)
}

/// The entries that are there, of which there must be no gap.
fn recover(fs: &CrashFs) -> Result<Vec<u64>, EngineError> {
    let mount = Mount::new(fs);
    let engine = open(&mount)?;
    let mut items = Vec::new();
    if let Some(last) = engine.last_index(1) {
        for index in 1..=last {
            let entry = engine.get_entry::<Entries>(1, index)?.ok_or("a gap in the log")?;
            items.push(entry.seconds as u64);
        }
    }
    Ok(items)
}

fn append(engine: &Engine, item: u64) -> Result<(), EngineError> {
    let mut batch = LogBatch::default();
    let entry = Timestamp { seconds: item as i64, ..Timestamp::default() };
    batch.add_entries::<Entries>(1, &[entry])?;
    batch.put(1, b"key".to_vec(), vec![item as u8; 300])?;
    engine.write(&mut batch, true)?;
    Ok(())
}

#[test]
fn name_of_the_first_file_is_lost_in_strict_posix() {
    let test = CrashTest::new(|fs: &CrashFs| {
        fs.create_dir("log")?;
        fs.sync_dir("")?;
        let mount = Mount::new(fs);
        let engine = open(&mount)?;
        (1..=3).try_for_each(|item| fs.commit(item, || append(&engine, item)))
    });
    let test = test.recover(recover).expect(models::log());
    for profile in [Profile::Kill, Profile::Ext4, Profile::OwnName] {
        // A sync that fails is a panic on purpose.
        let report = test.run(profile);
        let other = report.findings.iter().find(|finding| !finding.reason.contains("panic"));
        assert!(report.notices_sabotage && other.is_none(), "{report}");
    }
    let report = test.run(Profile::PosixStrict);
    let lost = report.findings.iter().find(|finding| finding.reason.starts_with("lost: item"));
    let lost = lost.unwrap_or_else(|| panic!("no loss: {report}"));
    assert_eq!(lost.lost, ["name 0000000000000001.raftlog of #3 (operation 3)"], "{report}");
}
