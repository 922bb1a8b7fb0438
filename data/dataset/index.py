"""What is known of decoded images beside their pixels, kept as JSON in their cache.

Nothing in the file is believed for its own sake: names and labels come from the files as they are
listed now, the digest is compared with the pixels, and the rest carries a checksum.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from data.dataset.listing import Listing
from utils.files import read_regular, write_text

MOST_BYTES = 2**30  # of an index: far more than that of ten million images
HASH_SIZE = 16  # bytes of the hash by which two images are known to be the same


def pixel_hash(image: memoryview) -> bytes:
    """Return the hash of an image's pixels."""
    return hashlib.blake2b(image, digest_size=HASH_SIZE).digest()


@dataclass(frozen=True)
class Decoded:
    """The images of a listing that could be read, and what was wrong with the others.

    Attributes:
        files, labels: those of the N readable files.
        unreadable: pairs of file and reason.
        digest: SHA-256 of all pixels.
        hashes: of the pixels of each readable file.
    """

    files: list[str]
    labels: list[int]
    unreadable: list[tuple[str, str]]
    digest: str
    hashes: list[bytes]


def write_index(path: Path, decoded: Decoded, fingerprint: str) -> None:
    """Keep what `read_index` needs; `fingerprint` is that of the listing."""
    content = {
        "fingerprint": fingerprint,
        "unreadable": [list(pair) for pair in decoded.unreadable],
        "digest": decoded.digest,
        "hashes": b"".join(decoded.hashes).hex(),
    }
    write_text(path, json.dumps({**content, "checksum": checksum(content)}))


def checksum(content: Mapping[str, object]) -> str:
    """Return the SHA-256 of an index's other fields."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def read_index(path: Path, listing: Listing, fingerprint: str) -> Decoded | None:
    """Return what is kept at `path`; None unless it is whole and about the listing as it is now."""
    try:
        content = json.loads(read_regular(path, MOST_BYTES))
        if content.pop("checksum") != checksum(content) or content["fingerprint"] != fingerprint:
            return None
        reasons = dict(content["unreadable"])
        hashes, digest = bytes.fromhex(content["hashes"]), content["digest"]
    # A deep nesting is a RecursionError; other content has other types in other places.
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
    if not all(isinstance(reason, str) for reason in [*reasons.values(), digest]):
        return None
    return assemble(listing, reasons, digest, hashes)


def assemble(
    listing: Listing, reasons: dict[str, str], digest: str, hashes: bytes
) -> Decoded | None:
    """Return the decoded part of a listing; None where the index tells of another one.

    Args:
        listing: all files.
        reasons: of each unreadable file.
        digest: SHA-256 of all pixels, as far as the index knows.
        hashes: of the readable files, one after another.
    """
    readable = [place for place, file in enumerate(listing.files) if file not in reasons]
    if len(readable) + len(reasons) != len(listing.files):
        return None
    if len(hashes) != HASH_SIZE * len(readable):
        return None
    return Decoded(
        [listing.files[place] for place in readable],
        [listing.labels[place] for place in readable],
        list(reasons.items()),
        digest,
        [hashes[start : start + HASH_SIZE] for start in range(0, len(hashes), HASH_SIZE)],
    )
