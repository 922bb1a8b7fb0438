"""What the YAML says of the images: `data`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from data.dataset.decode import Frame
from utils.contents import Opened
from utils.section import Section, contradiction

DEFAULT_IMAGE_SIZE = 32  # pixels


class DataSection(Section):
    """`data`: which images, and how they are stored. A set refuses a key that it does not read.

    `train_samples` keeps so many training images, equally many a class. `image_size`: side of the
    stored square images, in pixels; 32 when left out, as the other defaults are for 32x32 images.
    `resize`: length to which the shorter side is scaled before the middle is cut out; `image_size`
    when left out. `classes`: a text file with one class folder a line. `skip_unreadable`: leave
    broken images out in place of stopping. `cache_dir`: where decoded images are kept, below
    `storage_dir` when left out. `truth`: a table that says which images of a folder are poisoned,
    as `--export` writes it, below `dataset_dir` or anywhere; then `classes.txt` beside it, or else
    in `dataset_dir`, names the classes in order, `triggered/<class>/` in `dataset_dir` has the
    images for ASR, and no attack may be given.
    """

    train_samples: int | None = Field(default=None, ge=1)
    image_size: int | None = Field(default=None, ge=1)
    resize: int | None = Field(default=None, ge=1)
    classes: Annotated[str | None, Opened()] = None
    skip_unreadable: bool = False
    cache_dir: str | None = None
    truth: Annotated[str | None, Opened(among_images=True)] = None

    @property
    def side(self) -> int:
        """Side of the stored images, in pixels."""
        return DEFAULT_IMAGE_SIZE if self.image_size is None else self.image_size

    @property
    def frame(self) -> Frame:
        """How a file of any size becomes a stored image; the same for all parts of a data set."""
        return Frame(self.side, self.resize or self.side)

    @model_validator(mode="after")
    def _truth_is_of_all(self) -> DataSection:
        if self.truth is not None and self.train_samples is not None:
            why = "the table is of all images"
            raise contradiction("data.truth", "data.train_samples", why)
        return self

    @model_validator(mode="after")
    def _scaled_image_holds_the_crop(self) -> DataSection:
        if self.resize is not None and self.resize < self.side:
            why = f"{self.resize} pixels do not hold a square of {self.side}"
            raise contradiction("data.resize", "data.image_size", why)
        return self
