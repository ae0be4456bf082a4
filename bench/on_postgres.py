"""The measurements on PostgreSQL: pulls beside the embedded catalog, pulls and lists at size, pulls while garbage goes."""

import json
import subprocess
import threading
import time
from dataclasses import dataclass

import contenders
from setting import machine_seconds, middle, say, table, verdict, write_state

TAGS = 10
SEEDED = "bench/s"
GET = "manifest-get-tag"
LIST_CONNECTIONS = 4
#: Sessions that fell silent report what they did within ten seconds.
REPORTED = 11
#: Goals of the issue. "Constant" and "flat" are taken as within a third.
SHARE, FLAT, P99 = 0.25, 0.75, 1.3


@dataclass(frozen=True)
class Size:
    """What a database is filled with: many repositories, and a big one for deep lists."""

    repositories: int
    each: int
    big: int

    @property
    def manifests(self):
        return self.repositories * self.each + self.big


FEW = Size(1_000, 9, 1_000)
MANY = Size(9_999, 90, 100_090)
MANY_QUICK = Size(2_000, 10, 2_000)
BIG = "n000/big"
DEAD = 100_000
DEAD_QUICK = 3_000

#: Without the checks of foreign keys, which hold by construction and would take most of the time.
FILL = """
SET session_replication_role = replica;
SET synchronous_commit = off;
SET maintenance_work_mem = '512MB';
CREATE TEMPORARY TABLE shape AS
  SELECT 1000000 + i::bigint AS id, i, CASE WHEN i = 0 THEN '{big}'
    ELSE format('n%s/r%s', lpad((i % 100)::text, 3, '0'), lpad(i::text, 6, '0')) END AS name,
    CASE WHEN i = 0 THEN {big_tags} ELSE {each} END AS tags
  FROM generate_series(0, {repositories}) i;
INSERT INTO namespaces (id, name, created_at)
  SELECT 1000000 + i, 'n' || lpad(i::text, 3, '0'), 1 FROM generate_series(0, 99) i;
INSERT INTO repositories (id, namespace_id, name, created_at, listed) SELECT id, 1000000 + i % 100, name, 1, TRUE FROM shape;
-- A configuration and a layer for each repository.
INSERT INTO blobs (id, digest, size, content, state, created_at)
  SELECT id * 10 + part, '\\x01'::bytea || sha256(convert_to(name || part, 'UTF8')), length(name) + 1,
    convert_to(name || part, 'UTF8'), 0, 1 FROM shape, generate_series(0, 1) part;
INSERT INTO repository_blobs (repository_id, blob_id, leased_until)
  SELECT id, id * 10 + part, 0 FROM shape, generate_series(0, 1) part;
INSERT INTO manifests (id, repository_id, digest, media_type, payload, state, created_at)
  SELECT (s.id - 1000000) * 1000000 + 1000000000000 + n, s.id, '\\x01'::bytea || sha256(payload), '{media_type}', payload, 0, 1
  FROM shape s, generate_series(1, s.tags) n, LATERAL (SELECT convert_to(format(
    '{{"schemaVersion":2,"mediaType":"{media_type}",'
    '"config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:%s","size":%s}},'
    '"layers":[{{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":"sha256:%s","size":%s}}],'
    '"annotations":{{"number":"%s"}}}}',
    encode(sha256(convert_to(s.name || 0, 'UTF8')), 'hex'), length(s.name) + 1,
    encode(sha256(convert_to(s.name || 1, 'UTF8')), 'hex'), length(s.name) + 1, n), 'UTF8') AS payload) made;
INSERT INTO tags (repository_id, name, manifest_id, updated_at)
  SELECT repository_id, 't' || lpad((id % 1000000)::text, 6, '0'), id, 1 FROM manifests WHERE id >= 1000000000000;
INSERT INTO manifest_edges (manifest_id, repository_id, digest, kind, blob_id)
  SELECT m.id, m.repository_id, b.digest, 0, b.id FROM manifests m, blobs b
  WHERE m.id >= 1000000000000 AND b.id IN (m.repository_id * 10, m.repository_id * 10 + 1);
RESET session_replication_role;
VACUUM ANALYZE;
"""

