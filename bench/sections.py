"""What the scripts share that write a section of RESULTS.md: the steps in turn, the raw figures, and the text."""

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
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import contenders
import places
import run
from setting import Setting, say

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "RESULTS.md"


@dataclass(frozen=True)
class Step:
    """A measurement, and how it is told."""

    name: str
    #: Nothing, if it needs none.
    back_end: str | None
    #: Takes the setting and gives figures.
    measure: Callable
    #: Makes Markdown of the figures.
    describe: Callable
    title: str


@dataclass(frozen=True)
class Section:
    """A section of RESULTS.md and the script that writes it."""

    heading: str
    script: str
    #: Whose versions are named, besides Granary's.
    peers: tuple
    #: What else there is to say before the figures.
    remark: str = ""


def parser(description, steps):
    """The options that all these scripts have."""
    parser = argparse.ArgumentParser(description=description)
    names = [step.name for step in steps]
    parser.add_argument("--step", action="append", default=[], choices=names, help="only this; may be repeated")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each row")
    parser.add_argument("--seconds", type=float, default=4.0, help="length of a run of the load generator")
    parser.add_argument("--quick", action="store_true", help="little of everything: for a first look, not for figures")
    parser.add_argument("--dir", type=Path, help="where all data lie; a real disk (default: bench/results)")
    parser.add_argument("--write", action="store_true", help="write the section into RESULTS.md, too")
    parser.add_argument("--keep", action="store_true", help="keep the data folders and the servers' logs")
    return parser


def make(section, steps, args):
    """Takes the steps one after another, and prints the section."""
    needs_places = any(step.back_end for step in steps)
    if needs_places:
        places.need_psql()
    granary, bench = run.binaries()
    testbed = places.testbed() if needs_places else None
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
    report = head(section, args, parent, granary)
    back_ends = None
    try:
        if needs_places:
            back_ends = places.Places(testbed, folder)
            report["versions"].update(back_ends.versions())
        setting = Setting(back_ends, granary, bench, folder, args)
        try:
            name = f"{Path(section.script).stem}-{time.strftime('%Y%m%d-%H%M%S')}.json"
            measure(setting, steps, report, results / name)
        finally:
            setting.end()
    finally:
        if back_ends:
            back_ends.end()
        if not args.keep:
            shutil.rmtree(folder, ignore_errors=True)
    text = text_of(section, steps, report)
    print(text)
    if args.write:
        write(section.heading, text)


def head(section, args, parent, granary):
    racing = {"granary": contenders.Granary(granary)}
    racing |= {other.name: other for other in contenders.find(granary) if other.name in section.peers}
    command = " ".join(shlex.quote(part) for part in [section.script, *sys.argv[1:]] if part != str(args.dir))
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


def measure(setting, steps, report, path):
    for step in steps:
        say(f"{step.name}, {time.strftime('%H:%M:%S')}")
        os.sync()
        try:
            figures = step.measure(setting)
            report["steps"][step.name] = {"figures": figures, "text": step.describe(figures)}
            say(report["steps"][step.name]["text"])
        except Exception as error:  # One step's failure must not cost the others.
            traceback.print_exc()
            report["steps"][step.name] = {"text": f"No figure: {str(error)[:300]}"}
        path.write_text(json.dumps(report, indent=1))
    say(f"raw figures: {path.name}, {time.strftime('%H:%M:%S')}")


def text_of(section, steps, report):
    machine, versions = report["machine"], report["versions"]
    rounds = f"{report['rounds']} round{'' if report['rounds'] == 1 else 's'}"
    lines = [
        section.heading,
        "",
        f"One run of `{report['command']}`, {report['when']}, on {machine['cores']} cores ({machine['cpu']}, "
        f"{machine['filesystem']}), {rounds}, medians, contenders in turn. Clients, servers and back ends share "
        "the cores and one disk; only ratios say something.",
        "Versions: " + ", ".join(f"{name} {version}" for name, version in versions.items()) + ".",
    ]
    if section.remark:
        lines += ["", section.remark]
    for step in steps:
        lines += ["", f"### {step.title}", "", report["steps"][step.name]["text"]]
    return "\n".join(lines) + "\n"


def write(heading, text):
    """Puts the section where it was, or at the end."""
    before, _, after = RESULTS.read_text().partition(heading + "\n")
    following = after.find("\n## ")
    rest = after[following:] if following >= 0 else ""
    RESULTS.write_text(before.rstrip("\n") + "\n\n" + text + rest)
