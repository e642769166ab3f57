//! The names of `std::fs`: the same program over real files has the same results, and an engine
//! that knows nothing of crash tests is tested through them.

use std::fmt::Debug;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

use stormglass_crash_test::{CrashFs, CrashTest, EngineError, Profile, models, std_fs};

/// A result, so that two programs can be compared: errors by their kind.
fn text<T: Debug>(result: io::Result<T>) -> String {
    match result {
        Ok(value) => format!("{value:?}"),
        Err(error) => format!("{:?}", error.kind()),
    }
}

/// A program over the module `$fs`, in the directory `$root`: what each of its steps returns.
macro_rules! program {
    ($fs:path, $root:expr) => {{
        use $fs as fs;
        let root: &Path = $root;
        let log = root.join("a/b/log");
        let mut steps = vec![
            text(fs::create_dir_all(root.join("a/b"))),
            text(fs::create_dir_all(root.join("a/b"))),
            text(fs::create_dir(root.join("a"))),
            text(fs::File::open(&log).map(|_| ())),
            text(fs::write(&log, b"0123456789")),
            text(fs::File::create_new(&log).map(|_| ())),
            text(fs::create_dir_all(&log)),
            text(fs::File::open(log.join("x")).map(|_| ())),
        ];
        let mut file = fs::OpenOptions::new().read(true).write(true).open(&log).expect("exists");
        let mut buffer = [0; 4];
        steps.push(text(file.seek(SeekFrom::Start(2))));
        steps.push(text(file.read_exact(&mut buffer).map(|()| buffer)));
        let mut clone = file.try_clone().expect("a second handle");
        steps.push(text(clone.write(b"XY")));
        steps.push(text(file.stream_position()));
        steps.push(text(file.seek(SeekFrom::End(-1))));
        steps.push(text(file.seek(SeekFrom::Current(-100))));
        steps.push(text(file.seek(SeekFrom::Start(12))));
        steps.push(text(file.write(b"end")));
        steps.push(text(fs::read(&log)));
        steps.push(text(file.set_len(3)));
        steps.push(text(file.stream_position()));
        steps.push(text(file.metadata().map(|it| (it.len(), it.is_file(), it.is_dir()))));
        let mut tail = fs::OpenOptions::new().append(true).open(&log).expect("exists");
        steps.push(text(tail.write(b"+tail")));
        steps.push(text(tail.read(&mut buffer)));
        steps.push(text(fs::read_to_string(&log)));
        let mut reader = fs::File::open(&log).expect("exists");
        steps.push(text(reader.write(b"not allowed")));
        steps.push(text(reader.set_len(0)));
        steps.push(text(fs::OpenOptions::new().read(true).truncate(true).open(&log).map(|_| ())));
        steps.push(text(fs::OpenOptions::new().read(true).create(true).open(&log).map(|_| ())));
        steps.push(text(fs::OpenOptions::new().write(true).open(root).map(|_| ())));
        steps.push(text(fs::File::open(root).and_then(|dir| dir.sync_all())));
        steps.push(text(fs::hard_link(&log, root.join("second"))));
        steps.push(text(fs::rename(&log, root.join("renamed"))));
        steps.push(text(fs::rename(&log, root.join("gone"))));
        steps.push(text(fs::copy(root.join("second"), root.join("copy"))));
        // A handle outlives the names.
        steps.push(text(fs::remove_file(root.join("renamed"))));
        steps.push(text(file.seek(SeekFrom::Start(0))));
        let mut rest = String::new();
        steps.push(text(file.read_to_string(&mut rest).map(|_| rest)));
        let entries = fs::read_dir(root).expect("a directory").map(|entry| {
            let entry = entry.expect("an entry");
            (entry.file_name(), entry.file_type().expect("a type").is_dir())
        });
        let mut entries: Vec<_> = entries.collect();
        entries.sort();
        steps.push(format!("{entries:?}"));
        steps.push(text(fs::remove_dir(root.join("a"))));
        steps.push(text(fs::remove_dir_all(root.join("a"))));
        steps.push(text(fs::metadata(root.join("a")).map(|it| it.len())));
        steps
    }};
}

