//! Blobs pushed at once or mounted, pulled whole and in part, and deleted.

use futures_util::StreamExt as _;
use reqwest::Method;

use super::Client;
use crate::{
    checker::End,
    content::Content,
    ledger::Key,
    world::{Ask, Door, Heard, REPOSITORIES, Told, World},
};

/// What a pull came to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Pulled {
    Right,
    Missing,
    /// It broke off, or was answered with 5xx.
    Doubt,
    /// What must never be.
    Wrong(String),
}

/// Reads a blob, or the part from `first` to `last`, and compares every byte while it comes.
pub(crate) async fn pull(
    world: &World,
    door: &Door,
    (repository, content): Key,
    part: Option<(usize, usize)>,
) -> Pulled {
    let digest = content.digest();
    let path = format!("/v2/{}/blobs/{digest}", REPOSITORIES[repository]);
    let mut request = world.request(door, Method::GET, &path);
    let (mut at, end) = part.map_or((0, content.length), |(first, last)| (first, last + 1));
    if let Some((first, last)) = part {
        request = request.header("Range", format!("bytes={first}-{last}"));
    }
    let answer = match request.send().await {
        Ok(answer) => answer,
        Err(error) => {
            world.nothing_heard(&error, &Method::GET);
            return Pulled::Doubt;
        }
    };
    let status = answer.status().as_u16();
    world.count_status(&Method::GET, answer.status());
    match (status, part) {
        (200, None) | (206, Some(_)) => {}
        (404, _) => return Pulled::Missing,
        (500.., _) => return Pulled::Doubt,
        _ => return Pulled::Wrong(format!("GET {path} {part:?} at {}: {status}", door.name)),
    }
    let mut stream = answer.bytes_stream();
    while let Some(piece) = stream.next().await {
        let Ok(piece) = piece else {
            world.count("pulls broken off");
            return Pulled::Doubt;
        };
        let until = at + piece.len();
        if until > end || content.slice(at, until) != piece {
            return Pulled::Wrong(format!(
                "GET {path} {part:?} at {}: wrong bytes in {at}..{until} of {content:?}",
                door.name
            ));
        }
        at = until;
    }
    if at == end {
        Pulled::Right
    } else {
        Pulled::Wrong(format!(
            "GET {path} {part:?} at {}: ended well after {at} of {end} bytes",
            door.name
        ))
    }
}

impl Client {
    /// Brings a blob into a repository in one of many ways; whether that was acknowledged.
    pub(super) async fn push_blob(&mut self, key: Key) -> bool {
        match self.dice.below(100) {
            0..20 if self.head_blob(key).await => true,
            20..35 => self.mount(key).await,
            35..65 => self.upload_blob(key).await,
            _ => self.push_at_once(key).await,
        }
    }

    async fn push_at_once(&mut self, key: Key) -> bool {
        let (repository, content) = key;
        let name = REPOSITORIES[repository];
        let path = format!("/v2/{name}/blobs/uploads/?digest={}", content.digest());
        self.world.ledger.pushing(key);
        let ask = Ask::new(Method::POST, path).body(content.whole());
        let told = self.ask(ask).await;
        self.haunt_if_abandoned(key, &told);
        let Heard::Answer(answer) = &told.heard else {
            return false;
        };
        match answer.status {
            201 => {
                self.world.ledger.pushed(key, told.invoked);
                true
            }
            429 => false,
            _ => {
                self.wrong(&told.what, answer);
                false
            }
        }
    }

    async fn mount(&mut self, key: Key) -> bool {
        let (repository, content) = key;
        let (name, from) = (
            REPOSITORIES[repository],
            REPOSITORIES[(repository + 1) % REPOSITORIES.len()],
        );
        let digest = content.digest();
        let path = format!("/v2/{name}/blobs/uploads/?mount={digest}&from={from}");
        self.world.ledger.pushing(key);
        let told = self.ask(Ask::new(Method::POST, path)).await;
        self.haunt_if_abandoned(key, &told);
        let Heard::Answer(answer) = &told.heard else {
            return false;
        };
        match answer.status {
            201 => {
                self.world.count("mounts");
                self.world.ledger.pushed(key, told.invoked);
                true
            }
            202 => self.go_on_with_session(key, &told).await,
            429 => false,
            _ => {
                self.wrong(&told.what, answer);
                false
            }
        }
    }

