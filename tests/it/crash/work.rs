//! What a client does between two crashes.

use std::{path::Path, sync::Arc};

use granary_oci::Digest;
use serde_json::{Value, json};

use super::{
    client::{Answer, Client, Gone},
    dice::some_content,
    ledger::{Ending, Ledger, Pending, Upload},
    server::granary,
};

const TAGS: [&str; 4] = ["a", "b", "c", "latest"];

/// A definite answer, or an error of the server after which the outcome is open.
type Heard = Result<Option<Answer>, Gone>;

impl Ledger {
    /// One piece of work, chosen by chance.
    pub(super) fn act(&mut self, client: &mut Client, data: &Path) -> Result<(), Gone> {
        match self.dice.below(100) {
            0..22 => self.push(client),
            22..40 => self.upload(client),
            40..48 => self.mount(client),
            48..72 => self.put(client),
            72..77 => self.delete_tag(client),
            77..82 => self.delete_manifest(client),
            82..87 => self.delete_blob(client),
            87..92 => self.look(client),
            // After an error the client goes on at once, and nothing it hears then may be untrue either.
            92..95 if self.errors => self.resume(client, false),
            _ => {
                // Beside the server it is the server that does it; it may die meanwhile.
                granary("gc", data).output().unwrap();
                Ok(())
            }
        }
    }

