//! Maintenance commands to a running server: a socket in its data folder that only its user can open.
//!
//! A request is one line of JSON ([`Maintenance`]); the answer is lines of [`Message`], the last of them `Done` or
//! `Failed`.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use anyhow::Context;
use granary_registry::{Maintenance, Progress, Registry};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{UnixListener, UnixStream},
    sync::mpsc,
};

use crate::maintenance::report_json;

/// What the server says.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Message {
    /// The work goes on.
    Progress {
        /// A new stage.
        stage: Option<String>,
        /// How much was done since.
        by: u64,
    },
    /// The work is done, with this report.
    Done(Value),
    /// The work failed.
    Failed(String),
}

/// The longest request that is read: a path, or a long list of what to export.
const REQUEST: u64 = 256 * 1024;
/// Progress messages that wait for a slow reader before further ones are dropped.
const BACKLOG: usize = 256;

/// Where the socket is: in the data folder, or, where that path is too long for a socket, in the system's folder for
/// temporary files, under a name that a file in the data folder keeps.
fn socket_path(folder: &Path) -> io::Result<PathBuf> {
    let near = fs::canonicalize(folder)?.join("control.sock");
    if near.as_os_str().len() < 100 {
        return Ok(near);
    }
    let note = folder.join("control.path");
    if let Ok(path) = fs::read_to_string(&note) {
        return Ok(path.into());
    }
    let far = std::env::temp_dir().join(format!("granary-{}.sock", uuid::Uuid::new_v4().simple()));
    fs::write(note, far.as_os_str().as_encoded_bytes())?;
    Ok(far)
}

/// Begins to listen. The caller holds the folder's lock, so a socket that is there is a dead one.
pub fn bind(folder: &Path) -> anyhow::Result<UnixListener> {
    let path = socket_path(folder)?;
    if let Err(error) = fs::remove_file(&path)
        && error.kind() != io::ErrorKind::NotFound
    {
        return Err(error).with_context(|| format!("{} cannot be replaced", path.display()));
    }
    let listener = UnixListener::bind(&path)
        .with_context(|| format!("{} cannot be opened", path.display()))?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Answers commands until the future is dropped.
pub async fn serve(listener: UnixListener, registry: Registry) {
    let tasks = tokio_util::task::TaskTracker::new();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let registry = registry.clone();
                tasks.spawn(async move {
                    if let Err(error) = answer(stream, registry).await {
                        tracing::warn!(%error, "a maintenance command went away");
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a maintenance command could not connect");
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        }
    }
}

async fn answer(stream: UnixStream, registry: Registry) -> anyhow::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let mut line = String::new();
    BufReader::new(tokio::io::AsyncReadExt::take(reader, REQUEST))
        .read_line(&mut line)
        .await?;
    let work: Maintenance = match serde_json::from_str(&line) {
        Ok(work) => work,
        Err(error) => {
            return say(
                &mut writer,
                &Message::Failed(format!("not a command: {error}")),
            )
            .await;
        }
    };
    let (sender, mut messages) = mpsc::channel(BACKLOG);
    let progress = Progress::new(move |stage, by| {
        // A reader that is slow misses steps of the bar, nothing else.
        let _ = sender.try_send(Message::Progress {
            stage: stage.map(str::to_owned),
            by,
        });
    });
    let mut done = Box::pin(async move { registry.maintain(work, &progress).await });
    let result = loop {
        tokio::select! {
            result = &mut done => break result,
            Some(message) = messages.recv() => say(&mut writer, &message).await?,
        }
    };
    let last = match result {
        Ok(report) => Message::Done(report_json(&report)),
        Err(error) => Message::Failed(error.to_string()),
    };
    say(&mut writer, &last).await
}

async fn say(writer: &mut (impl AsyncWriteExt + Unpin), message: &Message) -> anyhow::Result<()> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    Ok(writer.write_all(&line).await?)
}

/// Has the server that holds `folder` do `work`.
pub async fn ask(folder: &Path, work: &Maintenance, progress: &Progress) -> anyhow::Result<Value> {
    let path = socket_path(folder)?;
    let stream = UnixStream::connect(&path).await.with_context(|| {
        format!(
            "the data folder is in use, but no server answers at {}: wait for the command that uses it, or for the server to finish its start",
            path.display()
        )
    })?;
    let (reader, mut writer) = stream.into_split();
    let mut request = serde_json::to_vec(work)?;
    request.push(b'\n');
    writer.write_all(&request).await?;
    let mut lines = BufReader::new(reader).lines();
    while let Some(line) = lines.next_line().await? {
        match serde_json::from_str(&line)? {
            Message::Progress { stage, by } => progress.tell(stage.as_deref(), by),
            Message::Done(report) => return Ok(report),
            Message::Failed(problem) => anyhow::bail!(problem),
        }
    }
    anyhow::bail!("the server ended before the work was done")
}
