//! Each rule of a profile as the images of one crash: what may be there, and what may not.

use std::collections::BTreeSet;
use std::io;

use stormglass_crash_test::{CrashFs, Profile};

/// What an image contains: files with their contents.
type Files = Vec<(String, Vec<u8>)>;

fn files_of(fs: &CrashFs) -> io::Result<Files> {
    let mut files = Vec::new();
    let mut dirs = vec![String::new()];
    while let Some(dir) = dirs.pop() {
        for name in fs.read_dir(&dir)? {
            let path = if dir.is_empty() { name } else { format!("{dir}/{name}") };
            match fs.read(&path) {
                Ok(bytes) => files.push((path, bytes)),
                Err(_) => dirs.push(path),
            }
        }
    }
    files.sort();
    Ok(files)
}

/// Every image that a crash after the whole workload may leave.
fn images_after(
    profile: Profile,
    workload: impl Fn(&CrashFs) -> io::Result<()>,
) -> BTreeSet<Files> {
    let fs = CrashFs::default();
    workload(&fs).expect("no failure is injected");
    let images = fs.images_after_crash(profile);
    images.iter().map(|image| files_of(image).expect("a directory can be read")).collect()
}

fn file(path: &str, bytes: &[u8]) -> (String, Vec<u8>) {
    (path.to_string(), bytes.to_vec())
}

/// Whether some image has this file with these contents.
fn some(images: &BTreeSet<Files>, path: &str, bytes: &[u8]) -> bool {
    images.iter().any(|files| files.contains(&file(path, bytes)))
}

fn some_without(images: &BTreeSet<Files>, path: &str) -> bool {
    images.iter().any(|files| files.iter().all(|(other, _)| other != path))
}

/// Whether every image has this file with these contents.
fn all(images: &BTreeSet<Files>, path: &str, bytes: &[u8]) -> bool {
    images.iter().all(|files| files.contains(&file(path, bytes)))
}

fn synced_file(fs: &CrashFs) -> io::Result<()> {
    let created = fs.create("f")?;
    created.write_at(0, b"old")?;
    created.sync_all()
}

#[test]
fn kill_keeps_the_page_cache() {
    let images = images_after(Profile::Kill, |fs| fs.create("f")?.write_at(0, b"new"));
    assert!(all(&images, "f", b"new"));
}

/// POSIX: a sync of the file is none of its name. The others sync it with the file.
#[test]
fn name_needs_a_sync_of_its_directory_in_strict_posix_only() {
    assert!(some_without(&images_after(Profile::PosixStrict, synced_file), "f"));
    for profile in [Profile::OwnName, Profile::Ext4] {
        assert!(all(&images_after(profile, synced_file), "f", b"old"), "{profile}");
    }
    let with_dir = |fs: &CrashFs| {
        synced_file(fs)?;
        fs.sync_dir("")
    };
    assert!(all(&images_after(Profile::PosixStrict, with_dir), "f", b"old"));
}

#[test]
fn unsynced_data_is_there_or_not_in_each_sector() {
    let write_two_sectors = |fs: &CrashFs| {
        let created = fs.create("f")?;
        created.write_at(0, &[1; 1024])?;
        created.sync_all()?;
        fs.sync_dir("")?;
        created.write_at(0, &[2; 1024])
    };
    for profile in [Profile::PosixStrict, Profile::OwnName, Profile::Ext4] {
        let images = images_after(profile, write_two_sectors);
        for (first, second) in [(1, 1), (1, 2), (2, 1), (2, 2)] {
            let contents = [[first; 512], [second; 512]].concat();
            assert!(some(&images, "f", &contents), "{profile}: {first}, {second}");
        }
        let torn = [[2; 256].to_vec(), [1; 768].to_vec()].concat();
        assert!(some(&images, "f", &torn), "{profile}: torn within a sector");
    }
}

/// ext4 writes the data of new blocks first (`data=ordered`); elsewhere the length may come alone.
#[test]
fn length_survives_without_its_data() {
    let append = |fs: &CrashFs| {
        synced_file(fs)?;
        fs.sync_dir("")?;
        fs.open("f")?.append(b"new")
    };
    assert!(some(&images_after(Profile::PosixStrict, append), "f", b"old\0\0\0"));
    assert!(some(&images_after(Profile::PosixStrict, append), "f", b"old\xA5\xA5\xA5"));
    assert!(some(&images_after(Profile::OwnName, append), "f", b"old\0\0\0"));
}

/// As `cargo tools crash-trials` found on a real ext4: the length is in the journal then, and the
/// data is still in the page cache.
#[test]
fn length_that_is_set_to_itself_survives_without_its_data_on_ext4() {
    let write = |fs: &CrashFs| fs.create("f")?.write_at(0, b"new");
    let images = images_after(Profile::Ext4, write);
    assert!(!some(&images, "f", b"\0\0\0"));
    let images = images_after(Profile::Ext4, |fs| {
        write(fs)?;
        fs.open("f")?.set_len(3)?;
        fs.sync_dir("")
    });
    assert!(some(&images, "f", b"\0\0\0") && some(&images, "f", b"new"));
}

