//! A PostgreSQL that fails over: Patroni's members, etcd, and HAProxy before them, as docs/OPERATIONS.md says.

mod member;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use self::member::{Member, PASSWORD};
use crate::etcd::Etcd;
use crate::haproxy::Haproxy;
use crate::tools::{self, User};
use crate::{TestbedError, postgres};

/// How long a cluster may take to become whole on a busy machine; a member may have to be copied anew.
const WHOLE: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(100);

/// Seconds, as in Patroni's settings.
#[derive(Debug)]
struct Pace {
    ttl: u32,
    loop_wait: u32,
    retry_timeout: u32,
}

/// The fastest that Patroni allows: `ttl` is at least `loop_wait` and twice `retry_timeout`, which is at least 3.
const PACE: Pace = Pace {
    ttl: 7,
    loop_wait: 1,
    retry_timeout: 3,
};

/// A cluster with synchronous replication: what was committed is on two members.
///
/// Members have numbers from 0. Their last processes end with this value, or with its process.
#[derive(Debug)]
pub struct Patroni {
    // Dropped in this order: nobody misses who went before.
    haproxy: Haproxy,
    members: Vec<Member>,
    _etcd: Etcd,
    programs: PathBuf,
}

impl Patroni {
    /// Starts a cluster of so many members, and waits until it is whole.
    pub fn start(members: usize) -> Result<Self, TestbedError> {
        let programs = postgres::programs()?;
        let user = User::instead_of_root("postgres")?;
        let etcd = Etcd::start()?;
        let members = (0..members)
            .map(|number| Member::start(number, etcd.port(), &programs, user, &PACE))
            .collect::<Result<Vec<Member>, TestbedError>>()?;
        let upstreams: Vec<_> = members.iter().map(|member| member.upstream).collect();
        let cluster = Self {
            haproxy: Haproxy::start(&upstreams)?,
            members,
            _etcd: etcd,
            programs,
        };
        cluster.becomes_whole()?;
        Ok(cluster)
    }

    /// Where HAProxy listens: the way to whoever leads.
    pub fn address(&self) -> SocketAddr {
        self.haproxy.address()
    }

    /// Who may log in, as `user:password`.
    pub fn login(&self) -> String {
        format!("postgres:{PASSWORD}")
    }

    /// Runs SQL where HAProxy leads to, and gives the bare values, one row a line.
    pub fn psql(&self, database: &str, sql: &str) -> Result<String, TestbedError> {
        let (login, address) = (self.login(), self.address());
        let url = format!("postgres://{login}@{address}/{database}?connect_timeout=3");
        postgres::psql(&self.programs, &url, sql)
    }

    /// How many members there are.
    pub fn members(&self) -> usize {
        self.members.len()
    }

    /// The member that says that it leads; members that are killed or frozen are not asked.
    pub fn leader(&self) -> Option<usize> {
        self.members.iter().position(Member::leads)
    }

    /// Kills Patroni and PostgreSQL of a member with SIGKILL, as when its machine dies.
    pub fn kill(&mut self, member: usize) -> Result<(), TestbedError> {
        self.member(member)?.kill()
    }

    /// Starts a killed member again; what it becomes is not waited for.
    pub fn start_again(&mut self, member: usize) -> Result<(), TestbedError> {
        self.member(member)?.start_again()
    }

    /// Stops Patroni and PostgreSQL of a member with SIGSTOP.
    pub fn freeze(&mut self, member: usize) -> Result<(), TestbedError> {
        self.member(member).map(Member::freeze)
    }

    /// Lets a frozen member go on, with all that it had begun. If another one may lead by now, [`kill`](Self::kill) it instead,
    /// as its watchdog would: Patroni before 3.0.3 writes itself back as the leader when it wakes up (patroni#2689).
    pub fn thaw(&mut self, member: usize) -> Result<(), TestbedError> {
        self.member(member).map(Member::thaw)
    }

