//! Online garbage collection: runs while pushes run, and never decides by a list it made earlier (decision 13).

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use granary_catalog::{CollectedPage, CollectionLimits, DoomedObject, dialect};

use crate::{Progress, Registry, RegistryError, Untagged, blobs::parse_key};

/// What a collection came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct CollectionReport {
    /// Nothing was removed, only counted.
    pub dry_run: bool,
    /// The round was skipped because the clock jumped.
    pub skipped: bool,
    /// Upload sessions that were idle for too long.
    pub uploads: u64,
    /// Removed repositories of which nothing is left; in a dry run, those of which something is.
    pub repositories: u64,
    /// Untagged manifests removed.
    pub manifests: u64,
    /// Blobs withdrawn from repositories that no longer refer to them.
    pub withdrawn: u64,
    /// Blobs removed altogether.
    pub blobs: u64,
    /// Bytes of those blobs.
    pub bytes: u64,
    /// Rows marked, to be removed by the next pass if nothing refers to them until then.
    pub marked: u64,
    /// Objects deleted from the store.
    pub objects: u64,
}

/// Sessions and moves that one transaction ends, and objects that one request deletes.
const PAGE: u64 = 200;
/// How long an object that could not be deleted is left alone.
const LATER: Duration = Duration::from_secs(600);
/// Furthest that the database's clock and the process's may drift apart before a round is skipped.
const DRIFT: i64 = 60_000_000;

/// Keeps collections apart, and watches the clock.
#[derive(Default)]
pub(crate) struct Collector {
    running: tokio::sync::Mutex<()>,
    /// Both clocks at the last look.
    anchor: Mutex<Option<(Instant, i64)>>,
    totals: Mutex<Collected>,
}

/// What collections came to since the process began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// Passes that ended well.
    pub passes: u64,
    /// Passes that failed.
    pub failures: u64,
    /// Blobs removed.
    pub blobs: u64,
    /// Bytes of those blobs.
    pub bytes: u64,
    /// Objects deleted from the store.
    pub objects: u64,
}

impl Collector {
    fn count(&self, outcome: &Result<CollectionReport, RegistryError>) {
        let mut totals = self.totals.lock().unwrap_or_else(PoisonError::into_inner);
        match outcome {
            Err(_) => totals.failures += 1,
            Ok(report) if report.dry_run || report.skipped => {}
            Ok(report) => {
                totals.passes += 1;
                totals.blobs += report.blobs;
                totals.bytes += report.bytes;
                totals.objects += report.objects;
            }
        }
    }

    /// Whether the database's clock went as far as the process's since the last look. A jump would end leases early.
    fn clock_is_steady(&self, wall: i64) -> bool {
        let mut anchor = self.anchor.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let (then, wall_then) = anchor.replace((now, wall)).unwrap_or((now, wall));
        let drift = wall - wall_then - dialect::micros(now - then);
        drift.abs() <= DRIFT
    }
}

impl Registry {
    /// Runs one pass: removes what earlier passes marked and is still unneeded, and marks what is unneeded now.
    ///
    /// Rows are removed by the second pass that finds them unneeded, so a caller that wants space at once runs two.
    pub async fn collect(
        &self,
        dry_run: bool,
        progress: &Progress,
    ) -> Result<CollectionReport, RegistryError> {
        let outcome = self.one_pass(dry_run, progress).await;
        self.parts.collector.count(&outcome);
        outcome
    }

