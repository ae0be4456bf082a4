//! Uploads in chunks: each chunk at another door, cut, resumed, closed, or left open.

use std::time::Duration;

use granary_oci::Digest;
use reqwest::Method;

use super::{Client, KIB, MIB};
use crate::{
    checker::Time,
    ledger::Key,
    world::{Answer, Ask, Heard, REPOSITORIES, Told},
};

/// A session and what is known of it.
pub(crate) struct Upload {
    key: Key,
    digest: Digest,
    location: String,
    /// Bytes that the registry said it has.
    acknowledged: usize,
    /// Bytes that were ever sent.
    sent: usize,
    /// When the last request began that was acknowledged: the session cannot expire sooner than so long after.
    touched: Time,
    /// The closing request was sent.
    closing: bool,
    /// What was heard of it last, for reports.
    last: String,
}

/// How far one look at a session or one step got.
enum Step {
    Done,
    On,
    /// Nobody knows; ask.
    Ask,
    /// It is over without a blob.
    Lost,
}

impl Client {
    /// Pushes a blob through a session; whether that was acknowledged.
    pub(super) async fn upload_blob(&mut self, key: Key) -> bool {
        let path = format!("/v2/{}/blobs/uploads/", REPOSITORIES[key.0]);
        self.world.ledger.pushing(key);
        let told = self.ask(Ask::new(Method::POST, path)).await;
        match &told.heard {
            Heard::Answer(answer) if answer.status == 202 => {
                self.go_on_with_session(key, &told).await
            }
            Heard::Answer(answer) if answer.status != 429 => {
                self.wrong(&told.what, answer);
                false
            }
            _ => false,
        }
    }

    /// Uploads to the session that was just begun.
    pub(super) async fn go_on_with_session(&mut self, key: Key, told: &Told) -> bool {
        let Some(upload) = self.begun(key, told) else {
            return false;
        };
        self.run(upload, 30).await
    }

    fn begun(&self, key: Key, told: &Told) -> Option<Upload> {
        let Heard::Answer(answer) = &told.heard else {
            return None;
        };
        let Some(location) = answer.header("location") else {
            self.wrong(&told.what, answer);
            return None;
        };
        Some(Upload {
            key,
            digest: key.1.digest(),
            location: location.to_owned(),
            acknowledged: 0,
            sent: 0,
            touched: told.invoked,
            closing: false,
            last: String::new(),
        })
    }

    /// A session for its own sake, which may be left open or cancelled.
    pub(super) async fn upload(&mut self) {
        let key = (self.repository(), self.new_content());
        let path = format!("/v2/{}/blobs/uploads/", REPOSITORIES[key.0]);
        let told = self.ask(Ask::new(Method::POST, path)).await;
        let Heard::Answer(Answer { status: 202, .. }) = &told.heard else {
            return;
        };
        let Some(mut upload) = self.begun(key, &told) else {
            return;
        };
        match self.dice.below(10) {
            0 => {
                let cancel = Ask::new(Method::DELETE, upload.location.clone());
                self.ask(cancel).await;
            }
            1..5 => {
                let length = key.1.length;
                let end = self.dice.between(1, length);
                self.patch(&mut upload, end).await;
                self.uploads.push(upload);
            }
            _ => drop(self.run(upload, 30).await),
        }
    }

    /// Goes on with a session that was left open.
    pub(super) async fn take_up_an_upload(&mut self) {
        if self.uploads.is_empty() {
            return;
        }
        let upload = self.uploads.remove(0);
        self.resume(upload, 30).await;
    }

    async fn resume(&mut self, mut upload: Upload, steps: usize) -> bool {
        match self.look(&mut upload).await {
            Step::Done => true,
            Step::Lost => false,
            Step::On | Step::Ask => self.run(upload, steps).await,
        }
    }

