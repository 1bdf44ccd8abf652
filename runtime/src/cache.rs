//! What: a content-addressed store of byte strings on disk.
//! Why here: compiled kernels and compiled modules are kept between runs, and a cache must never be the reason that
//! something fails or is wrong.
//! Pre: keys that name everything the content depends on.
//! Post: an entry is complete and unchanged or absent: it is written aside and renamed, and carries a checksum that
//! is verified on reading; the checksum covers the key, so that an entry under a wrong name is damaged, too. Damaged entries are removed. What cannot be written becomes a warning, after which nothing
//! more is written.

use std::fmt;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// The first bytes of every entry; the last is the version of the format.
const MAGIC: [u8; 8] = *b"tilewr\x00\x02";
const CHECKSUM: usize = blake3::OUT_LEN;

/// The name of an entry: a hash of everything that its content depends on.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key([u8; CHECKSUM]);

impl Key {
    /// Starts a key of some kind of content, e.g. `kernel`.
    pub fn of(kind: &str) -> KeyBuilder {
        KeyBuilder(blake3::Hasher::new()).with(kind.as_bytes())
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(blake3::Hash::from(self.0).to_hex().as_str())
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A key in the making.
#[derive(Clone, Debug)]
pub struct KeyBuilder(blake3::Hasher);

impl KeyBuilder {
    /// Adds a part. The order counts, and so does where parts end.
    pub fn with(mut self, part: impl AsRef<[u8]>) -> Self {
        let part = part.as_ref();
        self.0.update(&(part.len() as u64).to_le_bytes());
        self.0.update(part);
        self
    }

    /// The key.
    pub fn finish(&self) -> Key {
        Key(*self.0.finalize().as_bytes())
    }
}

/// A directory of entries.
#[derive(Debug)]
pub struct Store {
    dir: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Set after the first failure to write: further attempts would only repeat it.
    read_only: bool,
    warnings: Vec<String>,
}

impl Store {
    /// A store in a directory, which is made when the first entry is written.
    pub fn new(dir: impl Into<PathBuf>) -> Store {
        Store { dir: dir.into(), state: Mutex::default() }
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The content of an entry, if it is there and undamaged. A damaged entry is removed, with a warning.
    pub fn get(&self, key: Key) -> Option<Vec<u8>> {
        let path = self.path(key);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return None,
            Err(e) => {
                self.warn(format!("cannot read the cache entry `{}`: {e}", path.display()));
                return None;
            }
        };
        let body = check(key, &bytes).map(<[u8]>::to_vec);
        if body.is_none() {
            self.discard(key, "its checksum does not match");
        }
        body
    }

    /// Removes an entry whose content turned out to be unusable.
    pub fn discard(&self, key: Key, why: &str) {
        let path = self.path(key);
        self.warn(format!("the cache entry `{}` is damaged ({why}) and will be rebuilt", path.display()));
        // When it cannot be removed, the next write replaces it.
        let _ = fs::remove_file(path);
    }

    /// Writes an entry; a failure is a warning, see [`Store::take_warnings`].
    pub fn put(&self, key: Key, content: &[u8]) {
        if self.lock().read_only {
            return;
        }
        if let Err(e) = self.write(key, content) {
            let mut state = self.lock();
            if !state.read_only {
                state.read_only = true;
                state.warnings.push(format!(
                    "cannot write to the cache `{}`: {e}; going on without it (set TILEWRIGHT_CACHE to another directory)",
                    self.dir.display()
                ));
            }
        }
    }

    /// The warnings since the last call.
    pub fn take_warnings(&self) -> Vec<String> {
        std::mem::take(&mut self.lock().warnings)
    }

    /// The number of entries and their bytes.
    pub fn usage(&self) -> (u64, u64) {
        let entries = |dir: &Path| fs::read_dir(dir).into_iter().flatten().flatten();
        entries(&self.dir)
            .flat_map(|sub| entries(&sub.path()).collect::<Vec<_>>())
            .filter_map(|entry| entry.metadata().ok())
            .filter(fs::Metadata::is_file)
            .fold((0, 0), |(n, bytes), m| (n + 1, bytes + m.len()))
    }

    fn write(&self, key: Key, content: &[u8]) -> io::Result<()> {
        let path = self.path(key);
        let dir = path.parent().unwrap_or(&self.dir);
        fs::create_dir_all(dir)?;
        // Dropped without `persist`, the file is removed: nothing partial stays behind.
        let mut file = tempfile::NamedTempFile::new_in(dir)?;
        file.write_all(&MAGIC)?;
        file.write_all(&checksum(key, content))?;
        file.write_all(content)?;
        file.flush()?;
        file.persist(&path).map_err(|e| e.error)?;
        Ok(())
    }

    /// Entries are spread over 256 directories by the first byte of the key.
    fn path(&self, key: Key) -> PathBuf {
        let name = key.to_string();
        self.dir.join(&name[..2]).join(&name[2..])
    }

    fn warn(&self, warning: String) {
        self.lock().warnings.push(warning);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        // The state is valid after every statement, so a panic elsewhere does not spoil it.
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// The content of an undamaged entry.
fn check(key: Key, bytes: &[u8]) -> Option<&[u8]> {
    let rest = bytes.strip_prefix(&MAGIC)?;
    let (found, body) = rest.split_at_checked(CHECKSUM)?;
    (checksum(key, body) == found).then_some(body)
}

/// What an entry of this name and content carries.
fn checksum(key: Key, content: &[u8]) -> [u8; CHECKSUM] {
    *blake3::Hasher::new_keyed(&key.0).update(content).finalize().as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_is_got() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::new(dir.path().join("a/b"));
        let key = |n: u8| Key::of("test").with([n]).finish();
        for (n, content) in [(0, vec![]), (1, vec![1u8, 2, 3]), (2, vec![7; 100_000])] {
            assert_eq!(store.get(key(n)), None);
            store.put(key(n), &content);
            assert_eq!(store.get(key(n)), Some(content));
        }
        store.put(key(0), b"again");
        assert_eq!(store.get(key(0)).as_deref(), Some(&b"again"[..]));
        assert_eq!(store.usage().0, 3);
        assert_eq!(store.take_warnings(), Vec::<String>::new());
    }

    #[test]
    fn the_ends_of_parts_count() {
        let key = |parts: &[&str]| parts.iter().fold(Key::of("k"), |k, p| k.with(p)).finish();
        assert_ne!(key(&["ab", "c"]), key(&["a", "bc"]));
        assert_ne!(key(&["ab"]), key(&["ab", ""]));
        assert_ne!(key(&["ab"]), Key::of("l").with("ab").finish());
        assert_eq!(key(&["ab", "c"]), key(&["ab", "c"]));
    }

    #[test]
    fn every_damaged_byte_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::new(dir.path());
        let key = Key::of("test").finish();
        store.put(key, b"content");
        let path = store.path(key);
        let whole = fs::read(&path).unwrap();
        for i in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[i] ^= 0x10;
            fs::write(&path, damaged).unwrap();
            assert_eq!(store.get(key), None, "byte {i}");
            assert_eq!(store.take_warnings().len(), 1);
            assert!(!path.exists());
        }
        for length in 0..whole.len() {
            fs::write(&path, &whole[..length]).unwrap();
            assert_eq!(store.get(key), None, "length {length}");
        }
        store.put(key, b"content");
        assert_eq!(store.get(key).as_deref(), Some(&b"content"[..]));
    }

    #[test]
    fn an_entry_under_another_name_is_damaged() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::new(dir.path());
        let (one, other) = (Key::of("one").finish(), Key::of("other").finish());
        store.put(one, b"content of one");
        store.put(other, b"content of the other");
        fs::copy(store.path(one), store.path(other)).unwrap();
        assert_eq!(store.get(other), None);
        assert_eq!(store.take_warnings().len(), 1);
        assert_eq!(store.get(one).as_deref(), Some(&b"content of one"[..]));
    }

