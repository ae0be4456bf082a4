//! Whether a PostgreSQL server can be used at all, asked with one plain connection: a pool only says that it waited.

use std::{
    io,
    time::{Duration, Instant},
};

use sea_orm::sqlx::{
    self, Connection as _, PgConnection,
    postgres::{PgConnectOptions, PgSslMode},
};

use crate::{CatalogError, backoff::Backoff};

/// Longest that one try may take.
const TRY: Duration = Duration::from_secs(5);

/// What keeps a server from being used, and what helps.
struct Obstacle {
    problem: String,
    remedy: &'static str,
    /// It may be gone in a moment without anybody doing anything: a server that starts, a name that is not known yet.
    passing: bool,
}

/// Waits until the PostgreSQL database at `url` takes connections, for up to `patience` and one try more.
///
/// What no waiting mends, such as a wrong password or a database that does not exist, is an error at once. The errors,
/// [`CatalogError::Unreachable`], name host, port and database, and never the password.
pub async fn reach_postgres(url: &str, patience: Duration) -> Result<(), CatalogError> {
    let options: PgConnectOptions = url
        .parse()
        .map_err(|error: sqlx::Error| unreachable(&translate(error, &Place::unknown())))?;
    let place = Place::of(&options);
    let (mut backoff, began, mut told) = (Backoff::new(), Instant::now(), String::new());
    loop {
        let Err(obstacle) = knock(&options, &place).await else {
            if !told.is_empty() {
                tracing::info!("PostgreSQL takes connections now");
            }
            return Ok(());
        };
        if !obstacle.passing || began.elapsed() >= patience {
            return Err(unreachable(&obstacle));
        }
        if told != obstacle.problem {
            let seconds = patience.as_secs();
            tracing::warn!(
                problem = obstacle.problem,
                "PostgreSQL cannot be used yet; it is waited for, up to {seconds} s in all"
            );
            told = obstacle.problem;
        }
        backoff.wait().await;
    }
}

fn unreachable(obstacle: &Obstacle) -> CatalogError {
    CatalogError::Unreachable {
        problem: obstacle.problem.clone(),
        remedy: obstacle.remedy,
    }
}

/// Opens one connection and closes it.
async fn knock(options: &PgConnectOptions, place: &Place) -> Result<(), Obstacle> {
    let connecting = async {
        if options.get_socket().is_none() {
            // A name that is not known is an I/O error like any other to those who connect.
            resolve(place).await?;
        }
        let connected = PgConnection::connect_with(options).await;
        connected.map_err(|error| translate(error, place))
    };
    let connection = match tokio::time::timeout(TRY, connecting).await {
        Ok(connected) => connected?,
        Err(_) => return Err(place.silent()),
    };
    // The server has let us in; how the farewell goes says nothing.
    let _ = tokio::time::timeout(TRY, connection.close()).await;
    Ok(())
}

async fn resolve(place: &Place) -> Result<(), Obstacle> {
    let host = place.host.trim_matches(['[', ']']);
    let found = tokio::net::lookup_host((host, place.port)).await;
    if found.is_ok_and(|mut addresses| addresses.next().is_some()) {
        return Ok(());
    }
    Err(Obstacle {
        problem: format!("the host \"{}\" is not known", place.host),
        remedy: "correct it in database.url, or look at the name service of this machine",
        passing: true,
    })
}

/// Where a connection is to lead.
struct Place {
    host: String,
    port: u16,
    database: String,
    user: String,
    encrypted: bool,
}

impl Place {
    fn of(options: &PgConnectOptions) -> Self {
        let socket = options.get_socket().map(|path| path.display().to_string());
        let user = options.get_username().to_owned();
        Self {
            host: socket.unwrap_or_else(|| options.get_host().to_owned()),
            port: options.get_port(),
            database: options.get_database().unwrap_or(&user).to_owned(),
            encrypted: !matches!(
                options.get_ssl_mode(),
                PgSslMode::Disable | PgSslMode::Allow | PgSslMode::Prefer
            ),
            user,
        }
    }

