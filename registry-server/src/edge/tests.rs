use std::time::Duration;

use actix_web::{
    App, HttpResponse, HttpResponseBuilder,
    http::StatusCode,
    test::{self, TestRequest},
    web,
};

use opentelemetry_sdk::{
    error::OTelSdkResult,
    trace::{SdkTracerProvider, SpanData, SpanProcessor},
};
use tracing_subscriber::layer::SubscriberExt;

use crate::config::LogConfig;

use super::{record::Path, *};

fn options(anonymous: Anonymous) -> EdgeOptions {
    EdgeOptions {
        metrics: Arc::default(),
        drain: Drain::default(),
        anonymous,
        accounts: std::sync::Arc::default(),
        trusted_proxies: Vec::new(),
    }
}

async fn answer(options: &EdgeOptions, request: TestRequest) -> (StatusCode, HeaderMap, Bytes) {
    let app = App::new()
        .route(
            "/ok",
            web::to(|| async {
                set_route("/ok");
                HttpResponse::Ok().body("hello")
            }),
        )
        .route(
            "/broken",
            web::to(|| async { HttpResponseBuilder::new(StatusCode::BAD_GATEWAY).finish() }),
        )
        .wrap(Edge::new(options.clone()));
    let app = test::init_service(app).await;
    let response = test::call_service(&app, request.to_request()).await;
    (
        response.status(),
        response.headers().clone(),
        test::read_body(response).await,
    )
}

#[actix_web::test]
async fn every_answer_carries_a_request_id() {
    let options = options(Anonymous::Anyone);
    for (path, status) in [("/ok", 200), ("/broken", 502), ("/missing", 404)] {
        let (got, headers, _) = answer(&options, TestRequest::with_uri(path)).await;
        assert_eq!(got.as_u16(), status);
        assert_eq!(headers.get(REQUEST_ID).unwrap().len(), 16);
        assert_eq!(headers.get(X_CONTENT_TYPE_OPTIONS).unwrap(), "nosniff");
    }
    let given = TestRequest::with_uri("/ok").insert_header(("x-request-id", "from.client-1"));
    assert_eq!(
        answer(&options, given).await.1.get(REQUEST_ID).unwrap(),
        "from.client-1"
    );
    let harmful = TestRequest::with_uri("/ok").insert_header(("x-request-id", "a b"));
    assert_eq!(
        answer(&options, harmful)
            .await
            .1
            .get(REQUEST_ID)
            .unwrap()
            .len(),
        16
    );
}

#[actix_web::test]
async fn requests_are_counted_when_their_body_has_ended() {
    let options = options(Anonymous::Anyone);
    answer(&options, TestRequest::with_uri("/ok")).await;
    answer(&options, TestRequest::with_uri("/ok")).await;
    answer(
        &options,
        TestRequest::post()
            .uri("/missing")
            .insert_header(("content-length", "7")),
    )
    .await;
    let text = options.metrics.render().unwrap();
    let ok = "http_request_method=\"GET\",http_route=\"/ok\",http_response_status_code=\"200\"}";
    let missing =
        "http_request_method=\"POST\",http_route=\"other\",http_response_status_code=\"404\"}";
    for line in [
        "http_server_active_requests 0\n".to_owned(),
        format!("http_server_request_duration_seconds_count{{{ok} 2\n"),
        format!("http_server_request_duration_seconds_bucket{{le=\"+Inf\",{ok} 2\n"),
        format!("http_server_response_body_bytes_total{{{ok} 10\n"),
        format!("http_server_request_body_bytes_total{{{missing} 7\n"),
    ] {
        assert!(text.contains(&line), "{line} is not in\n{text}");
    }
    assert!(text.contains("process_resident_memory_bytes"), "{text}");
    assert!(text.ends_with("# EOF\n"));
}

#[actix_web::test]
async fn encoded_bodies_are_refused() {
    let options = options(Anonymous::Anyone);
    let gzip = || {
        TestRequest::put()
            .uri("/ok")
            .insert_header(("content-encoding", "gzip"))
    };
    let (status, headers, body) =
        answer(&options, gzip().insert_header(("content-length", "3"))).await;
    assert_eq!(status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    assert!(headers.contains_key(REQUEST_ID));
    let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(body["errors"][0]["code"], "UNSUPPORTED");
    assert_eq!(answer(&options, gzip()).await.0, StatusCode::OK);
    let identity = TestRequest::put()
        .uri("/ok")
        .insert_header(("content-encoding", "Identity"));
    assert_eq!(
        answer(&options, identity.insert_header(("content-length", "3")))
            .await
            .0,
        StatusCode::OK
    );
}

#[actix_web::test]
async fn anonymous_use_on_loopback_ends_with_a_proxy_or_a_foreign_name() {
    for (header, value) in [
        ("host", "registry.example.org"),
        ("forwarded", "for=192.0.2.1"),
        ("x-forwarded-for", "192.0.2.1"),
        ("x-forwarded-proto", "https"),
        ("x-real-ip", "192.0.2.1"),
    ] {
        let request = || {
            TestRequest::with_uri("/ok")
                .insert_header(("host", "localhost:5000"))
                .insert_header((header, value))
        };
        let (status, _, body) = answer(&options(Anonymous::Loopback), request()).await;
        assert_eq!(status, StatusCode::FORBIDDEN, "{header}");
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(body["errors"][0]["code"], "DENIED");
        assert!(
            body["errors"][0]["message"]
                .as_str()
                .unwrap()
                .contains("--allow-anonymous")
        );
        assert_eq!(
            answer(&options(Anonymous::Anyone), request()).await.0,
            StatusCode::OK
        );
    }
    let local = TestRequest::with_uri("/ok").insert_header(("host", "127.0.0.1:5000"));
    assert_eq!(
        answer(&options(Anonymous::Loopback), local).await.0,
        StatusCode::OK
    );
}

#[::core::prelude::v1::test]
fn logged_paths_are_short_and_harmless() {
    assert_eq!(Path("/v2/\u{1b}[31m/x").to_string(), "/v2/\\u{1b}[31m/x");
    let long = format!("/{}", "a".repeat(1000));
    assert_eq!(Path(&long).to_string().len(), 259);
}

#[derive(Debug, Clone, Default)]
struct Spans(Arc<std::sync::Mutex<Vec<SpanData>>>);

impl SpanProcessor for Spans {
    fn on_start(&self, _: &mut opentelemetry_sdk::trace::Span, _: &opentelemetry::Context) {}

    fn on_end(&self, span: SpanData) {
        self.0.lock().unwrap().push(span);
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}

#[actix_web::test]
async fn a_traced_request_is_named_by_its_route_and_continues_the_clients_trace() {
    let spans = Spans::default();
    let provider = SdkTracerProvider::builder()
        .with_span_processor(spans.clone())
        .build();
    let layers = crate::telemetry::layers(&LogConfig::default(), Some(&provider));
    let _traced = tracing::subscriber::set_default(tracing_subscriber::registry().with(layers));
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let request = TestRequest::with_uri("/ok").insert_header(("traceparent", parent));
    answer(&options(Anonymous::Anyone), request).await;
    let spans = spans.0.lock().unwrap();
    assert_eq!(spans.len(), 1);
    assert_eq!(spans[0].name, "GET /ok");
    assert_eq!(
        spans[0].span_context.trace_id().to_string(),
        "0af7651916cd43dd8448eb211c80319c"
    );
    let status = opentelemetry::KeyValue::new("http.response.status_code", 200);
    assert!(
        spans[0].attributes.contains(&status),
        "{:?}",
        spans[0].attributes
    );
}