    /// Whether the repository has the blob.
    async fn head_blob(&mut self, key: Key) -> bool {
        let (repository, content) = key;
        let path = format!(
            "/v2/{}/blobs/{}",
            REPOSITORIES[repository],
            content.digest()
        );
        let before = self.world.ledger.known(key);
        let told = self.ask(Ask::new(Method::HEAD, path)).await;
        let Heard::Answer(answer) = &told.heard else {
            return false;
        };
        match answer.status {
            200 if self.world.ledger.must_be_gone(key, &before) => {
                self.wrong(&format!("{} of a deleted blob", told.what), answer);
                false
            }
            200 if answer.header("content-length") == Some(&content.length.to_string()) => {
                self.world.ledger.found(key, told.invoked);
                true
            }
            404 if !self.world.ledger.must_be_there(key, &before, told.ended) => false,
            _ => {
                self.wrong(&told.what, answer);
                false
            }
        }
    }

    /// Any blob, with a liking for those that must be there.
    fn some_blob(&mut self) -> Key {
        let kept = self.world.ledger.kept();
        if !kept.is_empty() && self.dice.chance(80) {
            return *self.dice.pick(&kept);
        }
        let gone = self.world.ledger.gone();
        if !gone.is_empty() && self.dice.chance(50) {
            return *self.dice.pick(&gone);
        }
        (self.repository(), self.content())
    }

    pub(super) async fn pull_blob(&mut self) {
        let key = self.some_blob();
        if self.dice.chance(15) {
            self.head_blob(key).await;
            return;
        }
        let part = self.dice.chance(40).then(|| {
            let first = self.dice.below(key.1.length);
            (first, self.dice.between(first, key.1.length - 1))
        });
        let before = self.world.ledger.known(key);
        let door = self.door();
        let pulled = pull(&self.world, &door, key, part).await;
        let ledger = &self.world.ledger;
        match pulled {
            Pulled::Right if ledger.must_be_gone(key, &before) => {
                self.world
                    .violation(format!("{key:?} was deleted, and {} has it", door.name));
            }
            Pulled::Missing if ledger.must_be_there(key, &before, self.world.clock.now()) => {
                self.world.violation(format!(
                    "{key:?} ({}) is lost at {}: {before:?}",
                    key.1.digest(),
                    door.name
                ));
            }
            Pulled::Wrong(what) => self.world.violation(what),
            Pulled::Right | Pulled::Missing => {}
            Pulled::Doubt => self.pause().await,
        }
    }

    /// Deletes a blob that is this client's alone.
    pub(super) async fn delete_blob(&mut self) {
        if self.own.is_empty() {
            return;
        }
        let index = self.dice.below(self.own.len());
        let key = self.own.swap_remove(index);
        let (repository, content) = key;
        let referenced = self.world.ledger.known(key).is_referenced();
        let path = format!(
            "/v2/{}/blobs/{}",
            REPOSITORIES[repository],
            content.digest()
        );
        self.world.ledger.deleting(key);
        let told = self.ask(Ask::new(Method::DELETE, path)).await;
        self.haunt_if_abandoned(key, &told);
        let Heard::Answer(answer) = &told.heard else {
            if referenced && matches!(told.heard, Heard::Never) {
                self.world.ledger.not_deleted(key);
            }
            return;
        };
        match answer.status {
            202 | 404 if !referenced => self.world.ledger.deleted(key),
            405 => {
                if referenced {
                    self.world.ledger.not_deleted(key);
                }
            }
            429 => {}
            _ => self.wrong(&format!("{} (referenced: {referenced})", told.what), answer),
        }
    }

    /// A request without an answer may be carried out much later.
    pub(super) fn haunt_if_abandoned(&self, key: Key, told: &Told) {
        if matches!(told.heard, Heard::Doubt(End::Abandoned)) {
            self.world.ledger.haunt(key);
        }
    }

    /// A blob of this client's own, which it may delete later.
    pub(super) fn own_blob(&mut self, repository: usize) -> Content {
        let content: Content = self.new_content();
        self.own.push((repository, content));
        if self.own.len() > 30 {
            self.own.remove(0);
        }
        content
    }
}