/// As a trial on a real ext4 found: an append within the last block of a file is not ordered. The
/// length comes with the next commit of the journal, the bytes come later.
#[test]
fn append_within_a_block_may_leave_zeros_on_ext4() {
    let append_at = |len: usize| {
        move |fs: &CrashFs| {
            let file = fs.create("f")?;
            file.write_at(0, &vec![1; len])?;
            file.sync_all()?;
            file.append(b"new")?;
            fs.create("g")?;
            fs.sync_dir("")
        }
    };
    let zeros_after = |len: usize| [vec![1; len], vec![0; 3]].concat();
    assert!(some(&images_after(Profile::Ext4, append_at(512)), "f", &zeros_after(512)));
    let images = images_after(Profile::Ext4, append_at(4096));
    assert!(!some(&images, "f", &zeros_after(4096)));
    assert!(some(&images, "f", &[1; 4096]));
    assert!(some(&images, "f", &[vec![1; 4096], b"new".to_vec()].concat()));
}

/// As a trial on a real ext4 found: the write does not change the inode within a tick of the clock,
/// so that its `fsync` commits nothing of the journal.
#[test]
fn fsync_after_a_write_in_place_commits_no_other_name_on_ext4() {
    let images = images_after(Profile::Ext4, |fs| {
        synced_file(fs)?;
        fs.create("g")?;
        let file = fs.open("f")?;
        file.write_at(0, b"new")?;
        file.sync_all()
    });
    assert!(some_without(&images, "g") && all(&images, "f", b"new"));
}

/// The journal is committed for another file, and with it a length that was set after a write. The
/// bytes of that write, synced later, do not bring their own length back.
#[test]
fn bytes_from_before_a_durable_cut_do_not_come_back() {
    let images = images_after(Profile::Ext4, |fs| {
        let cut = fs.create("f")?;
        cut.write_at(0, &[1; 2048])?;
        cut.set_len(512)?;
        let other = fs.create("g")?;
        other.append(b"other")?;
        other.sync_data()?;
        cut.sync_data()
    });
    assert!(all(&images, "f", &[1; 512]));
}

/// The journal of ext4 keeps the order of names; elsewhere each survives on its own.
#[test]
fn names_survive_in_order_on_ext4_only() {
    let two_files = |fs: &CrashFs| {
        fs.create("first")?;
        fs.create("second").map(|_| ())
    };
    let second_alone =
        |images: &BTreeSet<Files>| images.iter().any(|files| *files == vec![file("second", b"")]);
    assert!(second_alone(&images_after(Profile::PosixStrict, two_files)));
    assert!(second_alone(&images_after(Profile::OwnName, two_files)));
    assert!(!second_alone(&images_after(Profile::Ext4, two_files)));
}

fn replace(fs: &CrashFs, sync: impl Fn(&CrashFs) -> io::Result<()>) -> io::Result<()> {
    synced_file(fs)?;
    fs.sync_dir("")?;
    let new = fs.create("f.new")?;
    new.write_at(0, b"new")?;
    new.sync_all()?;
    fs.rename("f.new", "f")?;
    sync(fs)
}

/// `fsync` after a rename commits it on ext4, as the rename has changed the inode; `fdatasync` does
/// not, as its length is the same.
#[test]
fn fdatasync_commits_no_rename_on_ext4() {
    let images = images_after(Profile::Ext4, |fs| replace(fs, |fs| fs.open("f")?.sync_all()));
    assert!(all(&images, "f", b"new"));
    let images = images_after(Profile::Ext4, |fs| replace(fs, |fs| fs.open("f")?.sync_data()));
    assert!(some(&images, "f", b"old"));
    let images = images_after(Profile::Ext4, |fs| replace(fs, |fs| fs.sync_dir("")));
    assert!(all(&images, "f", b"new"));
}

/// `auto_da_alloc`: a file that replaces another has its data. POSIX promises nothing.
#[test]
fn replacing_a_file_without_a_sync_is_safe_on_ext4_only() {
    let replace_unsynced = |fs: &CrashFs| {
        synced_file(fs)?;
        fs.sync_dir("")?;
        fs.create("f.new")?.write_at(0, b"new")?;
        fs.rename("f.new", "f")
    };
    let images = images_after(Profile::Ext4, replace_unsynced);
    assert!(some(&images, "f", b"old") && some(&images, "f", b"new"));
    assert!(
        images.iter().all(|files| {
            files.contains(&file("f", b"old")) || files.contains(&file("f", b"new"))
        })
    );
    assert!(some(&images_after(Profile::PosixStrict, replace_unsynced), "f", b""));
}

