//! Requests, and what a test expects of their answers.

use std::{fmt, pin::Pin};

use bytes::Bytes;
use reqwest::{
    Body, Client, Method, RequestBuilder, Version,
    header::{HeaderMap, HeaderName, HeaderValue},
};
use serde_json::Value;

/// A request that is sent when it is awaited.
pub(crate) struct Request {
    inner: RequestBuilder,
    asked: String,
}

impl Request {
    pub(super) fn new(client: &Client, method: Method, url: &str) -> Self {
        let asked = format!("{method} {url}");
        Self {
            inner: client.request(method, url),
            asked,
        }
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.inner = self.inner.header(name, value);
        self
    }

    /// Shows these credentials, the value of `Authorization`; an empty text shows none.
    pub(crate) fn by(self, credentials: &str) -> Self {
        match credentials {
            "" => self,
            shown => self.header("Authorization", shown),
        }
    }

    pub(crate) fn body(mut self, body: impl Into<Body>) -> Self {
        self.inner = self.inner.body(body);
        self
    }

    /// A body without a length, in pieces.
    pub(crate) fn stream(self, pieces: Vec<Bytes>) -> Self {
        let pieces = pieces.into_iter().map(Ok::<_, std::io::Error>);
        self.body(Body::wrap_stream(futures_util::stream::iter(pieces)))
    }

    /// Sends the request; the connection may break.
    pub(crate) async fn try_send(self) -> Result<Answer, reqwest::Error> {
        let response = self.inner.send().await?;
        let (status, version) = (response.status().as_u16(), response.version());
        let headers = response.headers().clone();
        let body = response.bytes().await?;
        let answer = Answer {
            status,
            version,
            headers,
            body,
            asked: self.asked,
        };
        // Every answer can be found in the log.
        assert!(!answer.header("x-request-id").is_empty());
        Ok(answer)
    }
}

impl IntoFuture for Request {
    type Output = Answer;
    type IntoFuture = Pin<Box<dyn Future<Output = Answer> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move {
            let asked = self.asked.clone();
            let answer = self.try_send().await;
            answer.unwrap_or_else(|error| panic!("{asked}: {error:?}"))
        })
    }
}

/// An answer, read whole.
#[derive(Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) version: Version,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    asked: String,
}

impl Answer {
    /// Reads the head of an HTTP/1.1 answer.
    pub(super) fn parse_head(head: &str) -> Self {
        let mut lines = head.split("\r\n");
        let status = lines.next().unwrap_or_default().split(' ').nth(1);
        let status = status.and_then(|status| status.parse().ok());
        let mut headers = HeaderMap::new();
        for line in lines.filter(|line| !line.is_empty()) {
            let (name, value) = line.split_once(':').expect("a header");
            let name: HeaderName = name.parse().expect("a header's name");
            headers.append(
                name,
                HeaderValue::from_str(value.trim()).expect("a header's value"),
            );
        }
        Self {
            status: status.unwrap_or_else(|| panic!("no status in {head}")),
            version: Version::HTTP_11,
            headers,
            body: Bytes::new(),
            asked: "a raw request".to_owned(),
        }
    }

    /// The status is this one.
    #[track_caller]
    pub(crate) fn is(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{self:?}");
        self
    }

    /// The answer is this error in the specification's form; gives its detail.
    #[track_caller]
    pub(crate) fn refused(&self, status: u16, code: &str) -> Value {
        assert_eq!(self.status, status, "{self:?}");
        let mut body = self.json();
        let errors = body["errors"].as_array().map(Vec::len);
        assert_eq!(errors, Some(1), "{self:?}");
        let error = body["errors"][0].take();
        assert_eq!(error["code"], code, "{self:?}");
        let message = error["message"].as_str().unwrap_or_default();
        assert!(!message.is_empty(), "{self:?}");
        error["detail"].clone()
    }

    /// The same, and the detail names `value`.
    #[track_caller]
    pub(crate) fn refused_naming(&self, status: u16, code: &str, value: &str) {
        let detail = self.refused(status, code);
        let value = Value::from(value).to_string();
        let value = value.trim_matches('"');
        assert!(
            detail.to_string().contains(value),
            "the detail of {self:?} does not name {value}"
        );
    }

    #[track_caller]
    pub(crate) fn header(&self, name: &str) -> &str {
        let value = self.find_header(name);
        value.unwrap_or_else(|| panic!("no {name} in {self:?}"))
    }

    pub(crate) fn find_header(&self, name: &str) -> Option<&str> {
        Some(self.headers.get(name)?.to_str().expect("a header of text"))
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }

    /// The path of the next page, if there is one.
    #[track_caller]
    pub(crate) fn next_page(&self) -> Option<String> {
        let link = self.find_header("link")?;
        let target = link
            .strip_prefix('<')
            .and_then(|link| link.strip_suffix(">; rel=\"next\""));
        Some(
            target
                .unwrap_or_else(|| panic!("'{link}' is no link to a next page"))
                .to_owned(),
        )
    }

    /// The error's text.
    #[track_caller]
    pub(crate) fn message(&self) -> String {
        self.json()["errors"][0]["message"]
            .as_str()
            .expect("a message")
            .to_owned()
    }
}

/// The answer as a failed test shows it.
impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "the answer to {}: {}", self.asked, self.status)?;
        for (name, value) in &self.headers {
            writeln!(f, "{name}: {}", String::from_utf8_lossy(value.as_bytes()))?;
        }
        let start = &self.body[..self.body.len().min(2_000)];
        write!(
            f,
            "{} bytes: {}",
            self.body.len(),
            String::from_utf8_lossy(start)
        )
    }
}
