"""The measurements with accounts: the same pulls without credentials and with each kind of them, beside zot with passwords."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import accounts
import contenders
from on_postgres import GET, SEEDED, TAGS, figures_of, rate
from run import rotated
from setting import middle, say, table, verdict
from tables import CLIENT_BOUND

#: Goals of the issue.
SHARE, TIMES = 0.8, 50
CPU = ("server", "cpu_ms_per_op")
OURS, PEER = contenders.Granary.name, contenders.Zot.name
NOBODY, PASSWORD, BEARER, TOKEN = "no credentials", "Basic with a password", "Bearer", "Basic with an API token"


@dataclass(frozen=True)
class Puller:
    """Who pulls, from which server, and what he shows there."""

    instance: contenders.Instance
    state: Path
    credentials: str
    #: Makes the header line before every run, because some credentials do not live long.
    header: Callable | None = None

    @property
    def server(self):
        return self.instance.contender.name

    def options(self):
        return ["--state", self.state, *(["--header", self.header()] if self.header else [])]


def embedded(setting):
    """Granary with its embedded catalog, and zot."""
    pullers = ours(setting, contenders.Granary(setting.granary), contenders.Granary(setting.granary))
    left_out = None
    try:
        pullers += peers(setting)
    except (RuntimeError, OSError) as error:
        left_out = str(error)
        say(f"  left out: {left_out}")
    return {"runs": race(setting, pullers), "left_out": left_out}


def postgres(setting):
    """Replicas on PostgreSQL, each with a database of its own."""
    closed = setting.replica("closed")
    closed.settings["GRANARY_AUTH__KEY_FILE"] = str(accounts.key_file(setting.folder))
    return {"runs": race(setting, ours(setting, setting.replica("open"), closed))}


def ours(setting, without_accounts, with_accounts):
    """One Granary that knows nobody, and one that asks everybody."""
    open_to_all, closed = setting.start(without_accounts), setting.start(with_accounts)
    known = accounts.Accounts(closed)
    pushed = setting.seed(open_to_all, SEEDED, TAGS)
    kept = setting.seed(closed, SEEDED, TAGS, "--header", known.password())
    return [
        Puller(open_to_all, pushed, NOBODY),
        Puller(closed, kept, PASSWORD, known.password),
        Puller(closed, kept, BEARER, lambda: known.bearer(SEEDED)),
        Puller(closed, kept, TOKEN, known.token),
    ]


def peers(setting):
    contender = accounts.zot()
    instance = setting.start(contender)
    pushed = setting.seed(instance, SEEDED, TAGS, "--header", contender.password(min(accounts.COSTS)))
    with_password = [
        Puller(instance, pushed, f"{PASSWORD}, bcrypt {cost}", lambda cost=cost: contender.password(cost))
        for cost in accounts.COSTS
    ]
    return [Puller(instance, pushed, NOBODY), *with_password]


def race(setting, pullers):
    """All of them in turn, another one first in each round."""
    runs = {puller.server: {} for puller in pullers}
    for puller in pullers:
        runs[puller.server][puller.credentials] = []
    for turn in range(setting.rounds):
        for puller in rotated(pullers, turn):
            run = setting.load(puller.instance, GET, *puller.options())
            say(f"  {puller.server}, {puller.credentials}: {run['ops_per_second']:,.0f}/s, client {run['client_share']:.0%}")
            runs[puller.server][puller.credentials].append(run)
    for instance in {id(puller.instance): puller.instance for puller in pullers}.values():
        instance.remove()
    return runs


def describe(result):
    heads = ["server, credentials", "manifest GET by tag, a second", "p50 ms", "p99 ms", "server CPU, ms each"]
    heads += ["client's share of its core", "share of the rate without"]
    rows = []
    for server, kinds in result["runs"].items():
        for credentials, runs in kinds.items():
            share = "" if credentials == NOBODY else f"{rate(runs) / rate(kinds[NOBODY]):.2f}"
            rows.append([f"{server}, {credentials}", *figures_of(runs), share])
    kinds = result["runs"][OURS]
    lines = [table(heads, rows), "", *(goal_of_share(kinds, credentials) for credentials in (PASSWORD, BEARER))]
    with_password = {name: runs for name, runs in result["runs"].get(PEER, {}).items() if name != NOBODY}
    if with_password:
        lines.append(goal_of_times(kinds[PASSWORD], with_password))
    if result.get("left_out"):
        lines.append(f"- {PASSWORD}: at least {TIMES} times {PEER}: no figure ({result['left_out']}).")
    return "\n".join(lines)


def goal_of_share(kinds, credentials):
    runs, without = kinds[credentials], kinds[NOBODY]
    share = rate(runs) / rate(without)
    cost = middle(runs, *CPU) / middle(without, *CPU)
    bound = max(middle(runs, "client_share"), middle(without, "client_share")) > CLIENT_BOUND
    outcome = "no verdict, client-bound" if bound else verdict(share >= SHARE)
    shown = f"{share:.2f}, at {cost:.2f} times the server CPU"
    return f"- {credentials}: at least {SHARE} of the rate without accounts: {shown}: {outcome}."


def goal_of_times(own, with_password):
    times = {name: rate(own) / rate(runs) for name, runs in with_password.items()}
    shown = ", ".join(f"{ratio:,.0f} ({name.rpartition(', ')[2]})" for name, ratio in times.items())
    return f"- {PASSWORD}: at least {TIMES} times {PEER}: {shown}: {verdict(min(times.values()) >= TIMES)}."
