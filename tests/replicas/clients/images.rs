//! Images: blobs first, then the manifest that keeps them.

use bytes::Bytes;
use granary_oci::Digest;
use serde_json::Value;

use super::Client;
use crate::{
    content::{Content, manifest},
    world::{Heard, TAGS},
};

/// Images that a client keeps; then the oldest goes.
const KEPT: usize = 8;

/// An image that was acknowledged.
pub(crate) struct Image {
    repository: usize,
    digest: Digest,
    layers: Vec<Content>,
}

impl Client {
    pub(super) async fn push_image(&mut self) {
        if self.images.len() >= KEPT {
            self.delete_image().await;
        }
        let repository = self.repository();
        let mut layers: Vec<Content> = Vec::new();
        for _ in 0..self.dice.between(1, 3) {
            let content = if self.dice.chance(35) {
                self.own_blob(repository)
            } else {
                self.content()
            };
            if !layers.contains(&content) {
                layers.push(content);
            }
        }
        let described: Vec<_> = layers
            .iter()
            .map(|content| (*content, content.digest()))
            .collect();
        let body = manifest(self.world.unique(), &described);
        // Like every real client: push what is missing, and try again.
        for _ in 0..4 {
            if self.world.is_over() {
                return;
            }
            for content in &layers {
                if !self.push_blob((repository, *content)).await {
                    self.push_blob((repository, *content)).await;
                }
            }
            if self.put_image(repository, &body, &layers).await {
                let digest = Digest::sha256(&body);
                self.images.push(Image {
                    repository,
                    digest,
                    layers,
                });
                return;
            }
        }
    }

    /// `true` if the manifest was acknowledged.
    async fn put_image(&mut self, repository: usize, body: &Bytes, layers: &[Content]) -> bool {
        let ledger = &self.world.ledger;
        let before: Vec<_> = layers
            .iter()
            .map(|content| ledger.known((repository, *content)))
            .collect();
        let tags: Vec<&str> = if self.dice.chance(30) {
            vec![*self.dice.pick(&TAGS)]
        } else {
            Vec::new()
        };
        let told = self.put_manifest(repository, body, &tags, None).await;
        let Heard::Answer(answer) = &told.heard else {
            return false;
        };
        let ledger = &self.world.ledger;
        match answer.status {
            201 => {
                for content in layers {
                    ledger.refer((repository, *content));
                }
                true
            }
            404 => {
                let detail: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
                let missing = detail["errors"][0]["detail"]["missing"].to_string();
                for (content, before) in layers.iter().zip(&before) {
                    let key = (repository, *content);
                    if missing.contains(&content.digest().to_string())
                        && ledger.must_be_there(key, before, told.ended)
                    {
                        self.wrong(&format!("{} with {content:?}", told.what), answer);
                    }
                }
                self.world.count("images whose blobs were collected");
                false
            }
            _ => false,
        }
    }

    pub(super) async fn put_image_of(&mut self, repository: usize, content: Content) -> bool {
        let body = manifest(self.world.unique(), &[(content, content.digest())]);
        self.put_image(repository, &body, &[content]).await
    }

    /// Deletes the oldest image.
    pub(super) async fn delete_image(&mut self) {
        if self.images.is_empty() {
            return;
        }
        let Image {
            repository,
            digest,
            layers,
        } = self.images.remove(0);
        for content in layers {
            self.world.ledger.release((repository, content));
        }
        self.delete_manifest(repository, digest).await;
    }
}
