"""Large blobs, pushed as clients push layers: POST, one PATCH with everything (or several), and the closing PUT."""

import hashlib
import http.client
import os
import time
import urllib.parse
from dataclasses import dataclass

#: The last bytes, in which the blobs of one source differ.
TAIL = 16
TIMEOUT = 300
MEBIBYTE = 1 << 20


class Source:
    """A file of random bytes. Every blob of it has a tail of its own, so that none is there already."""

    def __init__(self, path, size):
        self.path, self.size = path, size
        self.hash = hashlib.sha256()
        with open(path, "wb") as file:
            left = size - TAIL
            while left > 0:
                piece = os.urandom(min(left, MEBIBYTE))
                file.write(piece)
                self.hash.update(piece)
                left -= len(piece)

    def blob(self):
        return Blob(self, os.urandom(TAIL))


class Blob:
    """A unique blob."""

    def __init__(self, source, tail):
        self.source, self.tail = source, tail
        whole = source.hash.copy()
        whole.update(tail)
        self.digest = "sha256:" + whole.hexdigest()
        self.size = source.size

    def send(self, connection, first, past):
        """Sends bytes of the blob; the kernel takes them from the file, so the client costs next to nothing."""
        common = min(past, self.size - TAIL)
        with open(self.source.path, "rb") as file:
            if common > first:
                connection.sock.sendfile(file, first, common - first)
        if past > common:
            connection.sock.sendall(self.tail[max(first - common, 0) : past - common])


@dataclass
class Timing:
    """Seconds."""

    whole: float
    closing: float


def push(port, repository, blob, chunk=None):
    """Pushes a blob and says how long that took; with `chunk`, in PATCHes of so many bytes."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT)
    began = time.perf_counter()
    location = exchange(connection, "POST", f"/v2/{repository}/blobs/uploads/", 202)
    first = 0
    while first < blob.size:
        past = min(first + (chunk or blob.size), blob.size)
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(past - first)}
        if chunk:
            headers["Content-Range"] = f"{first}-{past - 1}"
        location = exchange(connection, "PATCH", location, 202, headers, lambda: blob.send(connection, first, past))
        first = past
    closing = time.perf_counter()
    location += ("&" if "?" in location else "?") + "digest=" + blob.digest
    exchange(connection, "PUT", location, 201)
    ended = time.perf_counter()
    connection.close()
    return Timing(ended - began, ended - closing)


def verify(port, repository, blob):
    """Reads a blob and compares it with its digest."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT)
    connection.request("GET", f"/v2/{repository}/blobs/{blob.digest}")
    response = connection.getresponse()
    hashed = hashlib.sha256()
    while piece := response.read(MEBIBYTE):
        hashed.update(piece)
    connection.close()
    if response.status != 200 or "sha256:" + hashed.hexdigest() != blob.digest:
        raise RuntimeError(f"{blob.digest} cannot be read back: status {response.status}")


def exchange(connection, method, path, expected, headers=None, body=None):
    """Sends a request and gives the path of the Location it is answered with."""
    connection.putrequest(method, path)
    for name, value in (headers or {"Content-Length": "0"}).items():
        connection.putheader(name, value)
    connection.endheaders()
    if body:
        body()
    response = connection.getresponse()
    answer = response.read()
    if response.status != expected:
        raise RuntimeError(f"{method} {path}: {response.status} {answer[:300]!r}")
    parts = urllib.parse.urlsplit(response.getheader("Location") or "")
    return parts.path + (f"?{parts.query}" if parts.query else "")
