//! okaywal 0.3.1 after every crash.

use std::collections::BTreeSet;
use std::io;
use std::sync::{Arc, Mutex};

use okaywal::{Configuration, Entry, EntryId, LogManager, SegmentReader, WriteAheadLog};
use stormglass_crash_test::{
    CrashFs, CrashTest, EngineError, Profile, Report, models, std_fs::Mount,
};

type Items = Arc<Mutex<BTreeSet<u64>>>;

/// Collects the entries that the log recovers. Nothing is removed at a checkpoint before it is in
/// the file `store`.
#[derive(Debug)]
struct Manager(CrashFs, Items);

fn item_of(entry: &mut Entry<'_>) -> io::Result<Option<u64>> {
    let chunks = entry.read_all_chunks()?.unwrap_or_default();
    Ok(chunks.first().and_then(|bytes| Some(u64::from_le_bytes(bytes.get(..8)?.try_into().ok()?))))
}

impl LogManager for Manager {
    fn recover(&mut self, entry: &mut Entry<'_>) -> io::Result<()> {
        self.1.lock().expect("no panic").extend(item_of(entry)?);
        Ok(())
    }
    fn checkpoint_to(
        &mut self,
        _: EntryId,
        entries: &mut SegmentReader,
        _: &WriteAheadLog,
    ) -> io::Result<()> {
        // As long as a sync of a real disk takes.
        std::thread::sleep(std::time::Duration::from_millis(2));
        let store = self.0.open("store")?;
        while let Some(mut entry) = entries.read_entry()? {
            if let Some(item) = item_of(&mut entry)? {
                store.write_at(item * 8, &item.to_le_bytes())?;
            }
        }
        store.sync_all()
    }
}

fn open(fs: &CrashFs, mount: &Mount) -> io::Result<(WriteAheadLog, Items)> {
    let items = Items::default();
    let manager = Manager(fs.clone(), Arc::clone(&items));
    let log = Configuration::default_for(mount.path("log")).preallocate_bytes(2048);
    Ok((log.checkpoint_after_bytes(1000).buffer_bytes(512).open(manager)?, items))
}

fn recover(fs: &CrashFs) -> Result<BTreeSet<u64>, EngineError> {
    let mount = Mount::new(fs);
    let (log, items) = open(fs, &mount)?;
    log.shutdown()?;
    let mut found = items.lock().expect("no panic").clone();
    let stored = fs.read("store").unwrap_or_default();
    found.extend(
        stored.chunks_exact(8).map(|word| u64::from_le_bytes(word.try_into().expect("eight"))),
    );
    found.remove(&0);
    Ok(found)
}

fn run(profile: Profile) -> Report {
    let test = CrashTest::new(|fs: &CrashFs| {
        fs.create("store")?.sync_all()?;
        fs.create_dir("log")?;
        fs.sync_dir("")?;
        let mount = Mount::new(fs);
        let (log, _) = open(fs, &mount)?;
        for item in 1..=14_u64 {
            fs.commit(item, || -> io::Result<()> {
                let mut entry = log.begin_entry()?;
                entry.write_chunk(&[&item.to_le_bytes()[..], &[item as u8; 300]].concat())?;
                entry.commit()?;
                Ok(())
            })?;
            if item == 4 {
                std::thread::sleep(std::time::Duration::from_millis(6));
            }
        }
        Ok(())
    });
    test.recover(recover)
        .expect(models::set())
        .hang_after(std::time::Duration::from_millis(500))
        .run(profile)
}

fn has(report: &Report, reason: &str) -> bool {
    report.findings.iter().any(|finding| finding.reason.contains(reason))
}

#[test]
fn killed_while_a_segment_is_created_it_never_opens_again() {
    let report = run(Profile::Kill);
    assert!(has(&report, "recovery fails: segment file did not contain magic code"), "{report}");
    assert!(has(&report, "hangs") && !has(&report, "lost: item"), "{report}");
}

/// Its threads make recordings differ: one of five is enough.
#[test]
fn entries_in_a_recycled_segment_are_lost_in_a_power_cut() {
    let reports: Vec<_> = (0..5).map(|_| run(Profile::Ext4)).collect();
    let lost = reports.iter().flat_map(|report| &report.findings).find(|finding| {
        finding.reason.starts_with("lost: item")
            && !finding.to_string().contains("after a failure")
            && finding.lost.iter().any(|part| part.starts_with("rename of wal"))
    });
    assert!(lost.is_some(), "{}", reports[0]);
    println!("{}", lost.expect("it is found"));
}
