//! The layer against a program whose every step is known: Python, which writes through glibc as we do.

use super::*;
use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Output};
use std::sync::atomic::{AtomicU32, Ordering};

const SIGKILL: i32 = 9;

/// What every script may use; `root` is the watched folder, `log` a file outside it.
const PRELUDE: &str = r"
import os, sys
root, log = sys.argv[1], sys.argv[2]
os.chdir(root)
def open_(name, flags=os.O_RDWR | os.O_CREAT):
    return os.open(name, flags, 0o640)
def put(name, data, sync=True, flags=os.O_RDWR | os.O_CREAT):
    fd = open_(name, flags)
    assert os.write(fd, data) == len(data)
    if sync: os.fsync(fd)
    os.close(fd)
def sync_folder(name='.'):
    fd = os.open(name, os.O_RDONLY)
    try: os.fsync(fd)
    finally: os.close(fd)
def ack(text):
    with open(log, 'a') as f: f.write(f'{text}\n')
";

/// Folders of one run, removed at the end.
struct Scene {
    base: PathBuf,
    runs: u32,
}

impl Scene {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let base = option_env!("CARGO_TARGET_TMPDIR")
            .map_or_else(std::env::temp_dir, PathBuf::from)
            .join(format!(
                "power-loss-{}-{}",
                std::process::id(),
                NEXT.fetch_add(1, Ordering::Relaxed)
            ));
        fs::create_dir_all(base.join("root")).expect("a temporary folder");
        Self { base, runs: 0 }
    }

    fn root(&self) -> PathBuf {
        self.base.join("root")
    }

    fn spawn(&self, script: &str, env: &[(&str, &str)]) -> Output {
        let mut command = Command::new(python());
        attach(&mut command, &self.root(), &self.base.join("shadow")).expect("folders");
        command
            .envs(env.iter().copied())
            .env("POWER_LOSS_COUNT_FILE", self.base.join("count"))
            .arg("-c")
            .arg(format!("{PRELUDE}{script}"))
            .arg(self.root())
            .arg(self.base.join("log"))
            .output()
            .expect("python starts")
    }

    /// Runs `script`, which must end well, then cuts the power.
    fn run(&mut self, script: &str, env: &[(&str, &str)]) -> BTreeMap<String, Vec<u8>> {
        let output = self.spawn(script, env);
        assert!(output.status.success(), "{output:?}");
        self.cut()
    }

    /// What a power cut leaves: names with contents, folders end in a slash.
    fn cut(&mut self) -> BTreeMap<String, Vec<u8>> {
        let mut found = BTreeMap::new();
        tree(&self.rebuild(), "", &mut found);
        found
    }

    fn rebuild(&mut self) -> PathBuf {
        self.runs += 1;
        let into = self.base.join(format!("image-{}", self.runs));
        rebuild(&self.base.join("shadow"), &into).expect("an image");
        into
    }

    fn counts(&self) -> (u64, u64) {
        sync_counts(&self.base.join("count")).expect("counts")
    }

    fn log(&self) -> Vec<String> {
        let text = fs::read_to_string(self.base.join("log")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // A folder left behind is only untidy.
            let _ = fs::remove_dir_all(&self.base);
        }
    }
}

/// The interpreter itself: on some machines `python3` is a shell script that looks for it.
fn python() -> PathBuf {
    static PYTHON: OnceLock<PathBuf> = OnceLock::new();
    PYTHON
        .get_or_init(|| {
            let output = Command::new("python3")
                .args(["-c", "import sys; print(sys.executable)"])
                .output()
                .expect("python3 is installed");
            String::from_utf8(output.stdout)
                .expect("a path")
                .trim()
                .into()
        })
        .clone()
}

fn tree(path: &Path, prefix: &str, found: &mut BTreeMap<String, Vec<u8>>) {
    for entry in fs::read_dir(path).expect("a folder") {
        let entry = entry.expect("an entry");
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        if entry.path().is_dir() {
            found.insert(format!("{name}/"), Vec::new());
            tree(&entry.path(), &format!("{name}/"), found);
        } else {
            found.insert(name, fs::read(entry.path()).expect("a file"));
        }
    }
}

