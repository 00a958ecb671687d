"""The images that the tests run: built by buildah on a base from Debian, kept by what they hold.

No image is pulled: the base is made by debootstrap. What this machine needs to reach a package
index (a certificate, a pip configuration) is mounted while an image is built and is not in it.
"""

import hashlib
import json
import re
import shutil
import tarfile
import tempfile
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from tests.cluster.binaries import machine_path
from tests.cluster.layout import cache
from tests.cluster.processes import ClusterError, locked, run

REPOSITORY = Path(__file__).parents[2]
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
BASE = "script-runner-base:test"
#: As in the README, and what the chart and manifests/samples ask for.
SCRIPT_RUNNER = f"script-runner:{PROJECT['version']}"
PLATES = "plates:1.0"

SUITE = "bookworm"
PACKAGES = ("ca-certificates", "python3", "python3-venv")
#: Files of this machine without which pip reaches no index; at the same place while building.
MACHINE_FILES = (Path("/etc/ssl/certs/ca-certificates.crt"), Path("/etc/pip.conf"))
BUILD_SECONDS = 1200


class Image(NamedTuple):
    """An image by the text of its Dockerfile; *argument* is the one that names its parent."""

    name: str
    dockerfile: str
    argument: str
    parent: "Image | None"
    #: Digest of all it is made of, taken once: somebody may be editing.
    key: str

    @property
    def repository(self) -> str:
        """The name that buildah gives it, without a tag."""
        return f"localhost/{self.name.rpartition(':')[0]}"

    @property
    def stored(self) -> str:
        """The name in buildah's store."""
        return f"{self.repository}:{self.key}"


def build() -> list[Path]:
    """Build what is not in the cache; return the archives of the images that tests run."""
    base = Image(BASE, "", "", None, _digest(repr((SUITE, PACKAGES)), ()))
    dockerfile = (REPOSITORY / "Dockerfile").read_text()
    script_runner = _image(SCRIPT_RUNNER, dockerfile, "BASE", base)
    example = (REPOSITORY / "example" / "Dockerfile").read_text()
    plates = _image(PLATES, example, "IMAGE", script_runner)
    with locked(cache() / "images"):
        return [_archive(image) for image in (script_runner, plates)]


def _image(name: str, dockerfile: str, argument: str, parent: Image) -> Image:
    key = _digest(f"{name}\0{parent.key}\0{dockerfile}", _copied(dockerfile))
    return Image(name, dockerfile, argument, parent, key)


def _archive(image: Image) -> Path:
    """Return the archive of *image*, made now when its contents are new; older ones go."""
    stem = image.name.partition(":")[0]
    folder = cache() / "images"
    path = folder / f"{stem}-{image.key}.tar"
    if not path.exists():
        print(f"building {image.name}", flush=True)
        _ensure(image)
        partial = path.with_suffix(".partial")
        partial.unlink(missing_ok=True)
        # Not compressed, which takes longer than it saves: the archive stays on this machine.
        _buildah("push", image.stored, f"docker-archive:{partial}:{image.name}")
        partial.rename(path)
        for old in folder.glob(f"{stem}-*.tar"):
            if old != path:
                old.unlink()
    return path


def image_id(archive: Path) -> str:
    """Return the id that a node gives to the image in *archive*."""
    with tarfile.open(archive) as opened:
        manifest = opened.extractfile("manifest.json")
        assert manifest
        config = json.load(manifest)[0]["Config"]
    return f"sha256:{Path(config).stem}"


def _ensure(image: Image) -> str:
    """Build *image* and what it stands on, if need be; return its name in buildah's store."""
    name = image.stored
    tags = _tags(image.repository)
    if name in tags:
        return name
    if image.parent is None:
        _bootstrap(name)
        return name
    parent = _ensure(image.parent)
    _buildah("rm", "--all")  # of a build that was killed
    with tempfile.TemporaryDirectory() as folder:
        dockerfile = Path(folder) / "Dockerfile"
        dockerfile.write_text(image.dockerfile)
        words: list[str | Path] = [
            "--isolation",
            "chroot",
            "--format",
            "docker",
            "--file",
            dockerfile,
        ]
        for path in MACHINE_FILES:
            words += ["--volume", f"{path}:{path}:ro"] if path.exists() else []
        argument = f"{image.argument}={parent}"
        # With layers: what is installed from the index is there when only our code has changed.
        _buildah("build", "--layers", *words, "--build-arg", argument, "--tag", name, REPOSITORY)
    for old in tags:
        _buildah("rmi", "--force", old)
    return name


def _bootstrap(name: str) -> None:
    """Make the base image: a minimal Debian with Python, nothing of this machine in it."""
    with tempfile.TemporaryDirectory(prefix="debootstrap-", dir=cache()) as folder:
        root = Path(folder) / "root"
        packages = f"--include={','.join(PACKAGES)}"
        _run("debootstrap", "--variant=minbase", packages, SUITE, root)
        for pattern in ("var/cache/apt/archives/*.deb", "var/lib/apt/lists/*_*"):
            for path in root.glob(pattern):
                path.unlink()
        container = _buildah("from", "scratch").strip()
        _buildah("add", "--quiet", container, root, "/")
        _buildah("config", "--cmd", "/bin/bash", container)
        _buildah("commit", "--quiet", "--format", "docker", "--rm", container, name)


def _digest(text: str, files: Iterable[Path]) -> str:
    digest = hashlib.sha256(text.encode())
    for path in files:
        mode = path.stat().st_mode & 0o111
        digest.update(f"{path.relative_to(REPOSITORY)}\0{mode}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def _copied(dockerfile: str) -> Iterator[Path]:
    """Yield the repository's files that *dockerfile* copies."""
    for words in re.findall(r"^COPY (?!--from)(.+) \S+$", dockerfile, re.MULTILINE):
        for word in words.split():
            path = REPOSITORY / word
            files = sorted(path.rglob("*")) if path.is_dir() else [path]
            yield from (file for file in files if file.is_file() and file.suffix != ".pyc")


def _tags(repository: str) -> list[str]:
    """Return the names in buildah's store that are of *repository*."""
    listed = json.loads(_buildah("images", "--json"))
    names = [name for entry in listed for name in entry.get("names") or []]
    return [name for name in names if name.rpartition(":")[0] == repository]


def _buildah(*words: str | Path) -> str:
    # A store of its own: nobody's images are seen, and removing the cache removes all of it.
    store: list[str | Path] = [
        "--root",
        cache() / "buildah",
        "--runroot",
        "/run/script-runner-buildah",
    ]
    return _run("buildah", *store, *words)


def _run(program: str, *words: str | Path) -> str:
    found = shutil.which(program, path=machine_path())
    if found is None:
        raise ClusterError(f"no {program}: apt-get install {program}")
    return run([found, *words], seconds=BUILD_SECONDS)
