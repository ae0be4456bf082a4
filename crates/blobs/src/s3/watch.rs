//! Counts every request of a client, with all its tries, where the SDK has them all pass.

use std::{sync::Arc, time::Instant};

use aws_smithy_runtime_api::{
    box_error::BoxError,
    client::{
        interceptors::{
            Intercept,
            context::{BeforeSerializationInterceptorContextRef, FinalizerInterceptorContextRef},
        },
        orchestrator::Metadata,
        runtime_components::RuntimeComponents,
    },
};
use aws_smithy_types::config_bag::{ConfigBag, Storable, StoreReplace};

use crate::figures::{Figures, Operation, Outcome};

/// Writes down what becomes of requests.
#[derive(Debug)]
pub(super) struct Watch(pub(super) Arc<Figures>);

/// What is known of a request while it runs.
#[derive(Clone, Copy, Debug)]
struct Running {
    since: Instant,
    tries: u64,
}

impl Storable for Running {
    type Storer = StoreReplace<Self>;
}

impl Intercept for Watch {
    fn name(&self) -> &'static str {
        "Watch"
    }

    fn read_before_execution(
        &self,
        _: &BeforeSerializationInterceptorContextRef<'_>,
        bag: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        bag.interceptor_state().store_put(Running {
            since: Instant::now(),
            tries: 0,
        });
        Ok(())
    }

    fn read_after_attempt(
        &self,
        _: &FinalizerInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        bag: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        if let Some(mut running) = bag.load::<Running>().copied() {
            running.tries += 1;
            bag.interceptor_state().store_put(running);
        }
        Ok(())
    }

    fn read_after_execution(
        &self,
        request: &FinalizerInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        bag: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let Some(running) = bag.load::<Running>() else {
            return Ok(());
        };
        let operation = operation(bag.load::<Metadata>().map_or("", Metadata::name));
        let answered = matches!(request.output_or_error(), Some(Ok(_)));
        let status = request.response().map(|answer| answer.status().as_u16());
        let retries = running.tries.saturating_sub(1);
        self.0.count(
            operation,
            outcome(answered, status),
            running.since.elapsed(),
            retries,
        );
        Ok(())
    }
}

fn operation(name: &str) -> Operation {
    match name {
        "GetObject" => Operation::Read,
        "PutObject" | "UploadPart" => Operation::Write,
        "CreateMultipartUpload" => Operation::Begin,
        "CompleteMultipartUpload" => Operation::Join,
        "HeadObject" => Operation::Look,
        "ListObjectsV2" | "ListParts" | "ListMultipartUploads" => Operation::List,
        "DeleteObject" | "DeleteObjects" => Operation::Delete,
        "AbortMultipartUpload" => Operation::Abort,
        _ => Operation::Other,
    }
}

fn outcome(answered: bool, status: Option<u16>) -> Outcome {
    match status {
        _ if answered => Outcome::Ok,
        Some(404) => Outcome::Missing,
        // "Too many requests" is a server that does not keep up.
        Some(429) => Outcome::Failed,
        Some(400..500) => Outcome::Refused,
        _ => Outcome::Failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_says_no_is_not_one_that_fails() {
        assert_eq!(outcome(true, Some(200)), Outcome::Ok);
        assert_eq!(outcome(false, Some(404)), Outcome::Missing);
        for refused in [400, 403, 412] {
            assert_eq!(outcome(false, Some(refused)), Outcome::Refused);
        }
        // An error may come with 200, where joining takes long.
        for failed in [Some(200), Some(429), Some(500), Some(503), None] {
            assert_eq!(outcome(false, failed), Outcome::Failed);
        }
    }
}
