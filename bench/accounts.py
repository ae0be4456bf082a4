"""Accounts on Granary and on zot, and the header lines that show whose a request is."""

import base64
import http.client
import json
import os
import shutil
import subprocess
import urllib.parse
import warnings

import contenders

ADMINISTRATOR, ADMINISTRATOR_PASSWORD = "admin", "who-measures-administers"
#: The owner of the repositories `bench/...`.
USER, PASSWORD = "bench", "what-is-measured-is-mine"
STRANGER = "stranger"
#: zot's users differ in what their passwords cost: what `htpasswd -B` takes by itself, and what bcrypt libraries take.
COSTS = (5, 10)
TIMEOUT = 60


class Accounts:
    """The accounts of a running Granary: an administrator, and a user who owns what is pulled."""

    def __init__(self, instance):
        self.instance = instance
        self._admin("bootstrap", "--user", ADMINISTRATOR, "--password-stdin", password=ADMINISTRATOR_PASSWORD)
        self._admin("user", "add", USER, "--password-stdin", password=PASSWORD)
        self.api_token = self._admin("token", "create", USER)

    def _admin(self, *words, password=""):
        """Gives the first line that the command prints."""
        contender = self.instance.contender
        done = subprocess.run(
            [contender.binary, "admin", *words, "--data", str(self.instance.folder / "data")],
            env=contender.environment(),
            input=password + "\n",
            capture_output=True,
            text=True,
            check=False,
            timeout=TIMEOUT,
        )
        if done.returncode != 0:
            raise RuntimeError(f"granary admin {words[0]}: {done.stderr.strip()[:300]}")
        return done.stdout.partition("\n")[0]

    def password(self):
        return basic(USER, PASSWORD)

    def administrator(self):
        return basic(ADMINISTRATOR, ADMINISTRATOR_PASSWORD)

    def stranger(self):
        """Somebody who owns nothing and was given nothing."""
        self._admin("user", "add", STRANGER, "--password-stdin", password=PASSWORD)
        return basic(STRANGER, PASSWORD)

    def token(self):
        return basic(USER, self.api_token)

    def bearer(self, repository):
        """What a docker client shows, made anew; it is good for five minutes."""
        connection = http.client.HTTPConnection("127.0.0.1", self.instance.port, timeout=TIMEOUT)
        scope = urllib.parse.urlencode({"scope": f"repository:{repository}:pull"})
        name, _, value = self.password().partition(": ")
        connection.request("GET", f"/auth/token?{scope}", headers={name: value})
        response = connection.getresponse()
        answer = response.read()
        connection.close()
        if response.status != 200:
            raise RuntimeError(f"/auth/token: {response.status} {answer[:300]!r}")
        return f"Authorization: Bearer {json.loads(answer)['token']}"


def basic(user, secret):
    return "Authorization: Basic " + base64.b64encode(f"{user}:{secret}".encode()).decode()


def key_file(folder):
    """What Granary needs on PostgreSQL before there can be accounts."""
    path = folder / "auth.key"
    path.touch(mode=0o600)
    path.write_bytes(os.urandom(32))
    return path


class Zot(contenders.Zot):
    """zot with a file of passwords; whoever comes may read, so that one server answers with a password and without."""

    def __init__(self, binary):
        super().__init__(binary)
        self.users = {cost: f"cost-{cost}" for cost in COSTS}

    def http(self, folder, port):
        path = folder / "htpasswd"
        path.write_text("".join(f"{user}:{bcrypt(PASSWORD, cost)}\n" for cost, user in self.users.items()))
        everything = {"anonymousPolicy": ["read"], "defaultPolicy": ["read", "create", "update", "delete"]}
        return {
            **super().http(folder, port),
            "auth": {"htpasswd": {"path": str(path)}},
            "accessControl": {"repositories": {"**": everything}},
        }

    def password(self, cost):
        return basic(self.users[cost], PASSWORD)


def zot():
    """zot, where it and something that makes its passwords are on this machine."""
    found = [other for other in contenders.find("granary") if type(other) is contenders.Zot]
    if not found:
        raise RuntimeError("zot is not on this machine")
    bcrypt(PASSWORD, min(COSTS))
    return Zot(found[0].binary)


def bcrypt(password, cost):
    """A hash as zot reads it, by whatever this machine has."""
    if shutil.which("htpasswd"):
        command = ["htpasswd", "-n", "-i", "-B", "-C", str(cost), USER]
        done = subprocess.run(command, input=password, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"htpasswd: {done.stderr.strip()[:300]}")
        return done.stdout.strip().partition(":")[2]
    try:
        with warnings.catch_warnings():
            # Python 3.13 has it no more.
            warnings.simplefilter("ignore", DeprecationWarning)
            import crypt
        return crypt.crypt(password, crypt.mksalt(crypt.METHOD_BLOWFISH, rounds=1 << cost))
    except (ImportError, AttributeError, ValueError):
        pass
    try:
        import bcrypt as module
    except ImportError:
        raise RuntimeError("zot's passwords need htpasswd (apache2-utils) or Python's bcrypt") from None
    return module.hashpw(password.encode(), module.gensalt(cost)).decode()
