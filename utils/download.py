"""The gate that all downloads pass: whatever goes wrong on the way is one clear line."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from utils.errors import InputError, TrainingError
from utils.files import no_empty_folders
from utils.torch_file import brief


@contextmanager
def refusing_failure(refusal: Callable[[str], str], folder: Path) -> Iterator[None]:
    """Turn every failure of the block, which downloads and unpacks, into one `InputError`.

    Args:
        refusal: makes the message from the reason.
        folder: to which it downloads; no empty one is left of a failure.

    Raises:
        InputError: the block failed.
    """
    try:
        with no_empty_folders(folder):
            yield
    except (InputError, TrainingError):
        raise
    # The libraries for it raise what they like: errors of httpx, of archives, of the protocol, that
    # are no OSError; which ones changes with their versions.
    except Exception as error:
        raise InputError(refusal(brief(error))) from error
