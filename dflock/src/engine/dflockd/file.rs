//! Values that are read from files, and read again when one of the files changes.
//!
//! The files are looked at for each new connection: one `stat` a file, and a read after a change.
//! Both are done on the thread of the caller, not by `spawn_blocking`: the blocking threads are the
//! program's, and a program that waits for slots on all of them would never connect. The files are
//! small and belong on a local file system, as mounted secrets do.

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

/// The longest tick of a file system's clock: that of FAT. A file that was modified less than this
/// before it was read is read again next time: a second change in the same tick cannot be seen.
const TICK: Duration = Duration::from_secs(2);

/// The files of a value, all of them regular files.
pub(crate) trait FileSource {
    type Value;

    fn paths(&self) -> impl Iterator<Item = &Path>;

    /// Reads the files with [`read_regular`].
    fn load(&self) -> Result<Self::Value, ConfigError>;
}

/// A value that is fixed, or that follows its files. Clones share the value.
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
        // before the files are read: a change while they are read is seen next time
        let stamps = Stamps::of(&source);
        let value = Mutex::new(Arc::new(source.load()?));
        let is_settled = stamps.are_settled();
        let last_read = Mutex::new(LastRead { stamps, is_settled });
        Ok(Self::Files(Arc::new(Files {
            source,
            value,
            last_read,
        })))
    }

    /// Returns the value of the files as they are now, or as they were when they were last good.
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

// the value may be a secret
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
    /// The last good value. It is locked only to be cloned or replaced.
    value: Mutex<Arc<S::Value>>,
    /// Locked by the caller that looks at the files, for as long as that takes.
    last_read: Mutex<LastRead>,
}

struct LastRead {
    /// The stamps from before the last read, successful or not.
    stamps: Stamps,
    /// Set if a read is needless as long as the stamps stay the same. It is not after a read that
    /// failed: the reason may be gone, as when the process had too many open files.
    is_settled: bool,
}

impl<S: FileSource> Files<S> {
    fn current(&self) -> Arc<S::Value> {
        // One caller at a time looks at the files. The others do not wait for it but use the last
        // good value, because a file system that hangs would hold up all of them.
        let change = match self.last_read.try_lock() {
            Some(mut last_read) => self.reload(&mut last_read),
            None => None,
        };
        // not behind a lock: a subscriber runs code of the program's, which may connect
        match change {
            Some(Ok(())) => self.source.paths().for_each(telemetry::reloaded),
            Some(Err(error)) => telemetry::reload_failed(&error),
            None => {}
        }
        self.value.lock().clone()
    }

    /// Reads the files again if they may have changed since `last_read`. Returns what is to be told
    /// of a change.
    fn reload(&self, last_read: &mut LastRead) -> Option<Result<(), ConfigError>> {
        let stamps = Stamps::of(&self.source);
        let is_changed = stamps != last_read.stamps;
        if last_read.is_settled && !is_changed {
            return None;
        }
        let loaded = self.source.load().map(Arc::new);
        // files that change while they are read may not go together; what they end as is read next
        let is_final = stamps == Stamps::of(&self.source);
        *last_read = LastRead {
            is_settled: loaded.is_ok() && stamps.are_settled(),
            stamps,
        };
        match loaded {
            Ok(value) => {
                *self.value.lock() = value;
                is_changed.then_some(Ok(()))
            }
            Err(error) => (is_changed && is_final).then_some(Err(error)),
        }
    }
}

/// The state of each file, by which a change is noticed.
#[derive(PartialEq, Eq)]
struct Stamps(Vec<Option<Stamp>>);

/// Kubernetes and most programs replace a file, so that its inode is another; some write into it.
#[derive(PartialEq, Eq)]
struct Stamp {
    modified: Option<SystemTime>,
    length: u64,
    /// Device, inode, and the time of the last change of either content or inode.
    #[cfg(unix)]
    inode: (u64, u64, i64, i64),
}

impl Stamps {
    fn of(source: &impl FileSource) -> Self {
        let stamp = |path| fs::metadata(path).ok().map(|file| Stamp::of(&file));
        Self(source.paths().map(stamp).collect())
    }

    /// Returns whether every later change of a file changes its stamp.
    fn are_settled(&self) -> bool {
        let is_old = |time| {
            SystemTime::now()
                .duration_since(time)
                .is_ok_and(|age| age > TICK)
        };
        self.0
            .iter()
            .flatten()
            .all(|stamp| stamp.modified.is_some_and(is_old))
    }
}

