//! The crash suite (decision 38): whatever ends a server, and wherever it stands then, the next one on the same folder
//! has everything that was acknowledged, nothing by half, and every interrupted upload goes on.
//!
//! Four clients work at once, each on a repository of its own with content that all share. Each life of the server ends
//! - by SIGKILL at a named failpoint, from outside, or after an error of the disk: [`killed_anywhere`];
//! - by a power cut at some sync: [`a_power_cut_anywhere`];
//! - by a power cut some time after a sync failed: [`a_power_cut_after_a_failed_sync`].
//!
//! `GRANARY_CRASH_ROUNDS` sets how many lives each of them has, `GRANARY_CRASH_SEED` where the chance begins. What a
//! failed run leaves on the disk is kept.

mod client;
mod dice;
mod ledger;
mod server;
mod work;

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use tempfile::TempDir;

use self::{
    client::{Client, Gone},
    dice::Dice,
    ledger::Ledger,
    server::{Server, granary, kill, was_killed},
};
use crate::power_loss_image;

const CLIENTS: usize = 4;
/// Work of each client in one life of the server, if it lives so long.
const WORK: usize = 14;
/// Lives on one folder; then a new one begins.
const LIVES: usize = 12;

/// Every failpoint that can kill, and how often it is passed in one life, roughly.
const POINTS: &[(&str, usize)] = &[
    ("catalog::before_commit", 60),
    ("catalog::after_commit", 60),
    ("upload::received", 20),
    ("upload::before_save", 10),
    ("upload::after_save", 10),
    ("upload::before_finish", 12),
    ("upload::after_finish", 12),
    ("mount::before", 4),
    ("manifest::before_put", 14),
    ("manifest::after_put", 14),
    ("head::before_lease", 2),
    ("gc::chosen", 6),
    ("gc::blobs_chosen", 6),
    ("gc::rows_removed", 6),
    ("gc::objects_deleted", 3),
];

/// Failpoints of the store that are an error of the disk.
const ERRORS: &[(&str, usize)] = &[
    ("blobs::write", 12),
    ("blobs::sync", 12),
    ("blobs::sync_directory", 12),
    ("blobs::delete", 6),
];

/// Where no server passes here: nobody asks it for a copy (`relocation` kills those) or an import, and it shares its folder
/// with none, so that it never takes a file over.
const ELSEWHERE: &[&str] = &[
    "copy::object",
    "import::linked",
    "blobs::copied",
    // Tests of the use cases stop there.
    "audit::between_batches",
    "gc::purged_part",
    "namespace::before_change",
    "quota::counted_blobs",
    "quota::counting",
    "repository::before_remove",
];

/// How one life of a server ends.
struct Fate {
    /// For whoever reads a failure.
    name: String,
    environment: Vec<(&'static str, String)>,
    /// Answers of 5xx are to be expected.
    errors: bool,
    /// Killed from outside after so many pieces of work.
    after: usize,
}

impl Fate {
    fn new(name: String) -> Self {
        Self {
            name,
            environment: Vec::new(),
            errors: false,
            after: usize::MAX,
        }
    }

