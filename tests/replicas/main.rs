//! Clients, a nemesis and a checker: what several replicas acknowledge stays true, whatever breaks.
//!
//! Clients push, move tags under conditions, delete and pull at random, through a balancer and at each replica. Meanwhile
//! the nemesis kills replicas, restarts back ends and breaks what lies between, and garbage collection never rests. In the
//! end everything is mended and looked at: `audit` says what must hold, `checker` whether the log of each tag can be true.
//!
//! A long run takes turns with one PostgreSQL and with one that fails over (Patroni), where no fault may lose a thing either.
//!
//! `GRANARY_SOAK_SEED` sets where the chance begins, `GRANARY_SOAK_SECONDS` how long the clients work. With parts of
//! their names in `GRANARY_SOAK_FAULTS` only those faults happen, and none with a part behind a `-`; with `GRANARY_SOAK_KEEP=1` the logs are kept anyway.
//! `GRANARY_SOAK_DATABASE` is `single` or `patroni` for a long run that has only this one.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod audit;
mod checker;
mod clients;
mod cluster;
mod content;
mod dice;
mod history;
mod ledger;
mod nemesis;
mod s3_faults;
mod world;

use std::{
    io::Write as _,
    sync::{Arc, mpsc},
    thread,
    time::{Duration, Instant},
};

use tokio::runtime::Runtime;

use self::{
    clients::Client,
    cluster::{Cluster, EXPIRY, GRACE, Setup},
    nemesis::{FAIL_OVER, Fault, LOCAL, LONG, Nemesis, SHARED},
    world::World,
};

/// The clients' time on one cluster in a long run; then a new one begins.
const ROUND: Duration = Duration::from_secs(300);

/// The databases of a long run.
const SINGLE: &str = "single";
const PATRONI: &str = "patroni";

/// Violations that are shown; one cause often has many.
const MOST_SHOWN: usize = 20;

/// How a run is to be.
struct Plan {
    clients: usize,
    time: Duration,
    /// Bytes of a blob, at most.
    largest: usize,
    faults: Vec<Fault>,
}

#[test]
fn one_replica_keeps_its_word() {
    let plan = Plan {
        clients: 4,
        time: Duration::from_secs(8),
        largest: 8 << 20,
        faults: LOCAL.to_vec(),
    };
    let seed = seed();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    run(&runtime, Cluster::embedded(), seed, &plan);
}

#[test]
fn three_replicas_keep_their_word() {
    let Some(seconds) = from_environment("GRANARY_SOAK_SECONDS") else {
        let plan = Plan {
            clients: 6,
            time: Duration::from_secs(35),
            largest: 20 << 20,
            faults: wanted(SHARED.to_vec()),
        };
        let setup = Setup {
            seaweedfs: false,
            fails_over: false,
        };
        return three_replicas(seed(), setup, &plan);
    };
    let kinds = databases();
    let time = Duration::from_secs(seconds);
    // A short run has room for each kind as well.
    let longest = ROUND.min(time / kinds.len() as u32);
    let (first, end) = (seed(), Instant::now() + time);
    for round in 0.. {
        let left = end.saturating_duration_since(Instant::now());
        // How long a round takes to begin and to end is not known, and each kind has its turn.
        let is_first_turn = round < kinds.len() as u64;
        if !is_first_turn && left < ROUND / 4 {
            return;
        }
        let kind = &kinds[(round % kinds.len() as u64) as usize];
        let faults = match *kind {
            PATRONI => FAIL_OVER.to_vec(),
            _ => [SHARED, LONG].concat(),
        };
        let plan = Plan {
            clients: 10,
            time: if is_first_turn {
                longest
            } else {
                left.min(longest)
            },
            largest: 20 << 20,
            faults: wanted(faults),
        };
        let seed = first + round;
        say(&format!(
            "GRANARY_SOAK_SEED={seed} GRANARY_SOAK_DATABASE={kind} from now on"
        ));
        let setup = Setup {
            // Both S3 servers have their turn, with both kinds of database.
            seaweedfs: seed / 2 % 2 == 1,
            fails_over: *kind == PATRONI,
        };
        three_replicas(seed, setup, &plan);
    }
}

fn three_replicas(seed: u64, setup: Setup, plan: &Plan) {
    let runtime = Runtime::new().unwrap();
    let cluster = runtime.block_on(Cluster::shared(seed, setup));
    run(&runtime, cluster, seed, plan);
}

/// The databases of a long run, which take turns.
fn databases() -> Vec<&'static str> {
    let both = vec![SINGLE, PATRONI];
    let Some(wanted) = std::env::var_os("GRANARY_SOAK_DATABASE") else {
        return both;
    };
    let kinds: Vec<_> = both.into_iter().filter(|kind| wanted == **kind).collect();
    assert_eq!(kinds.len(), 1, "GRANARY_SOAK_DATABASE is {wanted:?}");
    kinds
}

