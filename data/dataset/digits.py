"""scikit-learn's handwritten digits (Alpaydin and Kaynak 1998): real data, no download."""

from __future__ import annotations

import numpy as np
import torch

from data.dataset.source import ImageData, Request, Source, Split

TEST_SAMPLES = 360  # of 1,797
MAXIMUM_GREY = 16  # of the original 8x8 images
ENLARGE = 2  # 8x8 -> 16x16, so that the network's three halvings leave something


class Digits(Source):
    """1,437 training and 360 test images, 16x16 RGB, ten classes."""

    def load(self, request: Request) -> ImageData:
        """Return the digits; no folder is read, since the set comes with scikit-learn."""
        from sklearn.datasets import load_digits  # here, since it takes seconds
        from sklearn.model_selection import train_test_split

        digits = load_digits()
        grey = np.rint(digits.images * (255 / MAXIMUM_GREY)).astype(np.uint8)  # (1797, 8, 8)
        large = grey.repeat(ENLARGE, axis=1).repeat(ENLARGE, axis=2)
        images = np.repeat(large[..., None], 3, axis=3)  # (1797, 16, 16, 3) uint8
        # The division does not depend on the run's seed: all runs are tested on the same images.
        train, test = train_test_split(
            np.arange(len(images)), test_size=TEST_SAMPLES, stratify=digits.target, random_state=0
        )
        splits = [
            Split(torch.from_numpy(images[part]), torch.from_numpy(digits.target[part]).long())
            for part in (np.sort(train), np.sort(test))
        ]
        return ImageData(splits[0], splits[1], tuple(str(name) for name in digits.target_names))
