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
    /// It stands still for a moment and goes on, or so long that another one leads and its watchdog resets it.
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
                let after = if self.dice.chance(30) {
                    self.wait(200, 3000);
                    "back at once".to_owned()
                } else {
                    self.another_leads(cluster, leader)
                };
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
                if self.dice.chance(40) {
                    self.wait(200, 3000);
                    cluster.thaw(leader).unwrap();
                    return format!("member {leader} frozen for a moment");
                }
                let after = self.another_leads(cluster, leader);
                // Its watchdog has reset it by now.
                cluster.kill(leader).unwrap();
                cluster.start_again(leader).unwrap();
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

    /// Waits until another member leads and has done so for a while.
    fn another_leads(&mut self, cluster: &Patroni, leader: usize) -> String {
        let next = cluster.has_leader_but(Some(leader)).unwrap();
        self.wait(0, 3000);
        format!("then {next} led")
    }
}
