"""What the time of an answer tells a stranger: whether a repository is hidden or missing, and whether a user exists."""

import http.client
import time
from statistics import median

import accounts
import contenders
from on_postgres import SEEDED
from setting import say, table

#: As long as what is there, in the same namespace.
MISSING, NOBODY = "bench/x", "beach"
#: Pairs of requests; a wrong password costs a hash.
READS, PASSWORDS = 20_000, 150
#: A coin decides for one of two with 0.5; what is farther from that than this, an observer of this machine could use.
BIAS = 0.02
TIMEOUT = 60


class Granary(contenders.Granary):
    """One where nobody waits after wrong passwords: the waits would be measured."""

    def environment(self):
        return {**super().environment(), "GRANARY_AUTH__PASSWORD_FAILURES": "0"}


def measure(setting):
    """Asks for what is there and for what is not, in turn, on one connection."""
    instance = setting.start(Granary(setting.granary))
    known = accounts.Accounts(instance)
    setting.seed(instance, SEEDED, 1, "--header", known.password())
    stranger = header(known.stranger())
    connection = http.client.HTTPConnection("127.0.0.1", instance.port, timeout=TIMEOUT)
    share = 20 if setting.quick else 1

    def manifest(repository):
        return lambda: ask(connection, f"/v2/{repository}/manifests/t000000", stranger, 404)

    def password(user):
        wrong = header(accounts.basic(user, "not-the-password"))
        return lambda: ask(connection, "/v2/", wrong, 401)

    figures = {
        "repository: hidden, missing": in_turn(manifest(SEEDED), manifest(MISSING), READS // share),
        "wrong password: a user, nobody": in_turn(password(accounts.USER), password(NOBODY), PASSWORDS // share),
    }
    connection.close()
    instance.remove()
    return figures


def header(line):
    name, _, value = line.partition(": ")
    return {name: value}


def ask(connection, path, headers, status):
    """Microseconds until the whole answer is there."""
    began = time.perf_counter_ns()
    connection.request("GET", path, headers=headers)
    response = connection.getresponse()
    response.read()
    took = time.perf_counter_ns() - began
    if response.status != status:
        raise RuntimeError(f"{path}: {response.status} instead of {status}")
    return took / 1000


def in_turn(one, other, number):
    """Which of the two comes first changes, for the second may find the caches warm."""
    times = ([], [])
    for turn in range(number + number // 10):
        pair = ((0, one), (1, other)) if turn % 2 == 0 else ((1, other), (0, one))
        for which, request in pair:
            took = request()
            if turn >= number // 10:
                times[which].append(took)
    say(f"  {len(times[0]):,} pairs")
    return {"medians": [median(each) for each in times], "longer": longer(*times), "pairs": number}


def longer(ones, others):
    """How often one of the first takes longer than one of the others (Mann and Whitney's U, as a share)."""
    ranked = sorted([(value, 0) for value in ones] + [(value, 1) for value in others])
    below, wins = 0, 0
    for _, which in ranked:
        if which == 0:
            wins += below
        else:
            below += 1
    return wins / (len(ones) * len(others))


def describe(figures):
    heads = ["", "median of the first, us", "of the second, us", "how often the first takes longer"]
    rows = [
        [f"{what} ({told['pairs']:,} pairs)", *(f"{value:,.0f}" for value in told["medians"]), f"{told['longer']:.3f}"]
        for what, told in figures.items()
    ]
    lines = [table(heads, rows), ""]
    for what, told in figures.items():
        apart = abs(told["longer"] - 0.5)
        # Three standard deviations of what two equal distributions would show.
        resolution = max(BIAS, 3 * (6 * told["pairs"]) ** -0.5)
        outcome = "not told apart" if apart <= resolution else "**told apart**"
        lines.append(f"- {what}: {outcome}: a guess is right {0.5 + apart:.1%} of the time, and {0.5 + resolution:.1%} would be noticed.")
    return "\n".join(lines)
