//! The rules of file systems: what a crash may leave, and what a sync makes durable.
//!
//! Sources, by the names used below:
//! - *POSIX*: IEEE Std 1003.1-2017, `fsync`, `fdatasync`, `rename`.
//! - *fsync(2)*, *fdatasync*: the Linux manual page, "Calling fsync() does not necessarily ensure
//!   that the entry in the directory containing the file has also reached disk".
//! - *ext4*: Linux, Documentation/admin-guide/ext4.rst (`data=ordered`, `auto_da_alloc`) and
//!   Documentation/filesystems/ext4; fs/ext4/fsync.c (`ext4_fsync_journal` commits the transaction
//!   of `i_sync_tid`, or of `i_datasync_tid` for `fdatasync`).
//! - *btrfs*: Linux, fs/btrfs/tree-log.c (an `fsync` logs the new names of its inode).
//! - *ALICE*: Pillai et al., "All File Systems Are Not Created Equal", OSDI 2014, section 3.
//! - *CrashMonkey*: Mohan et al., "Finding Crash-Consistency Bugs with Bounded Black-Box Crash
//!   Testing", OSDI 2018.
//! - *fsync failures*: Rebello et al., "Can Applications Recover from fsync Failures?", ATC 2020.

use std::fmt;

/// A file system, as far as a crash shows what it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Profile {
    /// The process is killed and the machine goes on: the page cache keeps every operation before
    /// the kill, and of a write that it interrupts a prefix of whole pages.
    Kill,
    /// ext4 with its defaults, `data=ordered` and `auto_da_alloc`:
    /// - Names, lengths that `set_len` sets, and removals are in a journal: what survives is a
    ///   prefix of them.
    /// - A length that a write has extended beyond the blocks of 4,096 bytes that are on the disk
    ///   survives only together with the bytes below it. Within the last block it is in the
    ///   journal, and may survive over zeros (ext4, `ext4_da_should_update_i_disksize`).
    /// - So it may once `set_len` sets it, even to what it is (ext4, `ext4_ext_truncate` takes the
    ///   length over to the disk).
    /// - `fsync` makes the file durable, and the journal up to the last operation that changed its
    ///   inode: its creation, a rename, a new length. A write in place is none: it changes the
    ///   inode only if the clock has ticked.
    /// - `fdatasync` does the same only if the length of the file has changed; otherwise it makes
    ///   the data durable and nothing of the journal (ext4, `i_datasync_tid`).
    /// - A rename that replaces a file survives only with the bytes that the renamed file had
    ///   (`auto_da_alloc`).
    Ext4,
    /// Names and sizes survive each on its own; `fsync` makes a file durable with its own names, as
    /// btrfs and the fast commits of ext4 do. A sync of a directory makes its entries durable.
    OwnName,
    /// What POSIX promises and no more: data, sizes and names survive each on its own; a sync of a
    /// file makes data and size durable, and no name; a sync of a directory makes its entries
    /// durable. Bytes that were never written may be garbage below a length that survived.
    PosixStrict,
}

impl Profile {
    /// Every profile, from the one that allows the fewest images to the one that allows the most.
    pub const ALL: [Profile; 4] =
        [Profile::Kill, Profile::Ext4, Profile::OwnName, Profile::PosixStrict];

    /// Whether metadata survives as a prefix of its order.
    pub(crate) fn has_journal(self) -> bool {
        self == Profile::Ext4
    }

    /// Whether a length without the data below it may survive, and show garbage.
    pub(crate) fn shows_garbage(self) -> bool {
        self == Profile::PosixStrict
    }

    /// Whether `fsync` of a file makes its own names durable.
    pub(crate) fn syncs_own_names(self) -> bool {
        matches!(self, Profile::OwnName | Profile::Ext4)
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Profile::Kill => "kill",
            Profile::Ext4 => "ext4",
            Profile::OwnName => "own-name",
            Profile::PosixStrict => "posix-strict",
        })
    }
}
