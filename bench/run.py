#!/usr/bin/env python3
"""Runs Granary and its peers side by side and writes a table and the raw figures. See README.md for the rules."""

import argparse
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import contenders
import rows
import tables

HERE = Path(__file__).resolve().parent
OURS = contenders.Granary.name
GIGABYTE = 1_000_000_000
ROOM_NEEDED = 30 * GIGABYTE
COLD_START_BLOBS = 100_000
COLD_STARTS = 5
#: A run must end by itself long before this.
RUN_TIMEOUT = 900


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="runs of each row; with 4 or more the first is dropped")
    parser.add_argument("--seconds", type=float, default=3.0, help="length of a run")
    parser.add_argument("--quick", action="store_true", help="runs of one second: for a first look, not for figures")
    parser.add_argument("--workload", action="append", default=[], help="only this workload or row; may be repeated")
    parser.add_argument("--contender", action="append", default=[], help="only this one; may be repeated")
    parser.add_argument("--no-large", action="store_true", help="leave out Granary's repository of 10,000 tags")
    parser.add_argument("--many-tags", action="store_true", help="a repository of 1,000 tags for every contender")
    parser.add_argument("--cold-start", action="store_true", help="also start Granary over 100,000 blobs")
    parser.add_argument("--pin", action="store_true", help="servers on CPU 0, the client on CPU 1")
    parser.add_argument("--dir", type=Path, help="where the data folders are made; a real disk (default: bench/results)")
    parser.add_argument("--keep", action="store_true", help="keep the data folders and the servers' logs")
    return parser.parse_args()


def main():
    args = arguments()
    seconds = 1.0 if args.quick else args.seconds
    results = HERE / "results"
    results.mkdir(exist_ok=True)
    granary, bench = binaries()
    racing = choose(contenders.find(granary), args.contender)
    shapes = [rows.SMALL]
    if args.many_tags:
        shapes.append(rows.MIDDLE)
    if not args.no_large:
        shapes.append(rows.LARGE)
    measured = rows.chosen(args.workload, shapes)
    parent = args.dir or results
    parent.mkdir(parents=True, exist_ok=True)
    warn_about(parent)
    folder = Path(tempfile.mkdtemp(prefix="work-", dir=parent.resolve()))
    race = Race(racing, measured, bench, folder, seconds, args)
    # A polite kill ends the servers too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    try:
        race.run()
        cold = try_cold_start(race) if args.cold_start else None
    finally:
        race.end()
    write_report(race, cold, args, parent, results)


