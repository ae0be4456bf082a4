//! Breaks things, one after another, and mends them again.

mod between;
mod fail_over;

use std::{
    sync::mpsc::{Receiver, RecvTimeoutError},
    time::Duration,
};

use granary_testbed::StopMode;
use rustix::process::Signal;

pub(crate) use self::fail_over::Primary;
use crate::{
    cluster::{Backends, Cluster, Database, Replica},
    dice::Dice,
    s3_faults::Trouble,
    world::World,
};

/// Where a replica may die by itself, and how often each is passed, roughly.
const POINTS: &[(&str, usize)] = &[
    ("catalog::before_commit", 60),
    ("catalog::after_commit", 60),
    ("upload::received", 20),
    ("upload::before_save", 10),
    ("upload::after_save", 10),
    ("upload::before_finish", 12),
    ("upload::after_finish", 12),
    ("mount::before", 4),
    ("manifest::before_put", 30),
    ("manifest::after_put", 30),
    ("head::before_lease", 2),
    ("gc::chosen", 6),
    ("gc::blobs_chosen", 6),
    ("gc::rows_removed", 6),
    ("gc::objects_deleted", 3),
];

/// Something that goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// SIGKILL.
    Kill,
    /// SIGKILL at a named place, some time after the next start.
    KillAtFailpoint,
    /// SIGTERM, with requests under way.
    Drain,
    /// SIGSTOP for a while.
    Freeze,
    /// SIGSTOP for so long that others take its sessions over; then it wakes up.
    LongSleep,
    /// PostgreSQL ends in some way and comes back.
    Postgres(StopMode),
    /// Redis is killed and comes back empty.
    Redis,
    /// The S3 server is killed and comes back.
    S3,
    /// A connection to a back end, of one replica or of all, is cut, silent or slow.
    Link(Link),
    /// The S3 server answers otherwise than it should.
    Answers(Trouble),
    /// PostgreSQL's disk is full.
    FullDisk,
    /// Another member of PostgreSQL's cluster takes over, or could.
    Primary(Primary),
}

/// A back end, from the replicas' side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Link {
    Postgres,
    S3,
    Redis,
}

/// The faults that one process alone can have.
pub(crate) const LOCAL: &[Fault] = &[
    Fault::Kill,
    Fault::KillAtFailpoint,
    Fault::Drain,
    Fault::Freeze,
];

/// The faults of replicas and back ends that are over within seconds.
pub(crate) const SHARED: &[Fault] = &[
    Fault::Kill,
    Fault::KillAtFailpoint,
    Fault::Drain,
    Fault::Freeze,
    Fault::Postgres(StopMode::Fast),
    Fault::Postgres(StopMode::Immediate),
    Fault::Postgres(StopMode::Kill),
    Fault::Redis,
    Fault::S3,
    Fault::Link(Link::Postgres),
    Fault::Link(Link::S3),
    Fault::Link(Link::Redis),
    Fault::Answers(Trouble::SlowDown),
    Fault::Answers(Trouble::FailedAfterAll),
    Fault::Answers(Trouble::Truncated),
    Fault::Answers(Trouble::WrongTag),
    Fault::Answers(Trouble::Full),
    Fault::FullDisk,
];

/// Those that take longer, or that are worth to be met more often in a long run.
pub(crate) const LONG: &[Fault] = &[
    Fault::LongSleep,
    Fault::KillAtFailpoint,
    Fault::KillAtFailpoint,
    Fault::KillAtFailpoint,
    Fault::Link(Link::Postgres),
    Fault::Link(Link::S3),
    Fault::Answers(Trouble::Slow),
];

/// The faults of replicas on a PostgreSQL that fails over.
pub(crate) const FAIL_OVER: &[Fault] = &[
    Fault::Primary(Primary::Dies),
    Fault::Primary(Primary::DiesLast),
    Fault::Primary(Primary::Sleeps),
    Fault::Primary(Primary::HandsOver),
    Fault::Primary(Primary::LosesAStandby),
    Fault::Kill,
    Fault::KillAtFailpoint,
    Fault::Link(Link::Postgres),
];

pub(crate) struct Nemesis<'c> {
    cluster: &'c Cluster,
    world: &'c World,
    dice: Dice,
    /// Nothing is sent; it is closed when the run is over.
    over: Receiver<()>,
}

impl<'c> Nemesis<'c> {
    pub(crate) fn new(cluster: &'c Cluster, world: &'c World, over: Receiver<()>) -> Self {
        Self {
            cluster,
            world,
            dice: Dice::new(world.seed, 0),
            over,
        }
    }