#[test]
fn programs_have_the_results_of_real_files() {
    let directory = tempfile::tempdir().expect("a directory for temporary files");
    let disk = CrashFs::default();
    let mount = std_fs::Mount::new(&disk);
    let real = program!(std::fs, directory.path());
    let simulated = program!(stormglass_crash_test::std_fs, mount.root());
    assert_eq!(simulated, real);
}

/// A log, as an engine has it that knows real files only: `fs` is what its author changes.
mod engine {
    use std::io::{self, BufWriter, Write};
    use std::path::Path;

    use stormglass_crash_test::std_fs as fs;

    pub(crate) fn append(dir: &Path, item: u64, syncs_directory: bool) -> io::Result<()> {
        let is_new = !fs::exists(dir.join("log"));
        let file = fs::OpenOptions::new().create(true).append(true).open(dir.join("log"))?;
        let mut writer = BufWriter::new(&file);
        writer.write_all(&item.to_le_bytes())?;
        writer.write_all(&(!item).to_le_bytes())?;
        writer.flush()?;
        drop(writer);
        file.sync_all()?;
        if is_new && syncs_directory { fs::File::open(dir)?.sync_all() } else { Ok(()) }
    }

    pub(crate) fn read(dir: &Path) -> io::Result<Vec<u64>> {
        let bytes = fs::read(dir.join("log")).unwrap_or_default();
        let mut items = Vec::new();
        for record in bytes.chunks_exact(16) {
            let word = u64::from_le_bytes(record[..8].try_into().expect("eight bytes"));
            if word != !u64::from_le_bytes(record[8..].try_into().expect("eight bytes")) {
                break;
            }
            items.push(word);
        }
        Ok(items)
    }
}

#[test]
fn engine_is_tested_through_the_names_of_std() {
    for (syncs_directory, weakest) in [(true, None), (false, Some(Profile::PosixStrict))] {
        let test = CrashTest::new(move |disk: &CrashFs| -> Result<(), EngineError> {
            let mount = std_fs::Mount::new(disk);
            for item in 1..=3 {
                disk.commit(item, || engine::append(mount.root(), item, syncs_directory))?;
            }
            Ok(())
        });
        let test = test
            .recover(|disk| engine::read(std_fs::Mount::new(disk).root()))
            .expect(models::log());
        let report = test.run_until_found(&Profile::ALL);
        let found = report.findings.first().map(|finding| finding.profile);
        assert_eq!(found, weakest, "{report}");
        assert!(syncs_directory || report.findings[0].lost[0].starts_with("name log"), "{report}");
    }
}

#[test]
fn paths_outside_of_a_mount_are_errors_that_say_so() {
    let disk = CrashFs::default();
    let mount = std_fs::Mount::new(&disk);
    let path = mount.path("file");
    std_fs::write(&path, "x").expect("it is mounted");
    let mut open = std_fs::File::options().write(true).open(&path).expect("it exists");
    assert!(std_fs::exists(&path));
    drop(mount);
    assert!(!std_fs::exists(&path));
    let error = std_fs::read(&path).expect_err("it is not mounted any more");
    assert!(error.to_string().ends_with("/file: its crash file system is not mounted"), "{error}");
    open.write_all(b"y").expect("an open file outlives the mount");
    assert_eq!(disk.read("file").expect("it exists"), b"y");
    for outside in ["/tmp/file", "relative", "/crash-fs", "/crash-fs/0000000001/../x"] {
        let error = std_fs::write(outside, "x").expect_err("it is no path of a mount");
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{outside}");
        assert!(error.to_string().contains("Mount::path"), "{error}");
    }
    let (one, other) = (CrashFs::default(), CrashFs::default());
    let (one, other) = (std_fs::Mount::new(&one), std_fs::Mount::new(&other));
    std_fs::write(one.path("x"), "x").expect("it is mounted");
    let error = std_fs::rename(one.path("x"), other.path("x")).expect_err("two file systems");
    assert_eq!(error.kind(), io::ErrorKind::CrossesDevices);
}