fn files(list: &[(&str, &[u8])]) -> BTreeMap<String, Vec<u8>> {
    list.iter()
        .map(|(name, data)| ((*name).to_owned(), data.to_vec()))
        .collect()
}

fn killed(status: ExitStatus) -> bool {
    status.signal() == Some(SIGKILL)
}

#[test]
fn a_synced_file_in_a_synced_folder_survives() {
    let mut scene = Scene::new();
    let left = scene.run(
        "os.mkdir('d'); put('d/a', b'one'); sync_folder('d'); sync_folder()",
        &[],
    );
    assert_eq!(left, files(&[("d/", b""), ("d/a", b"one")]));
    assert_eq!(scene.counts(), (3, 3));
}

#[test]
fn permissions_survive() {
    let mut scene = Scene::new();
    scene.run("put('a', b'one'); sync_folder()", &[]);
    let mode = fs::metadata(scene.base.join("image-1/a"))
        .expect("the file")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o640);
}

#[test]
fn a_synced_file_without_its_folder_vanishes() {
    let mut scene = Scene::new();
    assert_eq!(scene.run("put('a', b'one')", &[]), files(&[]));
    let left = scene.run("os.mkdir('d'); put('d/b', b'2'); sync_folder('d')", &[]);
    assert_eq!(left, files(&[("a", b"one")]), "d has no durable name");
}

#[test]
fn a_synced_name_without_its_bytes_is_empty() {
    let mut scene = Scene::new();
    let left = scene.run(
        "os.mkdir('d'); put('a', b'one', sync=False); put('d/b', b'two'); sync_folder()",
        &[],
    );
    assert_eq!(left, files(&[("a", b""), ("d/", b"")]));
}

#[test]
fn bytes_after_the_last_sync_are_dropped() {
    let mut scene = Scene::new();
    let left = scene.run(
        "
fd = open_('a'); os.write(fd, b'kept'); os.fsync(fd); sync_folder()
os.write(fd, b'dropped'); os.pwrite(fd, b'X', 0)
fd = open_('b'); os.write(fd, b'all of it'); os.fdatasync(fd); sync_folder()
os.ftruncate(fd, 3)
fd = open_('c'); os.write(fd, b'former'); os.fsync(fd); sync_folder()
os.close(os.open('c', os.O_WRONLY | os.O_TRUNC))
",
        &[],
    );
    assert_eq!(
        left,
        files(&[("a", b"kept"), ("b", b"all of it"), ("c", b"former")])
    );
}

#[test]
fn a_cut_file_shows_zeros_where_nothing_was_written_again() {
    let mut scene = Scene::new();
    let left = scene.run(
        "
put('a', b'123456'); put('b', b'123456'); put('c', b'123456'); sync_folder()
put('a', b'x', flags=os.O_RDWR | os.O_TRUNC, sync=False)
fd = open_('a'); os.ftruncate(fd, 4); os.fsync(fd)
fd = open_('b'); os.ftruncate(fd, 2); os.pwrite(fd, b'z', 4); os.fsync(fd)
fd = open_('c'); os.ftruncate(fd, 2); os.posix_fallocate(fd, 0, 5); os.fsync(fd)
",
        &[],
    );
    assert_eq!(
        left,
        files(&[("a", b"x\0\0\0"), ("b", b"12\0\0z"), ("c", b"12\0\0\0")])
    );
}

