//! Row 42: what proves somebody is in no log.

use super::{
    api_token, ask, basic, basic_with, bearer, challenge, password, push_image, revoke, settings,
    text, with_accounts,
};
use crate::harness::{eventually, image};

#[tokio::test]
async fn what_proves_somebody_is_in_no_log() {
    let builder = settings().env("GRANARY_LOG__LEVEL", "trace");
    let server = with_accounts(builder).await;
    let token = api_token(&server, "bob", &[]).await;
    let query = "offline_token=true&account=bob&scope=repository:bob/app:pull,push";
    let issued = ask(&server, &basic("bob"), query).await.is(200).json();
    let (jwt, refresh) = (text(&issued["token"]), text(&issued["refresh_token"]));
    let (wrong, new) = ("a-wrong-password-of-bob", "a-new-password-of-carol");
    let tampered = format!("{jwt}x");
    for by in [
        basic("bob"),
        basic_with("bob", &token.text),
        token.bearer(),
        bearer(&jwt),
    ] {
        push_image(&server, &by, "bob/app", "a", &image(1)).await;
        ask(&server, &by, query).await;
    }
    for by in [
        basic_with("bob", wrong),
        basic_with(wrong, "x"),
        bearer(&tampered),
        bearer(&refresh),
    ] {
        challenge(&server.get("/v2/").by(&by).await);
        ask(&server, &by, query).await.is(401);
    }
    for form in [
        format!(
            "grant_type=password&username=bob&password={}",
            password("bob")
        ),
        format!("grant_type=password&username=bob&password={wrong}"),
        format!("grant_type=refresh_token&refresh_token={refresh}"),
        format!("grant_type={wrong}&refresh_token={refresh}"),
        format!("grant_type=refresh_token&refresh_token={}", token.text),
    ] {
        server.post("/auth/token").body(form).await;
    }
    let arguments = ["admin", "user", "password", "carol", "--password-stdin"];
    let ran = server.run_with_input(&arguments, &format!("{new}\n")).await;
    ran.exits(0);
    revoke(&server, &token).await;
    challenge(&server.get("/v2/").by(&token.bearer()).await);

    // When the last request is in the log, all before it are.
    server.get("/v2/bob/last/tags/list").await.is(401);
    eventually("the last request is logged", async || {
        let output = server.output();
        output.contains("/v2/bob/last/tags/list").then_some(())
    })
    .await;
    let output = server.output();
    assert!(output.contains("/auth/token"), "no log-in in {output}");
    let mut secrets = vec![
        password("alice"),
        password("bob"),
        password("carol"),
        wrong.to_owned(),
        new.to_owned(),
        token.text.clone(),
        refresh.clone(),
    ];
    secrets.extend(jwt.split('.').skip(1).map(str::to_owned));
    let encoded = [
        basic("bob"),
        basic_with("bob", wrong),
        basic_with("bob", &token.text),
    ];
    secrets.extend(encoded.map(|header| header.replace("Basic ", "")));
    for secret in secrets {
        assert!(!output.contains(&secret), "{secret} is in\n{output}");
    }
}