    /// What collections came to since the process began.
    pub fn collected(&self) -> Collected {
        *self
            .parts
            .collector
            .totals
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    async fn one_pass(
        &self,
        dry_run: bool,
        progress: &Progress,
    ) -> Result<CollectionReport, RegistryError> {
        let parts = &self.parts;
        let _one_at_a_time = parts.collector.running.lock().await;
        let mut report = CollectionReport {
            dry_run,
            ..CollectionReport::default()
        };
        let began = parts.catalog.now().await?;
        if !parts.collector.clock_is_steady(began) {
            tracing::warn!("the clock jumped: this round of garbage collection is skipped");
            report.skipped = true;
            return Ok(report);
        }
        let limits = CollectionLimits {
            grace: parts.rules.grace,
            read_grace: parts.rules.object_grace(),
            dry_run,
        };
        if !dry_run {
            report.uploads = self.expire_uploads().await?;
            parts.catalog.count_usage().await?;
            parts.catalog.forget_refresh_tokens().await?;
            parts.catalog.forget_identities().await?;
        }
        progress.say("looking at repositories that were removed");
        report.repositories = match dry_run {
            true => parts.catalog.removed_repositories().await?,
            false => parts.catalog.purge_removed().await?,
        };
        if let Untagged::After(age) = parts.rules.untagged {
            progress.say("looking at untagged manifests");
            let mut after = 0;
            loop {
                let page = parts
                    .catalog
                    .collect_manifests(&mut after, began, age, limits)
                    .await?;
                report.manifests += page.removed;
                if self.add(&mut report, page, progress) {
                    break;
                }
            }
        }
        self.collect_memberships(began, limits, &mut report, progress)
            .await?;
        self.collect_blobs(began, limits, &mut report, progress)
            .await?;
        if !dry_run {
            report.objects = self.delete_doomed(progress).await?;
            let history = parts.rules.tag_history;
            while parts.catalog.trim_tag_history(history, PAGE).await? >= PAGE {}
        }
        Ok(report)
    }

    async fn collect_memberships(
        &self,
        began: i64,
        limits: CollectionLimits,
        report: &mut CollectionReport,
        progress: &Progress,
    ) -> Result<(), RegistryError> {
        progress.say("looking at blobs that no manifest refers to");
        let mut after = (0, 0);
        loop {
            let page = self
                .parts
                .catalog
                .collect_memberships(&mut after, began, limits)
                .await?;
            report.withdrawn += page.removed;
            if self.add(report, page, progress) {
                return Ok(());
            }
        }
    }

    async fn collect_blobs(
        &self,
        began: i64,
        limits: CollectionLimits,
        report: &mut CollectionReport,
        progress: &Progress,
    ) -> Result<(), RegistryError> {
        progress.say("looking at blobs that no repository holds");
        let mut after = 0;
        loop {
            let page = self
                .parts
                .catalog
                .collect_blobs(&mut after, began, limits)
                .await?;
            report.blobs += page.removed;
            report.bytes += page.bytes;
            granary_failpoint::reach_async("gc::rows_removed").await;
            if self.add(report, page, progress) {
                return Ok(());
            }
        }
    }

    /// Adds a page to the report; true if it was the last.
    fn add(&self, report: &mut CollectionReport, page: CollectedPage, progress: &Progress) -> bool {
        report.marked += page.marked;
        progress.advance(page.seen);
        !page.more
    }

    async fn expire_uploads(&self) -> Result<u64, RegistryError> {
        let mut ended = 0;
        loop {
            let busy = self.parts.sessions.busy();
            let page = self
                .parts
                .catalog
                .expire_uploads(self.parts.rules.upload_expiry, PAGE, busy)
                .await?;
            ended += page;
            if page < PAGE {
                return Ok(ended);
            }
        }
    }

    /// Deletes objects whose rows went long enough ago. A row goes only once the store has confirmed. An object that
    /// cannot be deleted stands in nobody's way: it is tried again later, and the first such error is told at the end.
    async fn delete_doomed(&self, progress: &Progress) -> Result<u64, RegistryError> {
        progress.say("deleting objects");
        let (mut deleted, mut failure) = (0, None);
        loop {
            let doomed = self.parts.catalog.doomed_objects(PAGE).await?;
            if doomed.is_empty() {
                return failure.map_or(Ok(deleted), Err);
            }
            let (mut gone, mut later) = (Vec::new(), Vec::new());
            for (key, outcome) in self.delete_objects(doomed).await {
                match outcome {
                    Ok(()) => gone.push(key),
                    Err(error) => {
                        tracing::error!(%error, key, "an object could not be deleted; it is tried again later");
                        failure.get_or_insert(error);
                        later.push(key);
                    }
                }
            }
            granary_failpoint::reach_async("gc::objects_deleted").await;
            deleted += gone.len() as u64;
            progress.advance(gone.len() as u64);
            self.parts.catalog.forget_objects(gone).await?;
            self.parts.catalog.postpone_objects(later, LATER).await?;
        }
    }

    /// Deletes what it can, and says of each object what became of it.
    async fn delete_objects(
        &self,
        doomed: Vec<DoomedObject>,
    ) -> Vec<(String, Result<(), RegistryError>)> {
        let store = &self.parts.store;
        let (mut whole, mut outcomes) = (Vec::new(), Vec::new());
        for object in doomed {
            match (parse_key(&object.key), object.unfinished) {
                (Err(error), _) => outcomes.push((object.key, Err(error))),
                (Ok(key), None) => whole.push(key),
                (Ok(key), Some(state)) => {
                    let abandoned = store.abandon(&key, &state).await;
                    outcomes.push((object.key, abandoned.map_err(RegistryError::from)));
                }
            }
        }
        let together = store.delete(&whole).await.is_ok();
        for key in whole {
            let outcome = match together {
                true => Ok(()),
                // One of them was refused: each tells for itself.
                false => store.delete(std::slice::from_ref(&key)).await,
            };
            outcomes.push((
                key.as_str().to_owned(),
                outcome.map_err(RegistryError::from),
            ));
        }
        outcomes
    }

    /// Collects every `interval` until the future is dropped.
    pub async fn collect_forever(&self, interval: Duration) {
        loop {
            tokio::time::sleep(interval).await;
            if !self.is_my_turn(interval).await {
                continue;
            }
            let keep_turn = async {
                loop {
                    tokio::time::sleep(interval / 2).await;
                    self.is_my_turn(interval).await;
                }
            };
            let progress = Progress::silent();
            let done = tokio::select! {
                done = self.collect(false, &progress) => done,
                never = keep_turn => never,
            };
            match done {
                Ok(report)
                    if report.repositories
                        + report.blobs
                        + report.manifests
                        + report.uploads
                        + report.objects
                        > 0 =>
                {
                    tracing::info!(
                        repositories = report.repositories,
                        blobs = report.blobs,
                        bytes = report.bytes,
                        manifests = report.manifests,
                        uploads = report.uploads,
                        objects = report.objects,
                        "garbage was collected"
                    );
                }
                Ok(_) => {}
                Err(error) => {
                    tracing::error!(%error, "garbage collection failed; it is tried again")
                }
            }
        }
    }

    /// Whether this process is the one that collects. Several at once would be safe, but wasteful.
    async fn is_my_turn(&self, interval: Duration) -> bool {
        let parts = &self.parts;
        if !parts.catalog.is_shared() {
            return true;
        }
        let lifetime = interval + interval / 2 + Duration::from_secs(10);
        match parts.catalog.lease("gc", &parts.replica, lifetime).await {
            Ok(mine) => mine,
            Err(error) => {
                tracing::warn!(%error, "it is not known whose turn it is to collect garbage");
                false
            }
        }
    }
}
