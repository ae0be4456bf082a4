"""The measurements on a bucket: pushes of large layers beside the peers, what they ask of the bucket, and memory."""

import math
import os
import shutil
import threading
import time
from statistics import median

import bucket
import contenders
import on_bucket
import uploads
from setting import cpu_seconds, peak_megabytes, say, table, verdict

MIB = 1 << 20
GIB = 1 << 30
PART = 8 * MIB
REPOSITORY = "bench/push"
PARALLEL = 16
#: Goals of the issue.
FASTER, COMMIT_MS, FURTHER_REQUESTS, MEMORY_MB = 1.5, 300, 3, 250
#: What one part is sent with; everything else is a further request.
PART_REQUESTS = {"PutObjectPart", "CopyObjectPart", "UploadPartCopy"}


def pushes(setting):
    """One layer at a time, all contenders in turn, each beginning a round once."""
    size = 64 * MIB if setting.quick else GIB
    source = uploads.Source(setting.folder / "layer", size)
    racing = [start(setting, contender) for contender in everyone(setting)]
    racing = [entry for entry in racing if entry]
    trace = bucket.Trace(setting.places.s3)
    runs = {instance.contender.name: [] for instance in racing}
    for turn in range(setting.rounds):
        for instance in racing[turn % len(racing) :] + racing[: turn % len(racing)]:
            run = push_once(setting, instance, source, trace)
            say(f"  {instance.contender.name}: {run}")
            runs[instance.contender.name].append(run)
    small = [shapes_of(setting, instance, trace) for instance in racing]
    for instance in racing:
        instance.remove()
    os.remove(source.path)
    return {"size": size, "runs": runs, "shapes": dict(zip(runs, small))}


def everyone(setting):
    ours = setting.replica("push")
    return [ours, *on_bucket.peers(setting.places, setting.store)]


def start(setting, contender):
    try:
        return setting.start(contender)
    except (RuntimeError, OSError) as error:
        say(f"  left out: {error}")
        return None


def store_of(instance):
    return instance.contender.store


def push_once(setting, instance, source, trace, chunk=None, check=True):
    """Pushes one blob, reads it back, and takes it out of the bucket so that the disk does not fill."""
    blob, store = source.blob(), store_of(instance)
    os.sync()
    trace.take(store)
    before = cpu_seconds(instance.pid)
    timing = uploads.push(instance.port, REPOSITORY, blob, chunk)
    cpu = cpu_seconds(instance.pid) - before
    requests = trace.take(store)
    if check:
        uploads.verify(instance.port, REPOSITORY, blob)
    s3 = setting.places.s3
    s3.delete(store, [key for key in s3.keys(store) if not key.endswith("granary-store-id")])
    return {
        "seconds": timing.whole,
        "commit_ms": timing.closing * 1e3,
        "server_cpu_seconds": cpu,
        "peak_mb": peak_megabytes(instance.pid),
        "requests": dict(requests),
    }


def shapes_of(setting, instance, trace):
    """Layers of other sizes, and one that comes in chunks, once each."""
    counts = {}
    for name, size, chunk in (
        ("1 MiB", MIB, None),
        ("8 MiB", 8 * MIB, None),
        ("100 MiB", 100 * MIB, None),
        ("100 MiB in chunks of 5 MiB", 100 * MIB, 5 * MIB),
    ):
        source = uploads.Source(setting.folder / "small", size)
        try:
            counts[name] = push_once(setting, instance, source, trace, chunk)
        except (RuntimeError, OSError) as error:
            say(f"  {instance.contender.name}, {name}: {error}")
        os.remove(source.path)
    return counts


def split(requests):
    """How many parts, and how many further requests."""
    parts = sum(count for kind, count in requests.items() if kind in PART_REQUESTS)
    return parts, sum(requests.values()) - parts


