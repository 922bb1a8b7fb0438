"""What a checkpoint holds: every key, its type and its range, validated once when it is read.

What only the run itself can tell, such as the shape of a weight, is compared in `run.restore`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator
from torch import Tensor

from defense.history import KEPT_REDUCTIONS
from utils.errors import InputError
from utils.printable import printable
from utils.torch_file import DamagedCheckpoint

FORMAT = 1  # raised whenever older code could misread a checkpoint
WEIGHTS = "model_state_dict"
MOST_EPOCHS = 10**6
LONGEST_TEXT = 10_000  # characters
LONGEST_MESSAGE = 120  # likewise
WHOLE_COLUMNS = ("epoch", "clean_pool", "poisoned_in_clean_pool")
OF_SHARE = ("acc", "asr", "tpr", "fpr", "auroc")  # None or 0..1
# What a row gets only once its epoch is finished.
OF_END = ("acc", "asr", "seconds", "images_per_second")
OF_EVERY_ROW = ("epoch", "stage", "clean_pool", "learning_rate")
OF_TEXT = ("stage", "split")


def _vector(dtype: torch.dtype) -> AfterValidator:
    """Return the validator of a tensor (N,) of `dtype` without NaN or infinity."""

    def check(tensor: Tensor) -> Tensor:
        if tensor.dtype != dtype or tensor.dim() != 1:
            raise ValueError(f"is {tensor.dtype} of {tensor.dim()} dimensions, not {dtype} of one")
        if not bool(tensor.isfinite().all()):
            raise ValueError("is not finite")
        return tensor

    return AfterValidator(check)


Count = Annotated[int, Field(ge=0, le=2**31)]
Share = Annotated[float, Field(ge=0, le=1)]
Seconds = Annotated[float, Field(ge=0, le=1e12)]
Text = Annotated[str, Field(max_length=LONGEST_TEXT)]
Whole = Annotated[int, Field(ge=-(2**63), lt=2**63)]
Plain = Text | bool | Whole | float | None
Row = dict[Text, Plain]
Floats = Annotated[Tensor, _vector(torch.float32)]


class _Part(BaseModel):
    """A mapping of a checkpoint: no other keys, nothing converted, no number that is not finite."""

    model_config = ConfigDict(
        strict=True, extra="forbid", arbitrary_types_allowed=True, allow_inf_nan=False
    )


class HistoryState(_Part):
    """What `defense.history.History` keeps, of N samples."""

    epochs: Count = 0
    polluted: Annotated[Tensor, _vector(torch.int16)] | None = None
    losses: dict[Text, Floats] = Field(default_factory=dict)
    reductions: list[Floats] = Field(default_factory=list, max_length=KEPT_REDUCTIONS)

    @model_validator(mode="after")
    def _of_the_same_samples(self) -> HistoryState:
        parts = [*self.losses.values(), *self.reductions]
        if self.polluted is None and (self.epochs or parts):
            raise ValueError("polluted: is missing")
        if self.polluted is not None:
            if any(len(part) != len(self.polluted) for part in parts):
                raise ValueError("is of different numbers of samples")
            if bool((self.polluted < 0).any()) or bool(
                (self.polluted > self.epochs + 1).any()  # one more: an early version, interrupted
            ):
                raise ValueError("polluted: is not within the number of splits")
        return self


class AverageState(_Part):
    """What `training.average.Average` keeps; its weights are compared in `run.restore`."""

    updates: Count
    network: dict[Text, Tensor]

    @model_validator(mode="after")
    def _is_finite(self) -> AverageState:
        for name, value in self.network.items():
            if not bool(value.isfinite().all()):
                raise ValueError(f"network: {name!r} is not finite")
        return self


class CheckpointState(_Part):
    """A checkpoint of this project; `run.checkpoint.Progress` says what its fields mean."""

    format: Annotated[int, Field(ge=1, le=FORMAT)]
    epoch: Annotated[int, Field(ge=0, le=MOST_EPOCHS)]
    step: Count
    clean: Annotated[Tensor, _vector(torch.bool)] | None
    totals: Annotated[Tensor, _vector(torch.float32)] | None
    row: Row
    rows: list[Row]
    seconds: Seconds
    history: HistoryState = Field(default_factory=HistoryState)
    best_acc: Share
    best_epoch: Annotated[int, Field(ge=-1)]
    result: Row
    model_state_dict: dict[Text, Tensor]
    optimizer_state_dict: dict[Text, Any]  # compared with the optimiser in `run.restore`
    scheduler_state_dict: dict[Text, Any] | None  # likewise
    average_state_dict: AverageState | None = None
    seeds: Annotated[Tensor, _vector(torch.int64)] | None = None  # that the witnesses have chosen
    defense_state_dict: dict[Text, Any] = Field(default_factory=dict)  # by its own method
    config: dict[str, Any]
    seed: Annotated[int, Field(ge=0, lt=2**63)]
    processes: Annotated[int, Field(ge=1, le=2**20)] = 1
    fingerprints: dict[Text, Text]

    @model_validator(mode="after")
    def _is_one_moment(self) -> CheckpointState:
        if len(self.rows) != self.epoch:
            raise ValueError(f"rows: has {len(self.rows)} rows after {self.epoch} epochs")
        if self.best_epoch >= self.epoch:
            raise ValueError("best_epoch: is not finished")
        if self.clean is not None and (self.totals is None or not self.row):
            raise ValueError("totals, row: are missing after a split")
        if self.clean is None and self.step:
            raise ValueError("clean: is missing after a step")
        for epoch, row in enumerate(self.rows):
            _check_row(row, epoch, (*OF_EVERY_ROW, "acc", "seconds"))
            if row.keys() != self.rows[0].keys():
                raise ValueError(f"rows.{epoch}: has other columns than the first")
        if self.clean is not None:
            _check_row(self.row, self.epoch, OF_EVERY_ROW)
            if self.rows and self.row.keys() | set(OF_END) != self.rows[0].keys() | set(OF_END):
                raise ValueError("row: has other columns than the rows")
        return self

    @model_validator(mode="after")
    def _has_a_configuration(self) -> CheckpointState:
        epochs = self.config.get("num_epochs")
        if type(epochs) is not int or not 1 <= epochs <= MOST_EPOCHS:
            raise ValueError("config.num_epochs: a number of epochs is expected")
        _check_settings(self.config, "config")
        return self


def _check_row(row: Mapping[str, Any], epoch: int, needed: tuple[str, ...]) -> None:
    """Raise `ValueError` unless each column of a log row has a value of its kind."""
    missing = [name for name in needed if name not in row]
    if missing or row["epoch"] != epoch:
        raise ValueError(f"the row of epoch {epoch}: {missing or row['epoch']} is wrong there")
    for name, value in row.items():
        if name in OF_TEXT:
            fits = isinstance(value, str)
        elif name in WHOLE_COLUMNS:
            fits = type(value) is int and value >= 0
        elif name == "seconds":
            fits = type(value) in (int, float) and value >= 0
        elif name in OF_SHARE:
            fits = value is None or (type(value) in (int, float) and 0 <= value <= 1)
        else:
            fits = value is None or type(value) in (int, float)
        if not fits:
            raise ValueError(f"the row of epoch {epoch}, {name}: {str(value)[:40]!r} is no value")


def _check_settings(value: Any, place: str) -> None:
    """Raise `ValueError` unless a configuration has texts as keys and nothing too long to show."""
    if isinstance(value, dict):
        for key, part in value.items():
            if not isinstance(key, str) or len(key) > LONGEST_TEXT:
                raise ValueError(f"{place}: has a key that is no name")
            _check_settings(part, f"{place}.{key[:40]}")
    elif isinstance(value, (list, tuple)):
        for part in value:
            _check_settings(part, place)
    elif isinstance(value, Tensor):
        raise ValueError(f"{place}: is a tensor")
    elif isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise ValueError(f"{place}: is a number of {value.bit_length()} bits")


def check_state(state: Any, path: Path) -> dict[str, Any]:
    """Return `state`, read from `path`, once all of it is as `Session.save` writes it.

    A checkpoint of the published code has no `format`; only its weights are read.

    Raises:
        DamagedCheckpoint: a field is missing, foreign, or out of its range.
        InputError: no checkpoint, of a later format, or its weights are not finite.
    """
    if not isinstance(state, dict) or not isinstance(state.get(WEIGHTS), dict):
        raise InputError(f"{path}: no checkpoint of this project (it has no {WEIGHTS})")
    written = state.get("format", FORMAT)
    if type(written) is int and written > FORMAT:
        raise InputError(f"{path}: written by a later version (format {written}); update")
    if "format" in state:
        try:
            CheckpointState.model_validate(state)
        except ValidationError as error:
            raise DamagedCheckpoint(f"{path}: damaged, {_told(error)}") from error
    _check_weights(state[WEIGHTS], path)
    return state


def _told(error: ValidationError) -> str:
    """Return the first fault, in a line; keys and texts of the file may hold anything."""
    first = error.errors(include_url=False, include_input=False)[0]
    place = printable(".".join(str(part)[:40] for part in first["loc"]))[:LONGEST_MESSAGE]
    message = printable(first["msg"].removeprefix("Value error, "))
    message = message if len(message) <= LONGEST_MESSAGE else f"{message[:LONGEST_MESSAGE]}..."
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    return f"{place}: {message}{more}" if place else f"{message}{more}"


def _check_weights(weights: Mapping[Any, Any], path: Path) -> None:
    """Raise `InputError` unless all weights are tensors and finite."""
    for name, value in weights.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise InputError(f"{path}: {WEIGHTS} holds more than tensors by name")
        if not bool(value.isfinite().all()):
            raise InputError(
                f"{path}: the weights {name[:80]!r} are not finite, so the model says nothing; go "
                f"on from an earlier checkpoint with --resume, or anew with --resume False"
            )
