"""Medians over the rounds, and the two Markdown tables made of them."""

from statistics import median

#: Above this share of one core the client, not the server, sets the rate.
CLIENT_BOUND = 0.9


def summarise(runs, rounds):
    """The medians of the runs that have a score. With four rounds or more the first only warms up."""
    counted = runs[1:] if rounds >= 4 else runs
    if any(run.get("supported") is False for run in counted):
        return {"note": "no support"}
    scored = [run["figures"] for run in counted if run.get("scored")]
    failed = len(counted) - len(scored)
    if not scored:
        return {"note": "no score: " + failure_of(counted)}
    result = {
        "ops_per_second": middle(scored, "ops_per_second"),
        "megabytes_per_second": middle(scored, "megabytes_per_second"),
        "p50_ms": middle(scored, "latency_ms", "p50"),
        "p99_ms": middle(scored, "latency_ms", "p99"),
        "p999_ms": middle(scored, "latency_ms", "p999"),
        "closing_put_p50_ms": middle(scored, "closing_put_ms", "p50"),
        "cpu_ms_per_op": middle(scored, "server", "cpu_ms_per_op"),
        "cpu_seconds_per_gb": middle(scored, "server", "cpu_seconds_per_gb"),
        "peak_resident_mb": middle(scored, "server", "peak_resident_mb"),
        "client_share": middle(scored, "client_share"),
        "spread": spread([figures["ops_per_second"] for figures in scored]),
        "runs": len(scored),
    }
    notes = []
    if result["client_share"] > CLIENT_BOUND:
        notes.append("client-bound")
    if failed:
        notes.append(f"{failed} of {len(counted)} runs had errors: {failure_of(counted)}")
    result["note"] = "; ".join(notes)
    return result


def failure_of(runs):
    """The first message of the first run that failed."""
    for run in runs:
        if run.get("failure"):
            return run["failure"]
        figures = run.get("figures") or {}
        if figures.get("messages"):
            return figures["messages"][0]
    return "no run"


def middle(figures, *keys):
    values = []
    for value in figures:
        for key in keys:
            value = value.get(key) if value else None
        if value is not None:
            values.append(value)
    return median(values) if values else None


def spread(values):
    """How far the runs lie apart, as a share of their median."""
    return (max(values) - min(values)) / median(values) if median(values) else 0.0


def results_table(rows, names):
    lines = [
        "| workload | server | ops/s | MB/s | CPU ms/op | CPU s/GB | p50 ms | p99 ms | closing PUT p50 ms | peak MB | note |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---|",
    ]
    for row, results in rows:
        for name in names:
            result = results.get(name)
            if result is None:
                continue
            cells = [
                number(result.get("ops_per_second"), 0),
                number(result.get("megabytes_per_second"), 0) if row.by_bytes else "",
                number(result.get("cpu_ms_per_op"), 3),
                number(result.get("cpu_seconds_per_gb"), 2) if row.by_bytes else "",
                number(result.get("p50_ms"), 2),
                number(result.get("p99_ms"), 2),
                number(result.get("closing_put_p50_ms"), 1),
                number(result.get("peak_resident_mb"), 0),
                result["note"].replace("|", "/"),
            ]
            lines.append(f"| {row.title}, c={row.connections} | {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def ratios_table(rows, names, ours):
    peers = [name for name in names if name != ours]
    if not peers:
        return ""
    lines = [
        f"Each cell: throughput {ours}/peer (more is better) · server CPU {ours}/peer (less is better).",
        "A throughput ratio counts only while the client keeps below 90 % of its core; else the CPU ratio stands alone.",
        "",
        "| workload | " + " | ".join(peers) + " |",
        "|---|" + "---|" * len(peers),
    ]
    for row, results in rows:
        own = results.get(ours)
        if own is None:
            continue
        cells = [ratio(row, own, results.get(peer)) for peer in peers]
        lines.append(f"| {row.title} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def ratio(row, own, peer):
    if peer is None:
        return ""
    if "ops_per_second" not in peer:
        return peer["note"].split(":")[0]
    if "ops_per_second" not in own:
        return own["note"].split(":")[0]
    cost = "cpu_seconds_per_gb" if row.by_bytes else "cpu_ms_per_op"
    bound = max(own["client_share"], peer["client_share"]) > CLIENT_BOUND
    rate = "client-bound" if bound else times(own["ops_per_second"], peer["ops_per_second"])
    return f"{rate} · {times(own[cost], peer[cost])}"


def times(own, peer):
    if not own or not peer:
        return "?"
    quotient = own / peer
    return f"{quotient:.2f}x" if quotient < 10 else f"{quotient:,.0f}x"


def number(value, digits):
    return "" if value is None else f"{value:,.{digits}f}"