#[test]
fn every_way_to_write_is_seen() {
    let mut scene = Scene::new();
    let left = scene.run(
            "
put('source', b'0123456789')
source = open_('source')
fd = open_('a')
os.write(fd, b'A'); os.pwrite(fd, b'B', 1); os.writev(fd, [b'x', b'y']); os.pwritev(fd, [b'C', b'D'], 3)
assert os.copy_file_range(source, fd, 2, 0, 5) == 2
assert os.sendfile(fd, source, 2, 2) == 2
os.fsync(fd)
tail = open_('b', os.O_WRONLY | os.O_CREAT | os.O_APPEND)
os.write(tail, b'one '); os.pwrite(tail, b'two', 0); os.fsync(tail)
copy = os.dup(open_('c')); os.write(copy, b'dup'); os.fsync(copy)
with open('d', 'wb') as f:
    f.write(b'buffered'); f.flush(); os.fsync(f.fileno())
unnamed = os.open('.', os.O_TMPFILE | os.O_RDWR); os.write(unnamed, b'linked later'); os.fsync(unnamed)
os.link(f'/proc/self/fd/{unnamed}', 'e', src_dir_fd=open_('.', os.O_RDONLY)) # linkat, following
sync_folder()
",
            &[],
        );
    assert_eq!(
        left,
        files(&[
            ("a", b"Axy2301"),
            ("b", b"one two"),
            ("c", b"dup"),
            ("d", b"buffered"),
            ("e", b"linked later"),
            ("source", b"0123456789"),
        ])
    );
}

#[test]
fn renames_and_unlinks_wait_for_the_folder() {
    let mut scene = Scene::new();
    let script = "
put('kept', b'old'); put('gone', b'still here'); sync_folder()
put('new', b'new'); os.rename('new', 'kept'); os.unlink('gone')
put('other', b'may take the inode of the one unlinked')
";
    let left = scene.run(script, &[]);
    assert_eq!(left, files(&[("kept", b"old"), ("gone", b"still here")]));
    let left = scene.run("put('late', b'late', sync=False); sync_folder()", &[]);
    assert_eq!(
        left,
        files(&[
            ("kept", b"new"),
            ("late", b""),
            ("other", b"may take the inode of the one unlinked"),
        ])
    );
}

#[test]
fn what_a_failed_sync_lost_stays_lost() {
    let mut scene = Scene::new();
    let script = "
fd = open_('a'); os.write(fd, b'former'); os.fsync(fd); sync_folder()
os.pwrite(fd, b'LOST', 2); os.pwrite(fd, b'MORE', 6)
try: os.fsync(fd)
except OSError as e: assert e.errno == 5, e
else: raise SystemExit('did not fail')
assert os.pread(fd, 10, 0) == b'foLOSTMORE'
os.pwrite(fd, b'!', 4)
os.fsync(fd); sync_folder()
";
    let left = scene.run(script, &[("POWER_LOSS_FAIL_SYNC", "2:/a")]);
    assert_eq!(left, files(&[("a", b"form!r\0\0\0\0")]));
    assert_eq!(scene.counts(), (5, 3));
}

#[test]
fn bytes_written_again_after_a_failed_sync_are_saved() {
    let mut scene = Scene::new();
    let script = "
fd = open_('a'); os.write(fd, b'bytes')
try: os.fsync(fd)
except OSError: pass
os.pwrite(fd, b'bytes', 0); os.fsync(fd); sync_folder()
";
    let left = scene.run(script, &[("POWER_LOSS_FAIL_SYNC", "1")]);
    assert_eq!(left, files(&[("a", b"bytes")]));
}

#[test]
fn names_a_failed_folder_sync_lost_stay_lost() {
    let mut scene = Scene::new();
    let script = "
put('replaced', b'old'); put('unlinked', b'old'); put('again', b'old'); sync_folder()
put('new', b'new'); os.rename('new', 'replaced'); os.unlink('unlinked'); put('lost', b'lost')
os.unlink('again')
try: sync_folder()
except OSError as e: assert e.errno == 5, e
else: raise SystemExit('did not fail')
put('after', b'after'); put('again', b'new')
sync_folder(); sync_folder()
";
    // The folder is the root: its path below the root is empty, so the number counts every sync.
    let left = scene.run(script, &[("POWER_LOSS_FAIL_SYNC", "7")]);
    assert_eq!(
        left,
        files(&[
            ("after", b"after"),
            ("again", b"new"),
            ("replaced", b"old"),
            ("unlinked", b"old"),
        ])
    );
}

