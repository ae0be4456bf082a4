//! The server's sockets, and the way from a connection to the application.
//!
//! It puts actix's parts together itself instead of using `HttpServer`, because every connection
//! goes through [`Connection`], which has the deadlines `HttpServer` lacks.

use std::{
    fmt, io,
    net::{SocketAddr, TcpListener},
    num::NonZeroUsize,
    sync::Arc,
    thread,
    time::Duration,
};

use actix_http::{HttpService, KeepAlive, Protocol, Request, body::MessageBody};
use actix_rt::net::TcpStream;
use actix_service::{
    IntoServiceFactory, ServiceFactory, ServiceFactoryExt, fn_service, map_config,
};
use actix_web::{
    Error,
    dev::{AppConfig, Response, Server, ServerHandle},
};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::{
    net::TcpSocket,
    time::{Instant, sleep, timeout, timeout_at},
};
use tokio_rustls::TlsAcceptor;

use crate::{
    config::{Listen, ServerConfig},
    connection::{Connection, Deadlines},
    drain::Drain,
    metrics::Metrics,
    stream::{Stream, open},
    tls::{Certificate, TlsError},
};

/// Connections that may be open at a time; more wait in the backlog.
const MAX_CONNECTIONS: usize = 25_000;
/// Connections the kernel keeps for us.
const BACKLOG: u32 = 2048;
/// A connection may be silent for so long between two requests.
const KEEP_ALIVE: Duration = Duration::from_secs(75);
/// From the connection to its first complete head, and for a TLS handshake.
const FIRST_HEAD: Duration = Duration::from_secs(10);
/// What a client may still send, and must have read, after an early answer.
const LINGER: Duration = Duration::from_secs(5);
/// No request for so long means that none is on its way, when the server ends.
const QUIET: Duration = Duration::from_millis(500);

/// Why the server cannot listen.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ListenError {
    /// The address cannot be used.
    #[error("cannot listen on {listen}: stop what uses it, or give another address with --listen")]
    Bind {
        /// The configured address.
        listen: Listen,
        /// Why.
        source: io::Error,
    },
    /// SIGHUP cannot be caught.
    #[error("cannot catch SIGHUP")]
    Signal(#[source] io::Error),
    /// The certificate or its key cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// Bound sockets that do not take connections yet.
#[derive(Debug)]
pub struct Listener {
    sockets: Vec<TcpListener>,
    certificate: Option<Arc<Certificate>>,
    acceptor: Option<Acceptor>,
    /// Caught from before the first client, so that it never ends the process.
    hangup: Signal,
    drain_timeout: Duration,
}

#[derive(Clone)]
struct Acceptor(TlsAcceptor);

impl fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Acceptor")
    }
}

impl Listener {
    /// Binds the configured address and reads the certificate. Must be called in a runtime.
    pub fn bind(config: &ServerConfig) -> Result<Self, ListenError> {
        let certificate = match (&config.tls_cert, &config.tls_key) {
            (Some(cert), Some(key)) => Some(Certificate::load(cert, key)?),
            _ => None,
        };
        let acceptor = match &certificate {
            Some(certificate) => Some(Acceptor(TlsAcceptor::from(Arc::new(
                certificate.server_config()?,
            )))),
            None => None,
        };
        let sockets = bind_all(&config.listen).map_err(|source| ListenError::Bind {
            listen: config.listen.clone(),
            source,
        })?;
        Ok(Self {
            sockets,
            certificate,
            acceptor,
            hangup: signal(SignalKind::hangup()).map_err(ListenError::Signal)?,
            drain_timeout: config.drain_timeout,
        })
    }

    /// The addresses that clients can reach, with their real ports.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.sockets
            .iter()
            .filter_map(|socket| socket.local_addr().ok())
            .collect()
    }

    /// Whether connections are TLS.
    pub fn is_tls(&self) -> bool {
        self.acceptor.is_some()
    }

    /// Serves until `drain` was started and requests have ended, or `drain_timeout` is over.
    /// `factory` makes an application per worker: `|| App::new()...`.
    pub async fn serve<F, I, S, B>(
        self,
        factory: F,
        metrics: Arc<Metrics>,
        drain: Drain,
    ) -> io::Result<()>
    where
        F: Fn() -> I + Send + Clone + 'static,
        I: IntoServiceFactory<S, Request>,
        S: ServiceFactory<Request, Config = AppConfig> + 'static,
        S::Error: Into<Error>,
        S::InitError: fmt::Debug,
        S::Response: Into<Response<B>>,
        B: MessageBody + 'static,
    {
        raise_file_limit();
        let workers = thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let mut builder = Server::build()
            .workers(workers)
            .max_concurrent_connections(MAX_CONNECTIONS.div_ceil(workers))
            .shutdown_timeout(self.drain_timeout.as_secs().max(1))
            .disable_signals();
        for socket in self.sockets {
            let (factory, acceptor, drain) =
                (factory.clone(), self.acceptor.clone(), drain.clone());
            builder = builder.listen("granary", socket, move || {
                let app = map_config(factory(), |()| AppConfig::default());
                connections(app, acceptor.clone(), drain.clone())
            })?;
        }
        let reload = self
            .certificate
            .map(|certificate| actix_rt::spawn(certificate.follow_files(self.hangup)));
        let server = builder.run();
        let end = end(server.handle(), metrics, drain, self.drain_timeout);
        let result = tokio::select! {
            result = server => result,
            () = end => Ok(()),
        };
        if let Some(reload) = reload {
            reload.abort();
        }
        result
    }
}

