//! A node boots from any files in its data directory, or refuses with an error: it never panics.
//! What it recovers is the same if it recovers once more.
#![no_main]

use libfuzzer_sys::fuzz_target;
use stormglass::commit::{Record, State};
use stormglass_node::wal::{self, payload};
use stormglass_node::{DiskError, FileId, ReadDisk, codec, journal::FileSummary};

/// Up to four files, cut out of the input: a byte for the name, two for the length, the contents.
struct Files(Vec<(FileId, Vec<u8>)>);

impl Files {
    fn of(mut input: &[u8]) -> Files {
        let mut files: Vec<(FileId, Vec<u8>)> = Vec::new();
        while let [name, low, high, rest @ ..] = input
            && files.len() < 4
        {
            let len = usize::from(u16::from_le_bytes([*low, *high])).min(rest.len());
            let number = u32::from(name >> 1);
            let file = if name & 1 == 0 { FileId::Wal(number) } else { FileId::Snapshot(number) };
            if files.iter().all(|(other, _)| *other != file) {
                files.push((file, rest[..len].to_vec()));
            }
            input = &rest[len..];
        }
        files.sort();
        Files(files)
    }
}

impl ReadDisk for Files {
    fn files(&self) -> Vec<FileId> {
        self.0.iter().map(|(file, _)| *file).collect()
    }

    fn read(&self, file: FileId) -> Result<Option<&[u8]>, DiskError> {
        Ok(self.0.iter().find(|(name, _)| *name == file).map(|(_, bytes)| &bytes[..]))
    }
}

fuzz_target!(|input: &[u8]| {
    let files = Files::of(input);
    if let (Ok(once), Ok(again)) =
        (wal::recover::<State, Record>(&files), wal::recover::<State, Record>(&files))
    {
        assert_eq!(once.records.len(), again.records.len());
        assert_eq!(once.snapshot.is_some(), again.snapshot.is_some());
    }
    let _ = wal::scan_frames(&files);
    for (file, bytes) in &files.0 {
        let _ = FileSummary::new(*file, bytes);
        let _ = payload(bytes);
        // Numbers have longer encodings, too, so the bytes of a record that decodes may change once.
        if let Ok(record) = codec::decode::<Record>(bytes) {
            let encoded = codec::encode(&record);
            let again = codec::decode::<Record>(&encoded).expect("its own encoding");
            assert_eq!(codec::encode(&again), encoded);
        }
    }
});
