//! Faults of a PostgreSQL that fails over.

use granary_testbed::Patroni;

use super::Nemesis;

/// What happens to the member that leads, or to a standby.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Primary {
    /// Its machine dies; sometimes it is back before anybody else could lead.
    Dies,
    /// Its standbys die, then it dies too, and they come back first: what they never got must not have been acknowledged.
    DiesLast,
    /// It stands still and goes on later, when another one may lead.
    Sleeps,
    /// A planned switchover.
    HandsOver,
    /// A standby dies, maybe the synchronous one.
    LosesAStandby,
}

impl Nemesis<'_> {
    pub(super) fn fail_over(&mut self, fault: Primary) -> String {
        let mut database = self.backends().database();
        let cluster = database.cluster();
        let leader = cluster.becomes_whole().unwrap();
        match fault {
            Primary::Dies => {
                cluster.kill(leader).unwrap();
                let after = self.after_leader(cluster, leader);
                cluster.start_again(leader).unwrap();
                format!("member {leader} killed, {after}")
            }
            Primary::DiesLast => {
                let standbys = (0..cluster.members()).filter(|member| *member != leader);
                let standbys: Vec<usize> = standbys.collect();
                for standby in &standbys {
                    cluster.kill(*standby).unwrap();
                }
                self.wait(300, 1500);
                cluster.kill(leader).unwrap();
                for standby in &standbys {
                    cluster.start_again(*standby).unwrap();
                }
                // None of them may lead if the primary had given up waiting for them.
                self.wait(4000, 15_000);
                let next = cluster.leader();
                cluster.start_again(leader).unwrap();
                format!("all killed, member {leader} last, then {next:?} led")
            }
            Primary::Sleeps => {
                cluster.freeze(leader).unwrap();
                let after = self.after_leader(cluster, leader);
                cluster.thaw(leader).unwrap();
                format!("member {leader} frozen, {after}")
            }
            Primary::HandsOver => {
                cluster.switch_over().unwrap();
                let next = cluster.has_leader_but(Some(leader)).unwrap();
                format!("member {leader} handed over to {next}")
            }
            Primary::LosesAStandby => {
                let step = 1 + self.dice.below(cluster.members() - 1);
                let standby = (leader + step) % cluster.members();
                cluster.kill(standby).unwrap();
                self.wait(500, 5000);
                cluster.start_again(standby).unwrap();
                format!("standby {standby} of {leader} killed")
            }
        }
    }

    /// Waits until another member leads and has done so for a while, or not even for so long.
    fn after_leader(&mut self, cluster: &Patroni, leader: usize) -> String {
        if self.dice.chance(30) {
            self.wait(200, 3000);
            return "for a moment".to_owned();
        }
        let next = cluster.has_leader_but(Some(leader)).unwrap();
        self.wait(0, 3000);
        format!("then {next} led")
    }
}
