//! The functions that SQLite calls: the only unsafe code of this package.
//!
//! What they rely on is what SQLite promises (sqlite.org/c3ref/vfs.html, io_methods.html): names
//! are C strings that live as long as the call; a file is `szOsFile` bytes that `xOpen` fills in,
//! and no method is called before that or after `xClose`; buffers have the length that is passed.

#![allow(unsafe_code, reason = "SQLite calls functions of C")]

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::io;
use std::path::Path;
use std::ptr;
use std::slice;
use std::sync::{Mutex, PoisonError};

use rusqlite::ffi::{self, sqlite3_file, sqlite3_io_methods, sqlite3_vfs};
use stormglass_crash_test::std_fs::resolve;
use stormglass_crash_test::{CrashFile, CrashFs};

/// What a layer does for all of its files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Layer {
    /// What it says of them.
    pub characteristics: c_int,
    /// It calls `fdatasync`, and `fsync` otherwise.
    pub syncs_data_only: bool,
}

/// The name of a layer. Layers are registered once, and for as long as the process runs:
/// connections point to them.
pub(crate) fn name_of(layer: Layer) -> &'static CStr {
    static REGISTERED: Mutex<BTreeMap<Layer, &'static CStr>> = Mutex::new(BTreeMap::new());
    let mut registered = REGISTERED.lock().unwrap_or_else(PoisonError::into_inner);
    let number = registered.len();
    registered.entry(layer).or_insert_with(|| register(layer, number))
}

fn register(layer: Layer, number: usize) -> &'static CStr {
    let name = CString::new(format!("stormglass-crash-{number}")).expect("no zero byte");
    let name: &'static CStr = Box::leak(name.into_boxed_c_str());
    let layer: &'static mut Layer = Box::leak(Box::new(layer));
    let vfs = Box::leak(Box::new(sqlite3_vfs {
        iVersion: 1,
        szOsFile: size_of::<VfsFile>() as c_int,
        mxPathname: PATH_BYTES_MAX,
        pNext: ptr::null_mut(),
        zName: name.as_ptr(),
        pAppData: ptr::from_mut(layer).cast(),
        xOpen: Some(open),
        xDelete: Some(delete),
        xAccess: Some(access),
        xFullPathname: Some(full_pathname),
        xDlOpen: None,
        xDlError: None,
        xDlSym: None,
        xDlClose: None,
        xRandomness: Some(randomness),
        xSleep: Some(sleep),
        xCurrentTime: Some(current_time),
        xGetLastError: Some(last_error),
        xCurrentTimeInt64: None,
        xSetSystemCall: None,
        xGetSystemCall: None,
        xNextSystemCall: None,
    }));
    // SAFETY: `vfs` and what it points to are never freed, and its functions are those of this
    // module.
    let code = unsafe { ffi::sqlite3_vfs_register(vfs, 0) };
    assert_eq!(code, ffi::SQLITE_OK, "SQLite registers a layer");
    name
}

const PATH_BYTES_MAX: c_int = 512;

/// As in `os_unix.c`.
const SECTOR_BYTES: c_int = 4096;

/// What SQLite calls a file: its own part first.
#[repr(C)]
struct VfsFile {
    base: sqlite3_file,
    open: *mut OpenFile,
}

struct OpenFile {
    fs: CrashFs,
    file: CrashFile,
    /// In the file system.
    path: String,
    /// As SQLite knows it, of a database: an entry of `DATABASES`.
    database: Option<String>,
    /// A new journal: its first sync is one of its directory, too.
    syncs_directory: bool,
    removed_on_close: bool,
    layer: Layer,
}

/// The databases that are open, by the paths of their mounts.
static DATABASES: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

static METHODS: sqlite3_io_methods = sqlite3_io_methods {
    iVersion: 1,
    xClose: Some(close),
    xRead: Some(read),
    xWrite: Some(write),
    xTruncate: Some(truncate),
    xSync: Some(sync),
    xFileSize: Some(file_size),
    xLock: Some(lock),
    xUnlock: Some(lock),
    xCheckReservedLock: Some(check_reserved_lock),
    xFileControl: Some(file_control),
    xSectorSize: Some(sector_size),
    xDeviceCharacteristics: Some(device_characteristics),
    xShmMap: None,
    xShmLock: None,
    xShmBarrier: None,
    xShmUnmap: None,
    xFetch: None,
    xUnfetch: None,
};

fn directory_of(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(directory, _)| directory)
}

/// A path as SQLite passes it.
///
/// # Safety
/// `path` is a C string, or null.
unsafe fn text<'a>(path: *const c_char) -> Option<&'a str> {
    if path.is_null() {
        return None;
    }
    // SAFETY: a C string, by the caller's promise.
    unsafe { CStr::from_ptr(path) }.to_str().ok()
}

/// The file system and the path in it.
///
/// # Safety
/// As [`text`].
unsafe fn lookup(path: *const c_char) -> Option<(CrashFs, String)> {
    // SAFETY: by the caller's promise.
    let path = unsafe { text(path) }?;
    resolve(Path::new(path)).ok()
}

