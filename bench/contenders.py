"""The registries that are compared: where each is found, how each is configured, how one is started and stopped.

Every contender keeps its default settings but for the address, the data folder and the log level. A static file server takes
part as the limit of what serving files can reach.
"""

import getpass
import json
import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

READY_SECONDS = 60
STOP_SECONDS = 30


class Contender:
    """One way to run one server. Subclasses say how."""

    name = ""
    ready_path = "/v2/"
    #: A static file server answers reads of files only.
    is_static = False

    def __init__(self, binary):
        self.binary = str(binary)

    def command(self, folder, port):
        """Writes the configuration into `folder` and returns the command line."""
        raise NotImplementedError

    def environment(self):
        """The environment, without variables that Granary would take for its configuration."""
        return {key: value for key, value in os.environ.items() if not key.startswith("GRANARY_")}

    def version(self):
        for option in ("--version", "-v"):
            done = subprocess.run([self.binary, option], capture_output=True, text=True, check=False)
            text = (done.stdout + done.stderr).strip()
            if done.returncode == 0 and text:
                return " ".join(text.splitlines()[0].split())[:200]
        return "unknown"


class Granary(Contender):
    name = "granary"
    ready_path = "/health/ready"

    def command(self, folder, port):
        return [self.binary, "serve", "--listen", f"127.0.0.1:{port}", "--data", str(folder / "data")]


class Zot(Contender):
    """zot as it comes: it does not sync the bytes of a blob before it acknowledges them."""

    name = "zot"
    commit = False

    def command(self, folder, port):
        config = {
            "distSpecVersion": "1.1.1",
            "storage": {"rootDirectory": str(folder / "data"), "commit": self.commit},
            "http": self.http(folder, port),
            "log": {"level": "error", "output": os.devnull},
        }
        path = folder / "config.json"
        path.write_text(json.dumps(config))
        return [self.binary, "serve", str(path)]

    def http(self, folder, port):
        return {"address": "127.0.0.1", "port": str(port)}


class ZotCommit(Zot):
    """zot told to sync: the fair opponent for pushes, because Granary always syncs."""

    name = "zot (commit)"
    commit = True


class Distribution(Contender):
    name = "distribution"

    def command(self, folder, port):
        lines = [
            "version: 0.1",
            "log:",
            "  level: error",
            "  accesslog:",
            "    disabled: true",
            "storage:",
            "  filesystem:",
            f"    rootdirectory: {folder / 'data'}",
            "  delete:",
            "    enabled: true",
            "http:",
            f"  addr: 127.0.0.1:{port}",
        ]
        path = folder / "config.yml"
        path.write_text("\n".join(lines) + "\n")
        return [self.binary, "serve", str(path)]

    def environment(self):
        # Without a collector its trace exporter would only burn time.
        return {**super().environment(), "OTEL_TRACES_EXPORTER": "none"}


class DockerRegistry(Distribution):
    """distribution 2.8, as Linux distributions package it."""

    name = "docker-registry"


class Nginx(Contender):
    """The limit of serving files. Without tcp_nopush, which makes short ranges wait 40 ms for an acknowledgement."""

    name = "nginx"
    is_static = True

    def command(self, folder, port):
        user = f"user {getpass.getuser()};" if os.geteuid() == 0 else ""
        paths = "\n".join(
            f"  {kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        (folder / "data").mkdir(exist_ok=True)
        path = folder / "nginx.conf"
        path.write_text(f"""{user}
daemon off;
worker_processes auto;
pid {folder}/nginx.pid;
error_log {folder}/error.log crit;
events {{ worker_connections 1024; }}
http {{
  access_log off;
  default_type application/octet-stream;
  sendfile on;
  keepalive_requests 1000000000;
  open_file_cache max=1000 inactive=600s;
{paths}
  server {{
    listen 127.0.0.1:{port};
    root {folder}/data;
    location = /v2/ {{ return 200 "{{}}"; }}
  }}
}}
""")
        return [self.binary, "-e", f"{folder}/error.log", "-p", str(folder), "-c", str(path)]


def find(granary):
    """All contenders of this machine; peers come from the environment or PATH, and what is absent is left out."""
    found = [Granary(granary)]
    peers = [
        (Zot, "ZOT", "zot"),
        (ZotCommit, "ZOT", "zot"),
        (Distribution, "REGISTRY", "registry"),
        (DockerRegistry, "DOCKER_REGISTRY", "docker-registry"),
        (Nginx, "NGINX", "nginx"),
    ]
    for kind, variable, program in peers:
        path = os.environ.get(variable) or shutil.which(program)
        if path:
            found.append(kind(Path(path).absolute()))
    return found


class Instance:
    """A running server with a folder of its own."""

    def __init__(self, contender, folder, *, cpus=None, keep_log=False):
        self.contender = contender
        self.folder = Path(folder)
        self.cpus = cpus
        self.keep_log = keep_log
        self.process = None
        self.port = 0
        self.start_seconds = 0.0

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self):
        return self.process.pid

    def start(self):
        """Starts the server and measures how long it takes until its first good answer."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        command = self.contender.command(self.folder, self.port)
        log = open(self.folder / "server.log", "ab") if self.keep_log else subprocess.DEVNULL
        started = time.perf_counter()
        self.process = subprocess.Popen(
            command,
            cwd=self.folder,
            env=self.contender.environment(),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            preexec_fn=pin_to(self.cpus),
        )
        if self.keep_log:
            log.close()
        try:
            self._wait(started)
        except RuntimeError:
            self.stop()
            raise
        return self

    def _wait(self, started):
        while not answers(self.port, self.contender.ready_path):
            if self.process.poll() is not None:
                raise RuntimeError(f"{self.contender.name} ended with {self.process.returncode} while it started")
            if time.perf_counter() - started > READY_SECONDS:
                raise RuntimeError(f"{self.contender.name} was not ready within {READY_SECONDS} s")
            time.sleep(0.001)
        self.start_seconds = time.perf_counter() - started

    def stop(self):
        if self.process is None:
            return
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.process = None

    def remove(self):
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def resident_megabytes(self):
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1e3 * 1.024
        return 0.0


def pin_to(cpus):
    """For a child process: stay on these CPUs."""
    return (lambda: os.sched_setaffinity(0, cpus)) if cpus else None


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def answers(port, path):
    """True if a GET gives 200."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
            request = f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n"
            connection.sendall(request.encode())
            return connection.recv(64).split(b" ")[1:2] == [b"200"]
    except OSError:
        return False
