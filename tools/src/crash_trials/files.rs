//! The files of a directory, on the machine and in the model.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use stormglass_crash_test::CrashFs;

/// The contents of each file, by its path. A directory ends with `/` and has no contents.
pub(super) type Files = BTreeMap<String, Vec<u8>>;

pub(super) fn files_below(directory: &Path) -> io::Result<Files> {
    let mut files = Files::new();
    add_files(directory, "", &mut files)?;
    Ok(files)
}

fn add_files(directory: &Path, prefix: &str, files: &mut Files) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let path = format!("{prefix}{}", entry.file_name().to_string_lossy());
        if entry.file_type()?.is_dir() {
            add_files(&entry.path(), &format!("{path}/"), files)?;
            files.insert(format!("{path}/"), Vec::new());
        } else {
            files.insert(path, fs::read(entry.path())?);
        }
    }
    Ok(())
}

pub(super) fn model_files(fs: &CrashFs) -> Files {
    let mut files = Files::new();
    let root = fs.read_dir("").expect("the root is a directory");
    let mut open: Vec<String> = root;
    while let Some(path) = open.pop() {
        if let Ok(names) = fs.read_dir(&path) {
            open.extend(names.into_iter().map(|name| format!("{path}/{name}")));
            files.insert(format!("{path}/"), Vec::new());
        } else {
            let bytes = fs.read(&path).expect("a file of this name");
            files.insert(path, bytes);
        }
    }
    files
}