    /// Ends by a signal, at a failpoint or anywhere.
    fn killed(dice: &mut Dice) -> Self {
        if dice.chance(15) {
            let after = 1 + dice.below(CLIENTS * WORK);
            return Self {
                after,
                ..Self::new(format!("killed after {after}"))
            };
        }
        let failing = dice.chance(20);
        let (point, often) = dice
            .pick(if failing {
                ERRORS.iter()
            } else {
                POINTS.iter()
            })
            .copied()
            .unwrap();
        let skipped = dice.below(often);
        let action = if failing {
            "1*return->off"
        } else {
            "return(kill)"
        };
        let points = format!("{point}={skipped}*off->{action}");
        Self {
            environment: vec![("FAILPOINTS", points.clone())],
            errors: failing,
            ..Self::new(points)
        }
    }
}

/// A folder on which servers live one after another, and what the clients know.
struct World {
    seed: u64,
    folder: Option<TempDir>,
    data: PathBuf,
    kept: bool,
    ledgers: Vec<Ledger>,
    fates: Vec<String>,
}

impl Drop for World {
    fn drop(&mut self) {
        if thread::panicking() {
            let folder = self.folder.take().map(TempDir::keep);
            #[expect(clippy::print_stderr, reason = "for whoever reads the failure")]
            {
                eprintln!(
                    "GRANARY_CRASH_SEED={} failed in {folder:?}; the lives were {:#?}",
                    self.seed, self.fates
                );
            }
        }
    }
}

impl World {
    fn new(seed: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("data");
        // Half of the worlds collect whatever is not referred to, the others keep it.
        let kept = seed.is_multiple_of(2);
        let ledgers = (0..CLIENTS)
            .map(|number| Ledger::new(number, CLIENTS, seed, kept))
            .collect();
        Self {
            seed,
            folder: Some(folder),
            data,
            kept,
            ledgers,
            fates: Vec::new(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.as_ref().unwrap().path().join(name)
    }

    fn serve(&self) -> Command {
        let mut command = granary("serve", &self.data);
        command.env("GRANARY_GC__GRACE", if self.kept { "1h" } else { "0s" });
        command
    }

    /// One life of a server. Says whether it ended before its work was done.
    fn live(&mut self, mut command: Command, fate: &Fate) -> bool {
        self.fates.push(fate.name.clone());
        command.envs(fate.environment.iter().map(|(name, value)| (name, value)));
        let server = match Server::start(command, &self.path("log")) {
            Ok(server) => server,
            Err(status) => {
                assert!(
                    fate.errors || was_killed(status),
                    "it did not start: {status}"
                );
                return true;
            }
        };
        let (data, done) = (&self.data, AtomicUsize::new(0));
        let gone = thread::scope(|scope| {
            let clients: Vec<_> = self
                .ledgers
                .iter_mut()
                .map(|ledger| {
                    let (server, done) = (&server, &done);
                    scope.spawn(move || work(ledger, server, data, fate, done).is_err())
                })
                .collect();
            let ends: Vec<_> = clients
                .into_iter()
                .map(thread::ScopedJoinHandle::join)
                .collect();
            // All have ended before the first of their failures is told.
            ends.into_iter().fold(false, |gone, end| {
                gone | end.unwrap_or_else(|failed| std::panic::resume_unwind(failed))
            })
        });
        if gone {
            let status = server.expect_death();
            assert!(was_killed(status), "it ended by itself: {status}");
        } else {
            server.kill();
        }
        gone
    }

    /// A last life without a fault, in which nothing may be missing.
    fn end(mut self) -> u64 {
        let fate = Fate::new("the end".to_owned());
        assert!(!self.live(self.serve(), &fate), "it died without a fault");
        assert!(!self.live(self.serve(), &fate), "it died without a fault");
        self.ledgers.iter().map(|ledger| ledger.acknowledged).sum()
    }
}

fn work(
    ledger: &mut Ledger,
    server: &Server,
    data: &Path,
    fate: &Fate,
    done: &AtomicUsize,
) -> Result<(), Gone> {
    let mut client = Client::new(server.address);
    ledger.errors = false;
    ledger.verify(&mut client)?;
    ledger.errors = fate.errors;
    ledger.resume(&mut client, true)?;
    for _ in 0..WORK {
        ledger.act(&mut client, data)?;
        if done.fetch_add(1, Ordering::Relaxed) + 1 == fate.after {
            kill(server.pid());
        }
    }
    Ok(())
}

fn from_environment(name: &str) -> Option<u64> {
    std::env::var_os(name)?.to_str()?.parse().ok()
}

/// Runs `rounds` lives in worlds of [`LIVES`] each; `world` plays one and says how many lives were cut short. At least a
/// third must be: else the faults miss, and the suite tests nothing.
fn play(rounds: usize, mut world: impl FnMut(&mut World, &mut Dice) -> usize) {
    let rounds = from_environment("GRANARY_CRASH_ROUNDS")
        .map_or(rounds, |rounds| usize::try_from(rounds).unwrap());
    let first = from_environment("GRANARY_CRASH_SEED").unwrap_or(1);
    let (mut cut, mut acknowledged) = (0, 0);
    let worlds = rounds.div_ceil(LIVES);
    for seed in first..first + worlds as u64 {
        let mut played = World::new(seed);
        cut += world(&mut played, &mut Dice::new(seed));
        acknowledged += played.end();
    }
    assert!(
        3 * cut >= worlds * LIVES,
        "only {cut} of {} lives were cut short",
        worlds * LIVES
    );
    assert!(
        acknowledged > (worlds * LIVES * CLIENTS) as u64,
        "only {acknowledged} answers"
    );
}

#[test]
fn killed_anywhere() {
    play(180, |world, dice| {
        (0..LIVES)
            .filter(|_| {
                let fate = Fate::killed(dice);
                let gone = world.live(world.serve(), &fate);
                gone || fate.errors
            })
            .count()
    });
}

/// One life under the layer that forgets, and what is left of the folder after the power cut.
fn live_and_cut(world: &mut World, fate: &Fate) -> bool {
    let shadow = world.path("shadow");
    let mut command = world.serve();
    power_loss_image::attach(&mut command, &world.data, &shadow).unwrap();
    command
        .env("POWER_LOSS_REAL_SYNC", "0")
        .env("POWER_LOSS_COUNT_FILE", world.path("count"));
    let gone = world.live(command, fate);
    let next = world.path(&format!("data-{}", world.fates.len()));
    power_loss_image::rebuild(&shadow, &next).unwrap();
    std::fs::remove_dir_all(std::mem::replace(&mut world.data, next)).unwrap();
    gone
}

/// Syncs in one life, and those of files.
fn count_syncs(world: &mut World) -> (usize, usize) {
    let count = ("POWER_LOSS_FAIL_SYNC", "0:/".to_owned());
    let fate = Fate {
        environment: vec![count],
        ..Fate::new("counted".to_owned())
    };
    assert!(!live_and_cut(world, &fate), "it died without a fault");
    let (all, files) = power_loss_image::sync_counts(&world.path("count")).unwrap();
    (
        usize::try_from(all).unwrap(),
        usize::try_from(files).unwrap(),
    )
}

#[test]
fn a_power_cut_anywhere() {
    play(72, |world, dice| {
        let (all, _) = count_syncs(world);
        let cuts = (1..LIVES).filter(|_| {
            let at = 1 + dice.below(all);
            let kill = ("POWER_LOSS_KILL_AT", at.to_string());
            let fate = Fate {
                environment: vec![kill],
                ..Fate::new(format!("cut at sync {at} of {all}"))
            };
            live_and_cut(world, &fate)
        });
        cuts.count()
    });
}

/// Syncs of files, not of the data folder itself: SQLite does not look at the results of its own there, and the server
/// makes the names of its files durable before.
#[test]
fn a_power_cut_after_a_failed_sync() {
    play(48, |world, dice| {
        let (_, files) = count_syncs(world);
        for _ in 1..LIVES {
            // Most syncs are of the database, so every other time it is one of the store.
            let (at, of) = if dice.chance(50) {
                (1 + dice.below(files), "/")
            } else {
                (1 + dice.below(20), "/blobs/")
            };
            let fail = ("POWER_LOSS_FAIL_SYNC", format!("{at}:{of}"));
            let name = format!("sync {at} of {of} fails");
            let fate = Fate {
                environment: vec![fail],
                errors: true,
                ..Fate::new(name)
            };
            live_and_cut(world, &fate);
        }
        LIVES
    });
}

/// A point that is added and not listed would never be tested.
#[test]
fn every_failpoint_is_listed() {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates");
    let mut found = Vec::new();
    let mut folders = vec![crates];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs")
                && path.components().any(|part| part.as_os_str() == "src")
            {
                let text = std::fs::read_to_string(&path).unwrap();
                for call in ["reach(\"", "reach_async(\"", "fails(\"", "fail_point!(\""] {
                    found.extend(
                        text.split(call)
                            .skip(1)
                            .map(|rest| rest.split('"').next().unwrap().to_owned()),
                    );
                }
            }
        }
    }
    assert!(found.len() > 10, "{found:?}");
    for point in found {
        let listed = POINTS.iter().chain(ERRORS).map(|(name, _)| name);
        let listed = listed.chain(ELSEWHERE).any(|name| *name == point);
        assert!(listed, "{point} is not in POINTS, ERRORS or ELSEWHERE");
    }
}
