"""The back ends: PostgreSQL, MinIO and Redis, started by `tests/testbed` and ended with this program."""

import os
import shutil
import subprocess
import threading
from pathlib import Path

import bucket

ROOT = Path(__file__).resolve().parent.parent
START_SECONDS = 120


class Places:
    """The back ends, alive until `end`."""

    def __init__(self, testbed, folder):
        # The servers' own folders lie where TMPDIR says.
        self.process = subprocess.Popen(
            [testbed, "postgres", "minio", "redis"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "TMPDIR": str(folder)},
        )
        late = threading.Timer(START_SECONDS, self.process.kill)
        late.start()
        found = {}
        for line in self.process.stdout:
            name, _, place = line.strip().partition(" ")
            if name == "ready":
                break
            found[name] = place
        late.cancel()
        if len(found) < 3:
            raise RuntimeError("the back ends did not start")
        self.postgres = found["postgres"].rpartition("/")[0]
        self.redis = found["redis"]
        self.s3 = bucket.Server(*found["minio"].split())

    def end(self):
        self.process.stdin.close()
        self.process.wait()

    def database_url(self, name):
        return f"{self.postgres}/{name}"

    def make_database(self, name):
        self.sql("postgres", f"CREATE DATABASE {name}")
        return name

    def sql(self, database, statements):
        """Runs statements and gives the bare values, one row a line."""
        command = ["psql", "--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--set", "ON_ERROR_STOP=1"]
        done = subprocess.run(
            [*command, "--dbname", self.database_url(database)],
            input=statements,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise RuntimeError(f"psql: {done.stderr.strip()[:400]}")
        return done.stdout.strip()

    def versions(self):
        server = self.sql("postgres", "SHOW server_version").split()[0]
        return {"PostgreSQL": server, "MinIO": self.s3.version()}


def testbed():
    """The program, or what TESTBED_BIN names; a debug build will do, since it only starts others."""
    given = os.environ.get("TESTBED_BIN")
    if given:
        return Path(given).absolute()
    target = Path(os.environ.get("CARGO_TARGET_DIR") or Path.home() / ".cache/granary/target")
    command = ["cargo", "build", "--quiet", "--package", "granary-testbed"]
    subprocess.run(command, cwd=ROOT, check=True, env={**os.environ, "CARGO_TARGET_DIR": str(target)})
    return target / "debug/testbed"


def need_psql():
    if not shutil.which("psql"):
        raise SystemExit("psql is needed to fill the database; install PostgreSQL's client")