#[test]
fn a_kill_at_a_sync_comes_before_it_counts() {
    let mut scene = Scene::new();
    let output = scene.spawn(
        "put('a', b'one'); sync_folder(); ack('first'); put('a', b'two'); ack('second')",
        &[("POWER_LOSS_KILL_AT", "3")],
    );
    assert!(killed(output.status), "{output:?}");
    assert_eq!(scene.cut(), files(&[("a", b"one")]));
    assert_eq!(scene.counts(), (3, 3));
    assert_eq!(scene.log(), ["first"]);
}

#[test]
fn a_record_cut_short_is_no_record() {
    let mut scene = Scene::new();
    scene.run(
        "put('a', b'one'); sync_folder(); put('a', b'two' * 1000)",
        &[],
    );
    let journal = scene.base.join("shadow/journal");
    let whole = fs::read(&journal).expect("the journal");
    for cut in [1, 3000, 3000 + HEAD_BYTES as usize] {
        fs::write(&journal, &whole[..whole.len() - cut]).expect("a shorter journal");
        assert_eq!(scene.cut(), files(&[("a", b"one")]), "{cut} bytes short");
    }
}

#[test]
fn children_of_the_watched_process_write_nothing_to_its_journal() {
    let mut scene = Scene::new();
    let left = scene.run(
            "
import subprocess
put('a', b'one'); sync_folder()
child = '''import os; f = os.open('b', os.O_CREAT | os.O_RDWR); os.write(f, b'b'); os.fsync(f); os.fsync(os.open('.', os.O_RDONLY))'''
subprocess.run([sys.executable, '-c', child], check=True)
if os.fork() == 0:
    put('a', b'two'); sync_folder(); os._exit(0)
os.wait()
put('a', b'4')
",
            &[],
        );
    assert_eq!(left, files(&[("a", b"4ne")]));
}

/// Many threads and every kind of operation; when all of it is synced, nothing may be missing.
#[test]
fn a_fully_synced_folder_is_rebuilt_exactly() {
    let mut scene = Scene::new();
    let script = "
import random, threading
def work(me):
    r = random.Random(me)
    os.makedirs(f'd{me}', exist_ok=True)
    for step in range(400):
        name = f'd{me}/{r.randrange(6)}'
        what = r.randrange(10)
        try:
            if what == 0: os.unlink(name); continue
            if what == 1: os.rename(name, f'd{me}/{r.randrange(6)}'); continue
            if what == 2: sync_folder(f'd{me}'); continue
        except FileNotFoundError: continue
        fd = open_(name, os.O_RDWR | os.O_CREAT | r.choice([0, 0, 0, os.O_TRUNC, os.O_APPEND]))
        for _ in range(r.randrange(4)):
            data = r.randbytes(r.randrange(9000))
            if r.randrange(2): os.pwrite(fd, data, r.randrange(20000))
            else: os.write(fd, data)
        if what == 3: os.ftruncate(fd, r.randrange(30000))
        if what > 6: os.fsync(fd)
        os.close(fd)
threads = [threading.Thread(target=work, args=(i,)) for i in range(6)]
for t in threads: t.start()
for t in threads: t.join()
for folder, _, names in os.walk('.'):
    for name in names:
        fd = open_(f'{folder}/{name}', os.O_RDWR); os.fsync(fd); os.close(fd)
    sync_folder(folder)
";
    for _ in 0..3 {
        let left = scene.run(script, &[("POWER_LOSS_REAL_SYNC", "0")]);
        let mut live = BTreeMap::new();
        tree(&scene.root(), "", &mut live);
        assert!(live.len() > 12);
        assert!(left == live, "the image differs from the folder");
    }
}