fn seed() -> u64 {
    let fresh = || std::time::UNIX_EPOCH.elapsed().unwrap().as_secs() % 1_000_000;
    let seed = from_environment("GRANARY_SOAK_SEED").unwrap_or_else(fresh);
    say(&format!("GRANARY_SOAK_SEED={seed}"));
    seed
}

/// Those faults that the tester wants to see.
fn wanted(faults: Vec<Fault>) -> Vec<Fault> {
    let Some(names) = std::env::var_os("GRANARY_SOAK_FAULTS") else {
        return faults;
    };
    let names = names.to_string_lossy().into_owned();
    let (unwanted, wanted): (Vec<&str>, Vec<&str>) =
        names.split(',').partition(|part| part.starts_with('-'));
    let is_wanted = |fault: &Fault| {
        let name = format!("{fault:?}");
        (wanted.is_empty() || wanted.iter().any(|part| name.contains(part)))
            && !unwanted.iter().any(|part| name.contains(&part[1..]))
    };
    faults.into_iter().filter(is_wanted).collect()
}

fn from_environment(name: &str) -> Option<u64> {
    std::env::var_os(name)?.to_str()?.parse().ok()
}

fn say(text: &str) {
    // Nobody could be told.
    let _ = writeln!(std::io::stderr(), "{text}");
}

fn run(runtime: &Runtime, mut cluster: Cluster, seed: u64, plan: &Plan) {
    let world = Arc::new(World::new(seed, cluster.doors(), GRACE, EXPIRY));
    runtime.block_on(clients::prepare(&world));
    let (over, is_over) = mpsc::channel();
    let (over_too, is_over_too) = mpsc::channel();
    let (clients, diary) = thread::scope(|scope| {
        let nemesis = Nemesis::new(&cluster, &world, is_over);
        let nemesis = scope.spawn(move || nemesis.rage(&plan.faults));
        let collector = scope.spawn(|| collect(&cluster, &world, is_over_too));
        let clients = runtime.block_on(load(&world, plan));
        drop((over, over_too));
        collector.join().unwrap();
        (clients, nemesis.join().unwrap())
    });
    say(&format!("{diary:#?}"));
    let (blobs, manifests) = runtime.block_on(look(&cluster, &world, clients));
    let (wrong, effort) = world.history.check();
    for wrong in &wrong {
        world.violation(wrong);
    }
    let counts = world.counts();
    for (what, count) in counts {
        say(&format!("  {count:>7} {what}"));
    }
    say(&format!(
        "{} operations on tags and manifests, {} doubtful, at most {} explanations; {blobs} blobs and {manifests} manifests read again",
        effort.operations, effort.doubtful, effort.most
    ));
    let violations = world.violations();
    if violations.is_empty() && from_environment("GRANARY_SOAK_KEEP").is_none() {
        return;
    }
    say(&format!("the logs are in {:?}", cluster.keep()));
    for violation in violations.iter().take(MOST_SHOWN) {
        say(&format!("VIOLATION {violation}"));
    }
    let number = violations.len();
    assert_eq!(number, 0, "violations with GRANARY_SOAK_SEED={seed}");
}

/// What must hold when everything is mended.
async fn look(cluster: &Cluster, world: &Arc<World>, clients: Vec<Client>) -> (usize, usize) {
    let mut closing = tokio::task::JoinSet::new();
    for client in clients {
        closing.spawn(client.finish());
    }
    closing.join_all().await;
    let read = audit::re_read(cluster, world).await;
    audit::nothing_is_left(cluster, world).await;
    audit::re_read(cluster, world).await;
    if !Client::new(usize::MAX - 1, Arc::clone(world), 8 << 20)
        .still_works()
        .await
    {
        world.violation("in the end an image cannot be pushed any more");
    }
    read
}

/// Lets the clients work for their time, or until one finds something wrong.
async fn load(world: &Arc<World>, plan: &Plan) -> Vec<Client> {
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..plan.clients {
        let client = Client::new(number, Arc::clone(world), plan.largest);
        tasks.spawn(client.work());
    }
    let timer = tokio::time::sleep(plan.time);
    tokio::pin!(timer);
    let mut clients = Vec::new();
    loop {
        tokio::select! {
            () = &mut timer, if !world.is_over() => world.stop(),
            client = tasks.join_next() => match client {
                Some(client) => clients.push(client.unwrap()),
                None => return clients,
            },
        }
    }
}

/// Garbage collection all the time, at any replica.
fn collect(cluster: &Cluster, world: &World, over: mpsc::Receiver<()>) {
    let mut dice = dice::Dice::new(world.seed, 1_000_000);
    while over.recv_timeout(Duration::from_millis(300)) == Err(mpsc::RecvTimeoutError::Timeout) {
        match dice.pick(&cluster.replicas).collect() {
            Ok(_) => world.count("collections by command"),
            Err(error) => {
                let last = error.lines().last().unwrap_or_default();
                let words: String = last.chars().take(90).collect();
                world.count(format!("collections by command that failed: {words}"));
            }
        }
    }
}