class Race:
    """All contenders alive at once, and every run made."""

    def __init__(self, racing, measured, bench, folder, seconds, args):
        self.racing = racing
        self.rows = measured
        self.bench = bench
        self.folder = folder
        self.seconds = seconds
        self.rounds = args.rounds
        self.keep = args.keep
        self.server_cpus, self.client_cpus = ({0}, {1}) if args.pin else (None, None)
        self.readers = {}
        self.writers = {}
        #: Every server that was started, so that none outlives this program.
        self.started = []
        self.start_ms = {}
        #: (row, contender's name) -> runs, in the order of the rounds.
        self.runs = {}

    def run(self):
        if any(not row.writes for row in self.rows):
            for contender in self.racing:
                self.start_reader(contender)
        for turn in range(self.rounds):
            say(f"round {turn + 1} of {self.rounds}")
            for row in self.rows:
                if row.writes and not self.writers:
                    self.start_writers(turn)
                for contender in rotated(self.racing, turn):
                    self.run_row(row, contender)
            self.end_writers()

    def start_reader(self, contender):
        instance = self.start(contender, "read")
        if instance is None:
            return
        shapes = {row.shape for row in self.rows if not row.writes and takes_part(row, contender)}
        say(f"seed {contender.name}")
        try:
            for shape in sorted(shapes, key=lambda shape: shape.tags):
                self.seed(instance, shape)
        except subprocess.CalledProcessError as error:
            say(f"  {contender.name} cannot be seeded: {shortened(error.stderr)}")
            self.discard(instance)
            return
        self.readers[contender.name] = instance
        os.sync()

    def seed(self, instance, shape):
        command = [self.bench, "seed", "--repository", shape.repository, "--tags", str(shape.tags), *shape.options]
        command += ["--state", self.state_of(instance, shape)]
        if instance.contender.is_static:
            command += ["--folder", instance.folder / "data"]
        else:
            command += ["--url", instance.url]
        subprocess.run(command, check=True, capture_output=True, text=True)

    def state_of(self, instance, shape):
        return instance.folder / f"state-{shape.name}.json"

    def start_writers(self, turn):
        """Pushes go to servers that start empty in each round: the same state for all, and the disk does not fill."""
        for contender in self.racing:
            if not contender.is_static:
                instance = self.start(contender, f"write-{turn}")
                if instance is not None:
                    self.writers[contender.name] = instance

    def end_writers(self):
        for instance in self.writers.values():
            self.discard(instance)
        self.writers = {}

    def start(self, contender, purpose):
        folder = self.folder / f"{contender.name.replace(' ', '-')}-{purpose}"
        instance = self.instance(contender, folder)
        try:
            instance.start()
        except (RuntimeError, OSError) as error:
            say(f"  left out: {error}")
            return None
        self.start_ms.setdefault(contender.name, instance.start_seconds * 1e3)
        return instance

    def instance(self, contender, folder):
        instance = contenders.Instance(contender, folder, cpus=self.server_cpus, keep_log=self.keep)
        self.started.append(instance)
        return instance

    def run_row(self, row, contender):
        instances = self.writers if row.writes else self.readers
        instance = instances.get(contender.name)
        if instance is None or not takes_part(row, contender):
            return
        runs = self.runs.setdefault((row, contender.name), [])
        if runs and runs[0].get("supported") is False:
            runs.append(runs[0])
            return
        if row.writes:
            os.sync()
        runs.append(self.run_once(row, instance))

    def run_once(self, row, instance):
        options = ["--workload", row.workload, *row.options, "--connections", str(row.connections)]
        options += ["--seconds", str(self.seconds)]
        if not row.writes:
            options += ["--state", self.state_of(instance, row.shape)]
        run = self.load(instance, options)
        say(f"  {row.title}: {instance.contender.name}: {brief(run)}")
        return run

    def load(self, instance, options):
        """One run of the load generator; gives its JSON, or what went wrong."""
        output = self.folder / "run.json"
        output.unlink(missing_ok=True)
        command = [self.bench, "run", "--url", instance.url, "--label", instance.contender.name, *options]
        command += ["--server-pid", str(instance.pid), "--json", output]
        try:
            done = subprocess.run(
                command,
                capture_output=True,
                text=True,
                check=False,
                timeout=RUN_TIMEOUT,
                preexec_fn=contenders.pin_to(self.client_cpus),
            )
        except subprocess.TimeoutExpired:
            return {"failure": f"did not end within {RUN_TIMEOUT} s"}
        if output.exists():
            return json.loads(output.read_text())[0]
        return {"failure": shortened(done.stderr)}

    def discard(self, instance):
        if self.keep:
            instance.stop()
        else:
            instance.remove()

    def end(self):
        for instance in self.started:
            self.discard(instance)
        if not self.keep:
            shutil.rmtree(self.folder, ignore_errors=True)

    def summary(self):
        """The rows that were run, each with the medians of each contender."""
        summary = []
        for row in self.rows:
            medians = {
                contender.name: tables.summarise(self.runs[row, contender.name], self.rounds)
                for contender in self.racing
                if (row, contender.name) in self.runs
            }
            if medians:
                summary.append((row, medians))
        return summary


def try_cold_start(race):
    """The cold start of Granary; its failure must not cost the other figures."""
    for contender in race.racing:
        if contender.name == OURS:
            try:
                return cold_start(race, contender)
            except (RuntimeError, OSError) as error:
                return {"failure": str(error)}
    return None


def cold_start(race, contender):
    """Fills a Granary with many blobs, then starts it several times over them."""
    say(f"cold start: push {COLD_START_BLOBS:,} blobs")
    folder = race.folder / "cold"
    instance = race.instance(contender, folder).start()
    options = ["--workload", "push-blob", "--size", "32B", "--style", "monolithic", "--connections", "32"]
    fill = race.load(instance, [*options, "--count", str(COLD_START_BLOBS)])
    instance.stop()
    if not fill.get("scored"):
        return {"failure": fill.get("failure") or fill.get("reason") or tables.failure_of([fill])}
    starts, resident = [], []
    for _ in range(COLD_STARTS):
        os.sync()
        instance.start()
        starts.append(instance.start_seconds * 1e3)
        time.sleep(1)
        resident.append(instance.resident_megabytes())
        instance.stop()
    return {
        "blobs": COLD_START_BLOBS,
        "start_ms": tables.median(starts),
        "slowest_ms": max(starts),
        "idle_resident_mb": tables.median(resident),
        "pushes_per_second": fill["figures"]["ops_per_second"],
    }


