#!/usr/bin/env python3
"""Measures what it costs Granary to know who asks, beside zot with passwords, and writes the section "Access"."""

import on_accounts
import on_audit
import on_decision
import on_timing
import sections
from sections import Section, Step

SECTION = Section(
    "## Access",
    "bench/access.py",
    ("zot",),
    "Each server is asked for the same ten tags, without accounts and with each kind of credentials; the user owns the repository, and "
    "passwords are hashed as by default. zot keeps its own in a file of htpasswd and lets anybody read, with a password or without. "
    "The decision is timed in the process, without a server. Times that tell are those that one client on this machine measures.",
)

#: In this order.
STEPS = (
    Step("sqlite", None, on_accounts.embedded, on_accounts.describe, "The embedded catalog, beside zot"),
    Step("postgres", "postgres", on_accounts.postgres, on_accounts.describe, "PostgreSQL"),
    Step("decision", None, on_decision.measure, on_decision.describe, "The decision, in 1,000 teams and with 10,000 grants"),
    Step("audit", "postgres", on_audit.measure, on_audit.describe, "The audit log with many rows, on PostgreSQL"),
    Step("timing", None, on_timing.measure, on_timing.describe, "What the time of an answer tells"),
)


def main():
    args = sections.parser(__doc__, STEPS).parse_args()
    steps = [step for step in STEPS if not args.step or step.name in args.step]
    sections.make(SECTION, steps, args)


if __name__ == "__main__":
    main()
