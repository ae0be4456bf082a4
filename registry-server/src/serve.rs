//! `granary serve`: opens the stores, wires the rooms together and runs until it is told to stop.

use std::{
    io::{self, Write},
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use actix_web::{App, web};
use anyhow::Context;
use granary_registry::Registry;
use tokio::{
    runtime::Runtime,
    signal::unix::{SignalKind, signal},
};

use crate::{
    api,
    auth::{self, Doors, Place, providers::Providers},
    config::{Anonymous, Config, PublicUrl, StorageKind},
    control,
    drain::{self, Drain},
    edge::{Edge, EdgeOptions},
    health::{self, Health},
    installation::{DataLock, Installation, await_database},
    limits::{LimitMetrics, Limits},
    listener::Listener,
    metrics::Metrics,
    registry_metrics::RegistryMetrics,
    telemetry::Telemetry,
    v2::{self, V2},
};

/// How long tasks that outlive their requests may take at the end.
const LAST_TASKS: Duration = Duration::from_secs(30);

/// Runs the registry until SIGTERM or SIGINT. Starts its own runtime.
pub fn serve(config: Config, allow_anonymous: bool) -> anyhow::Result<()> {
    #[cfg(feature = "failpoints")]
    let _scenario = fail::FailScenario::setup();
    let telemetry = Telemetry::start(&config.log, &config.telemetry)?;
    // Requests run on the workers' own threads; here run the tasks that a disconnect must not cancel.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("granary-work")
        .enable_all()
        .build()
        .context("the runtime cannot be started")?;
    let lock = DataLock::take(&config.data)?.with_context(|| {
        format!(
            "another process serves the data folder {}: stop it first, or use another folder with --data",
            config.data.display()
        )
    })?;
    let installation = runtime.block_on(async {
        // The first process of a container ignores a signal that nobody listens to, and a database may be waited for.
        let mut stop = signal(SignalKind::terminate())?;
        let opening = async {
            await_database(&config).await?;
            Installation::open(&config, lock).await
        };
        tokio::select! {
            opened = opening => opened,
            _ = stop.recv() => anyhow::bail!("SIGTERM came while the back ends were opened"),
        }
    })?;
    let result = whom_to_serve(&config, allow_anonymous, &runtime, &installation)
        .and_then(|access| run(&config, access, &runtime, &installation));
    let drained =
        runtime.block_on(async { tokio::time::timeout(LAST_TASKS, installation.close()).await });
    if drained.is_err() {
        tracing::warn!("some tasks did not end in time");
    }
    runtime.shutdown_timeout(Duration::from_secs(5));
    telemetry.shutdown();
    result
}

/// Whom a server lets in.
#[derive(Clone, Copy)]
enum Access {
    /// Whoever proves who he is, and others to what is public as far as the configuration says.
    Accounts,
    /// There are no accounts yet.
    Open(Anonymous),
}

/// Accounts, if there are any; else it has to be decided who may use a registry without.
fn whom_to_serve(
    config: &Config,
    allow_anonymous: bool,
    runtime: &Runtime,
    installation: &Installation,
) -> anyhow::Result<Access> {
    if !runtime.block_on(installation.registry.has_accounts())? {
        return Ok(Access::Open(config.anonymous(allow_anonymous)?));
    }
    anyhow::ensure!(
        installation.registry.can_issue_tokens(),
        "there are accounts, and nothing to sign their tokens with: name the key of this installation as auth.key_file"
    );
    if allow_anonymous {
        tracing::warn!(
            "--allow-anonymous has no effect: there are accounts, and auth.anonymous says what is open to others"
        );
    }
    Ok(Access::Accounts)
}

fn run(
    config: &Config,
    access: Access,
    runtime: &Runtime,
    installation: &Installation,
) -> anyhow::Result<()> {
    let registry = &installation.registry;
    let drain = Drain::default();
    let metrics = Arc::new(Metrics::new());
    metrics.register(|all| all.register_collector(Box::new(RegistryMetrics(registry.clone()))));
    let limits = Limits::open(config, registry, runtime.handle().clone());
    let limits = Arc::new(runtime.block_on(limits)?);
    metrics.register(|all| all.register_collector(Box::new(LimitMetrics(Arc::clone(&limits)))));
    let _entered = runtime.enter();
    let control = control::bind(installation.folder())?;
    runtime.spawn(control::serve(control, registry.clone()));
    let collected = registry.clone();
    let interval = config.gc.interval;
    runtime.spawn(async move { collected.collect_forever(interval).await });
    let sealed = registry.clone();
    runtime.spawn(async move { sealed.seal_forever().await });
    let rotated = registry.clone();
    runtime.spawn(async move { rotated.rotate_forever().await });
    let watching = registry.clone();
    runtime.spawn(async move { watching.watch_for_accounts().await });
    let used = registry.clone();
    runtime.spawn(async move { used.keep_uses_forever().await });
    let reading = registry.clone();
    runtime.spawn(async move { reading.keep_reads_forever().await });
    let alive = registry.clone();
    runtime.spawn(async move { alive.beat_forever(env!("CARGO_PKG_VERSION")).await });
    actix_rt::System::new().block_on(listen(config, access, registry, drain, metrics, limits))
}

async fn listen(
    config: &Config,
    access: Access,
    registry: &Registry,
    drain: Drain,
    metrics: Arc<Metrics>,
    limits: Arc<Limits>,
) -> anyhow::Result<()> {
    let listener = Listener::bind(&config.server)?;
    let own_metrics = match &config.server.metrics_listen {
        None => true,
        Some(address) => {
            let (_, server) = health::serve_metrics(address, Arc::clone(&metrics))
                .with_context(|| format!("the metrics address {address} cannot be used"))?;
            actix_rt::spawn(server);
            false
        }
    };
    actix_rt::spawn(drain::on_signals(drain.clone())?);
    let probed = registry.clone();
    let probe = move || -> futures_util::future::BoxFuture<'static, bool> {
        let registry = probed.clone();
        Box::pin(async move { registry.catalog().ping().await.is_ok() })
    };
    let health = web::Data::new(Health::new(drain.clone(), probe));
    let place = Place {
        public_url: config.server.public_url.clone(),
        is_tls: listener.is_tls(),
        trusted_proxies: config.server.trusted_proxies.clone(),
        service: registry.service().to_owned(),
    };
    let v2 = V2::new(
        registry.clone(),
        place.clone(),
        drain.clone(),
        Arc::clone(&limits),
    );
    let doors = Doors {
        registry: registry.clone(),
        place,
        limits,
        providers: Providers::open(&config.auth.oidc)?,
        session: config.auth.session,
    };
    let (v2, doors) = (web::Data::new(v2), web::Data::new(doors));
    let options = EdgeOptions {
        metrics: Arc::clone(&metrics),
        drain: drain.clone(),
        anonymous: match access {
            Access::Open(anonymous) => anonymous,
            Access::Accounts => Anonymous::Anyone,
        },
        accounts: registry.catalog().accounts_seen(),
        trusted_proxies: config.server.trusted_proxies.clone(),
    };
    let factory = {
        let metrics = Arc::clone(&metrics);
        move || {
            App::new()
                .configure(health::configure(
                    health.clone(),
                    own_metrics.then(|| Arc::clone(&metrics)),
                ))
                .app_data(doors.clone())
                .configure(auth::token::configure)
                .configure(auth::login::configure)
                .configure(auth::session::configure)
                .configure(api::configure)
                .app_data(v2.clone())
                .default_service(web::to(v2::handle))
                .wrap(Edge::new(options.clone()))
        }
    };
    greet(config, access, &listener)?;
    Ok(listener.serve(factory, metrics, drain).await?)
}