    /// Chunks and the closing request, with as many tries; what is not done then is left for later.
    async fn run(&mut self, mut upload: Upload, steps: usize) -> bool {
        let mut step = Step::On;
        for _ in 0..steps {
            step = match step {
                Step::Done => return true,
                Step::Lost => return false,
                Step::Ask => self.look(&mut upload).await,
                Step::On => self.next_step(&mut upload).await,
            };
            if !self.calm && self.world.is_over() && matches!(step, Step::Ask) {
                break;
            }
        }
        match step {
            Step::Done => return true,
            Step::Lost => {}
            Step::On | Step::Ask => self.uploads.push(upload),
        }
        false
    }

    async fn next_step(&mut self, upload: &mut Upload) -> Step {
        let length = upload.key.1.length;
        let left = length - upload.acknowledged;
        let chunk = match self.dice.below(100) {
            0..10 => 64 * KIB,
            10..45 => MIB,
            45..75 => 5 * MIB,
            75..90 => 7 * MIB,
            _ => length,
        };
        if left == 0 || (left <= chunk && self.dice.chance(40)) {
            return self.close(upload).await;
        }
        let end = upload.acknowledged + chunk.min(left);
        match self.dice.below(100) {
            _ if self.calm => self.patch(upload, end).await,
            0..4 => self.cut(upload, end).await,
            4..7 => self.out_of_order(upload).await,
            _ => self.patch(upload, end).await,
        }
    }

    fn chunk(&self, upload: &Upload, end: usize) -> Ask {
        let (first, content) = (upload.acknowledged, upload.key.1);
        Ask::new(Method::PATCH, upload.location.clone())
            .header("Content-Range", format!("{first}-{}", end - 1))
            .header("Content-Type", "application/octet-stream")
            .body(content.slice(first, end))
    }

    async fn patch(&mut self, upload: &mut Upload, end: usize) -> Step {
        let ask = self.chunk(upload, end);
        upload.sent = upload.sent.max(end);
        let told = self.ask(ask).await;
        let Heard::Answer(answer) = &told.heard else {
            return Step::Ask;
        };
        match answer.status {
            202 if received(answer) == Some(end) => {
                upload.acknowledged = end;
                upload.touched = told.invoked;
                Step::On
            }
            _ => self.refused(upload, &told, answer).await,
        }
    }

    /// What a chunk or a closing request may be refused with.
    async fn refused(&mut self, upload: &mut Upload, told: &Told, answer: &Answer) -> Step {
        match answer.status {
            404 => self.missing(upload, told, answer).await,
            // Another request got on with the session since we asked.
            416 => self.stands(upload, told, answer),
            409 => Step::Ask,
            429 => {
                self.world.count("sessions that had a writer");
                let wait = answer
                    .header("retry-after")
                    .and_then(|wait| wait.parse().ok());
                let wait = Duration::from_secs(wait.unwrap_or(1).min(11));
                tokio::time::sleep(wait.min(Duration::from_secs(2))).await;
                Step::Ask
            }
            408 => Step::Ask,
            _ => {
                self.wrong(&told.what, answer);
                Step::Lost
            }
        }
    }

    /// Hangs up in the middle of a chunk.
    async fn cut(&mut self, upload: &mut Upload, end: usize) -> Step {
        let ask = self.chunk(upload, end);
        upload.sent = upload.sent.max(end);
        let door = self.door();
        let patience = Duration::from_millis(self.dice.below(40) as u64);
        let world = std::sync::Arc::clone(&self.world);
        let _ = tokio::time::timeout(patience, world.ask(&door, ask)).await;
        Step::Ask
    }

    /// A chunk that does not begin where the session stands changes nothing.
    async fn out_of_order(&mut self, upload: &mut Upload) -> Step {
        let first = upload.key.1.length + 1;
        let ask = Ask::new(Method::PATCH, upload.location.clone())
            .header("Content-Range", format!("{first}-{first}"))
            .body("x".into());
        let told = self.ask(ask).await;
        match &told.heard {
            Heard::Answer(answer) if answer.status != 202 => {
                self.refused(upload, &told, answer).await
            }
            Heard::Answer(answer) => {
                self.wrong(&told.what, answer);
                Step::Lost
            }
            Heard::Doubt(_) | Heard::Never => Step::Ask,
        }
    }

