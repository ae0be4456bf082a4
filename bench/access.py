#!/usr/bin/env python3
"""Measures what it costs Granary to know who asks, beside zot with passwords, and writes the section "Access"."""

import on_accounts
import sections
from sections import Section, Step

SECTION = Section(
    "## Access",
    "bench/access.py",
    ("zot",),
    "Each server is asked for the same ten tags, without accounts and with each kind of credentials; the user owns the repository, and "
    "passwords are hashed as by default. zot keeps its own in a file of htpasswd and lets anybody read, with a password or without. "
    "The decision for a principal in 1,000 teams is not measured: there are no teams yet.",
)

#: In this order.
STEPS = (
    Step("sqlite", None, on_accounts.embedded, on_accounts.describe, "The embedded catalog, beside zot"),
    Step("postgres", "postgres", on_accounts.postgres, on_accounts.describe, "PostgreSQL"),
)


def main():
    args = sections.parser(__doc__, STEPS).parse_args()
    steps = [step for step in STEPS if not args.step or step.name in args.step]
    sections.make(SECTION, steps, args)


if __name__ == "__main__":
    main()
