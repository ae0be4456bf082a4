#!/usr/bin/env python3
"""Measures Granary on PostgreSQL and S3, beside its peers where they can do the same, and writes the section "Back ends"."""

import argparse
import json
import os
import shlex
import shutil
import signal
import sys
import tempfile
import time
import traceback
from pathlib import Path

import contenders
import on_postgres
import on_s3
import places
import run
from setting import Setting, say

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "RESULTS.md"
HEADING = "## Back ends"

#: In this order: (name, back end, what is measured, how it is told, title).
STEPS = (
    ("pulls", "postgres", on_postgres.pulls, on_postgres.describe_pulls, "Pulls on PostgreSQL"),
    ("pushes", "s3", on_s3.pushes, on_s3.describe_pushes, "Large layers on S3"),
    ("scale", "postgres", on_postgres.scale, on_postgres.describe_scale, "PostgreSQL at size"),
    ("collection", "postgres", on_postgres.collection, on_postgres.describe_collection, "Garbage collection beside pulls"),
    ("memory", "s3", on_s3.memory, on_s3.describe_memory, "Memory on S3"),
)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=("s3", "postgres"), help="only the steps on this back end")
    steps = [step[0] for step in STEPS]
    parser.add_argument("--step", action="append", default=[], choices=steps, help="only this; may be repeated")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each row")
    parser.add_argument("--seconds", type=float, default=4.0, help="length of a run of the load generator")
    parser.add_argument("--patience", type=float, default=180.0, help="seconds in which pulls are watched beside a collection")
    parser.add_argument("--quick", action="store_true", help="little of everything: for a first look, not for figures")
    parser.add_argument("--dir", type=Path, help="where all data lie; a real disk (default: bench/results)")
    parser.add_argument("--write", action="store_true", help="write the section into RESULTS.md, too")
    parser.add_argument("--keep", action="store_true", help="keep the data folders and the servers' logs")
    return parser.parse_args()


def main():
    args = arguments()
    places.need_psql()
    granary, bench = run.binaries()
    testbed = places.testbed()
    results = HERE / "results"
    parent = args.dir or results
    for folder in (results, parent):
        folder.mkdir(parents=True, exist_ok=True)
    run.warn_about(parent)
    folder = Path(tempfile.mkdtemp(prefix="work-", dir=parent.resolve()))
    # PostgreSQL refuses to run as root and must pass through as somebody else.
    folder.chmod(0o755)
    # A polite kill ends the servers too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    report = head(args, parent, granary)
    back_ends = None
    try:
        back_ends = places.Places(testbed, folder)
        report["versions"].update(back_ends.versions())
        setting = Setting(back_ends, granary, bench, folder, args)
        try:
            measure(setting, args, report, results / f"backends-{time.strftime('%Y%m%d-%H%M%S')}.json")
        finally:
            setting.end()
    finally:
        if back_ends:
            back_ends.end()
        if not args.keep:
            shutil.rmtree(folder, ignore_errors=True)
    text = section(report)
    print(text)
    if args.write:
        write(text)


def head(args, parent, granary):
    racing = {"granary": contenders.Granary(granary)}
    racing |= {other.name: other for other in contenders.find(granary) if other.name in ("distribution", "zot")}
    command = " ".join(shlex.quote(part) for part in ["bench/backends.py", *sys.argv[1:]] if part != str(args.dir))
    return {
        "when": time.strftime("%Y-%m-%d"),
        "command": command.replace("--dir", "--dir DIR") if args.dir else command,
        "machine": run.describe_machine(parent),
        "versions": {name: short(other.version()) for name, other in racing.items()},
        "rounds": 1 if args.quick else args.rounds,
        "steps": {},
    }


def short(version):
    """The number alone: some servers add their path, and a build without a version logs a line."""
    return "of an unknown version" if version.startswith("{") else version.split()[-1]


def measure(setting, args, report, path):
    for name, kind, step, describe, _ in STEPS:
        if (args.only and kind != args.only) or (args.step and name not in args.step):
            continue
        say(f"{name}, {time.strftime('%H:%M:%S')}")
        os.sync()
        try:
            figures = step(setting)
            report["steps"][name] = {"figures": figures, "text": describe(figures)}
            say(report["steps"][name]["text"])
        except Exception as error:  # One step's failure must not cost the others.
            traceback.print_exc()
            report["steps"][name] = {"text": f"No figure: {str(error)[:300]}"}
        path.write_text(json.dumps(report, indent=1))
    say(f"raw figures: {path.name}, {time.strftime('%H:%M:%S')}")


def section(report):
    machine, versions = report["machine"], report["versions"]
    lines = [
        HEADING,
        "",
        f"One run of `{report['command']}`, {report['when']}, on {machine['cores']} cores ({machine['cpu']}, "
        f"{machine['filesystem']}), {report['rounds']} rounds, medians, contenders in turn. Clients, servers and back ends share "
        "the cores and one disk; only ratios say something.",
        "Versions: " + ", ".join(f"{name} {version}" for name, version in versions.items()) + ".",
    ]
    for name, _, _, _, title in STEPS:
        if name in report["steps"]:
            lines += ["", f"### {title}", "", report["steps"][name]["text"]]
    return "\n".join(lines) + "\n"


def write(text):
    """Puts the section where it was, or at the end."""
    before, _, after = RESULTS.read_text().partition(HEADING + "\n")
    following = after.find("\n## ")
    rest = after[following:] if following >= 0 else ""
    RESULTS.write_text(before.rstrip("\n") + "\n\n" + text + rest)


if __name__ == "__main__":
    main()