    /// Asks where the session stands.
    async fn look(&mut self, upload: &mut Upload) -> Step {
        let told = self
            .ask(Ask::new(Method::GET, upload.location.clone()))
            .await;
        let Heard::Answer(answer) = &told.heard else {
            return Step::Ask;
        };
        match answer.status {
            204 => self.stands(upload, &told, answer),
            _ => self.refused(upload, &told, answer).await,
        }
    }

    /// The session must have what it acknowledged, and cannot have what was never sent.
    fn stands(&self, upload: &mut Upload, told: &Told, answer: &Answer) -> Step {
        let Some(received) = received(answer) else {
            self.wrong(&told.what, answer);
            return Step::Lost;
        };
        if (upload.acknowledged..=upload.sent).contains(&received) {
            upload.acknowledged = received;
            return Step::On;
        }
        let (least, most) = (upload.acknowledged, upload.sent);
        self.wrong(
            &format!("{}, which stands in {least}..={most},", told.what),
            answer,
        );
        Step::Lost
    }

    /// The session is not there: it was closed, and can be closed again, or it was idle for too long.
    async fn missing(&mut self, upload: &mut Upload, told: &Told, answer: &Answer) -> Step {
        if told.ended > upload.touched + self.world.expiry - 2_000_000 {
            self.world.count("sessions that expired");
            return Step::Lost;
        }
        if !upload.closing {
            self.wrong(
                &format!("{} (last heard of at {})", told.what, upload.touched),
                answer,
            );
            return Step::Lost;
        }
        let path = format!("{}?digest={}", upload.location, upload.digest);
        let again = self.ask(Ask::new(Method::PUT, path)).await;
        let Heard::Answer(answer) = &again.heard else {
            return Step::Ask;
        };
        match answer.status {
            // It is not known when the first one was.
            201 => {
                self.world.count("sessions closed twice");
                self.world.ledger.pushed(upload.key, upload.touched);
                Step::Done
            }
            429 => Step::Ask,
            _ => {
                self.wrong(&format!("{} again", again.what), answer);
                Step::Lost
            }
        }
    }

    async fn close(&mut self, upload: &mut Upload) -> Step {
        let (first, content) = (upload.acknowledged, upload.key.1);
        let wrong = first < content.length && self.dice.chance(5) && !self.calm;
        let digest = if wrong {
            Digest::sha256(b"something else")
        } else {
            upload.closing = true;
            upload.digest
        };
        let path = format!("{}?digest={digest}", upload.location);
        let mut ask = Ask::new(Method::PUT, path);
        if first < content.length {
            ask = ask
                .header("Content-Range", format!("{first}-{}", content.length - 1))
                .body(content.slice(first, content.length));
            upload.sent = content.length;
        }
        let told = self.ask(ask).await;
        upload.last = format!("{first}: {}", told.what);
        self.haunt_if_abandoned(upload.key, &told);
        let Heard::Answer(answer) = &told.heard else {
            return Step::Ask;
        };
        match answer.status {
            201 if !wrong => {
                self.world.ledger.pushed(upload.key, told.invoked);
                Step::Done
            }
            400 if wrong => Step::Ask,
            _ => self.refused(upload, &told, answer).await,
        }
    }

    /// Ends a session while nothing is wrong any more. It must be possible.
    pub(super) async fn close_for_good(&mut self, upload: Upload, deadline: Time) {
        let (location, key) = (upload.location.clone(), upload.key);
        self.resume(upload, 30).await;
        while let Some(left) = self
            .uploads
            .iter()
            .position(|left| left.location == location)
        {
            let left = self.uploads.remove(left);
            if self.world.clock.now() > deadline {
                self.world.violation(format!(
                    "the session {location} of {key:?} is stuck at {}",
                    left.last
                ));
                return;
            }
            self.resume(left, 30).await;
        }
    }
}

/// Bytes that a session has; none and one are written alike, and no content here has one byte.
fn received(answer: &Answer) -> Option<usize> {
    let last: usize = answer.header("range")?.strip_prefix("0-")?.parse().ok()?;
    Some(if last == 0 { 0 } else { last + 1 })
}
