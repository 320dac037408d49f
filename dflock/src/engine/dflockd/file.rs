//! Values that are read from files, and read again when one of the files changes.
//!
//! Each new connection calls `stat` for each file, and reads the files after a change. Both block
//! the thread of the caller. `spawn_blocking` is not used, because a program that waits for slots on
//! all blocking threads would then never connect. The files are small and belong on a local file
//! system, as mounted secrets do.

use std::fmt;
use std::fs::{self, Metadata};
use std::io;
use std::path::{Path, is_separator};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use zeroize::Zeroizing;

use crate::error::ConfigError;
use crate::mutex::Mutex;
use crate::telemetry;

/// The coarsest resolution of modification times, that of FAT. A file that was modified less than
/// this before it was read is read again next time, because a second change within the resolution
/// does not change the modification time.
const MAX_TIME_RESOLUTION: Duration = Duration::from_secs(2);

/// The files from which a value is read. All are regular files.
pub(crate) trait FileSource {
    type Value;

    fn paths(&self) -> impl Iterator<Item = &Path>;

    /// Reads the files with [`read_regular`].
    fn load(&self) -> Result<Self::Value, ConfigError>;
}

/// A value that is fixed, or that is read again when its files change. Clones share the value.
pub(crate) enum Reloadable<S: FileSource> {
    Fixed(Arc<S::Value>),
    Files(Arc<Files<S>>),
}

impl<S: FileSource> Reloadable<S> {
    pub(crate) fn from_value(value: S::Value) -> Self {
        Self::Fixed(Arc::new(value))
    }

    /// Reads the files of `source`.
    pub(crate) fn open(source: S) -> Result<Self, ConfigError> {
        // Before the files are read, so that the next call sees a change during the read.
        let stamps = Stamps::read(&source);
        let value = Mutex::new(Arc::new(source.load()?));
        let is_settled = stamps.are_settled();
        let last_read = Mutex::new(LastRead { stamps, is_settled });
        Ok(Self::Files(Arc::new(Files {
            source,
            value,
            last_read,
        })))
    }

    /// Returns the value of the files as they are now. If they are invalid, returns the last valid
    /// value.
    pub(crate) fn current(&self) -> Arc<S::Value> {
        match self {
            Self::Fixed(value) => value.clone(),
            Self::Files(files) => files.current(),
        }
    }
}

impl<S: FileSource> Clone for Reloadable<S> {
    fn clone(&self) -> Self {
        match self {
            Self::Fixed(value) => Self::Fixed(value.clone()),
            Self::Files(files) => Self::Files(files.clone()),
        }
    }
}

// The value is not shown, because it may be a secret.
impl<S: FileSource> fmt::Debug for Reloadable<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(_) => f.write_str("Fixed(…)"),
            Self::Files(files) => f.debug_list().entries(files.source.paths()).finish(),
        }
    }
}

pub(crate) struct Files<S: FileSource> {
    source: S,
    /// The last valid value. It is locked only while it is cloned or replaced.
    value: Mutex<Arc<S::Value>>,
    /// Locked while a caller checks and reads the files.
    last_read: Mutex<LastRead>,
}

struct LastRead {
    /// The stamps before the last read, whether it succeeded or not.
    stamps: Stamps,
    /// Set if the files need not be read again while the stamps stay the same. It is not set after
    /// a failed read, because its cause may disappear, such as too many open files of the process.
    is_settled: bool,
}

impl<S: FileSource> Files<S> {
    fn current(&self) -> Arc<S::Value> {
        // One caller at a time checks the files. The others use the last valid value at once, because
        // otherwise a file system that hangs would block all of them.
        let outcome = match self.last_read.try_lock() {
            Some(mut last_read) => self.reload(&mut last_read),
            None => None,
        };
        // Without a lock, because a subscriber runs code of the user, which may connect.
        match outcome {
            Some(Ok(())) => self.source.paths().for_each(telemetry::record_reload),
            Some(Err(error)) => telemetry::warn_reload_failure(&error),
            None => {}
        }
        self.value.lock().clone()
    }