/// A removal may be undone, and a cut length too.
#[test]
fn removals_and_cuts_may_be_undone() {
    for profile in [Profile::PosixStrict, Profile::OwnName, Profile::Ext4] {
        let images = images_after(profile, |fs| {
            synced_file(fs)?;
            fs.sync_dir("")?;
            fs.remove_file("f")
        });
        assert!(some(&images, "f", b"old") && some_without(&images, "f"), "{profile}");
        let images = images_after(profile, |fs| {
            synced_file(fs)?;
            fs.sync_dir("")?;
            fs.open("f")?.set_len(1)
        });
        assert!(some(&images, "f", b"old") && some(&images, "f", b"o"), "{profile}");
    }
}

/// An open file outlives its name, and what is written to it then is not under the new file.
#[test]
fn open_files_outlive_their_names() {
    let images = images_after(Profile::PosixStrict, |fs| {
        let old = fs.create("f")?;
        fs.rename("f", "g")?;
        fs.create("f")?.write_at(0, b"second")?;
        old.write_at(0, b"first")?;
        old.sync_all()?;
        fs.open("f")?.sync_all()?;
        fs.sync_dir("")
    });
    assert!(all(&images, "f", b"second") && all(&images, "g", b"first"));
}

/// Files in directories: each directory has its own sync.
#[test]
fn a_directory_is_durable_with_the_directory_above_it() {
    let nested = |fs: &CrashFs| {
        fs.create_dir("d")?;
        let created = fs.create("d/f")?;
        created.write_at(0, b"new")?;
        created.sync_all()?;
        fs.sync_dir("d")
    };
    assert!(some_without(&images_after(Profile::PosixStrict, nested), "d/f"));
    let both = move |fs: &CrashFs| {
        nested(fs)?;
        fs.sync_dir("")
    };
    assert!(all(&images_after(Profile::PosixStrict, both), "d/f", b"new"));
    assert!(all(&images_after(Profile::Ext4, nested), "d/f", b"new"));
}

/// In strict POSIX a rename between directories may leave two names, or none.
#[test]
fn rename_between_directories_is_not_atomic_in_strict_posix() {
    let moved = |fs: &CrashFs| {
        fs.create_dir("a")?;
        fs.create_dir("b")?;
        let created = fs.create("a/f")?;
        created.write_at(0, b"old")?;
        created.sync_all()?;
        fs.sync_dir("a")?;
        fs.sync_dir("")?;
        fs.rename("a/f", "b/f")
    };
    let counts = |images: &BTreeSet<Files>| images.iter().map(Vec::len).collect::<BTreeSet<_>>();
    assert_eq!(counts(&images_after(Profile::PosixStrict, moved)), BTreeSet::from([0, 1, 2]));
    assert_eq!(counts(&images_after(Profile::Ext4, moved)), BTreeSet::from([1]));
}

/// Numbers that look random and are the same in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}

/// Some operation on one of three files; one that is impossible does nothing.
fn random_operation(fs: &CrashFs, random: &mut Random) -> String {
    let path = ["f", "g", "d/f"][random.below(3) as usize];
    let other = ["f", "g", "d/f"][random.below(3) as usize];
    let at = [0, 300, 512, 1500][random.below(4) as usize];
    let byte = random.below(256) as u8;
    let (name, done) = match random.below(9) {
        0..=1 => (
            "write 400 bytes",
            fs.open_or_create(path).and_then(|file| file.write_at(at, &[byte; 400])),
        ),
        2 => ("set the length", fs.open(path).and_then(|file| file.set_len(at))),
        3 => ("rename", fs.rename(path, other)),
        4 => ("remove", fs.remove_file(path)),
        5 => ("fsync", fs.open(path).and_then(|file| file.sync_all())),
        6 => ("fdatasync", fs.open(path).and_then(|file| file.sync_data())),
        7 => ("fsync of the root", fs.sync_dir("")),
        _ => ("fsync of d", fs.sync_dir("d")),
    };
    format!("{name}: {path}, {other}, at {at}: {done:?}")
}

/// Whatever was synced in between, a crash may lose nothing: then the disk has what processes saw.
#[test]
fn everything_may_survive() {
    for profile in Profile::ALL {
        for seed in 1..=400 {
            let mut random = Random(seed);
            let fs = CrashFs::default();
            fs.create_dir("d").expect("no failure is injected");
            let mut done = Vec::new();
            for _ in 0..12 {
                done.push(random_operation(&fs, &mut random));
            }
            let seen = files_of(&fs).expect("a directory can be read");
            let images = fs.images_after_crash(profile);
            let same = images.iter().any(|image| files_of(image).is_ok_and(|it| it == seen));
            assert!(same, "{profile}, seed {seed}: {} {done:#?}", images.len());
        }
    }
}