/// Waits for the order to end, then for requests, then stops the server.
async fn end(server: ServerHandle, metrics: Arc<Metrics>, drain: Drain, patience: Duration) {
    drain.started().await;
    let deadline = Instant::now() + patience;
    let quiet = async {
        let mut since = Instant::now();
        while since.elapsed() < QUIET {
            sleep(QUIET / 10).await;
            if metrics.active_requests() > 0 {
                since = Instant::now();
            }
        }
    };
    let quiet = timeout_at(deadline, quiet).await.is_ok();
    if !quiet {
        tracing::warn!(
            requests = metrics.active_requests(),
            "drain_timeout is over: ending while requests run"
        );
    }
    drain.close_idle();
    // A forced stop takes no time; one in order waits for what is still being written.
    let _ = timeout_at(deadline.max(Instant::now() + QUIET), server.stop(quiet)).await;
}

fn bind_all(listen: &Listen) -> io::Result<Vec<TcpListener>> {
    let mut sockets = Vec::new();
    let mut port = None;
    for mut address in listen.resolve()? {
        // A name may have several addresses; they get the same port, also if the system chose it.
        if let Some(port) = port {
            address.set_port(port);
        }
        let socket = if address.is_ipv4() {
            TcpSocket::new_v4()?
        } else {
            TcpSocket::new_v6()?
        };
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        let socket = socket.listen(BACKLOG)?.into_std()?;
        port = Some(socket.local_addr()?.port());
        sockets.push(socket);
    }
    if sockets.is_empty() {
        return Err(io::Error::new(
            io::ErrorKind::AddrNotAvailable,
            "the name has no address",
        ));
    }
    Ok(sockets)
}

/// Lets the process open as many files as the system allows it: the usual 1,024 are fewer than the
/// connections it takes.
fn raise_file_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        limit.current = limit.maximum;
        if let Err(error) = setrlimit(Resource::Nofile, limit) {
            tracing::debug!(%error, "the limit of open files stays as it is");
        }
    }
}

/// The service of one socket: from a TCP stream to the application's answers.
fn connections<S, B>(
    app: impl IntoServiceFactory<S, Request>,
    acceptor: Option<Acceptor>,
    drain: Drain,
) -> impl ServiceFactory<TcpStream, Config = (), Response = (), Error = (), InitError = ()>
where
    S: ServiceFactory<Request, Config = ()> + 'static,
    S::Error: Into<Error>,
    S::InitError: fmt::Debug,
    S::Response: Into<Response<B>> + 'static,
    B: MessageBody + 'static,
{
    let app = app
        .into_factory()
        .map_err(|error| error.into().error_response());
    let http = HttpService::build()
        .keep_alive(KeepAlive::Timeout(KEEP_ALIVE))
        .client_request_timeout(FIRST_HEAD)
        .client_disconnect_timeout(LINGER)
        .on_connect_ext(|connection: &Connection<Stream>, data| {
            data.insert(connection.activity());
        })
        .finish(app)
        .map_err(|_| ());
    fn_service(move |stream: TcpStream| {
        let (acceptor, drain) = (acceptor.clone(), drain.clone());
        async move {
            let peer = stream.peer_addr().ok();
            let _ = stream.set_nodelay(true);
            let (stream, protocol) = timeout(
                FIRST_HEAD,
                open(stream, acceptor.map(|acceptor| acceptor.0)),
            )
            .await
            .map_err(|_| ())?
            .map_err(|_| ())?;
            let http2 = protocol == Protocol::Http2;
            Ok((
                Connection::new(stream, http2, Deadlines::STANDARD, &drain),
                protocol,
                peer,
            ))
        }
    })
    .and_then(http)
}

#[cfg(test)]
mod tests;