def memory(setting):
    """Many uploads at once into a Granary that has just started."""
    room = shutil.disk_usage(setting.folder).free - 5 * GIB
    fitting = [size for size in (GIB, 512 * MIB, 256 * MIB) if PARALLEL * size <= room]
    if not fitting:
        raise RuntimeError("the disk is too full for many large uploads")
    size = 16 * MIB if setting.quick else fitting[0]
    source = uploads.Source(setting.folder / "layer", size)
    instance = setting.start(setting.replica("memory"))
    idle = peak_megabytes(instance.pid)
    failures = []

    def one(number):
        try:
            uploads.push(instance.port, f"{REPOSITORY}-{number}", source.blob())
        except (RuntimeError, OSError) as error:
            failures.append(str(error))

    threads = [threading.Thread(target=one, args=(number,)) for number in range(PARALLEL)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - began
    result = {
        "size": size,
        "idle_mb": idle,
        "peak_mb": peak_megabytes(instance.pid),
        "seconds": seconds,
        "failures": failures,
    }
    setting.places.s3.delete(store_of(instance), setting.places.s3.keys(store_of(instance)))
    instance.remove()
    os.remove(source.path)
    return result


def describe_pushes(result):
    ours = contenders.Granary.name
    size = result["size"] / GIB
    keys = ("seconds", "commit_ms", "server_cpu_seconds", "peak_mb")
    middles = {name: {key: median(run[key] for run in runs) for key in keys} for name, runs in result["runs"].items()}
    own = middles[ours]
    rows = []
    for name, figures in middles.items():
        # The same number each time, unless something was tried again.
        parts, further = split(max((run["requests"] for run in result["runs"][name]), key=lambda kinds: sum(kinds.values())))
        rows.append(
            [
                name,
                f"{figures['seconds']:.2f}",
                f"{result['size'] / 1e6 / figures['seconds']:,.0f}",
                "" if name == ours else f"{figures['seconds'] / own['seconds']:.2f}x",
                f"{figures['commit_ms']:,.0f}",
                f"{figures['server_cpu_seconds']:.2f}",
                f"{figures['peak_mb']:,.0f}",
                f"{parts} + {further}",
            ]
        )
    heads = ["server", "push, s", "MB/s", "granary is faster by", "closing PUT, ms", "server CPU, s", "peak MB"]
    heads.append("requests: parts, sent or copied, + others")
    lines = [f"One layer of {size:g} GiB at a time (POST, one PATCH, PUT), {len(result['runs'][ours])} rounds, medians:", ""]
    lines += [table(heads, rows), ""]
    lines += ["Other layers, once each: requests to the bucket (parts + others), and the closing PUT:", ""]
    shapes = list(result["shapes"][ours])
    cells = [[name, *(shape_cell(runs.get(shape)) for shape in shapes)] for name, runs in result["shapes"].items()]
    lines += [table(["server", *shapes], cells), ""]
    peers = {name: figures["seconds"] / own["seconds"] for name, figures in middles.items() if name != ours}
    most = max(further_of(result["runs"][ours], result["shapes"][ours]))
    expected = math.ceil(result["size"] / PART)
    lines += [goal_of_push(peers), goal_of_commit(result["runs"][ours]), goal_of_requests(most, expected)]
    return "\n".join(lines)


def goal_of_push(peers):
    shown = ", ".join(f"{ratio:.2f} ({name})" for name, ratio in peers.items()) or "no peer"
    return f"- Push at least {FASTER} times either: {shown}: {verdict(peers and min(peers.values()) >= FASTER)}."


def goal_of_commit(runs):
    commits = [run["commit_ms"] for run in runs]
    shown = f"{median(commits):.0f} ms, slowest {max(commits):.0f} ms"
    return f"- Closing PUT below {COMMIT_MS} ms: {shown}: {verdict(median(commits) < COMMIT_MS)}."


def goal_of_requests(most, expected):
    shown = f"{most} further ones at most, of all layers above ({expected} parts in the large one)"
    return f"- At most parts + {FURTHER_REQUESTS} requests a blob: {shown}: {verdict(most <= FURTHER_REQUESTS)}."


def shape_cell(run):
    if run is None:
        return "failed"
    parts, further = split(run["requests"])
    return f"{parts} + {further}, {run['commit_ms']:,.0f} ms"


def further_of(runs, shapes):
    return [split(run["requests"])[1] for run in [*runs, *shapes.values()]]


def describe_memory(result):
    if result["failures"]:
        return f"{PARALLEL} uploads at once: no figure ({result['failures'][0]})."
    peak, size = result["peak_mb"], result["size"]
    shown = f"{size / GIB:g} GiB" if size >= GIB else f"{size / MIB:g} MiB"
    rate = PARALLEL * size / 1e6 / result["seconds"]
    return (
        f"- Below {MEMORY_MB} MB resident at {PARALLEL} uploads of 1 GiB at once: peak {peak:.0f} MB with {PARALLEL} x {shown} "
        f"({result['idle_mb']:.0f} MB when idle; {rate:,.0f} MB/s in all): {verdict(peak < MEMORY_MB)}."
    )
