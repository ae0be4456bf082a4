"""The audit log with many rows on PostgreSQL: sealing, verifying, exporting, and asking for what happened last."""

import http.client
import subprocess
import time
from statistics import median

import accounts
from setting import say, table

#: Rows, spread over two years, and of how many people and repositories they tell.
ROWS, PEOPLE, REPOSITORIES = 4_000_000, 5_000, 20_000
#: Pages asked for, each of so many rows.
PAGES, PAGE = 200, 50
#: Inserted at a time.
PART = 500_000
TIMEOUT = 3600
FILL = """
INSERT INTO audit_pending (at, request_id, action, allowed, reason, actor_id, actor, credential_id, address, target, detail)
SELECT (extract(epoch FROM now())::bigint - 63072000 + (i * 63072000 / {all})) * 1000000, 'request-' || i,
  CASE WHEN i % 10 = 0 THEN 'access.deny' WHEN i % 3 = 0 THEN 'manifest.put' ELSE 'access.read' END, i % 10 <> 0,
  CASE WHEN i % 10 = 0 THEN 'not-granted' ELSE '' END, 1000 + i % {people}, 'user' || (i % {people}), 1, '10.0.0.1',
  'team/app' || (i * 7919 % {repositories}), '{{"count":3}}'
FROM generate_series({first}::bigint, {last}::bigint) i;
"""


def measure(setting):
    rows = ROWS // 100 if setting.quick else ROWS
    contender = setting.replica("audited")
    contender.settings["GRANARY_AUTH__KEY_FILE"] = str(accounts.key_file(setting.folder))
    instance = setting.start(contender)
    known = accounts.Accounts(instance)
    sql = lambda statement: setting.places.sql(contender.database, statement)
    empty = pages(instance, known)
    figures = {"rows": rows, "pages": {"empty": empty}}
    sealing = 0.0
    for first in range(1, rows + 1, PART):
        last = min(first + PART - 1, rows)
        sql(FILL.format(first=first, last=last, all=rows, people=PEOPLE, repositories=REPOSITORIES))
        began = time.monotonic()
        while int(sql("SELECT COUNT(*) FROM (SELECT 1 FROM audit_pending LIMIT 1) p")):
            time.sleep(0.2)
        sealing += time.monotonic() - began
        say(f"  {last:,} rows sealed, {sealing:.0f} s")
    figures["sealing"] = sealing
    figures["pages"] |= {"full": pages(instance, known)}
    figures["verify"] = timed(instance, "verify", "--json")
    figures["export"] = timed(instance, "export", "--to", str(instance.folder / "audit.jsonl"))
    figures["bytes"] = int(sql("SELECT SUM(pg_total_relation_size(inhrelid)) FROM pg_inherits WHERE inhparent = 'audit_log'::regclass"))
    instance.remove()
    return figures


def timed(instance, *words):
    began = time.monotonic()
    contender = instance.contender
    command = [contender.binary, "admin", "audit", *words, "--data", str(instance.folder / "data")]
    done = subprocess.run(command, env=contender.environment(), capture_output=True, text=True, check=False, timeout=TIMEOUT)
    if done.returncode != 0:
        raise RuntimeError(f"audit {words[0]}: {done.stderr.strip()[:300]}")
    return time.monotonic() - began


def pages(instance, known):
    """Milliseconds for the newest page of each question, over the API."""
    connection = http.client.HTTPConnection("127.0.0.1", instance.port, timeout=TIMEOUT)
    name, _, value = known.administrator().partition(": ")
    taken = {}
    for what, query in {"newest": "", "of one user": "&actor=user77", "about one repository": "&target=team/app77"}.items():
        times = []
        for _ in range(PAGES):
            began = time.perf_counter()
            connection.request("GET", f"/api/v1/audit?limit={PAGE}{query}", headers={name: value})
            response = connection.getresponse()
            body = response.read()
            times.append((time.perf_counter() - began) * 1000)
            if response.status != 200:
                raise RuntimeError(f"/api/v1/audit: {response.status} {body[:300]!r}")
        taken[what] = {"p50": median(times), "worst": max(times)}
    connection.close()
    return taken


def describe(figures):
    rows = figures["rows"]
    heads = [f"a page of {PAGE}", "p50 ms, empty log", f"p50 ms, {rows:,} rows", "worst ms"]
    before, after = figures["pages"]["empty"], figures["pages"]["full"]
    lines = [table(heads, [[what, f"{before[what]['p50']:.1f}", f"{told['p50']:.1f}", f"{told['worst']:.1f}"] for what, told in after.items()])]
    million = rows / 1e6
    lines += [
        "",
        f"- {rows:,} rows of two years take {figures['bytes'] / 1e9:.2f} GB with their indexes.",
        f"- Sealing: {rows / figures['sealing']:,.0f} rows a second. Verifying all: {figures['verify']:.0f} s, {figures['verify'] / million:.1f} s a million."
        f" Exporting all: {figures['export']:.0f} s, {figures['export'] / million:.1f} s a million.",
    ]
    return "\n".join(lines)