    /// Goes through all faults in an order of chance, again and again, until the run is over. Everything is whole then.
    pub(crate) fn rage(mut self, faults: &[Fault]) -> Vec<String> {
        let mut diary = Vec::new();
        let mut left: Vec<Fault> = Vec::new();
        while !self.world.is_over() && self.wait(100, 1000) {
            if left.is_empty() {
                left = faults.to_vec();
                self.dice.shuffle(&mut left);
            }
            let Some(fault) = left.pop() else { break };
            let began = self.world.clock.now();
            let what = self.cause(fault);
            let mended = self.world.clock.now();
            self.mend();
            let ready = self.world.clock.now() - mended;
            diary.push(format!("{began}..{mended}: {what}, ready {ready} later"));
        }
        self.mend();
        diary
    }

    /// `false` if the run is over.
    fn wait(&mut self, least: usize, most: usize) -> bool {
        let time = Duration::from_millis(self.dice.between(least, most) as u64);
        self.over.recv_timeout(time) == Err(RecvTimeoutError::Timeout)
    }

    fn replica(&mut self) -> &'c Replica {
        self.dice.pick(&self.cluster.replicas)
    }

    fn backends(&self) -> &'c Backends {
        self.cluster.backends.as_ref().unwrap()
    }

    /// Breaks something for a while.
    fn cause(&mut self, fault: Fault) -> String {
        match fault {
            Fault::Kill | Fault::KillAtFailpoint | Fault::Drain => self.end_a_replica(fault),
            Fault::Freeze => self.freeze(500, 3000),
            Fault::LongSleep => self.freeze(10_500, 14_000),
            Fault::Postgres(mode) => {
                let backends = self.backends();
                backends.database().single().stop(mode).unwrap();
                self.wait(50, 1500);
                backends.database().single().start_again().unwrap();
                format!("PostgreSQL stopped: {mode:?}")
            }
            Fault::Redis => {
                let backends = self.backends();
                backends.redis().wipe().unwrap();
                backends.redis().stop().unwrap();
                self.wait(500, 2000);
                backends.redis().start_again().unwrap();
                "Redis wiped and stopped".to_owned()
            }
            Fault::S3 => {
                let backends = self.backends();
                backends.s3().stop().unwrap();
                self.wait(200, 2000);
                backends.s3().start_again().unwrap();
                "S3 server killed".to_owned()
            }
            Fault::Link(link) => self.hurt(link),
            Fault::Answers(trouble) => {
                let backends = self.backends();
                backends.faults.set(trouble);
                self.wait(1500, 4000);
                backends.faults.set(Trouble::None);
                format!("S3 answers: {trouble:?}")
            }
            Fault::FullDisk => {
                let database = self.backends().database();
                let Some(disk) = database.disk() else {
                    return "no disk that can be filled: this takes root".to_owned();
                };
                disk.fill();
                self.wait(1000, 3000);
                disk.clear();
                "PostgreSQL's disk full".to_owned()
            }
            Fault::Primary(fault) => self.fail_over(fault),
        }
    }

    fn end_a_replica(&mut self, fault: Fault) -> String {
        let replica = self.replica();
        let name = &replica.name;
        match fault {
            Fault::KillAtFailpoint => {
                let (point, often) = *self.dice.pick(POINTS);
                let points = format!("{point}={}*off->return(kill)", self.dice.below(often));
                replica.kill();
                replica.start(Some(&points));
                for _ in 0..50 {
                    if !replica.runs() || !self.wait(100, 100) {
                        break;
                    }
                }
                let outcome = if replica.runs() { "never came" } else { "came" };
                replica.kill();
                format!("{name}: {points} {outcome}")
            }
            Fault::Drain => {
                if !replica.drain(Duration::from_secs(40)) {
                    self.world
                        .violation(format!("{name} did not end after SIGTERM"));
                }
                format!("{name} drained")
            }
            _ => {
                replica.kill();
                self.wait(50, 1500);
                format!("{name} killed")
            }
        }
    }

    fn freeze(&mut self, least: usize, most: usize) -> String {
        let replica = self.replica();
        replica.signal(Signal::STOP);
        self.wait(least, most);
        replica.signal(Signal::CONT);
        format!("{} frozen", replica.name)
    }

    /// Makes everything whole, and waits until all replicas say so.
    fn mend(&mut self) {
        if let Some(backends) = &self.cluster.backends {
            self.mend_links();
            if let Database::Cluster(cluster) = &*backends.database() {
                cluster.becomes_whole().unwrap();
            }
        }
        for replica in &self.cluster.replicas {
            if !replica.becomes_ready() {
                self.world.violation(format!(
                    "{} is not ready though nothing is wrong",
                    replica.name
                ));
            }
        }
    }
}
