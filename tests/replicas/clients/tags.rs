//! Tags that move under conditions, and manifests that come and go.

use bytes::Bytes;
use granary_oci::Digest;
use reqwest::Method;
use serde_json::Value;

use super::{Client, presence, tag_register};
use crate::{
    checker::{Action, End, Expected},
    content::{IMAGE, manifest},
    world::{Answer, Ask, Heard, REPOSITORIES, TAGS, Told},
};

/// What the presence of a manifest is called where tags have digests.
const HERE: u32 = 0;

impl Client {
    /// Puts a manifest at one tag or several, under any condition.
    pub(super) async fn put_tag(&mut self) {
        let repository = self.repository();
        let body = self.some_manifest(repository);
        let mut tags = vec![*self.dice.pick(&TAGS)];
        if self.dice.chance(10) {
            tags = TAGS[..2].to_vec();
        }
        let expected = self.expectation(repository, tags[0]).await;
        self.put_manifest(repository, &body, &tags, expected).await;
    }

    fn some_manifest(&mut self, repository: usize) -> Bytes {
        let known = self.world.manifests();
        let known: Vec<Bytes> = known
            .into_iter()
            .filter(|(other, _)| *other == repository)
            .map(|(_, body)| body)
            .collect();
        if !known.is_empty() && self.dice.chance(20) {
            return self.dice.pick(&known).clone();
        }
        let body = manifest(self.world.unique(), &[]);
        self.world.remember_manifest(repository, body.clone());
        body
    }

    async fn expectation(&mut self, repository: usize, tag: &str) -> Option<(Expected, String)> {
        match self.dice.below(100) {
            0..35 => None,
            35..50 => Some((Expected::Absent, "*".to_owned())),
            50..58 => Some((Expected::Present, "*".to_owned())),
            _ => {
                let digest = self.look_at_tag(repository, tag).await?;
                let value = self.world.history.value(digest);
                Some((Expected::At(value), format!("\"{digest}\"")))
            }
        }
    }

    /// Puts a manifest and notes what came of it.
    pub(super) async fn put_manifest(
        &mut self,
        repository: usize,
        body: &Bytes,
        tags: &[&str],
        expected: Option<(Expected, String)>,
    ) -> Told {
        let digest = Digest::sha256(body);
        let name = REPOSITORIES[repository];
        let path = match tags {
            [] => format!("/v2/{name}/manifests/{digest}"),
            [tag] => format!("/v2/{name}/manifests/{tag}"),
            several => format!(
                "/v2/{name}/manifests/{digest}?tag={}",
                several.join("&tag=")
            ),
        };
        let mut ask = Ask::new(Method::PUT, path)
            .header("Content-Type", IMAGE)
            .body(body.clone());
        match &expected {
            None => {}
            Some((Expected::Absent, value)) => ask = ask.header("If-None-Match", value.clone()),
            Some((_, value)) => ask = ask.header("If-Match", value.clone()),
        }
        let told = self.ask(ask).await;
        let expected = expected.map(|(expected, _)| expected);
        self.note_put(repository, digest, tags, expected, &told);
        told
    }

    fn note_put(
        &self,
        repository: usize,
        digest: Digest,
        tags: &[&str],
        expected: Option<Expected>,
        told: &Told,
    ) {
        let Some(end) = told.end() else { return };
        if let Heard::Answer(answer) = &told.heard {
            match answer.status {
                201 if answer.digest() == Some(digest) => {}
                412 => {
                    self.note_failed(repository, tags, expected, told, answer);
                    return self.note_repeated_put(repository, digest, tags, expected, told);
                }
                429 => return,
                // Whether the content had to be there is the caller's question.
                404 if answer.text().contains("MANIFEST_BLOB_UNKNOWN") => return,
                _ => return self.wrong(&told.what, answer),
            }
        }
        let value = self.world.history.value(digest);
        let action = expected.map_or(Action::Write(value), |expected| {
            Action::Swap(expected, value)
        });
        for tag in tags {
            self.note_change(&tag_register(repository, tag), action, told, end);
        }
        let register = presence(repository, &digest);
        self.note_change(&register, Action::Write(HERE), told, end);
    }

    /// What a refused request may have done when it was sent the first time.
    fn note_repeated_put(
        &self,
        repository: usize,
        digest: Digest,
        tags: &[&str],
        expected: Option<Expected>,
        told: &Told,
    ) {
        let value = self.world.history.value(digest);
        let action = expected.map_or(Action::Write(value), |expected| {
            Action::Swap(expected, value)
        });
        for tag in tags {
            self.note_repeated(&tag_register(repository, tag), action, told);
        }
        let register = presence(repository, &digest);
        self.note_repeated(&register, Action::Write(HERE), told);
    }

    /// A condition that did not hold tells where the tag stands; it must be the truth, and a reason.
    fn note_failed(
        &self,
        repository: usize,
        tags: &[&str],
        expected: Option<Expected>,
        told: &Told,
        answer: &Answer,
    ) {
        let detail: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        let detail = &detail["errors"][0]["detail"];
        let current = detail["current"].as_str();
        let current = current.and_then(|current| current.parse::<Digest>().ok());
        let current = current.map(|digest| self.world.history.value(digest));
        let tag = tags.iter().find(|tag| detail["tag"] == **tag);
        let held = match expected {
            None => true,
            Some(Expected::Absent) => current.is_none(),
            Some(Expected::Present) => current.is_some(),
            Some(Expected::At(value)) => current == Some(value),
        };
        let Some(tag) = tag.filter(|_| !held) else {
            return self.wrong(&told.what, answer);
        };
        let register = tag_register(repository, tag);
        let end = End::Acknowledged(told.ended);
        self.note(&register, Action::Read(current), told.invoked, end);
    }