    /// Reads the files again if they may have changed since `last_read`. Returns the outcome if it
    /// is to be reported.
    fn reload(&self, last_read: &mut LastRead) -> Option<Result<(), ConfigError>> {
        let stamps = Stamps::read(&self.source);
        let is_changed = stamps != last_read.stamps;
        if last_read.is_settled && !is_changed {
            return None;
        }
        let loaded = self.source.load().map(Arc::new);
        // Files that change during the read may not match each other. The next call reads them again.
        let is_consistent = stamps == Stamps::read(&self.source);
        *last_read = LastRead {
            is_settled: loaded.is_ok() && stamps.are_settled(),
            stamps,
        };
        match loaded {
            Ok(value) => {
                *self.value.lock() = value;
                is_changed.then_some(Ok(()))
            }
            Err(error) => (is_changed && is_consistent).then_some(Err(error)),
        }
    }
}

/// The stamp of each file. `None` for a file without metadata.
#[derive(PartialEq, Eq)]
struct Stamps(Vec<Option<Stamp>>);

/// Metadata of a file that a change of the file changes. Kubernetes and most programs replace the
/// file, which changes its inode; others write into it.
#[derive(PartialEq, Eq)]
struct Stamp {
    modified: Option<SystemTime>,
    length: u64,
    /// Device, inode, and the time of the last change of either content or inode.
    #[cfg(unix)]
    inode: (u64, u64, i64, i64),
}

impl Stamps {
    fn read(source: &impl FileSource) -> Self {
        let stamp = |path| fs::metadata(path).ok().map(|file| Stamp::new(&file));
        Self(source.paths().map(stamp).collect())
    }

    /// Returns whether every later change of a file changes its stamp.
    fn are_settled(&self) -> bool {
        let is_old = |time| {
            SystemTime::now()
                .duration_since(time)
                .is_ok_and(|age| age > MAX_TIME_RESOLUTION)
        };
        self.0
            .iter()
            .flatten()
            .all(|stamp| stamp.modified.is_some_and(is_old))
    }
}

impl Stamp {
    fn new(file: &Metadata) -> Self {
        #[cfg(unix)]
        use std::os::unix::fs::MetadataExt;
        Self {
            modified: file.modified().ok(),
            length: file.len(),
            #[cfg(unix)]
            inode: (file.dev(), file.ino(), file.ctime(), file.ctime_nsec()),
        }
    }
}

/// Returns whether `path` leads to a regular file. Others, such as the pipe that a shell makes of
/// `<(command)`, can be read only once.
pub(crate) fn is_regular(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|file| file.is_file())
}

/// Reads a regular file. Refuses any other file, because opening a pipe without a writer would
/// block.
pub(crate) fn read_regular(path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    fs::read(path).map(Zeroizing::new)
}

/// Returns whether an error message may contain `path`, which cannot be read because of `error`. It
/// may not if the value looks like a key or a token that was given in place of a path.
pub(crate) fn may_show_path(path: &Path, error: &io::Error) -> bool {
    let text = path.as_os_str().as_encoded_bytes();
    let has_separator = text.iter().any(|byte| is_separator(char::from(*byte)));
    // The dashes of PEM, and `-----BEGIN` in base64, in which Kubernetes stores secrets.
    let is_pem = ["-----", "LS0tLS1CRUdJTi"]
        .iter()
        .any(|start| memchr::memmem::find(text, start.as_bytes()).is_some());
    let has_control = text.iter().any(u8::is_ascii_control);
    let is_invalid = matches!(
        error.kind(),
        io::ErrorKind::InvalidFilename | io::ErrorKind::InvalidInput
    );
    has_separator && !is_pem && !has_control && !is_invalid && !may_be_base64(text)
}