    #[test]
    fn a_directory_that_cannot_be_written_is_one_warning() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, b"").unwrap();
        let store = Store::new(&file);
        for n in 0..3u8 {
            store.put(Key::of("test").with([n]).finish(), b"x");
        }
        let warnings = store.take_warnings();
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert!(warnings[0].contains("TILEWRIGHT_CACHE"));
        assert_eq!(store.get(Key::of("test").with([0]).finish()), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_leaves_no_partial_entry() {
        // `/dev/full` cannot hold a directory, so the limit on the size of files stands in for a full disk: run the
        // writer in a shell that has one.
        let dir = tempfile::tempdir().unwrap();
        if std::env::var_os("TILEWRIGHT_TEST_FULL").is_some() {
            let store = Store::new(std::env::var_os("TILEWRIGHT_TEST_DIR").unwrap());
            store.put(Key::of("big").finish(), &vec![1u8; 1 << 20]);
            assert_eq!(store.take_warnings().len(), 1);
            return;
        }
        // Its output goes through a pipe: a log that is longer than the limit must not count.
        let output = std::process::Command::new("sh")
            .arg("-c")
            .arg("trap '' XFSZ; ulimit -f 64; exec \"$0\" --exact cache::tests::a_full_disk_leaves_no_partial_entry")
            .arg(std::env::current_exe().unwrap())
            .env("TILEWRIGHT_TEST_FULL", "1")
            .env("TILEWRIGHT_TEST_DIR", dir.path())
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        assert_eq!(Store::new(dir.path()).usage().0, 0, "a partial file was left");
    }
}
