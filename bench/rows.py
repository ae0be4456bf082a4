"""What is measured: the rows of the table, and the repositories that are seeded for them."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Shape:
    """A repository to seed. Only the small one holds everything; the others are there for their number of tags."""

    name: str
    tags: int
    options: tuple = ()

    @property
    def repository(self):
        return f"bench/{self.name}"


SMALL = Shape(
    "s",
    10,
    (
        *("--blobs", "1KiB:16"),
        *("--blobs", "64KiB:16"),
        *("--blobs", "1MiB:8"),
        *("--blobs", "100MiB:1"),
        *("--subjects", "125"),
        *("--referrers", "3"),
        *("--repositories", "100"),
    ),
)
MIDDLE = Shape("m", 1_000)
LARGE = Shape("l", 10_000)


@dataclass(frozen=True)
class Row:
    """One workload with its parameters. A row without a shape pushes."""

    key: str
    title: str
    workload: str
    connections: int
    options: tuple = ()
    shape: Shape | None = SMALL
    #: Rows that move many bytes are judged by bytes.
    by_bytes: bool = False
    #: A static file server can answer it.
    is_static: bool = False

    @property
    def writes(self):
        return self.shape is None


def _tag_rows(shape):
    tags = f"{shape.tags:,} tags"
    static = shape is SMALL
    return [
        Row(f"manifest-get-{shape.name}", f"manifest GET by tag, {tags}", "manifest-get-tag", 16, (), shape, False, static),
        Row(f"manifest-head-{shape.name}", f"manifest HEAD by tag, {tags}", "manifest-head-tag", 16, (), shape, False, static),
    ]


def _tags_list(shape):
    return Row(f"tags-list-{shape.name}", f"tags/list n=100, {shape.tags:,} tags", "tags-list", 8, (), shape)


def _size(text):
    return ("--size", text)


READS = [
    Row("ping", "GET /v2/", "ping", 16, is_static=True),
    *_tag_rows(SMALL),
    *_tag_rows(MIDDLE),
    *_tag_rows(LARGE),
    Row("blob-head", "blob HEAD", "blob-head", 16, is_static=True),
    Row("blob-get-1k", "blob GET 1 KiB", "blob-get", 16, _size("1KiB"), is_static=True),
    Row("blob-get-64k", "blob GET 64 KiB", "blob-get", 16, _size("64KiB"), is_static=True),
    Row("blob-get-1m", "blob GET 1 MiB", "blob-get", 8, _size("1MiB"), by_bytes=True, is_static=True),
    Row("blob-get-100m", "blob GET 100 MiB", "blob-get", 2, _size("100MiB"), by_bytes=True, is_static=True),
    Row("blob-range", "blob range of 64 KiB in 100 MiB", "blob-range", 16, _size("100MiB"), is_static=True),
    _tags_list(MIDDLE),
    _tags_list(LARGE),
    Row("catalog", "_catalog n=100", "catalog", 8),
    Row("referrers", "referrers (3) among 500 manifests", "referrers", 8),
]

WRITES = [
    Row("push-4k", "push 4 KiB, POST + PUT", "push-blob", 8, _size("4KiB"), None),
    Row("push-4k-post", "push 4 KiB, one POST", "push-blob", 8, (*_size("4KiB"), "--style", "monolithic"), None),
    Row("push-1m", "push 1 MiB, POST + PUT", "push-blob", 8, _size("1MiB"), None, True),
    Row("push-100m", "push 100 MiB in chunks of 5 MiB", "push-chunked", 2, _size("100MiB"), None, True),
    Row("push-again", "push 1 MiB that is there already", "push-duplicate", 4, _size("1MiB"), None),
    Row("manifest-put", "manifest PUT", "manifest-put", 8, (), None),
]


def chosen(names, shapes):
    """The rows whose workload or key is among `names` (all if none are named) and whose shape is seeded."""
    rows = READS + WRITES
    known = {row.key for row in rows} | {row.workload for row in rows}
    unknown = sorted(set(names) - known)
    if unknown:
        raise SystemExit(f"unknown workload {', '.join(unknown)}; known are: {', '.join(sorted(known))}")
    if names:
        rows = [row for row in rows if row.key in names or row.workload in names]
    return [row for row in rows if row.writes or row.shape in shapes]