def write_report(race, cold, args, parent, results):
    summary = race.summary()
    names = [contender.name for contender in race.racing]
    versions = {contender.name: contender.version() for contender in race.racing}
    machine = describe_machine(parent)
    print(f"# Side by side, {time.strftime('%Y-%m-%d %H:%M')}\n")
    print(f"{machine['cpu']}, {machine['cores']} cores, Linux {machine['kernel']}, {machine['filesystem']};")
    print(f"{race.rounds} rounds of {race.seconds:g} s, interleaved, medians{', pinned' if args.pin else ''}.\n")
    print("| server | version | start on an empty folder, ms |\n|---|---|---:|")
    for name in names:
        print(f"| {name} | {versions[name]} | {tables.number(race.start_ms.get(name), 0)} |")
    print("\n" + tables.results_table(summary, names))
    if OURS in names:
        print("\n" + tables.ratios_table(summary, names, OURS))
    if cold:
        print("\n" + cold_line(cold))
    report = {
        "when": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "machine": machine,
        "seconds": race.seconds,
        "rounds": race.rounds,
        "pinned": args.pin,
        "versions": versions,
        "start_ms": race.start_ms,
        "rows": [
            {
                "key": row.key,
                "title": row.title,
                "connections": row.connections,
                "medians": medians,
                "runs": {name: race.runs[row, name] for name in medians},
            }
            for row, medians in summary
        ],
        "cold_start": cold,
    }
    path = results / f"{time.strftime('%Y%m%d-%H%M%S')}.json"
    path.write_text(json.dumps(report, indent=1))
    say(f"raw figures: {path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path}")


def cold_line(cold):
    if "failure" in cold:
        return f"Cold start: no figure ({cold['failure']})."
    return (
        f"Cold start over {cold['blobs']:,} blobs: {cold['start_ms']:.0f} ms until ready (slowest {cold['slowest_ms']:.0f}), "
        f"{cold['idle_resident_mb']:.0f} MB resident when idle."
    )


def binaries():
    """The release builds, or what GRANARY_BIN and GRANARY_BENCH_BIN name."""
    granary, bench = os.environ.get("GRANARY_BIN"), os.environ.get("GRANARY_BENCH_BIN")
    if granary and "debug" in Path(granary).parts:
        say("GRANARY_BIN is a debug build: the release build is measured instead")
        granary = None
    wanted = [] if granary else ["registry-server"]
    wanted += [] if bench else ["granary-bench"]
    if wanted:
        packages = [part for package in wanted for part in ("--package", package)]
        subprocess.run(["cargo", "build", "--release", *packages], cwd=HERE.parent, check=True)
        metadata = subprocess.run(
            ["cargo", "metadata", "--format-version", "1", "--no-deps"],
            cwd=HERE.parent,
            check=True,
            capture_output=True,
        )
        built = Path(json.loads(metadata.stdout)["target_directory"]) / "release"
        granary, bench = granary or built / "granary", bench or built / "granary-bench"
    return Path(granary).absolute(), Path(bench).absolute()


def choose(found, names):
    known = [contender.name for contender in found]
    missing = [name for name in names if name not in known]
    if missing:
        raise SystemExit(f"not found: {', '.join(missing)}; on this machine are: {', '.join(known)}")
    return [contender for contender in found if not names or contender.name in names]


def takes_part(row, contender):
    if contender.is_static and not row.is_static:
        return False
    return row.shape is not rows.LARGE or contender.name == OURS


def rotated(items, turn):
    """Another one begins in each round."""
    first = turn % len(items)
    return items[first:] + items[:first]


def warn_about(folder):
    load = os.getloadavg()[0]
    if load > 0.3:
        say(f"warning: the load is {load:.1f}; figures count only on a machine that does nothing else")
    if filesystem_of(folder) in ("tmpfs", "ramfs", "overlay"):
        say(f"warning: {folder} lies on {filesystem_of(folder)}: durable pushes mean little there; use --dir")
    if shutil.disk_usage(folder).free < ROOM_NEEDED:
        say(f"warning: less than {ROOM_NEEDED // GIGABYTE} GB free in {folder}; long rounds of pushes may fill it")


def filesystem_of(folder):
    """The kind of the file system with the longest mount point above `folder`."""
    folder = folder.resolve()
    kinds = {}
    for line in Path("/proc/mounts").read_text().splitlines():
        _, mount, kind = line.split()[:3]
        if folder.is_relative_to(mount):
            kinds[mount] = kind
    return kinds[max(kinds, key=len)] if kinds else "unknown"


def describe_machine(folder):
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return {
        "cpu": names[0] if names else platform.machine(),
        "cores": os.cpu_count(),
        "kernel": platform.release(),
        "filesystem": filesystem_of(folder),
    }


def brief(run):
    if run.get("failure"):
        return f"failed: {run['failure']}"
    if not run["supported"]:
        return f"no support ({run['reason']})"
    figures = run["figures"]
    bound = ", client-bound" if figures["client_bound"] else ""
    score = "" if run["scored"] else f", NO SCORE: {tables.failure_of([run])}"
    return f"{figures['ops_per_second']:,.0f} ops/s, {figures['megabytes_per_second']:,.0f} MB/s{bound}{score}"


def shortened(text):
    lines = [line.strip() for line in (text or "").splitlines() if line.strip()]
    return " / ".join(lines)[:300] if lines else "no message"


def say(text):
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
