use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use super::*;

const TICK: Duration = Duration::from_millis(20);

const SHORT: Deadlines = Deadlines {
    tick: TICK,
    closing_tick: Duration::from_millis(5),
    head: 3,
    write: 4,
    idle: 10,
};

/// Longer than every deadline.
const LONG: Duration = Duration::from_secs(5);

fn connection(http2: bool) -> (Connection<DuplexStream>, DuplexStream, Drain) {
    let (server, client) = duplex(64);
    let drain = Drain::default();
    (Connection::new(server, http2, SHORT, &drain), client, drain)
}

/// Reads until the connection ends, and says how and after how many ticks.
async fn end_of_reads(connection: &mut Connection<DuplexStream>) -> (io::Result<()>, u128) {
    let start = Instant::now();
    let mut bytes = [0; 16];
    let result = tokio::time::timeout(LONG, async {
        loop {
            match connection.read(&mut bytes).await {
                Ok(0) => break Ok(()),
                Ok(_) => {}
                Err(error) => break Err(error),
            }
        }
    });
    (
        result.await.unwrap(),
        start.elapsed().as_millis() / TICK.as_millis(),
    )
}

#[tokio::test]
async fn a_head_that_drips_is_cut_off() {
    let (mut connection, mut client, _) = connection(false);
    let drip = async {
        while client.write_all(b"x").await.is_ok() {
            sleep(TICK / 2).await;
        }
    };
    let end = tokio::select! {
        end = end_of_reads(&mut connection) => end,
        () = drip => unreachable!("the connection stays open"),
    };
    assert_eq!(
        end.0.unwrap_err().to_string(),
        "the request head took too long"
    );
}

#[tokio::test]
async fn between_requests_only_the_idle_deadline_counts() {
    for http2 in [false, true] {
        let (mut connection, mut client, _) = connection(http2);
        client.write_all(b"GET").await.unwrap();
        connection.read_exact(&mut [0; 3]).await.unwrap();
        connection.activity().request_started();
        connection.activity().request_ended();
        if http2 {
            client.write_all(b"ping").await.unwrap();
        }
        let (result, ticks) = end_of_reads(&mut connection).await;
        assert_eq!(result.unwrap_err().to_string(), "no request for too long");
        assert!(ticks >= 8, "{ticks}");
    }
}

#[tokio::test]
async fn a_running_request_has_no_deadline_here() {
    let (mut connection, mut client, _) = connection(false);
    client.write_all(b"GET").await.unwrap();
    connection.read_exact(&mut [0; 3]).await.unwrap();
    connection.activity().request_started();
    let waited = tokio::time::timeout(TICK * 20, connection.read(&mut [0; 16])).await;
    assert!(waited.is_err(), "{waited:?}");
}

#[tokio::test]
async fn a_client_that_does_not_read_is_cut_off() {
    let (mut connection, client, _) = connection(false);
    connection.activity().request_started();
    let error = tokio::time::timeout(LONG, connection.write_all(&[0; 1000]))
        .await
        .unwrap()
        .unwrap_err();
    assert_eq!(error.to_string(), "the client does not read");
    drop(client);
}

#[tokio::test]
async fn a_client_that_makes_no_room_for_a_body_is_cut_off() {
    let (mut connection, _client, _) = connection(true);
    connection.activity().request_started();
    connection.activity().body_waits_for_client();
    let error = end_of_reads(&mut connection).await.0.unwrap_err();
    assert_eq!(
        error.to_string(),
        "the client makes no room for the response"
    );
}

#[tokio::test]
async fn the_end_of_the_server_closes_idle_connections_only() {
    let (mut connection, _client, drain) = connection(false);
    let activity = connection.activity();
    activity.request_started();
    drain.start();
    drain.close_idle();
    assert!(
        tokio::time::timeout(TICK * 5, connection.read(&mut [0; 16]))
            .await
            .is_err()
    );
    activity.request_ended();
    assert!(end_of_reads(&mut connection).await.0.is_ok());
}