#: Blobs that one repository holds, that nothing refers to, and whose lease is over.
KILL = """
SET session_replication_role = replica;
INSERT INTO blobs (id, digest, size, content, state, created_at)
  SELECT 2000000000 + n, '\\x01'::bytea || sha256(convert_to('dead' || n, 'UTF8')), 1024,
    convert_to(repeat(md5(n::text), 32), 'UTF8'), 0, 1 FROM generate_series(1, {dead}) n;
INSERT INTO repository_blobs (repository_id, blob_id, leased_until)
  SELECT 1000000 + n % {repositories}, 2000000000 + n, 1 FROM generate_series(1, {dead}) n;
RESET session_replication_role;
VACUUM ANALYZE blobs, repository_blobs;
"""

SOME_TAGS = """
SELECT r.name, t.name, encode(substr(m.digest, 2), 'hex'), length(m.payload) FROM tags t
  JOIN repositories r ON r.id = t.repository_id JOIN manifests m ON m.id = t.manifest_id
  WHERE m.id >= 1000000000000 ORDER BY md5(m.id::text) LIMIT {limit};
"""
MEDIA_TYPE = "application/vnd.oci.image.manifest.v1+json"


def pulls(setting):
    """The same pulls from Granary with its embedded catalog and from a replica on PostgreSQL."""
    racing = {"embedded": contenders.Granary(setting.granary), "postgres": setting.replica("pulls")}
    instances = {name: setting.start(contender) for name, contender in racing.items()}
    states = {name: setting.seed(instance, SEEDED, TAGS) for name, instance in instances.items()}
    runs = {name: [] for name in racing}
    for turn in range(setting.rounds):
        for name in list(racing) if turn % 2 == 0 else reversed(racing):
            run = setting.load(instances[name], GET, "--state", states[name])
            say(f"  {name}: {run['ops_per_second']:,.0f}/s, client {run['client_share']:.0%}")
            runs[name].append(run)
    statements = statements_per_pull(setting, instances["postgres"], states["postgres"])
    for instance in instances.values():
        instance.remove()
    return {"runs": runs, "statements_per_pull": statements}


def statements_per_pull(setting, instance, state):
    """Each statement outside a transaction is one transaction of its own, and PostgreSQL counts those."""
    count = 2_000 if setting.quick else 20_000
    query = f"SELECT xact_commit FROM pg_stat_database WHERE datname = '{instance.contender.database}'"

    def transactions():
        time.sleep(REPORTED)
        return int(setting.places.sql("postgres", query))

    before = transactions()
    setting.load(instance, GET, "--state", state, "--count", count)
    return (transactions() - before) / count


def describe_pulls(result):
    heads = ["catalog", "manifest GET by tag, a second", "p50 ms", "p99 ms", "server CPU, ms each", "client's share of its core"]
    rows = [[name, *figures_of(runs)] for name, runs in result["runs"].items()]
    share = rate(result["runs"]["postgres"]) / rate(result["runs"]["embedded"])
    return "\n".join(
        [
            table(heads, rows),
            "",
            f"- At least {SHARE} of the embedded rate: {share:.2f}: {verdict(share >= SHARE)}.",
            f"- Statements a pull: {result['statements_per_pull']:.2f}.",
        ]
    )


def rate(runs):
    return middle(runs, "ops_per_second")


def figures_of(runs):
    return [
        f"{rate(runs):,.0f}",
        f"{middle(runs, 'latency_ms', 'p50'):.2f}",
        f"{middle(runs, 'latency_ms', 'p99'):.2f}",
        f"{middle(runs, 'server', 'cpu_ms_per_op'):.3f}",
        f"{middle(runs, 'client_share'):.0%}",
    ]


