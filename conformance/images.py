#!/usr/bin/env python3
"""Makes small real images without running anything: the same arguments give the same bytes.

  images.py layer FILE.tar SEED [SIZE]        a layer: one text file and one of SIZE random bytes
  images.py archive FILE.tar NAME:TAG SEED    a docker archive (docker load, crane push, skopeo docker-archive:), three layers
  images.py layout FOLDER TAG SEED            an OCI layout with one image of three layers
  images.py index FOLDER TAG SEED             an OCI layout with an index of two images (linux/amd64 and linux/arm64)
"""
import gzip
import hashlib
import io
import json
import pathlib
import random
import sys
import tarfile

LAYER_SIZES = [1_000, 300_000, 6_000_000]  # the last one is larger than what chunking clients send in one piece
CREATED = "2026-01-01T00:00:00Z"


def tar_of(files):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(data), 0o644
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def layer(seed, size):
    noise = random.Random(f"{seed}/{size}").randbytes(size)
    return tar_of({f"etc/granary-{size}": f"made from {seed}\n".encode(), f"data/{size}.bin": noise})


def digest(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


def encode(value):
    return json.dumps(value, separators=(",", ":")).encode()


def image_config(layers, architecture):
    return encode({
        "created": CREATED, "architecture": architecture, "os": "linux", "config": {"Cmd": ["/bin/true"]},
        "rootfs": {"type": "layers", "diff_ids": [digest(data) for data in layers]},
        "history": [{"created": CREATED, "created_by": f"layer {number}"} for number, _ in enumerate(layers)],
    })


def write_archive(path, name, seed):
    layers = [layer(seed, size) for size in LAYER_SIZES]
    config = image_config(layers, "amd64")
    config_name = digest(config).removeprefix("sha256:") + ".json"
    names = [digest(data).removeprefix("sha256:") + "/layer.tar" for data in layers]
    manifest = encode([{"Config": config_name, "RepoTags": [name], "Layers": names}])
    files = {config_name: config, **dict(zip(names, layers)), "manifest.json": manifest}
    pathlib.Path(path).write_bytes(tar_of(files))


class Layout:
    """An OCI image layout being written to a folder."""

    def __init__(self, folder):
        self.root = pathlib.Path(folder)
        (self.root / "blobs/sha256").mkdir(parents=True, exist_ok=True)
        (self.root / "oci-layout").write_bytes(encode({"imageLayoutVersion": "1.0.0"}))

    def blob(self, media_type, data):
        (self.root / "blobs/sha256" / digest(data).removeprefix("sha256:")).write_bytes(data)
        return {"mediaType": media_type, "digest": digest(data), "size": len(data)}

    def image(self, seed, architecture):
        layers = [layer(f"{seed}/{architecture}", size) for size in LAYER_SIZES]
        config = self.blob("application/vnd.oci.image.config.v1+json", image_config(layers, architecture))
        zipped = [gzip.compress(data, compresslevel=1, mtime=0) for data in layers]
        media_type = "application/vnd.oci.image.manifest.v1+json"
        return self.blob(media_type, encode({
            "schemaVersion": 2, "mediaType": media_type, "config": config,
            "layers": [self.blob("application/vnd.oci.image.layer.v1.tar+gzip", data) for data in zipped],
        }))

    def index(self, seed):
        media_type = "application/vnd.oci.image.index.v1+json"
        platforms = ["amd64", "arm64"]
        manifests = [{**self.image(seed, name), "platform": {"architecture": name, "os": "linux"}} for name in platforms]
        return self.blob(media_type, encode({"schemaVersion": 2, "mediaType": media_type, "manifests": manifests}))

    def finish(self, root, tag):
        entry = {**root, "annotations": {"org.opencontainers.image.ref.name": tag}}
        (self.root / "index.json").write_bytes(encode({"schemaVersion": 2, "manifests": [entry]}))
        print(root["digest"])


def main(arguments):
    match arguments:
        case ["layer", path, seed]:
            pathlib.Path(path).write_bytes(layer(seed, 50_000))
        case ["layer", path, seed, size]:
            pathlib.Path(path).write_bytes(layer(seed, int(size)))
        case ["archive", path, name, seed]:
            write_archive(path, name, seed)
        case ["layout", folder, tag, seed]:
            layout = Layout(folder)
            layout.finish(layout.image(seed, "amd64"), tag)
        case ["index", folder, tag, seed]:
            layout = Layout(folder)
            layout.finish(layout.index(seed), tag)
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
