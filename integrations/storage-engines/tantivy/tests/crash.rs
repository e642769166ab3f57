//! tantivy after every crash.

use std::collections::BTreeSet;

use stormglass_crash_tantivy::CrashDirectory;
use stormglass_crash_test::{CrashFs, CrashTest, EngineError, Profile, models};
use tantivy::schema::{STORED, Schema, Value};
use tantivy::{Index, IndexWriter, TantivyDocument, doc, indexer::NoMergePolicy};

fn open(fs: &CrashFs) -> tantivy::Result<Index> {
    let mut schema = Schema::builder();
    schema.add_u64_field("item", STORED);
    Index::open_or_create(CrashDirectory::new(fs), schema.build())
}

fn recover(fs: &CrashFs) -> Result<BTreeSet<u64>, EngineError> {
    let index = open(fs)?;
    let damaged = index.validate_checksum()?;
    if !damaged.is_empty() {
        return Err(format!("{} files have a bad checksum", damaged.len()).into());
    }
    let item = index.schema().get_field("item")?;
    let mut items = BTreeSet::new();
    for segment in index.reader()?.searcher().segment_readers() {
        let store = segment.get_store_reader(1)?;
        for id in segment.doc_ids_alive() {
            let document: TantivyDocument = store.get(id)?;
            items.extend(document.get_first(item).and_then(|value| value.as_u64()));
        }
    }
    Ok(items)
}

#[test]
fn commit_returns_before_the_rename_of_its_metadata_is_durable() {
    let test = CrashTest::new(|fs: &CrashFs| {
        let index = open(fs)?;
        let item = index.schema().get_field("item")?;
        let mut writer: IndexWriter = index.writer_with_num_threads(1, 15_000_000)?;
        writer.set_merge_policy(Box::new(NoMergePolicy));
        for commit in 1..=2 {
            writer.add_document(doc!(item => commit))?;
            fs.commit(commit, || writer.commit())?;
        }
        writer.wait_merging_threads()?;
        Ok(())
    });
    let report = test.recover(recover).expect(models::set()).run_until_found(&Profile::ALL);
    assert_eq!(report.profile, Profile::Ext4, "the weakest that shows it");
    assert!(report.findings[0].lost[0].starts_with("rename of .tmp-meta.json"), "{report}");
}