class Filled:
    """A replica on a database that was filled with SQL."""

    def __init__(self, setting, size):
        self.setting, self.size = setting, size
        self.instance = setting.start(setting.replica("size"))
        self.database = self.instance.contender.database
        self.few = setting.seed(self.instance, SEEDED, TAGS)
        began = time.perf_counter()
        fill = FILL.format(
            big=BIG, big_tags=size.big, each=size.each, repositories=size.repositories, media_type=MEDIA_TYPE
        )
        setting.places.sql(self.database, fill)
        self.seconds = time.perf_counter() - began
        self.all = self.write_tags(2_000 if setting.quick else 200_000)
        deep = setting.places.sql(self.database, "SELECT name FROM repositories ORDER BY name DESC OFFSET 150 LIMIT 1")
        self.pages = {"first": ("t000000", "a"), "deep": (f"t{size.big - 150:06}", deep)}

    def write_tags(self, limit):
        rows = self.setting.places.sql(self.database, SOME_TAGS.format(limit=limit)).splitlines()
        rows = (row.split("|") for row in rows)
        tags = [(repository, name, f"sha256:{digest}", int(size)) for repository, name, digest, size in rows]
        return write_state(self.instance.folder / "state-all.json", BIG, tags)

    def measure(self):
        """One run of each row."""
        load, instance, shorter = self.setting.load, self.instance, min(self.setting.seconds, 2)
        figures = {
            "manifest GET by tag, 10 tags": load(instance, GET, "--state", self.few),
            "manifest GET by tag, random among all": load(instance, GET, "--state", self.all),
        }
        options = {"connections": LIST_CONNECTIONS, "seconds": shorter}
        for name, (tag, repository) in self.pages.items():
            listed = load(instance, "tags-list", "--state", self.all, "--last", tag, **options)
            figures[f"tags/list n=100, {name} page"] = listed
            listed = load(instance, "catalog", "--last", repository, **options)
            figures[f"_catalog n=100, {name} page"] = listed
        return figures


def scale(setting):
    """Two databases a hundredfold apart, measured in turn; the large one is kept for the collection."""
    sizes = {"small": FEW, "large": MANY_QUICK if setting.quick else MANY}
    filled = {}
    for name, size in sizes.items():
        say(f"  fill: {size.manifests:,} manifests in {size.repositories + 1:,} repositories")
        filled[name] = Filled(setting, size)
        say(f"  {filled[name].seconds:.0f} s")
    setting.places.sql("postgres", "CHECKPOINT")
    runs = {name: [] for name in sizes}
    for turn in range(setting.rounds):
        for name in list(sizes) if turn % 2 == 0 else reversed(sizes):
            figures = filled[name].measure()
            say(f"  {name}: " + ", ".join(f"{run['ops_per_second']:,.0f}" for run in figures.values()))
            runs[name].append(figures)
    setting.filled = filled["large"]
    filled["small"].instance.remove()
    shapes = {name: [size.manifests, size.repositories + 1, size.big] for name, size in sizes.items()}
    return {"sizes": shapes, "runs": runs}


def describe_scale(result):
    small, large = result["sizes"]["small"], result["sizes"]["large"]
    rows, shares = [], {}
    for title in result["runs"]["large"][0]:
        by_size = {name: [figures[title] for figures in runs] for name, runs in result["runs"].items()}
        shares[title] = rate(by_size["large"]) / rate(by_size["small"])
        row = [title]
        for runs in by_size.values():
            row.append(f"{rate(runs):,.0f}")
            row += [f"{middle(runs, 'latency_ms', quantile):.2f}" for quantile in ("p50", "p99")]
        rows.append([*row, f"{shares[title]:.2f}"])
    heads = ["request", "small: a second", "p50 ms", "p99 ms", "large: a second", "p50 ms", "p99 ms", "large/small rate"]
    pulls = [share for title, share in shares.items() if "GET" in title]
    lines = [
        f"Small: {small[0]:,} manifests in {small[1]:,} repositories, {small[2]:,} of them in one; large: {large[0]:,} in "
        f"{large[1]:,}, {large[2]:,} in one. Each manifest has a tag and two blobs.",
        "",
        table(heads, rows),
        "",
        f"- Pulls flat (within a quarter): {', '.join(f'{share:.2f}' for share in pulls)}: {verdict(min(pulls) >= FLAT)}.",
    ]
    for kind in ("tags/list", "_catalog"):
        found = {title: share for title, share in shares.items() if kind in title}
        first, deep = (rate([figures[title] for figures in result["runs"]["large"]]) for title in found)
        against = ", ".join(f"{share:.2f}" for share in found.values())
        shown = f"{deep / first:.2f} of the first page's rate there; both against the small database {against}"
        lines.append(f"- {kind}, deep page (constant within a quarter): {shown}: {verdict(min(found.values()) >= FLAT)}.")
    return "\n".join(lines)