/// Commits rows of a few pages each, and acknowledges a row after its commit returned.
const SQLITE: &str = "
import sqlite3
db = sqlite3.connect('catalog.db', isolation_level=None)
assert db.execute('pragma journal_mode = wal').fetchone() == ('wal',)
db.execute('pragma wal_autocheckpoint = 12')
db.execute(f'pragma synchronous = {os.environ.get(\"LEVEL\", \"full\")}')
db.execute('create table if not exists t (id integer primary key, body blob)')
first = db.execute('select coalesce(max(id), 0) from t').fetchone()[0]
for i in range(first + 1, first + 17):
    try: db.execute('insert into t values (?, ?)', (i, os.urandom(6000)))
    except sqlite3.OperationalError as e: assert 'disk I/O' in str(e), e
    else: ack(i)
os.kill(os.getpid(), 9)
";

/// The rows of a rebuilt database, after SQLite has found it sound.
fn rows(image: &Path) -> Vec<String> {
    let output = Command::new(python())
        .arg("-c")
        .arg(
            "
import sqlite3, sys
db = sqlite3.connect(sys.argv[1])
assert db.execute('pragma integrity_check').fetchall() == [('ok',)]
if db.execute('select count(*) from sqlite_schema').fetchone()[0]:
    for row in db.execute('select id from t order by id'): print(row[0])
",
        )
        .arg(image.join("catalog.db"))
        .output()
        .expect("python starts");
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).expect("numbers");
    text.lines().map(str::to_owned).collect()
}

#[test]
fn sqlite_keeps_what_it_acknowledged() {
    let mut scene = Scene::new();
    let output = scene.spawn(SQLITE, &[]);
    assert!(killed(output.status), "{output:?}");
    assert_eq!(scene.log().len(), 16);
    assert_eq!(rows(&scene.rebuild()), scene.log());
}

#[test]
fn sqlite_without_syncs_loses_what_it_acknowledged() {
    let mut scene = Scene::new();
    scene.spawn(SQLITE, &[("LEVEL", "off")]);
    assert_eq!(scene.log().len(), 16);
    let image = scene.rebuild();
    assert!(!image.join("catalog.db").exists() || rows(&image).len() < 16);
}

#[test]
fn sqlite_keeps_what_it_acknowledged_whichever_sync_it_dies_at() {
    let total = {
        let scene = Scene::new();
        scene.spawn(SQLITE, &[]);
        scene.counts().0
    };
    assert!(total > 16, "{total} syncs");
    for kill_at in 1..=total {
        let mut scene = Scene::new();
        let at = kill_at.to_string();
        let output = scene.spawn(SQLITE, &[("POWER_LOSS_KILL_AT", &at)]);
        assert!(killed(output.status), "{output:?}");
        let left = rows(&scene.rebuild());
        let acknowledged = scene.log();
        assert!(left.starts_with(&acknowledged), "killed at {kill_at}");
        assert!(left.len() <= acknowledged.len() + 1, "killed at {kill_at}");
    }
}

/// Of its files only ("/"): SQLite ignores the result of its folder syncs, so that loss is its own.
#[test]
fn sqlite_keeps_what_it_acknowledged_whichever_sync_of_its_files_fails() {
    let total = {
        let scene = Scene::new();
        scene.spawn(SQLITE, &[("POWER_LOSS_FAIL_SYNC", "0:/")]);
        scene.counts().1
    };
    assert!(total > 16, "{total} syncs");
    let mut refused = 0;
    for fail_at in 1..=total {
        let mut scene = Scene::new();
        let fail = format!("{fail_at}:/");
        let output = scene.spawn(SQLITE, &[("POWER_LOSS_FAIL_SYNC", &fail)]);
        let acknowledged = scene.log();
        if !killed(output.status) {
            let error = String::from_utf8_lossy(&output.stderr);
            assert!(error.contains("disk I/O error"), "{error}");
            assert_eq!(acknowledged.len(), 0, "failed before the table was made");
            continue;
        }
        refused += 16 - acknowledged.len();
        let left = rows(&scene.rebuild());
        for row in acknowledged {
            assert!(left.contains(&row), "failed at {fail_at}, row {row}");
        }
    }
    assert!(refused > 8, "most failures reach a commit, not {refused}");
}