/// Whether credentials come over a network unencrypted, as far as can be known: a proxy that ends TLS is told of by its origin.
fn is_open_to_eavesdroppers(config: &Config, listener: &Listener) -> bool {
    let public_url = config.server.public_url.as_ref();
    let is_tls = listener.is_tls() || public_url.is_some_and(PublicUrl::is_tls);
    let addresses = listener.addresses();
    !is_tls && addresses.iter().any(|address| !address.ip().is_loopback())
}

/// Says where the registry is and what to try next. Scripts read the first line.
fn greet(config: &Config, access: Access, listener: &Listener) -> io::Result<()> {
    let scheme = if listener.is_tls() { "https" } else { "http" };
    let addresses = listener.addresses();
    let mut out = io::stdout().lock();
    for address in &addresses {
        writeln!(out, "Granary listens on {scheme}://{address}")?;
    }
    if let Some(public_url) = &config.server.public_url {
        writeln!(out, "  public   {}", public_url.as_str())?;
    }
    writeln!(out, "  data     {}", config.data.display())?;
    if config.database.url.is_shared() {
        writeln!(out, "  catalog  {}", config.database.url)?;
    }
    if config.storage.kind == StorageKind::S3 {
        writeln!(out, "  blobs    bucket {}", config.storage.s3.bucket)?;
    }
    match access {
        Access::Accounts => {
            writeln!(
                out,
                "  access   accounts: log in with a name and a password or token"
            )?;
            if is_open_to_eavesdroppers(config, listener) {
                writeln!(
                    out,
                    "  warning  passwords and tokens come over plain HTTP: set server.tls_cert and server.tls_key, or server.public_url to the https:// origin of the proxy in front"
                )?;
            }
        }
        Access::Open(Anonymous::Loopback) => writeln!(
            out,
            "  access   anyone on this machine may push and pull: there are no accounts"
        )?,
        Access::Open(Anonymous::Anyone) => {
            writeln!(
                out,
                "  access   ANYONE who reaches this address may push, pull and delete (--allow-anonymous)"
            )?;
        }
    }
    if let Some(address) = addresses.first() {
        let public_url = config.server.public_url.as_ref();
        // Under that name nobody is let in from this machine alone.
        let public_url =
            public_url.filter(|_| !matches!(access, Access::Open(Anonymous::Loopback)));
        let (origin, host) = match public_url {
            Some(url) => (url.as_str().to_owned(), url.authority().to_owned()),
            None => (format!("{scheme}://{}", host(address)), host(address)),
        };
        write!(out, "{}", hints(access, &origin, &host))?;
    }
    out.flush()
}

