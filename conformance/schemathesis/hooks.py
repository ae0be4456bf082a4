"""What schemathesis cannot make up: values in paths that are there. A generated name or digest is hardly ever one.

Seven requests of ten get such values, the same request always the same ones, so that a failure can be repeated. Which ones there are for
a placeholder is in $KNOWN (JSON), by the part of the path before it: "manifests" for {reference} in /v2/{name}/manifests/{reference}.
Requests that only read have a list of their own. "only" has what is never changed but for these: whoever asks must stay as it is.
"""

import hashlib
import json
import os
import re

import schemathesis

KNOWN = json.loads(os.environ["KNOWN"])
PLACEHOLDER = re.compile(r"([^/]+)/\{([^{}]+)\}")


def dice(*what):
    """A number that depends on the request only."""
    return int.from_bytes(hashlib.sha256(repr(what).encode()).digest()[:4], "big")


@schemathesis.hook
def before_call(context, case, kwargs):
    reads = case.method in ("GET", "HEAD")
    request = (case.method, case.path, case.path_parameters, case.query)
    taken = dice(*request) % 10 < 7
    for part, name in PLACEHOLDER.findall(case.path):
        only = [] if reads else KNOWN["only"].get(part, [])
        values = only or KNOWN["read" if reads else "change"].get(part, [])
        if values and (only or taken):
            # As it stands: schemathesis would escape the slashes of a repository's name.
            case.path_parameters[name] = values[dice(name, *request) % len(values)]