def collection(setting):
    """Pulls on a schedule, first alone and then while the same server collects."""
    filled = getattr(setting, "filled", None) or Filled(setting, MANY_QUICK if setting.quick else FEW)
    dead = DEAD_QUICK if setting.quick else DEAD
    instance, state = filled.instance, filled.all
    setting.places.sql(filled.database, KILL.format(dead=dead, repositories=filled.size.repositories))
    setting.places.sql("postgres", "CHECKPOINT")
    fastest = setting.load(instance, GET, "--state", state)["ops_per_second"]
    rates = {"a quarter": round(fastest / 4), "half": round(fastest / 2)}
    window = 1 if setting.quick else 6

    def look(into):
        for name, wanted in rates.items():
            busy_before, all_before = machine_seconds()
            run = setting.load(instance, GET, "--state", state, "--rate", wanted, seconds=window)
            busy_after, all_after = machine_seconds()
            run["machine_share"] = (busy_after - busy_before) / (all_after - all_before)
            say(f"  {name} of the fastest: p99 {run['latency_ms']['p99']:.2f} ms, machine {run['machine_share']:.0%}")
            into.setdefault(name, []).append(run)

    idle, busy = {}, {}
    for _ in range(setting.rounds):
        look(idle)
    collector = Collector(instance)
    while collector.running() and collector.elapsed() < setting.patience:
        into = {}
        look(into)
        # Windows that the collection did not fill to their end do not count, unless there is no other.
        if collector.running() or not busy:
            for name, runs in into.items():
                busy.setdefault(name, []).extend(runs)
    ended = not collector.running()
    seconds = collector.elapsed()
    left = int(setting.places.sql(filled.database, "SELECT count(*) FROM blobs WHERE id > 2000000000"))
    instance.remove()
    collector.end()
    setting.places.sql("postgres", f"DROP DATABASE {filled.database} WITH (FORCE)")
    return {
        "dead": dead,
        "removed": dead - left,
        "rates": rates,
        "idle": idle,
        "busy": busy,
        "seconds": seconds,
        "ended": ended,
        "report": collector.report() if ended else None,
    }


class Collector:
    """`granary gc`, which has the running server collect."""

    def __init__(self, instance):
        command = [instance.contender.binary, "gc", "--json", "--data", str(instance.folder / "data")]
        self.began = time.perf_counter()
        self.seconds = None
        self.process = subprocess.Popen(
            command, env=instance.contender.environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self.output = None
        self.thread = threading.Thread(target=self._wait, daemon=True)
        self.thread.start()

    def _wait(self):
        self.output = self.process.communicate()
        self.seconds = time.perf_counter() - self.began

    def running(self):
        return self.thread.is_alive()

    def elapsed(self):
        return self.seconds or time.perf_counter() - self.began

    def end(self):
        if self.running():
            self.process.kill()
        self.thread.join()

    def report(self):
        if self.process.returncode != 0:
            raise RuntimeError(f"granary gc: {self.output[1].strip()[:300]}")
        return json.loads(self.output[0])


def describe_collection(result):
    rows, ratios = [], []
    for name, wanted in result["rates"].items():
        idle, busy = result["idle"][name], result["busy"][name]
        ratio = middle(busy, "latency_ms", "p99") / middle(idle, "latency_ms", "p99")
        ratios.append(ratio)
        cells = [f"{wanted:,}"]
        for runs in (idle, busy):
            cells += [f"{middle(runs, 'latency_ms', quantile):.2f}" for quantile in ("p50", "p99")]
            cells.append(f"{middle(runs, 'machine_share'):.0%}")
        rows.append([f"{name} of the fastest", *cells, f"{ratio:.2f}x"])
    heads = ["pulls on a schedule", "a second", "idle: p50 ms", "p99 ms", "CPUs busy"]
    heads += ["collecting: p50 ms", "p99 ms", "CPUs busy", "p99 ratio"]
    took = f"took {result['seconds']:.0f} s" if result["ended"] else f"was not over after {result['seconds']:.0f} s"
    return "\n".join(
        [
            f"`granary gc` of {result['dead']:,} dead blobs (1 KiB each, in the catalog) in the server that answers the pulls "
            f"{took} and removed {result['removed']:,}; pulls of random tags, c=16:",
            "",
            table(heads, rows),
            "",
            f"- p99 of pulls below {P99} times the idle one: {', '.join(f'{ratio:.2f}' for ratio in ratios)}: "
            f"{verdict(max(ratios) < P99)}.",
        ]
    )