    fn ask(
        &mut self,
        client: &mut Client,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Heard {
        let answer = client.call(method, path, headers, body)?;
        // A chunk that was cut may still be busy being saved.
        if answer.status >= 500 || answer.status == 429 {
            assert!(self.errors, "{method} {path}: {}", answer.text());
            return Ok(None);
        }
        if answer.status < 300 {
            self.acknowledged += 1;
        }
        Ok(Some(answer))
    }

    fn push(&mut self, client: &mut Client) -> Result<(), Gone> {
        let content = some_content(&mut self.dice);
        let digest = Digest::sha256(&content);
        self.blobs.may_come(digest, &content);
        let path = self.path(&format!("blobs/uploads/?digest={digest}"));
        if let Some(answer) = self.ask(client, "POST", &path, &[], &content)? {
            assert_eq!(answer.status, 201, "{}", answer.text());
            self.blobs.came(digest, &content);
        }
        Ok(())
    }

    /// A session, or a part of one: it may be left open, cut in the middle of a chunk, cancelled or closed.
    fn upload(&mut self, client: &mut Client) -> Result<(), Gone> {
        let path = self.path("blobs/uploads/");
        let Some(answer) = self.ask(client, "POST", &path, &[], b"")? else {
            return Ok(());
        };
        assert_eq!(answer.status, 202, "{}", answer.text());
        let upload = self.begun(&answer);
        self.go_on(client, upload)
    }

    fn begun(&mut self, answer: &Answer) -> Upload {
        let content = some_content(&mut self.dice);
        let location = answer.header("location").unwrap().to_owned();
        Upload {
            location,
            content,
            acknowledged: 0,
            sent: 0,
            ending: None,
        }
    }

    fn go_on(&mut self, client: &mut Client, mut upload: Upload) -> Result<(), Gone> {
        let outcome = self.send(client, &mut upload);
        if !matches!(outcome, Ok(true)) {
            self.uploads.push(upload);
        }
        outcome.map(|_| ())
    }

    /// Chunks from where the session stands, then its end. `true` if it ended.
    fn send(&mut self, client: &mut Client, upload: &mut Upload) -> Result<bool, Gone> {
        let length = upload.content.len();
        while upload.acknowledged < length && self.dice.chance(60) {
            let first = upload.acknowledged;
            let end = (first + 1 + self.dice.below(length - first)).max(2);
            let range = format!("{first}-{}", end - 1);
            let headers = if self.dice.chance(50) {
                vec![("Content-Range", range.as_str())]
            } else {
                Vec::new()
            };
            upload.sent = upload.sent.max(end);
            if end - first > 8 && self.dice.chance(6) {
                client.cut("PATCH", &upload.location, &upload.content[first..end]);
                return Ok(false);
            }
            let chunk = Arc::clone(&upload.content);
            let heard = self.ask(
                client,
                "PATCH",
                &upload.location,
                &headers,
                &chunk[first..end],
            )?;
            let Some(answer) = heard else {
                return Ok(false);
            };
            assert_eq!(answer.status, 202, "{}", answer.text());
            assert_eq!(received(&answer), end);
            upload.acknowledged = end;
        }
        match self.dice.below(10) {
            0 => {
                upload.ending = Some(Ending::Cancelled);
                let heard = self.ask(client, "DELETE", &upload.location, &[], b"")?;
                Ok(heard.is_some_and(|answer| {
                    assert_eq!(answer.status, 204, "{}", answer.text());
                    true
                }))
            }
            1..3 => Ok(false),
            _ => self.close(client, upload),
        }
    }

    fn close(&mut self, client: &mut Client, upload: &mut Upload) -> Result<bool, Gone> {
        let digest = Digest::sha256(&upload.content);
        self.blobs.may_come(digest, &upload.content);
        upload.ending = Some(Ending::Stored);
        upload.sent = upload.content.len();
        let rest = Arc::clone(&upload.content);
        let path = format!("{}?digest={digest}", upload.location);
        let Some(answer) = self.ask(client, "PUT", &path, &[], &rest[upload.acknowledged..])?
        else {
            return Ok(false);
        };
        assert_eq!(answer.status, 201, "{}", answer.text());
        self.blobs.came(digest, &upload.content);
        Ok(true)
    }

    /// Takes up what a crash interrupted: a session stands somewhere between what was acknowledged and what was sent.
    pub(super) fn resume(&mut self, client: &mut Client, restarted: bool) -> Result<(), Gone> {
        let mut open = std::mem::take(&mut self.uploads);
        let outcome = self.resume_some(client, restarted, &mut open);
        self.uploads.append(&mut open);
        outcome
    }

    fn resume_some(
        &mut self,
        client: &mut Client,
        restarted: bool,
        open: &mut Vec<Upload>,
    ) -> Result<(), Gone> {
        while let Some(mut upload) = open.pop() {
            let answer = match client.call("GET", &upload.location, &[], b"") {
                Ok(answer) => answer,
                Err(gone) => {
                    open.push(upload);
                    return Err(gone);
                }
            };
            match (answer.status, upload.ending) {
                (204, _) => {
                    let stands = received(&answer);
                    let (least, most) = (upload.acknowledged, upload.sent);
                    assert!(
                        (least..=most).contains(&stands),
                        "{} stands at {stands}, not in {least}..={most}",
                        upload.location
                    );
                    upload.acknowledged = stands;
                    if restarted {
                        // What an error left open has been decided.
                        upload.ending = None;
                    }
                    self.go_on(client, upload)?;
                }
                (404, Some(Ending::Cancelled)) => {}
                (404, Some(Ending::Stored)) => self.close_again(client, upload)?,
                (500.., _) if self.errors => self.uploads.push(upload),
                _ => panic!("{} was not ended: {}", upload.location, answer.text()),
            }
        }
        Ok(())
    }

    /// The closing request was carried out before the crash, so that repeating it is no error (decision 2).
    fn close_again(&mut self, client: &mut Client, mut upload: Upload) -> Result<(), Gone> {
        let outcome = self.close(client, &mut upload);
        if !matches!(outcome, Ok(true)) {
            self.uploads.push(upload);
        }
        outcome.map(|_| ())
    }

    fn mount(&mut self, client: &mut Client) -> Result<(), Gone> {
        let content = some_content(&mut self.dice);
        let digest = Digest::sha256(&content);
        let from = self.dice.pick(self.others.iter()).unwrap();
        let path = self.path(&format!("blobs/uploads/?mount={digest}&from={from}"));
        self.blobs.may_come(digest, &content);
        let Some(answer) = self.ask(client, "POST", &path, &[], b"")? else {
            return Ok(());
        };
        match answer.status {
            201 => self.blobs.came(digest, &content),
            202 => {
                let upload = self.begun(&answer);
                self.go_on(client, upload)?;
            }
            _ => panic!("{}", answer.text()),
        }
        Ok(())
    }

    fn build(&mut self) -> Vec<u8> {
        let describe = |digest: &Digest| json!({"mediaType": "application/x", "digest": digest.to_string(), "size": 7});
        let mut manifest = json!({"schemaVersion": 2, "annotations": {"number": self.dice.below(1000).to_string()}});
        let number = self.dice.below(4);
        let index = self.dice.chance(15);
        let from = if index {
            &self.manifests.there
        } else {
            &self.blobs.there
        };
        let list: Vec<Value> = (0..number)
            .filter_map(|_| self.dice.pick(from.keys()))
            .map(describe)
            .collect();
        manifest[if index { "manifests" } else { "layers" }] = list.into();
        if self.dice.chance(20)
            && let Some(subject) = self.dice.pick(self.manifests.there.keys())
        {
            manifest["subject"] = describe(subject);
        }
        manifest.to_string().into_bytes()
    }

    fn put(&mut self, client: &mut Client) -> Result<(), Gone> {
        let known = self.dice.pick(self.manifests.there.values()).cloned();
        let again = self.dice.chance(25);
        let body = known
            .filter(|_| again)
            .unwrap_or_else(|| Arc::new(self.build()));
        let digest = Digest::sha256(&body);
        let mut tags = vec![TAGS[self.dice.below(TAGS.len())].to_owned()];
        let mut path = self.path(&format!("manifests/{}", tags[0]));
        if self.dice.chance(25) {
            let further = TAGS[self.dice.below(TAGS.len())].to_owned();
            path = self.path(&format!("manifests/{digest}?tag={}&tag={further}", tags[0]));
            tags.push(further);
            tags.dedup();
        }
        let fresh = !self.manifests.there.contains_key(&digest)
            && !self.manifests.maybe.contains_key(&digest);
        self.pending = fresh.then(|| Pending::Put {
            digest,
            tags: tags.clone(),
        });
        let before = self.tags.clone();
        self.manifests.may_come(digest, &body);
        for tag in &tags {
            self.tags
                .entry(tag.clone())
                .or_insert_with(|| vec![None])
                .push(Some(digest));
        }
        let headers = [(
            "Content-Type",
            if body.windows(11).any(|part| part == b"\"manifests\"") {
                "application/vnd.oci.image.index.v1+json"
            } else {
                "application/vnd.oci.image.manifest.v1+json"
            },
        )];
        let Some(answer) = self.ask(client, "PUT", &path, &headers, &body)? else {
            return Ok(());
        };
        self.pending = None;
        if answer.status == 201 {
            self.manifests.came(digest, &body);
            self.tags
                .extend(tags.into_iter().map(|tag| (tag, vec![Some(digest)])));
            return Ok(());
        }
        // Only content that nobody had referred to may be missing, and only without a grace time.
        assert!(
            !self.kept && matches!(answer.status, 400 | 404),
            "{}",
            answer.text()
        );
        assert!(
            answer.text().contains("MANIFEST_BLOB_UNKNOWN"),
            "{}",
            answer.text()
        );
        self.tags = before;
        if fresh {
            self.manifests.maybe.remove(&digest);
        }
        Ok(())
    }

    fn delete_tag(&mut self, client: &mut Client) -> Result<(), Gone> {
        let Some(tag) = self.dice.pick(self.tags.keys()).cloned() else {
            return Ok(());
        };
        self.pending = None;
        let possible = self.tags[&tag].clone();
        self.tags.entry(tag.clone()).or_default().push(None);
        let path = self.path(&format!("manifests/{tag}"));
        let Some(answer) = self.ask(client, "DELETE", &path, &[], b"")? else {
            return Ok(());
        };
        match answer.status {
            202 => assert_ne!(possible, [None], "{tag} was not there"),
            404 => assert!(possible.contains(&None), "{tag} is lost: {}", answer.text()),
            _ => panic!("{}", answer.text()),
        }
        self.tags.insert(tag, vec![None]);
        Ok(())
    }

    fn delete_manifest(&mut self, client: &mut Client) -> Result<(), Gone> {
        let Some(digest) = self.dice.pick(self.manifests.there.keys()).copied() else {
            return Ok(());
        };
        let at_it = self
            .tags
            .iter()
            .filter(|(_, possible)| **possible == [Some(digest)]);
        let tags: Vec<String> = at_it.map(|(tag, _)| tag.clone()).collect();
        let (before, content) = (
            self.tags.clone(),
            Arc::clone(&self.manifests.there[&digest]),
        );
        self.pending = Some(Pending::Delete { digest, tags });
        self.manifests.may_go(&digest);
        for possible in self
            .tags
            .values_mut()
            .filter(|possible| possible.contains(&Some(digest)))
        {
            possible.push(None);
        }
        let path = self.path(&format!("manifests/{digest}"));
        let Some(answer) = self.ask(client, "DELETE", &path, &[], b"")? else {
            return Ok(());
        };
        self.pending = None;
        match answer.status {
            202 => {
                self.manifests.went(&digest);
                for possible in self.tags.values_mut() {
                    possible.retain(|at| *at != Some(digest));
                }
            }
            405 => {
                self.manifests.came(digest, &content);
                self.tags = before;
            }
            _ => panic!("{digest} was there: {}", answer.text()),
        }
        Ok(())
    }

    fn delete_blob(&mut self, client: &mut Client) -> Result<(), Gone> {
        let Some(digest) = self.dice.pick(self.blobs.there.keys()).copied() else {
            return Ok(());
        };
        let content = Arc::clone(&self.blobs.there[&digest]);
        self.blobs.may_go(&digest);
        let path = self.path(&format!("blobs/{digest}"));
        let Some(answer) = self.ask(client, "DELETE", &path, &[], b"")? else {
            return Ok(());
        };
        match answer.status {
            202 => self.blobs.went(&digest),
            405 => self.blobs.came(digest, &content),
            404 if !self.kept => self.blobs.went(&digest),
            _ => panic!("{digest} was there: {}", answer.text()),
        }
        Ok(())
    }

    /// Reads between the writes.
    fn look(&mut self, client: &mut Client) -> Result<(), Gone> {
        if let Some(digest) = self.dice.pick(self.blobs.there.keys()).copied() {
            let path = self.path(&format!("blobs/{digest}"));
            let method = if self.dice.chance(50) { "HEAD" } else { "GET" };
            if let Some(answer) = self.ask(client, method, &path, &[], b"")? {
                assert!(
                    answer.status == 200 || !self.kept,
                    "{digest} is lost: {}",
                    answer.text()
                );
                assert!(
                    method == "HEAD"
                        || answer.status == 404
                        || Digest::sha256(&answer.body) == digest
                );
            }
        }
        if let Some(tag) = self.dice.pick(self.tags.keys()).cloned() {
            let path = self.path(&format!("manifests/{tag}"));
            if let Some(answer) = self.ask(client, "GET", &path, &[], b"")? {
                let at = (answer.status == 200).then(|| Digest::sha256(&answer.body));
                assert!(
                    self.tags[&tag].contains(&at),
                    "{tag} stands at {at:?}, not one of {:?}",
                    self.tags[&tag]
                );
            }
        }
        Ok(())
    }
}

/// Bytes that a session has; none and one are written alike, and no content here has one byte.
fn received(answer: &Answer) -> usize {
    let range = answer.header("range").unwrap();
    match range.strip_prefix("0-").unwrap().parse::<usize>().unwrap() {
        0 => 0,
        last => last + 1,
    }
}
