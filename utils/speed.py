"""What the YAML says of speed: precision, translation, memory layout, memory."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from utils.section import Section

MOST_THREADS = 1024


class SpeedSettings(Section):
    """`speed` of the YAML.

    `precision`: of the convolutions; losses, statistics and weights are always fp32.
    `compile`: translate training steps with `torch.compile`; `auto`: where the steps that the run
    still has save more time than translating takes, by an estimate that is said in a line.
    `reference`: eager fp32 in the usual memory order, whatever the other keys say.
    `memory_budget`: GiB that the training images may take on the device; a larger set stays in host
    memory or on the disk, and is read batch by batch. `auto`: half of what is free.
    `threads`: of the CPU. `auto`: one for a small network, such as that of digits, so that several
    runs at once do not wait for each other; else as many as PyTorch takes (OMP_NUM_THREADS).
    `evaluation_batch`: samples in one forward of record and test passes; no effect on results.
    """

    precision: Literal["auto", "fp32", "bf16"] = "auto"
    compile: Literal["auto"] | bool = "auto"
    channels_last: Literal["auto"] | bool = "auto"
    reference: bool = False
    memory_budget: Literal["auto"] | float = Field(default="auto")
    threads: Literal["auto"] | Annotated[int, Field(ge=1, le=MOST_THREADS)] = "auto"
    evaluation_batch: int = Field(default=500, ge=1)

    @model_validator(mode="after")
    def _not_negative(self) -> SpeedSettings:
        if self.memory_budget != "auto" and self.memory_budget < 0:
            raise ValueError("memory_budget: GiB, from 0 on, or auto")
        return self