impl Stamp {
    fn of(file: &Metadata) -> Self {
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

/// Returns whether `path` leads to a regular file. Pipes, as shells make them of `<(command)`, can be read
/// only once, so they cannot be read again.
pub(crate) fn is_regular(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|file| file.is_file())
}

/// Reads a regular file, and refuses any other: to open a pipe that nothing writes to would block.
pub(crate) fn read_regular(path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    if !fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    fs::read(path).map(Zeroizing::new)
}

/// Returns whether an error may show `path`, which cannot be read because of `error`: the value may be a key or
/// a token that was given in place of a path.
pub(crate) fn is_path(path: &Path, error: &io::Error) -> bool {
    let text = path.as_os_str().as_encoded_bytes();
    let has_separator = text.iter().any(|byte| is_separator(char::from(*byte)));
    // the dashes of PEM, and its BEGIN in base64, as Kubernetes stores secrets
    let is_pem = ["-----", "LS0tLS1CRUdJTi"]
        .iter()
        .any(|start| memchr::memmem::find(text, start.as_bytes()).is_some());
    let is_text = text.iter().any(u8::is_ascii_control);
    let cannot_be = [io::ErrorKind::InvalidFilename, io::ErrorKind::InvalidInput];
    let is_refused = cannot_be.contains(&error.kind());
    has_separator && !is_pem && !is_text && !is_refused && !may_be_base64(text)
}

/// Returns whether `text` may be, or contain, a key or a token in base64, which has slashes as paths have.
///
/// Base64 of some length has upper case, lower case and digits: a token of 24 random bytes, which are
/// 32 characters, lacks one of the three in 1 of 200 cases.
fn may_be_base64(text: &[u8]) -> bool {
    const LONGEST_PATH: usize = 40;
    const SHORTEST_TOKEN: usize = 32;
    let is_other = |byte: &u8| !(byte.is_ascii_alphanumeric() || b"+/=".contains(byte));
    let is_random = |run: &[u8]| {
        run.len() >= SHORTEST_TOKEN
            && run.iter().any(u8::is_ascii_uppercase)
            && run.iter().any(u8::is_ascii_lowercase)
            && run.iter().any(u8::is_ascii_digit)
    };
    let has_other = text.iter().any(is_other);
    (!has_other && text.len() > LONGEST_PATH) || text.split(is_other).any(is_random)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::fs::File;
    use std::path::PathBuf;
    use std::sync::mpsc;
    use std::{env, process, thread};

    use super::*;

    /// A file of which only the reads are counted.
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

    /// Returns the reads after each of three looks at a file that was modified at `modified`.
    fn reads(name: &str, modified: SystemTime) -> [usize; 3] {
        let path = env::temp_dir().join(format!("dflock-file-{}-{name}", process::id()));
        File::create(&path).unwrap().set_modified(modified).unwrap();
        let source = Counted {
            path: path.clone(),
            reads: Cell::new(0),
        };
        let Ok(file) = Reloadable::open(source) else {
            panic!("it is read")
        };
        let reads = [(); 3].map(|()| *file.current());
        fs::remove_file(path).unwrap();
        reads
    }

    // a second change in the same tick of the file system's clock would not be seen
    #[test]
    fn a_file_is_read_until_its_last_change_is_a_tick_ago() {
        let now = SystemTime::now();
        assert_eq!(reads("old", now - 5 * TICK), [1, 1, 1]);
        assert_eq!(reads("new", now), [2, 3, 4]);
        // the clock of the file system may be ahead
        assert_eq!(reads("future", now + 5 * TICK), [2, 3, 4]);
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

    // a file system that hangs would hold up all tasks that connect
    #[test]
    fn a_slow_read_holds_up_no_other_caller() {
        const TOO_LONG: Duration = Duration::from_secs(20);
        // it was modified just now, so it is read at each look
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
            panic!("it is read")
        };
        let (sender, values) = mpsc::channel();
        let look = || {
            let (file, sender) = (file.clone(), sender.clone());
            thread::spawn(move || sender.send(*file.current()))
        };
        look();
        has_begun.recv_timeout(TOO_LONG).unwrap();
        look();
        assert_eq!(
            values.recv_timeout(TOO_LONG),
            Ok(1),
            "it waits for the read"
        );
        go_on.send(()).unwrap();
        assert_eq!(values.recv_timeout(TOO_LONG), Ok(2));
        fs::remove_file(path).unwrap();
    }
}