    fn unknown() -> Self {
        Self {
            host: String::new(),
            port: 0,
            database: String::new(),
            user: String::new(),
            encrypted: false,
        }
    }

    fn server(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    fn silent(&self) -> Obstacle {
        Obstacle {
            problem: format!(
                "{} did not answer within {} s (database \"{}\")",
                self.server(),
                TRY.as_secs(),
                self.database
            ),
            remedy: "look at the network and the firewalls on the way, or correct host and port in database.url",
            passing: true,
        }
    }
}

fn translate(error: sqlx::Error, place: &Place) -> Obstacle {
    match error {
        sqlx::Error::Io(error) => of_system(&error, place),
        sqlx::Error::Database(error) => {
            let code = error.code().unwrap_or_default();
            of_server(&code, error.message(), place)
        }
        sqlx::Error::Tls(error) => Obstacle {
            problem: format!(
                "no encrypted connection to {} (database \"{}\") came about: {error}",
                place.server(),
                place.database
            ),
            remedy: if place.encrypted {
                "turn on ssl in PostgreSQL and look at its certificate, or correct sslmode and sslrootcert in database.url"
            } else {
                "look at the certificate of PostgreSQL"
            },
            passing: false,
        },
        sqlx::Error::Configuration(error) => Obstacle {
            problem: format!("the URL cannot be used: {error}"),
            remedy: "correct database.url",
            passing: false,
        },
        other => Obstacle {
            problem: format!(
                "what answers at {} (database \"{}\") does not speak as PostgreSQL does: {other}",
                place.server(),
                place.database
            ),
            remedy: "correct host and port in database.url",
            passing: false,
        },
    }
}

fn of_system(error: &io::Error, place: &Place) -> Obstacle {
    let (server, database) = (place.server(), &place.database);
    match error.kind() {
        io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => Obstacle {
            problem: format!(
                "connection refused: nothing listens at {server} (database \"{database}\")"
            ),
            remedy: "start PostgreSQL, or correct host and port in database.url",
            passing: true,
        },
        io::ErrorKind::TimedOut => place.silent(),
        _ => Obstacle {
            problem: format!("{server} (database \"{database}\") cannot be reached: {error}"),
            remedy: "look at the network on the way and at PostgreSQL's log",
            passing: true,
        },
    }
}

/// What the server says by its state (PostgreSQL, appendix A).
fn of_server(code: &str, words: &str, place: &Place) -> Obstacle {
    let (server, database, user) = (place.server(), &place.database, &place.user);
    let (problem, remedy, passing) = match code {
        "28P01" => (
            format!("{server} refuses the password of user \"{user}\" (database \"{database}\")"),
            "correct user and password in database.url",
            false,
        ),
        "28000" => (
            format!("{server} does not let user \"{user}\" in (database \"{database}\"): {words}"),
            "make the role, or allow it in pg_hba.conf, or correct database.url",
            false,
        ),
        "3D000" => (
            format!("there is no database \"{database}\" at {server}"),
            "make it with CREATE DATABASE, or correct its name in database.url",
            false,
        ),
        "42501" => (
            format!("user \"{user}\" may not use database \"{database}\" at {server}: {words}"),
            "GRANT CONNECT on the database to the user",
            false,
        ),
        "53300" => (
            format!("{server} takes no more connections (database \"{database}\"): {words}"),
            "raise max_connections of PostgreSQL, or the limit of the role, or lower database.max_connections of the replicas",
            true,
        ),
        "57P03" => (
            format!("{server} (database \"{database}\") does not take connections yet: {words}"),
            "wait until PostgreSQL has started, and look at its log",
            true,
        ),
        _ => (
            format!("{server} refuses a connection to database \"{database}\": {code} {words}"),
            "look at PostgreSQL's log",
            code.starts_with("08") || code.starts_with("53") || code.starts_with("57P"),
        ),
    };
    Obstacle {
        problem,
        remedy,
        passing,
    }
}