/// Returns whether `text` may be or contain a key or a token in base64, which may contain slashes
/// like a path.
///
/// Base64 of some length contains upper case, lower case and digits. Of tokens of 24 random bytes,
/// which are 32 characters, 1 in 200 lacks one of the three.
fn may_be_base64(text: &[u8]) -> bool {
    /// Length up to which a text of base64 characters only is taken for a path.
    const MAX_PATH: usize = 40;
    /// Length from which a part of a path is taken for a token.
    const MIN_TOKEN: usize = 32;
    let is_other = |byte: &u8| !(byte.is_ascii_alphanumeric() || b"+/=".contains(byte));
    let is_random = |run: &[u8]| {
        run.len() >= MIN_TOKEN
            && run.iter().any(u8::is_ascii_uppercase)
            && run.iter().any(u8::is_ascii_lowercase)
            && run.iter().any(u8::is_ascii_digit)
    };
    let has_other = text.iter().any(is_other);
    (!has_other && text.len() > MAX_PATH) || text.split(is_other).any(is_random)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::fs::File;
    use std::path::PathBuf;
    use std::sync::mpsc;
    use std::{env, process, thread};

    use super::*;

    /// A file whose value is the number of its reads.
    struct Counted {
        path: PathBuf,
        reads: Cell<usize>,
    }

    impl FileSource for Counted {
        type Value = usize;

        fn paths(&self) -> impl Iterator<Item = &Path> {
            std::iter::once(&*self.path)
        }

        fn load(&self) -> Result<usize, ConfigError> {
            self.reads.set(self.reads.get() + 1);
            Ok(self.reads.get())
        }
    }

    /// Returns the number of reads after each of three calls, for a file modified at `modified`.
    fn reads(name: &str, modified: SystemTime) -> [usize; 3] {
        let path = env::temp_dir().join(format!("dflock-file-{}-{name}", process::id()));
        File::create(&path).unwrap().set_modified(modified).unwrap();
        let source = Counted {
            path: path.clone(),
            reads: Cell::new(0),
        };
        let Ok(file) = Reloadable::open(source) else {
            panic!("the file cannot be read")
        };
        let reads = [(); 3].map(|()| *file.current());
        fs::remove_file(path).unwrap();
        reads
    }

    // A second change within the resolution of the modification time would be missed otherwise.
    #[test]
    fn a_file_is_read_until_its_last_change_is_old() {
        let now = SystemTime::now();
        assert_eq!(reads("old", now - 5 * MAX_TIME_RESOLUTION), [1, 1, 1]);
        assert_eq!(reads("new", now), [2, 3, 4]);
        // The clock of the file system may be ahead.
        assert_eq!(reads("future", now + 5 * MAX_TIME_RESOLUTION), [2, 3, 4]);
    }

    /// A file whose second read waits for `go_on`, and whose value is the number of reads.
    struct Slow {
        path: PathBuf,
        reads: Mutex<usize>,
        reading: mpsc::SyncSender<()>,
        go_on: Mutex<mpsc::Receiver<()>>,
    }

    impl FileSource for Slow {
        type Value = usize;

        fn paths(&self) -> impl Iterator<Item = &Path> {
            std::iter::once(&*self.path)
        }

        fn load(&self) -> Result<usize, ConfigError> {
            let mut reads = self.reads.lock();
            *reads += 1;
            if *reads == 2 {
                self.reading.send(()).unwrap();
                self.go_on.lock().recv().unwrap();
            }
            Ok(*reads)
        }
    }

    // Otherwise a file system that hangs would block all tasks that connect.
    #[test]
    fn a_slow_read_blocks_no_other_caller() {
        const TOO_LONG: Duration = Duration::from_secs(20);
        // It was modified just now, so each call reads it.
        let path = env::temp_dir().join(format!("dflock-file-{}-slow", process::id()));
        File::create(&path).unwrap();
        let ((reading, has_begun), (go_on, wait)) = (mpsc::sync_channel(0), mpsc::channel());
        let source = Slow {
            path: path.clone(),
            reads: Mutex::default(),
            reading,
            go_on: Mutex::new(wait),
        };
        let Ok(file) = Reloadable::open(source) else {
            panic!("the file cannot be read")
        };
        let (sender, values) = mpsc::channel();
        let call = || {
            let (file, sender) = (file.clone(), sender.clone());
            thread::spawn(move || sender.send(*file.current()))
        };
        call();
        has_begun.recv_timeout(TOO_LONG).unwrap();
        call();
        assert_eq!(
            values.recv_timeout(TOO_LONG),
            Ok(1),
            "the call waits for the read"
        );
        go_on.send(()).unwrap();
        assert_eq!(values.recv_timeout(TOO_LONG), Ok(2));
        fs::remove_file(path).unwrap();
    }
}