    /// Reads a tag, and says where it stands if that came out.
    async fn look_at_tag(&mut self, repository: usize, tag: &str) -> Option<Digest> {
        let method = if self.dice.chance(40) {
            Method::HEAD
        } else {
            Method::GET
        };
        let path = format!("/v2/{}/manifests/{tag}", REPOSITORIES[repository]);
        let told = self.ask(Ask::new(method.clone(), path)).await;
        let Heard::Answer(answer) = &told.heard else {
            return None;
        };
        let seen = match answer.status {
            200 => match answer.digest() {
                Some(digest)
                    if method == Method::HEAD || Digest::sha256(&answer.body) == digest =>
                {
                    Some(digest)
                }
                _ => {
                    self.wrong(&told.what, answer);
                    return None;
                }
            },
            404 => None,
            _ => {
                self.wrong(&told.what, answer);
                return None;
            }
        };
        let value = seen.map(|digest| self.world.history.value(digest));
        let register = tag_register(repository, tag);
        let end = End::Acknowledged(told.ended);
        self.note(&register, Action::Read(value), told.invoked, end);
        seen
    }

    pub(super) async fn read_tag(&mut self) {
        let repository = self.repository();
        let tag = *self.dice.pick(&TAGS);
        self.look_at_tag(repository, tag).await;
    }

    pub(super) async fn delete_tag(&mut self) {
        let repository = self.repository();
        let tag = *self.dice.pick(&TAGS);
        let path = format!("/v2/{}/manifests/{tag}", REPOSITORIES[repository]);
        let mut ask = Ask::new(Method::DELETE, path);
        let mut expected = Expected::Present;
        if self.dice.chance(40)
            && let Some(digest) = self.look_at_tag(repository, tag).await
        {
            expected = Expected::At(self.world.history.value(digest));
            ask = ask.header("If-Match", format!("\"{digest}\""));
        }
        let told = self.ask(ask).await;
        let Some(end) = told.end() else { return };
        let register = tag_register(repository, tag);
        if let Heard::Answer(answer) = &told.heard {
            let failed = match answer.status {
                202 => None,
                404 => Some(Action::Read(None)),
                412 if expected != Expected::Present => {
                    self.note_failed(repository, &[tag], Some(expected), &told, answer);
                    // Noted already.
                    Some(Action::Forget(u32::MAX))
                }
                429 => return,
                _ => return self.wrong(&told.what, answer),
            };
            if let Some(read) = failed {
                self.note(&register, read, told.invoked, end);
                return self.note_repeated(&register, Action::Delete(expected), &told);
            }
        }
        self.note_change(&register, Action::Delete(expected), &told, end);
    }

    /// Deletes a manifest by its digest, and with it every tag that stands there.
    pub(super) async fn delete_a_manifest(&mut self) {
        let known = self.world.manifests();
        if known.is_empty() {
            return;
        }
        let (repository, body) = self.dice.pick(&known).clone();
        self.delete_manifest(repository, Digest::sha256(&body))
            .await;
    }

    pub(super) async fn delete_manifest(&mut self, repository: usize, digest: Digest) -> Told {
        let path = format!("/v2/{}/manifests/{digest}", REPOSITORIES[repository]);
        let told = self.ask(Ask::new(Method::DELETE, path)).await;
        let Some(end) = told.end() else {
            return told;
        };
        let delete = Action::Delete(Expected::Present);
        let value = self.world.history.value(digest);
        let register = presence(repository, &digest);
        if let Heard::Answer(answer) = &told.heard {
            match answer.status {
                202 => {}
                404 => {
                    self.note(&register, Action::Read(None), told.invoked, end);
                    self.note_repeated(&register, delete, &told);
                    for tag in TAGS {
                        let register = tag_register(repository, tag);
                        self.note_repeated(&register, Action::Forget(value), &told);
                    }
                    return told;
                }
                429 => return told,
                _ => {
                    self.wrong(&told.what, answer);
                    return told;
                }
            }
        }
        self.note_change(&register, delete, &told, end);
        for tag in TAGS {
            let register = tag_register(repository, tag);
            self.note_change(&register, Action::Forget(value), &told, end);
        }
        told
    }

    pub(super) async fn read_a_manifest(&mut self) {
        let known = self.world.manifests();
        if known.is_empty() {
            return;
        }
        let (repository, body) = self.dice.pick(&known).clone();
        self.read_manifest(repository, &body).await;
    }

    pub(super) async fn read_manifest(&mut self, repository: usize, body: &Bytes) {
        let digest = Digest::sha256(body);
        let path = format!("/v2/{}/manifests/{digest}", REPOSITORIES[repository]);
        let told = self.ask(Ask::new(Method::GET, path)).await;
        let Heard::Answer(answer) = &told.heard else {
            return;
        };
        let seen = match answer.status {
            200 if answer.body == *body => Some(HERE),
            404 => None,
            _ => return self.wrong(&told.what, answer),
        };
        let register = presence(repository, &digest);
        let end = End::Acknowledged(told.ended);
        self.note(&register, Action::Read(seen), told.invoked, end);
    }
}
