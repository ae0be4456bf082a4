#!/usr/bin/env python3
"""Measures Granary on PostgreSQL and S3, beside its peers where they can do the same, and writes the section "Back ends"."""

import on_postgres
import on_s3
import sections
from sections import Section, Step

SECTION = Section("## Back ends", "bench/backends.py", ("distribution", "zot"))

#: In this order.
STEPS = (
    Step("pulls", "postgres", on_postgres.pulls, on_postgres.describe_pulls, "Pulls on PostgreSQL"),
    Step("pushes", "s3", on_s3.pushes, on_s3.describe_pushes, "Large layers on S3"),
    Step("scale", "postgres", on_postgres.scale, on_postgres.describe_scale, "PostgreSQL at size"),
    Step("collection", "postgres", on_postgres.collection, on_postgres.describe_collection, "Garbage collection beside pulls"),
    Step("memory", "s3", on_s3.memory, on_s3.describe_memory, "Memory on S3"),
)


def arguments():
    parser = sections.parser(__doc__, STEPS)
    parser.add_argument("--only", choices=("s3", "postgres"), help="only the steps on this back end")
    parser.add_argument("--patience", type=float, default=180.0, help="seconds in which pulls are watched beside a collection")
    return parser.parse_args()


def main():
    args = arguments()
    steps = [step for step in STEPS if args.only in (None, step.back_end) and (not args.step or step.name in args.step)]
    sections.make(SECTION, steps, args)


if __name__ == "__main__":
    main()
