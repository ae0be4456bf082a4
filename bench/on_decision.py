"""The decision function behind a real catalog: a member of 1,000 teams that have 10,000 grants asks leave to read."""

import re
import subprocess

from setting import table, verdict

#: Goal of the issue, in microseconds, from what is kept.
GOAL = 50
KEPT = "from what is kept"
TIMEOUT = 600
LINE = re.compile(r"^(?P<what>.+): (?P<number>\d+) decisions, p50 (?P<p50>[\d.]+) us, p99 (?P<p99>[\d.]+) us, p99.9 (?P<p999>[\d.]+) us$")


def measure(setting):
    few = ["--teams", "20", "--grants", "200", "--repositories", "200"] if setting.quick else []
    command = [setting.bench, "decide", "--folder", setting.folder / "decision", *few]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=TIMEOUT)
    if done.returncode != 0:
        raise RuntimeError(f"decide: {done.stderr.strip()[:300]}")
    return [found.groupdict() for found in map(LINE.match, done.stdout.splitlines()) if found]


def describe(lines):
    heads = ["", "decisions", "p50 us", "p99 us", "p99.9 us"]
    rows = [[line["what"], f"{int(line['number']):,}", line["p50"], line["p99"], line["p999"]] for line in lines]
    p99 = next(float(line["p99"]) for line in lines if line["what"] == KEPT)
    return f"{table(heads, rows)}\n\n- {KEPT}: less than {GOAL} us: {p99:.1f} at p99: {verdict(p99 < GOAL)}."