/// What clients on this machine call an address that is listened on.
fn host(address: &SocketAddr) -> String {
    let ip = address.ip().to_canonical();
    let is_localhost = ip == Ipv4Addr::LOCALHOST || ip == Ipv6Addr::LOCALHOST;
    match is_localhost || ip.is_unspecified() {
        true => format!("localhost:{}", address.port()),
        false => address.to_string(),
    }
}

/// What to try.
fn hints(access: Access, origin: &str, host: &str) -> String {
    let (login, prefix, by) = match access {
        Access::Accounts => (
            format!("  docker login {host} --username NAME\n"),
            "NAME/",
            "--user NAME ",
        ),
        Access::Open(_) => (String::new(), "", ""),
    };
    let image = format!("{host}/{prefix}alpine");
    format!(
        "Try:\n{login}  docker pull alpine && docker tag alpine {image} && docker push {image}\n  \
         curl {by}{origin}/v2/_catalog\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hints_name_what_is_listened_on() {
        for (address, shown) in [
            ("127.0.0.1:5000", "localhost:5000"),
            ("[::1]:5000", "localhost:5000"),
            ("0.0.0.0:5000", "localhost:5000"),
            ("[::]:5000", "localhost:5000"),
            ("127.0.0.2:5000", "127.0.0.2:5000"),
            ("192.0.2.7:5000", "192.0.2.7:5000"),
            ("[2001:db8::7]:5000", "[2001:db8::7]:5000"),
        ] {
            assert_eq!(host(&address.parse().unwrap()), shown);
        }
    }
}
