"""The registries with their bytes in a bucket, and Granary with its catalog in PostgreSQL."""

import json
import os
from pathlib import Path

import bucket
import contenders


class Granary(contenders.Granary):
    """A replica: the catalog in PostgreSQL, the bytes in a bucket, limits and hints in Redis."""

    def __init__(self, binary, places, database, store):
        super().__init__(binary)
        self.database, self.store = database, store
        self.settings = {
            "GRANARY_DATABASE__URL": places.database_url(database),
            "GRANARY_REDIS__URL": places.redis,
            "GRANARY_STORAGE__KIND": "s3",
            "GRANARY_STORAGE__S3__ENDPOINT": places.s3.endpoint,
            "GRANARY_STORAGE__S3__REGION": bucket.REGION,
            "GRANARY_STORAGE__S3__BUCKET": store,
            "GRANARY_STORAGE__S3__ACCESS_KEY_ID": places.s3.access_key,
            "GRANARY_STORAGE__S3__SECRET_ACCESS_KEY": places.s3.secret_key,
            "GRANARY_STORAGE__S3__PATH_STYLE": "true",
        }

    def environment(self):
        return {**super().environment(), **self.settings}


class Distribution(contenders.Distribution):
    """Its S3 driver with the parameters it comes with."""

    def __init__(self, binary, places, store):
        super().__init__(binary)
        self.s3, self.store = places.s3, store

    def command(self, folder, port):
        path = folder / "config.json"
        path.write_text(
            json.dumps(
                {
                    "version": 0.1,
                    "log": {"level": "error", "accesslog": {"disabled": True}},
                    "storage": {
                        "s3": {
                            "region": bucket.REGION,
                            "regionendpoint": self.s3.endpoint,
                            "bucket": self.store,
                            "accesskey": self.s3.access_key,
                            "secretkey": self.s3.secret_key,
                            "forcepathstyle": True,
                            "secure": False,
                        },
                        "delete": {"enabled": True},
                        "redirect": {"disable": True},
                    },
                    "http": {"addr": f"127.0.0.1:{port}"},
                }
            )
        )
        return [self.binary, "serve", str(path)]


class Zot(contenders.Zot):
    """Its S3 driver, which is distribution's. Without deduplication, because that needs a DynamoDB or Redis beside it."""

    def __init__(self, binary, places, store):
        super().__init__(binary)
        self.s3, self.store = places.s3, store

    def command(self, folder, port):
        path = folder / "config.json"
        path.write_text(
            json.dumps(
                {
                    "distSpecVersion": "1.1.1",
                    "storage": {
                        "rootDirectory": str(folder / "data"),
                        "dedupe": False,
                        "storageDriver": {
                            "name": "s3",
                            "rootdirectory": "/zot",
                            "region": bucket.REGION,
                            "regionendpoint": self.s3.endpoint,
                            "bucket": self.store,
                            "accesskey": self.s3.access_key,
                            "secretkey": self.s3.secret_key,
                            "forcepathstyle": True,
                            "secure": False,
                            "skipverify": False,
                        },
                    },
                    "http": {"address": "127.0.0.1", "port": str(port)},
                    "log": {"level": "error", "output": os.devnull},
                }
            )
        )
        return [self.binary, "serve", str(path)]


def peers(places, store_of):
    """Distribution and zot, where they are on this machine; `store_of` makes a bucket for a name."""
    found = []
    for kind, parent in ((Distribution, contenders.Distribution), (Zot, contenders.Zot)):
        for other in contenders.find("granary"):
            if type(other) is parent:
                found.append(kind(Path(other.binary), places, store_of(other.name)))
    return found
