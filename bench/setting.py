"""What the steps of all sections share: the servers, the load generator, and how figures become text."""

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path
from statistics import median

import contenders
import on_bucket

RUN_TIMEOUT = 300


class Setting:
    """The back ends, if there are any, and every server that was started, so that none outlives this program."""

    def __init__(self, places, granary, bench, folder, args):
        self.places, self.granary, self.bench = places, granary, bench
        self.folder = folder
        self.quick = args.quick
        self.rounds = 1 if args.quick else args.rounds
        self.seconds = 1.0 if args.quick else args.seconds
        self.patience = getattr(args, "patience", 0.0)
        self.keep = args.keep
        self.started = []
        self.numbers = itertools.count(1)

    def store(self, name):
        """An empty bucket."""
        store = f"{name}-{next(self.numbers)}"
        self.places.s3.make(store)
        return store

    def replica(self, name):
        """Granary on a database and a bucket of its own."""
        database = self.places.make_database(f"{name}_{next(self.numbers)}")
        return on_bucket.Granary(self.granary, self.places, database, self.store(name))

    def start(self, contender):
        folder = self.folder / f"{contender.name.replace(' ', '-')}-{next(self.numbers)}"
        instance = contenders.Instance(contender, folder, keep_log=self.keep)
        self.started.append(instance)
        return instance.start()

    def end(self):
        for instance in self.started:
            if self.keep:
                instance.stop()
            else:
                instance.remove()

    def seed(self, instance, repository, tags, *options):
        """Pushes a repository of small images and gives the path of its description."""
        state = instance.folder / f"state-{repository.replace('/', '-')}.json"
        command = [self.bench, "seed", "--url", instance.url, "--repository", repository, "--tags", str(tags)]
        done = subprocess.run([*command, "--state", state, *options], check=False, capture_output=True, text=True)
        if done.returncode != 0:
            raise RuntimeError(f"{instance.contender.name} cannot be seeded: {done.stderr.strip()[:300]}")
        return state

    def load(self, instance, workload, *options, connections=16, seconds=None):
        """One run of the load generator; gives its figures."""
        output = self.folder / f"run-{next(self.numbers)}.json"
        command = [self.bench, "run", "--url", instance.url, "--workload", workload, "--connections", str(connections)]
        command += ["--server-pid", str(instance.pid), "--json", output, *map(str, options)]
        if "--count" not in options:
            command += ["--seconds", str(seconds or self.seconds)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=RUN_TIMEOUT)
        if not output.exists():
            raise RuntimeError(f"{workload}: {done.stderr.strip()[:300]}")
        run = json.loads(output.read_text())[0]
        output.unlink()
        if not run["scored"]:
            raise RuntimeError(f"{workload}: a run with errors has no score: {run}")
        return run["figures"]


def say(text):
    print(text, file=sys.stderr, flush=True)


def write_state(path, repository, tags):
    """Tells the load generator of tags that were made without it: (repository, name, digest, size)."""
    tags = [{"repository": of, "name": name, "digest": digest, "size": size} for of, name, digest, size in tags]
    state = {"repository": repository, "tags": tags, "blobs": [], "subjects": [], "referrers": 0, "repositories": 0}
    path.write_text(json.dumps(state))
    return path


def middle(figures, *keys):
    """The median of one figure over several runs."""
    return median(dig(run, keys) for run in figures)


def dig(value, keys):
    for key in keys:
        value = value[key]
    return value


def table(heads, rows):
    """Markdown; the first column is text, the others are figures."""
    lines = ["| " + " | ".join(heads) + " |", "|---|" + "---:|" * (len(heads) - 1)]
    return "\n".join(lines + ["| " + " | ".join(map(str, row)) + " |" for row in rows])


def verdict(good):
    return "reached" if good else "**missed**"


def peak_megabytes(pid):
    """The most memory that was resident since the start."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024 / 1e6
    return 0.0


def machine_seconds():
    """Seconds of all CPUs so far: busy ones, and all."""
    fields = [int(field) for field in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    waiting = fields[3] + fields[4]
    return sum(fields) - waiting, sum(fields)


def cpu_seconds(pid):
    """User and system time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
