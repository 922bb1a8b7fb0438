"""What libraries raise where a download breaks."""

from __future__ import annotations

import tarfile
import zipfile
from http.client import IncompleteRead
from urllib.error import URLError


class OfALibrary(Exception):
    """As those of httpx and its successors are: of no kind that Python itself has."""


BROKEN: list[Exception] = [
    URLError("no network"),
    RuntimeError("invalid hash value"),
    ValueError("no such address"),
    OfALibrary("peer closed connection\nwithout sending the complete body"),
    IncompleteRead(b"x", 9),
    zipfile.BadZipFile("Bad magic number"),
    tarfile.ReadError("unexpected end of data"),
    EOFError(),
]
