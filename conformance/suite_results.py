#!/usr/bin/env python3
"""Judges what the OCI conformance suite wrote: counts from junit.xml, verdicts by API and by kind of data from results.yaml.

  suite_results.py [--record FILE.md --server VERSION --commit SUITE] FOLDER...      (each of one run, of level 1.1 or dev)

Passing means: no test failed or was skipped, and at the development level none was disabled either.
"""
import argparse
import datetime
import pathlib
import sys
import xml.etree.ElementTree

SHOWN = 30  # tests told one by one


class Level:
    """The results of one run of the suite."""

    def __init__(self, folder):
        root = xml.etree.ElementTree.parse(folder / "junit.xml").getroot()
        count = {name: int(root.get(name, 0)) for name in ("tests", "errors", "failures", "skipped", "disabled")}
        self.failed = count["failures"] + count["errors"]
        self.skipped, self.disabled = count["skipped"], count["disabled"]
        self.passed = count["tests"] - self.failed - self.skipped - self.disabled
        self.cases = [(case.get("name"), case.get("status"), (case.findtext("system-out") or "").strip())
                      for case in root.iter("testcase")]
        self.config, self.apis, self.data = sections((folder / "results.yaml").read_text())
        self.version = self.config.get("version", "?")
        self.title = self.version + (", with accounts" if self.config.get("username") else "")  # which is masked, but not empty

    def problems(self):
        found = []
        if self.passed == 0:
            found.append("no test passed")
        if self.failed:
            found.append(f"{self.failed} failed")
        if self.skipped:
            found.append(f"{self.skipped} skipped")
        if self.version == "dev" and self.disabled:
            found.append(f"{self.disabled} disabled")
        for kind, verdicts in (("API", self.apis), ("data", self.data)):
            found += [f"{kind} {name!r}: {verdict}" for name, verdict in verdicts.items()
                      if verdict.lower() != "pass" and not (verdict == "Disabled" and self.version != "dev")]
        return found

    def totals(self):
        return f"{self.passed} passed, {self.failed} failed, {self.skipped} skipped, {self.disabled} disabled"


def sections(text):
    """The flat maps `config`, `apis` and `data` of results.yaml (no YAML library is at hand, and none is needed)."""
    maps, current = {"config": {}, "apis": {}, "data": {}}, {}
    for line in text.splitlines():
        if line and not line.startswith(" "):
            current = maps.get(line.rstrip(":"), {})
        elif line.startswith("  ") and not line.startswith("   "):
            key, _, value = line.strip().rpartition(":")
            current[key.strip("\"'")] = value.strip().strip("\"'")
    return maps["config"], maps["apis"], maps["data"]


def report(levels, server, commit):
    built_from = levels[0].config.get("commit", "unknown")  # what the suite says of itself
    if built_from != "unknown":
        commit = built_from
    lines = [
        "# OCI conformance", "",
        "Written by `conformance/suite.sh --record`; not edited by hand.", "",
        f"- server: {server}",
        f"- suite: opencontainers/distribution-spec, commit {commit}",
        f"- date: {datetime.datetime.now(datetime.timezone.utc):%Y-%m-%d}", "",
        "| level | passed | failed | skipped | disabled |", "|---|---|---|---|---|",
    ]
    lines += [f"| {level.title} | {level.passed} | {level.failed} | {level.skipped} | {level.disabled} |" for level in levels]
    for title, name in (("API", "apis"), ("Data", "data")):
        lines += ["", f"| {title} | " + " | ".join(level.title for level in levels) + " |", "|---" * (len(levels) + 1) + "|"]
        for key in getattr(levels[-1], name):
            lines.append(f"| {key} | " + " | ".join(getattr(level, name).get(key, "-") for level in levels) + " |")
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--record", type=pathlib.Path)
    parser.add_argument("--server", default="unknown")
    parser.add_argument("--commit", default="unknown")
    parser.add_argument("folders", nargs="+", type=pathlib.Path)
    options = parser.parse_args()
    levels = [Level(folder) for folder in options.folders]
    bad = False
    for level in levels:
        print(f"suite {level.title}: {level.totals()}")
        problems = level.problems()
        for problem in problems:
            bad = True
            print(f"  {problem}")
        shown = [case for case in level.cases if problems and case[1] in ("failure", "error", "skipped")]
        for name, status, output in shown[:SHOWN]:
            print(f"  {status}: {name}: {' / '.join(output.splitlines())[:300]}")
        if len(shown) > SHOWN:
            print(f"  and {len(shown) - SHOWN} more")
    if options.record:
        options.record.write_text(report(levels, options.server, options.commit))
        print(f"wrote {options.record}")
    sys.exit(bad)


if __name__ == "__main__":
    main()
