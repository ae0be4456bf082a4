"""An S3 server as the measurements need it: buckets that are made and emptied, and a count of the requests it answers."""

import hashlib
import hmac
import http.client
import json
import threading
import time
import urllib.parse
import xml.etree.ElementTree as xml
from collections import Counter

REGION = "us-east-1"
TIMEOUT = 60
#: What is sent unsigned need not be read twice.
UNSIGNED = "UNSIGNED-PAYLOAD"


class Server:
    """MinIO, by its address and the keys of its owner."""

    def __init__(self, endpoint, access_key, secret_key):
        self.endpoint = endpoint
        self.access_key = access_key
        self.secret_key = secret_key
        self.host = urllib.parse.urlsplit(endpoint).netloc

    def make(self, bucket):
        self._done("PUT", f"/{bucket}")

    def keys(self, bucket):
        """Every key of the bucket."""
        keys, token = [], None
        while True:
            query = {"list-type": "2"} | ({"continuation-token": token} if token else {})
            page = xml.fromstring(self._done("GET", f"/{bucket}", query))
            spaces = {"s3": page.tag[1:].partition("}")[0]}
            keys += [key.text for key in page.findall("s3:Contents/s3:Key", spaces)]
            token = page.findtext("s3:NextContinuationToken", namespaces=spaces)
            if not token:
                return keys

    def delete(self, bucket, keys):
        for key in keys:
            self._done("DELETE", f"/{bucket}/{key}")

    def version(self):
        """What the server says of itself."""
        answer = json.loads(self._done("GET", "/minio/admin/v3/info"))
        return answer["servers"][0]["version"]

    def _done(self, method, path, query=None):
        response = self.send(method, path, query)
        body = response.read()
        if response.status >= 300:
            raise RuntimeError(f"{method} {path}: {response.status} {body[:300]!r}")
        return body

    def send(self, method, path, query=None, timeout=TIMEOUT):
        """Sends a signed request without a body; gives the response, still to be read."""
        path = urllib.parse.quote(path)
        query = "&".join(
            f"{urllib.parse.quote(key, safe='')}={urllib.parse.quote(value, safe='')}"
            for key, value in sorted((query or {}).items())
        )
        connection = http.client.HTTPConnection(self.host, timeout=timeout)
        target = f"{path}?{query}" if query else path
        connection.request(method, target, headers=self._signed(method, path, query))
        return connection.getresponse()

    def _signed(self, method, path, query):
        """The headers of AWS Signature Version 4."""
        moment = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        headers = {"host": self.host, "x-amz-content-sha256": UNSIGNED, "x-amz-date": moment}
        names = ";".join(headers)
        lines = "".join(f"{name}:{value}\n" for name, value in headers.items())
        canonical = "\n".join([method, path, query, lines, names, UNSIGNED])
        scope = f"{moment[:8]}/{REGION}/s3/aws4_request"
        digest = hashlib.sha256(canonical.encode()).hexdigest()
        text = "\n".join(["AWS4-HMAC-SHA256", moment, scope, digest])
        key = f"AWS4{self.secret_key}".encode()
        for part in scope.split("/"):
            key = hmac.digest(key, part.encode(), "sha256")
        signature = hmac.new(key, text.encode(), "sha256").hexdigest()
        authorization = f"AWS4-HMAC-SHA256 Credential={self.access_key}/{scope}, SignedHeaders={names}, Signature={signature}"
        return {**headers, "Authorization": authorization}


class Trace:
    """Follows every request the server answers. MinIO tells of each one when it is over."""

    #: What the server may still have to tell when a client has its answer.
    SETTLE = 0.5

    def __init__(self, server):
        self.response = server.send("GET", "/minio/admin/v3/trace", {"s3": "true"}, timeout=None)
        if self.response.status != 200:
            raise RuntimeError(f"the trace was refused: {self.response.read()[:300]!r}")
        self.lock = threading.Lock()
        self.seen = []
        threading.Thread(target=self._follow, daemon=True).start()

    def _follow(self):
        # The server sends blanks while nothing happens, and ends when it is stopped.
        try:
            for line in self.response:
                if line.strip():
                    entry = json.loads(line)
                    with self.lock:
                        self.seen.append((entry.get("path") or "", entry.get("funcname") or "?"))
        except (OSError, ValueError, http.client.HTTPException):
            return

    def take(self, bucket):
        """Requests on a bucket since the last call, by their kind."""
        time.sleep(self.SETTLE)
        with self.lock:
            seen, self.seen = self.seen, []
        kinds = (kind.removeprefix("s3.") for path, kind in seen if path.strip("/").split("/")[0] == bucket)
        return Counter(kinds)
