"""Code in C: translated on this machine, once, by the compiler that is there."""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import torch

from utils.files import PROJECT

KINDS = {torch.bfloat16: "amx", torch.float32: "avx2"}  # of processors, by what maps are in
FOLDER = PROJECT / "model" / "native"
OPTIONS = {  # of a kind of processor, which has a folder of that name
    "amx": (
        "-mfma", "-mavx2", "-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512dq", "-mavx512bf16",
        "-mamx-tile", "-mamx-bf16",
    ),
    "avx2": ("-mfma", "-mavx2"),
}  # fmt: skip
CACHE = PROJECT / "storage" / "cache" / "native"
COMPILERS = ("cc", "gcc", "clang")
ALWAYS = ("-O3", "-std=gnu11", "-fopenmp", "-fPIC", "-shared")
PATIENCE = 120  # seconds


@cache
def library(kind: str) -> ctypes.CDLL | str:
    """Return what `model/kernels.py` calls on a kind of processor, loaded; or why there is none."""
    try:
        found = load_library([FOLDER, FOLDER / kind], OPTIONS[kind])
    except OSError as error:
        return str(error)
    return f"processor or system give no {kind.upper()}" if found.refused() else found


def load_library(folders: Sequence[Path], options: Sequence[str]) -> ctypes.CDLL:
    """Return the library made of all C files in `folders`; it is kept in the project.

    Never in `storage_dir`, which may be somebody else's: what is kept is code that runs.

    Args:
        folders: with `*.c` and `*.h`.
        options: for the compiler, beside those that each library needs.

    Raises:
        OSError: there is no compiler, it fails, or its work cannot be kept or loaded.
    """
    compiler = next(filter(None, map(shutil.which, COMPILERS)), None)
    if compiler is None:
        raise OSError("there is no C compiler (cc, gcc or clang)")
    options = [*options, *(f"-I{folder}" for folder in folders)]
    sources = [source for folder in folders for source in sorted(folder.glob("*.[ch]"))]
    digest = hashlib.sha256(" ".join([compiler_version(compiler), *options]).encode())
    for source in sources:
        digest.update(source.read_bytes())
    path = CACHE / f"{folders[-1].name}-{digest.hexdigest()[:16]}.so"
    if not path.is_file():
        files = [str(source) for source in sources if source.suffix == ".c"]
        translate([compiler, *ALWAYS, *options, *files], path)
    return ctypes.CDLL(str(path))


def compiler_version(compiler: str) -> str:
    """Return what the compiler says that it is: another one may give other last digits."""
    return run([compiler, "--version"])


def translate(command: list[str], path: Path) -> None:
    """Let the compiler write a library, and put it at `path` when it is whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, unfinished = tempfile.mkstemp(suffix=".so", dir=path.parent)
    os.close(handle)
    try:
        run([*command, "-lm", "-o", unfinished])
        Path(unfinished).replace(path)  # another process may be as far, with the same content
    finally:
        Path(unfinished).unlink(missing_ok=True)


def run(command: list[str]) -> str:
    """Return what a command prints.

    Raises:
        OSError: it fails, or never ends; with the first line that says why.
    """
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    except subprocess.TimeoutExpired as error:
        raise OSError(f"{command[0]} does not come to an end") from error
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["it does not say why"]
        raise OSError(f"{Path(command[0]).name}: {lines[0]}")
    return done.stdout
