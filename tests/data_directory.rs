//! Data directories that earlier programs wrote: today's program reads them.
//!
//! `tests/data/format-1` is a cluster of two nodes, killed after three transactions that committed
//! and one that n1 refused. The bytes of a log must not change without a new format version.

use std::path::Path;

use stormglass::commit::{Key, Record, State};
use stormglass_node::runtime::SurvivingFiles;
use stormglass_node::{Incarnation, NodeId, wal};

fn recovered(node: NodeId) -> State {
    let directory =
        Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/data/format-1/{node}"));
    let files = SurvivingFiles::read(&directory).expect("a data directory");
    let recovered = wal::recover::<State, Record>(&files).expect("an intact log");
    assert_eq!(recovered.records.len(), 6, "two records for each committed transaction");
    let mut state = recovered.snapshot.expect("the snapshot of the boot");
    for record in recovered.records {
        state.apply(node, record);
    }
    state
}

fn value(state: &State, key: &str) -> Option<i64> {
    state.values.get(&Key::new(key).expect("a short key")).copied()
}

#[test]
fn a_data_directory_of_the_first_format_is_read() {
    let n0 = recovered(NodeId(0));
    assert_eq!(n0.incarnation, Incarnation::numbered(1));
    assert_eq!([1, 2, 3].map(|i| value(&n0, &format!("k{i}"))), [Some(1), Some(2), Some(3)]);
    assert_eq!(value(&n0, "never"), None, "the transaction that n1 refused");
    assert_eq!(value(&recovered(NodeId(1)), "total"), Some(6));
}