    /// Has the synchronous standby take over in order.
    pub fn switch_over(&self) -> Result<(), TestbedError> {
        let leader = self.leader().and_then(|leader| self.members.get(leader));
        let leader = leader.ok_or_else(|| tools::refused("a switchover", "nobody leads"))?;
        let answer = leader
            .ask("POST", "/switchover", &json!({"leader": leader.name}))
            .map_err(TestbedError::io("POST /switchover"))?;
        if answer.status == 200 {
            return Ok(());
        }
        Err(tools::refused("POST /switchover", &answer.body))
    }

    /// Waits until a member leads that is not `former`, and HAProxy leads to it. Gives its number.
    pub fn has_leader_but(&self, former: Option<usize>) -> Result<usize, TestbedError> {
        let leader = || {
            let leader = self.leader().filter(|leader| Some(*leader) != former)?;
            self.is_reached().then_some(leader)
        };
        self.wait("get another leader", leader)
    }

    /// Waits until one member leads, all others stream from it, one of them may lead next, and HAProxy leads to it.
    pub fn becomes_whole(&self) -> Result<usize, TestbedError> {
        self.wait("become whole", || self.whole())
    }

    fn whole(&self) -> Option<usize> {
        let leader = self.leader()?;
        let member = self.members.get(leader)?;
        // PostgreSQL knows its synchronous standby before the members agree that it may lead, and a copy that is being made of
        // it looks like a standby.
        let is_whole = self.is_followed(&member.state("/patroni")?)
            && is_settled(&member.state("/cluster")?, self.members.len())
            && self.is_reached();
        is_whole.then_some(leader)
    }

    fn is_followed(&self, leader: &Value) -> bool {
        let standbys = leader.get("replication").and_then(Value::as_array);
        let streams = |standby: &&Value| standby.get("state") == Some(&json!("streaming"));
        let standbys: Vec<&Value> = standbys.into_iter().flatten().filter(streams).collect();
        let is_sync = |standby: &&Value| standby.get("sync_state") == Some(&json!("sync"));
        standbys.len() + 1 == self.members.len() && standbys.iter().any(is_sync)
    }

    fn is_reached(&self) -> bool {
        // A statement that hangs for want of a standby is no answer.
        let write = "SET statement_timeout = '2s'; SELECT pg_is_in_recovery()";
        self.psql("postgres", write)
            .is_ok_and(|answer| answer == "f")
    }

    fn wait<T>(
        &self,
        what: &'static str,
        reached: impl Fn() -> Option<T>,
    ) -> Result<T, TestbedError> {
        let since = Instant::now();
        while since.elapsed() < WHOLE {
            if let Some(reached) = reached() {
                return Ok(reached);
            }
            thread::sleep(POLL);
        }
        let logs = self.members.iter().map(|member| {
            let state = member.state("/patroni").unwrap_or_default();
            format!("{}: {state}\n{}", member.name, member.log())
        });
        Err(TestbedError::Late {
            name: "the cluster",
            what,
            within: WHOLE,
            log: logs.collect::<Vec<_>>().join("\n"),
        })
    }

    fn member(&mut self, number: usize) -> Result<&mut Member, TestbedError> {
        let missing = || tools::refused(&format!("member {number}"), "there is no such one");
        self.members.get_mut(number).ok_or_else(missing)
    }
}

/// Whether so many members run, and they agree on a standby that may lead next.
fn is_settled(cluster: &Value, count: usize) -> bool {
    let members = cluster.get("members").and_then(Value::as_array);
    let members: Vec<&Value> = members.into_iter().flatten().collect();
    let text = |member: &Value, key| member.get(key)?.as_str().map(str::to_owned);
    let runs = |member: &&&Value| {
        text(member, "state").is_some_and(|state| ["running", "streaming"].contains(&&*state))
    };
    let may_lead =
        |member: &&Value| text(member, "role").is_some_and(|role| role == "sync_standby");
    members.iter().filter(runs).count() == count
        && members.into_iter().any(|member| may_lead(&member))
}
