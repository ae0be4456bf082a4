//! What a failed request says, in our words.

use std::error::Error;

use aws_sdk_s3::{
    config::http::HttpResponse,
    error::{ProvideErrorMetadata, SdkError},
};

use crate::{ObjectKey, RemoteFailure, StoreError};

/// Makes an error of the server's answer or of its absence; for `map_err`.
pub(super) fn failed<E>(
    action: &'static str,
    key: Option<&ObjectKey>,
) -> impl FnOnce(SdkError<E, HttpResponse>) -> StoreError
where
    E: ProvideErrorMetadata + Error + 'static,
{
    move |error| failure(action, key, &error).into()
}

/// What `error` says of `action`.
pub(super) fn failure<E>(
    action: &'static str,
    key: Option<&ObjectKey>,
    error: &SdkError<E, HttpResponse>,
) -> RemoteFailure
where
    E: ProvideErrorMetadata + Error + 'static,
{
    let status = status(error);
    let code = error.code().map(str::to_owned);
    let reason = match error {
        SdkError::ServiceError(_) => error.message().unwrap_or("no reason given").to_owned(),
        SdkError::TimeoutError(_) => "the server did not answer in time".to_owned(),
        // The message of the SDK's own error is general, what lies below it tells the cause.
        _ => causes(error),
    };
    let transient = match status {
        Some(status) => {
            status >= 500 || status == 429 || code.as_deref().is_some_and(is_transient_code)
        }
        None => matches!(
            error,
            SdkError::TimeoutError(_) | SdkError::DispatchFailure(_) | SdkError::ResponseError(_)
        ),
    };
    RemoteFailure {
        action,
        key: key.cloned(),
        status,
        code,
        reason,
        transient,
    }
}

/// The HTTP status of the answer, if there was one.
pub(super) fn status<E>(error: &SdkError<E, HttpResponse>) -> Option<u16> {
    error
        .raw_response()
        .map(|response| response.status().as_u16())
}

/// Codes that servers send with a 4xx status although trying again later helps.
fn is_transient_code(code: &str) -> bool {
    matches!(
        code,
        "RequestTimeout" | "SlowDown" | "RequestTimeTooSkewed" | "OperationAborted"
    )
}

/// The messages of what caused `error`. The outermost is left out; none of them shows a request.
fn causes(error: &dyn Error) -> String {
    let mut text = String::new();
    let mut cause = error.source();
    while let Some(error) = cause {
        let message = error.to_string();
        if !text.ends_with(&message) {
            if !text.is_empty() {
                text.push_str(": ");
            }
            text.push_str(&message);
        }
        cause = error.source();
    }
    if text.is_empty() {
        error.to_string()
    } else {
        text
    }
}