/// The code of SQLite for a result, and for errors but a full disk this one.
fn code(result: io::Result<()>, otherwise: c_int) -> c_int {
    match result {
        Ok(()) => ffi::SQLITE_OK,
        Err(error) if error.kind() == io::ErrorKind::StorageFull => ffi::SQLITE_FULL,
        Err(_) => otherwise,
    }
}

unsafe extern "C" fn open(
    vfs: *mut sqlite3_vfs,
    path: *const c_char,
    file: *mut sqlite3_file,
    flags: c_int,
    flags_out: *mut c_int,
) -> c_int {
    let file = file.cast::<VfsFile>();
    // SAFETY: SQLite passes `szOsFile` bytes. Without methods it closes nothing.
    unsafe { (*file).base.pMethods = ptr::null() };
    // SAFETY: a C string, or null for a temporary file, which is in memory.
    let (Some(full), Some((fs, path))) = (unsafe { (text(path), lookup(path)) }) else {
        return ffi::SQLITE_CANTOPEN;
    };
    let is_new = !fs.exists(&path);
    let opened = if flags & ffi::SQLITE_OPEN_CREATE != 0 {
        fs.open_or_create(&path)
    } else {
        fs.open(&path)
    };
    let Ok(crash_file) = opened else { return ffi::SQLITE_CANTOPEN };
    let mut database = None;
    if flags & ffi::SQLITE_OPEN_MAIN_DB != 0 {
        let mut databases = DATABASES.lock().unwrap_or_else(PoisonError::into_inner);
        if !databases.insert(full.to_string()) {
            return ffi::SQLITE_BUSY;
        }
        database = Some(full.to_string());
    }
    let journals =
        ffi::SQLITE_OPEN_MAIN_JOURNAL | ffi::SQLITE_OPEN_SUPER_JOURNAL | ffi::SQLITE_OPEN_WAL;
    let open = OpenFile {
        fs,
        file: crash_file,
        path,
        database,
        syncs_directory: is_new && flags & journals != 0,
        removed_on_close: flags & ffi::SQLITE_OPEN_DELETEONCLOSE != 0,
        // SAFETY: `register` has set it, and it is never freed.
        layer: unsafe { *(*vfs).pAppData.cast::<Layer>() },
    };
    // SAFETY: as above; `flags_out` is null or an integer.
    unsafe {
        (*file).open = Box::into_raw(Box::new(open));
        (*file).base.pMethods = &raw const METHODS;
        if !flags_out.is_null() {
            *flags_out = flags;
        }
    }
    ffi::SQLITE_OK
}

/// The file that `open` has put there.
///
/// # Safety
/// `file` is one that `open` has opened, and `close` has not closed.
unsafe fn opened<'a>(file: *mut sqlite3_file) -> &'a mut OpenFile {
    // SAFETY: by the caller's promise. SQLite calls the methods of a file one at a time.
    unsafe { &mut *(*file.cast::<VfsFile>()).open }
}

unsafe extern "C" fn close(file: *mut sqlite3_file) -> c_int {
    // SAFETY: `open` has made the box, and this is the last call for the file.
    let open = unsafe { Box::from_raw((*file.cast::<VfsFile>()).open) };
    if let Some(database) = &open.database {
        DATABASES.lock().unwrap_or_else(PoisonError::into_inner).remove(database);
    }
    if open.removed_on_close {
        return code(open.fs.remove_file(&open.path), ffi::SQLITE_IOERR_DELETE);
    }
    ffi::SQLITE_OK
}

unsafe extern "C" fn read(
    file: *mut sqlite3_file,
    buffer: *mut c_void,
    len: c_int,
    at: i64,
) -> c_int {
    let (Ok(len), Ok(at)) = (usize::try_from(len), u64::try_from(at)) else {
        return ffi::SQLITE_IOERR_READ;
    };
    // SAFETY: an open file, and a buffer of `len` bytes.
    let (open, buffer) =
        unsafe { (opened(file), slice::from_raw_parts_mut(buffer.cast::<u8>(), len)) };
    let read = open.file.read_at(at, buffer);
    buffer[read..].fill(0); // A database is corrupted otherwise, says the documentation.
    if read < len { ffi::SQLITE_IOERR_SHORT_READ } else { ffi::SQLITE_OK }
}

unsafe extern "C" fn write(
    file: *mut sqlite3_file,
    buffer: *const c_void,
    len: c_int,
    at: i64,
) -> c_int {
    let (Ok(len), Ok(at)) = (usize::try_from(len), u64::try_from(at)) else {
        return ffi::SQLITE_IOERR_WRITE;
    };
    // SAFETY: an open file, and a buffer of `len` bytes.
    let (open, buffer) = unsafe { (opened(file), slice::from_raw_parts(buffer.cast::<u8>(), len)) };
    code(open.file.write_at(at, buffer), ffi::SQLITE_IOERR_WRITE)
}

