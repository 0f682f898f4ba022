"""The official files of benchmarks: where they are, how to check them, and fetching them.

Addresses and checksums are those that the benchmarks' own pages give; where a page gives no
checksum, none is made up.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from parti.core.errors import InvalidData, InvalidSettings
from parti.tables.places import cache_folder

__all__ = ["OFFICIAL", "Official", "download", "fetch"]

CHUNK = 1 << 20
SECONDS = 60


@dataclass(frozen=True, slots=True)
class Official:
    """An official file.

    Args:
        file: its name.
        address: where it is.
        page: where the benchmark says so.
        sha256: its checksum in hexadecimal digits; empty when the page gives none.
        direct: whether a program can fetch it; from Google Drive, a person has to.
    """

    file: str
    address: str
    page: str
    sha256: str = ""
    direct: bool = False


OFFICIAL = {
    "nasbench101": Official(
        "nasbench_full.tfrecord",
        "https://storage.googleapis.com/nasbench/nasbench_full.tfrecord",
        "https://github.com/google-research/nasbench",
        "3d64db8180fb1b0207212f9032205064312b6907a3bbc81eabea10db2f5c7e9c",
        direct=True,
    ),
    "nasbench101-108": Official(
        "nasbench_only108.tfrecord",
        "https://storage.googleapis.com/nasbench/nasbench_only108.tfrecord",
        "https://github.com/google-research/nasbench",
        "4c39c3936e36a85269881d659e44e61a245babcb72cb374eacacf75d0e5f4fd1",
        direct=True,
    ),
    "nats-topology": Official(
        "NATS-tss-v1_0-3ffb9-simple.tar",
        "https://drive.google.com/file/d/17_saCsj_krKjlCBLOJEpNtzPXArMCqxU/view",
        "https://github.com/D-X-Y/NATS-Bench",
    ),
    "nats-size": Official(
        "NATS-sss-v1_0-50262-simple.tar",
        "https://drive.google.com/file/d/1scOMTUwcQhAMa_IMedp9lTzwmgqHLGgA/view",
        "https://github.com/D-X-Y/NATS-Bench",
    ),
    "hw-nas-bench": Official(
        "HW-NAS-Bench-v1_0.pickle",
        "https://github.com/GATECH-EIC/HW-NAS-Bench",
        "https://github.com/GATECH-EIC/HW-NAS-Bench",
    ),
}
"""Official files by name.

The five digits in the names of NATS-Bench are the first of an MD5 sum, but of the same data as one
file (.pickle.pbz2), not of these archives.
"""


def fetch(name: str) -> Path:
    """Return an official file, from the cache or downloaded into it.

    Args:
        name: as in `OFFICIAL`.

    Raises:
        InvalidSettings: there is no such file.
        InvalidData: it cannot be reached, is not what it should be, or has to be fetched by hand.
    """
    official = OFFICIAL.get(name)
    if official is None:
        raise InvalidSettings(f"no official file {name!r}; there are {', '.join(OFFICIAL)}")
    folder = cache_folder() / "tables"
    target = folder / official.file
    if target.is_file():
        return target
    if not official.direct:
        unpack = " and unpack it there" if official.file.endswith(".tar") else ""
        raise InvalidData(
            f"{official.file} has to be fetched by hand: take it from {official.address} "
            f"(see {official.page}), put it into {folder}{unpack}"
        )
    return download(official.address, target, sha256=official.sha256)


def download(address: str, target: Path, *, sha256: str = "") -> Path:
    """Download a file, check it, and only then put it in its place.

    What has arrived is kept beside the target (.part); called again, it goes on from there.

    Args:
        address: https:// or http://.
        target: the file to write; its folder is made.
        sha256: what its checksum must be; empty to check nothing.

    Returns:
        The target.

    Raises:
        InvalidSettings: the address is of another kind.
        InvalidData: the address cannot be reached, or the file is not what it should be.
    """
    if not address.startswith(("https://", "http://")):
        raise InvalidSettings(f"{address!r} is no address; it begins with https:// or http://")
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f"{target.name}.part")
    try:
        _receive(address, part)
    except (URLError, OSError) as error:
        raise InvalidData(
            f"{address} cannot be reached ({error}); try again later to go on from "
            f"{part.stat().st_size if part.is_file() else 0:,} bytes, or fetch it by other means "
            f"and put it at {target}"
        ) from error
    found = _sha256(part)
    if sha256 and found != sha256:
        part.unlink()
        raise InvalidData(
            f"{address} gave a file with SHA-256 {found}, not {sha256}; it was deleted: try again, "
            "or see whether the benchmark has a new version"
        )
    return part.replace(target)


def _receive(address: str, part: Path) -> None:
    there = part.stat().st_size if part.is_file() else 0
    request = Request(address, headers={"Range": f"bytes={there}-"} if there else {})  # noqa: S310
    try:
        answer = urlopen(request, timeout=SECONDS)  # noqa: S310 - the scheme is checked above
    except HTTPError as error:
        if error.code == 416 and there:  # nothing is left to send
            return
        raise
    with answer, part.open("ab" if answer.status == 206 else "wb") as file:
        expected = file.tell() + int(answer.headers.get("Content-Length") or 0)
        while chunk := answer.read(CHUNK):
            file.write(chunk)
        if file.tell() < expected:
            raise OSError(f"the connection ended after {file.tell():,} of {expected:,} bytes")


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
