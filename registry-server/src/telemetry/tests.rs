use std::sync::{Arc, Mutex};

use crate::edge::testing::in_new_request;

use super::*;

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Lines {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

#[test]
fn lines_inside_a_request_carry_its_id() {
    let lines = Lines::default();
    let writer = lines.clone();
    let layer = tracing_subscriber::fmt::layer().with_writer(move || writer.clone());
    let subscriber = tracing_subscriber::registry()
        .with(layer.event_format(Text(Format::default().with_ansi(false))));
    tracing::subscriber::with_default(subscriber, || {
        tracing::info!("outside");
        in_new_request("abc", || tracing::info!(size = 3, "inside"));
    });
    let text = lines.text();
    let (outside, inside) = text.split_once('\n').unwrap();
    assert!(outside.ends_with(": outside"), "{outside}");
    assert!(
        inside.ends_with(": inside size=3 request_id=abc\n"),
        "{inside}"
    );
}

#[test]
fn json_lines_are_flat_objects() {
    let lines = Lines::default();
    let writer = lines.clone();
    let layer = tracing_subscriber::fmt::layer().with_writer(move || writer.clone());
    let subscriber = tracing_subscriber::registry().with(layer.event_format(Json));
    tracing::subscriber::with_default(subscriber, || {
        in_new_request(
            "abc",
            || tracing::warn!(size = 3, good = true, path = %"/v2/\u{1b}", "a \"message\"\n"),
        );
    });
    let text = lines.text();
    assert_eq!(text.lines().count(), 1, "{text}");
    let line: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(line["level"], "WARN");
    assert_eq!(line["message"], "a \"message\"\n");
    assert_eq!(line["size"], 3);
    assert_eq!(line["good"], true);
    assert_eq!(line["path"], "/v2/\u{1b}");
    assert_eq!(line["request_id"], "abc");
    assert!(line["timestamp"].as_str().unwrap().ends_with('Z'));
}

#[test]
fn what_nobody_wants_to_see_is_not_made() {
    let quiet = tracing_subscriber::registry().with(layers(&LogConfig::default(), None));
    tracing::subscriber::with_default(quiet, || {
        assert!(tracing::enabled!(Level::INFO));
        assert!(!tracing::enabled!(Level::DEBUG));
        assert!(!tracing::span_enabled!(target: REQUEST_TARGET, Level::INFO));
    });
    let provider = SdkTracerProvider::builder().build();
    let traced =
        tracing_subscriber::registry().with(layers(&LogConfig::default(), Some(&provider)));
    tracing::subscriber::with_default(traced, || {
        assert!(!tracing::enabled!(Level::DEBUG));
        assert!(tracing::span_enabled!(target: REQUEST_TARGET, Level::INFO));
    });
}