unsafe extern "C" fn truncate(file: *mut sqlite3_file, len: i64) -> c_int {
    let Ok(len) = u64::try_from(len) else { return ffi::SQLITE_IOERR_TRUNCATE };
    // SAFETY: an open file.
    code(unsafe { opened(file) }.file.set_len(len), ffi::SQLITE_IOERR_TRUNCATE)
}

unsafe extern "C" fn sync(file: *mut sqlite3_file, _flags: c_int) -> c_int {
    // SAFETY: an open file.
    let open = unsafe { opened(file) };
    let synced =
        if open.layer.syncs_data_only { open.file.sync_data() } else { open.file.sync_all() };
    if synced.is_err() {
        return ffi::SQLITE_IOERR_FSYNC;
    }
    if std::mem::take(&mut open.syncs_directory) {
        // `unixSync` ignores it on purpose: some systems cannot sync a directory.
        let _ignored = open.fs.sync_dir(directory_of(&open.path));
    }
    ffi::SQLITE_OK
}

unsafe extern "C" fn file_size(file: *mut sqlite3_file, size: *mut i64) -> c_int {
    // SAFETY: an open file, and an integer to write to.
    unsafe { *size = opened(file).file.len() as i64 };
    ffi::SQLITE_OK
}

/// Granted always: there is one connection.
unsafe extern "C" fn lock(_: *mut sqlite3_file, _: c_int) -> c_int {
    ffi::SQLITE_OK
}

unsafe extern "C" fn check_reserved_lock(_: *mut sqlite3_file, reserved: *mut c_int) -> c_int {
    // SAFETY: an integer to write to.
    unsafe { *reserved = 0 };
    ffi::SQLITE_OK
}

unsafe extern "C" fn file_control(_: *mut sqlite3_file, _: c_int, _: *mut c_void) -> c_int {
    ffi::SQLITE_NOTFOUND
}

unsafe extern "C" fn sector_size(_: *mut sqlite3_file) -> c_int {
    SECTOR_BYTES
}

unsafe extern "C" fn device_characteristics(file: *mut sqlite3_file) -> c_int {
    // SAFETY: an open file.
    unsafe { opened(file) }.layer.characteristics
}

unsafe extern "C" fn delete(_: *mut sqlite3_vfs, path: *const c_char, sync_dir: c_int) -> c_int {
    // SAFETY: a C string.
    let Some((fs, path)) = (unsafe { lookup(path) }) else { return ffi::SQLITE_IOERR_DELETE };
    match fs.remove_file(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => ffi::SQLITE_IOERR_DELETE_NOENT,
        Err(_) => ffi::SQLITE_IOERR_DELETE,
        Ok(()) if sync_dir != 0 => {
            code(fs.sync_dir(directory_of(&path)), ffi::SQLITE_IOERR_DIR_FSYNC)
        }
        Ok(()) => ffi::SQLITE_OK,
    }
}

/// As in `os_unix.c`, an empty file does not exist.
unsafe extern "C" fn access(
    _: *mut sqlite3_vfs,
    path: *const c_char,
    _: c_int,
    exists: *mut c_int,
) -> c_int {
    // SAFETY: a C string.
    let Some((fs, path)) = (unsafe { lookup(path) }) else { return ffi::SQLITE_IOERR_ACCESS };
    let has_bytes = fs.open(&path).is_ok_and(|file| !file.is_empty());
    // SAFETY: an integer to write to.
    unsafe { *exists = c_int::from(has_bytes) };
    ffi::SQLITE_OK
}

/// Paths of mounts are absolute.
unsafe extern "C" fn full_pathname(
    _: *mut sqlite3_vfs,
    path: *const c_char,
    len_max: c_int,
    full: *mut c_char,
) -> c_int {
    // SAFETY: a C string.
    let path = unsafe { CStr::from_ptr(path) }.to_bytes_with_nul();
    if path.len() > usize::try_from(len_max).unwrap_or(0) {
        return ffi::SQLITE_CANTOPEN;
    }
    // SAFETY: `full` has `len_max` bytes, and the strings are apart.
    unsafe { ptr::copy_nonoverlapping(path.as_ptr().cast(), full, path.len()) };
    ffi::SQLITE_OK
}

/// SQLite asks its default layer, which this is not, unless an application makes it so.
unsafe extern "C" fn randomness(_: *mut sqlite3_vfs, len: c_int, bytes: *mut c_char) -> c_int {
    // SAFETY: a buffer of `len` bytes.
    unsafe { ptr::write_bytes(bytes, 0x5B, usize::try_from(len).unwrap_or(0)) };
    len
}

/// Nobody else holds a lock for which it would wait.
unsafe extern "C" fn sleep(_: *mut sqlite3_vfs, micros: c_int) -> c_int {
    micros
}

unsafe extern "C" fn current_time(_: *mut sqlite3_vfs, julian_day: *mut f64) -> c_int {
    // SAFETY: a number to write to.
    unsafe { *julian_day = 2_460_000.5 };
    ffi::SQLITE_OK
}

unsafe extern "C" fn last_error(_: *mut sqlite3_vfs, _: c_int, _: *mut c_char) -> c_int {
    0
}
