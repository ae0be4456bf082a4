//! Clients that use the registry at random, each with dice of its own.

mod blobs;
mod images;
mod tags;
mod uploads;

use std::{sync::Arc, time::Duration};

use reqwest::Method;

pub(crate) use self::blobs::{Pulled, pull};
use self::{images::Image, uploads::Upload};
use crate::{
    checker::{Action, End, Operation, Time},
    content::{Content, anchor, manifest},
    dice::Dice,
    world::{Ask, Door, Heard, REPOSITORIES, Told, World},
};

/// A pause after a failure: long enough not to burn the machine, short enough to meet the fault again.
const PAUSE: Duration = Duration::from_millis(60);
/// Contents that all clients push.
const SHARED: u64 = 24;
const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

pub(crate) struct Client {
    number: usize,
    dice: Dice,
    world: Arc<World>,
    /// Images that stand, the oldest first.
    images: Vec<Image>,
    /// Sessions that were left open.
    uploads: Vec<Upload>,
    /// Blobs that only this client pushes and deletes.
    own: Vec<(usize, Content)>,
    /// Bytes that blobs may have, at most.
    largest: usize,
    /// No more tricks: whatever is begun is brought to its end.
    calm: bool,
}

/// Puts what manifests need into every repository, under a manifest that nobody deletes.
pub(crate) async fn prepare(world: &World) {
    let door = &world.doors[0];
    for name in REPOSITORIES {
        let digest = granary_oci::Digest::sha256(&anchor());
        let path = format!("/v2/{name}/blobs/uploads/?digest={digest}");
        let ask = Ask::new(Method::POST, path).body(anchor());
        expect(world.ask(door, ask).await, 201);
        let path = format!("/v2/{name}/manifests/anchor");
        let ask = Ask::new(Method::PUT, path)
            .header("Content-Type", crate::content::IMAGE)
            .body(manifest(0, &[]));
        expect(world.ask(door, ask).await, 201);
    }
}

fn expect(told: Told, status: u16) {
    match told.heard {
        Heard::Answer(answer) => assert_eq!(answer.status, status, "{}", answer.text()),
        Heard::Doubt(_) | Heard::Never => panic!("no answer to {}", told.what),
    }
}

impl Client {
    pub(crate) fn new(number: usize, world: Arc<World>, largest: usize) -> Self {
        Self {
            number,
            dice: Dice::new(world.seed, 1 + number as u64),
            world,
            images: Vec::new(),
            uploads: Vec::new(),
            own: Vec::new(),
            largest,
            calm: false,
        }
    }

    /// Works until the run is over.
    pub(crate) async fn work(mut self) -> Self {
        while !self.world.is_over() {
            // Every other client is at the tags nearly all the time, so that these move often.
            let tags = self.number % 2 == 1 && self.dice.chance(90);
            match self.dice.below(if tags { 61 } else { 100 }) {
                0..22 => self.put_tag().await,
                22..45 => self.read_tag().await,
                45..52 => self.delete_tag().await,
                52..57 => self.delete_a_manifest().await,
                57..61 => self.read_a_manifest().await,
                61..70 => self.push_image().await,
                70..74 => self.delete_image().await,
                74..86 => self.pull_blob().await,
                86..89 => self.delete_blob().await,
                89..95 => self.upload().await,
                _ => self.take_up_an_upload().await,
            }
        }
        self
    }

    /// Ends every session that was left open: none may be stuck.
    pub(crate) async fn finish(mut self) {
        self.calm = true;
        let deadline = self.world.clock.now() + 40_000_000;
        while let Some(upload) = self.uploads.pop() {
            self.close_for_good(upload, deadline).await;
        }
    }

    /// Whether an image with a blob in chunks can be pushed.
    pub(crate) async fn still_works(mut self) -> bool {
        self.calm = true;
        for repository in 0..REPOSITORIES.len() {
            let seed = SHARED + self.world.unique();
            let content = Content {
                seed,
                length: self.largest,
            };
            if !self.upload_blob((repository, content)).await
                || !self.put_image_of(repository, content).await
            {
                return false;
            }
        }
        true
    }

    fn repository(&mut self) -> usize {
        self.dice.below(REPOSITORIES.len())
    }

    /// Any of the ways in; half of the requests go through the balancer if there is one.
    fn door(&mut self) -> Door {
        let world = Arc::clone(&self.world);
        if self.dice.chance(40) {
            return world.doors[0].clone();
        }
        self.dice.pick(&world.doors).clone()
    }

    async fn ask(&mut self, ask: Ask) -> Told {
        let door = self.door();
        let told = self.world.ask(&door, ask).await;
        if !matches!(told.heard, Heard::Answer(_)) {
            self.pause().await;
        }
        told
    }

    async fn pause(&mut self) {
        let pause = PAUSE * u32::try_from(self.dice.between(1, 4)).unwrap();
        tokio::time::sleep(pause).await;
    }

    fn note(&self, register: &str, action: Action, invoked: Time, end: End) {
        let operation = Operation {
            client: self.number,
            action,
            invoked,
            end,
        };
        self.world.history.note(register, operation);
    }

    /// Notes a change, and, should the balancer have asked twice, that it may have happened before already.
    fn note_change(&self, register: &str, action: Action, told: &Told, end: End) {
        self.note(register, action, told.invoked, end);
        self.note_repeated(register, action, told);
    }

    fn note_repeated(&self, register: &str, action: Action, told: &Told) {
        if told.repeated {
            self.note(register, action, told.invoked, End::Doubtful(told.ended));
        }
    }

    /// Content that others push too, or that is new; mostly small.
    fn content(&mut self) -> Content {
        if self.dice.chance(40) {
            let seed = self.dice.below(SHARED as usize) as u64;
            const LENGTHS: [usize; 8] = [
                16,
                900,
                40 * KIB,
                64 * KIB,
                70 * KIB,
                300 * KIB,
                MIB,
                6 * MIB,
            ];
            let length = LENGTHS[seed as usize % LENGTHS.len()].min(self.largest);
            return Content { seed, length };
        }
        self.new_content()
    }

    fn new_content(&mut self) -> Content {
        let (least, most) = match self.dice.below(100) {
            0..35 => (16, 64 * KIB),
            35..75 => (65 * KIB, 600 * KIB),
            75..90 => (MIB, 5 * MIB),
            _ => (6 * MIB, 20 * MIB),
        };
        let length = self.dice.between(least, most).min(self.largest);
        let seed = SHARED + self.world.unique();
        Content { seed, length }
    }

    /// An answer that the registry must never give here.
    fn wrong(&self, what: &str, answer: &crate::world::Answer) {
        self.world
            .violation(format!("{what} was answered {}", answer.text()));
    }
}

/// The register of a tag.
fn tag_register(repository: usize, tag: &str) -> String {
    format!("{}:{tag}", REPOSITORIES[repository])
}

/// The register of a manifest's presence.
fn presence(repository: usize, digest: &granary_oci::Digest) -> String {
    format!("{}@{digest}", REPOSITORIES[repository])
}
