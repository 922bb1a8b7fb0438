"""Draw the triggers of several attacks side by side, on the same test images.

    python assets/draw_gallery.py badnets config/small/blend.yaml dataset_dir=FOLDER

Each attack is a name (with the attack's own defaults, in the configuration `--base`) or a YAML.
Every sample has two rows: its image under each attack, and ten times the difference from the clean
one, around grey. The images are those on which ASR is measured; how training images are poisoned
is shown by `python ASD.py --config YAML --export DIR`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from command.arguments import Parser
from config.load import Loaded, load_config
from data.attack import LabelRule
from data.build import load_data, poison_data
from data.dataset import Split
from data.export import AMPLIFY, difference, draw_tiles, spread, write_picture
from utils.console import say
from utils.device import find_device
from utils.errors import InputError
from utils.files import PROJECT, made_folder
from utils.program import run_program, whole_number
from utils.streams import Streams


@dataclass(frozen=True)
class Column:
    """An attack on the test set.

    Attributes:
        title: above the column.
        test: the clean test set.
        classes: names.
        places: (n,) int64, which test images are triggered.
        triggered: (n, H, W, 3) uint8.
    """

    title: str
    test: Split
    classes: tuple[str, ...]
    places: Tensor
    triggered: Tensor

    def image(self, index: int) -> Tensor:
        """Return the triggered test image `index`, (H, W, 3) uint8."""
        place = int(torch.nonzero(self.places == index).flatten()[0])
        return self.triggered[place]


def load_attack(argument: str, base: Path, overrides: Sequence[str]) -> Loaded:
    """Return the configuration that an argument means: a YAML, or an attack's name."""
    if Path(argument).suffix in {".yaml", ".yml"}:
        return load_config(Path(argument), overrides)
    return load_config(base, [f"backdoor={{{argument}: null}}", *overrides])


def run_attack(title: str, loaded: Loaded) -> Column:
    """Return the test set under an attack.

    Raises:
        InputError: the configuration has no attack or no seed.
    """
    config = loaded.config
    if config.backdoor is None or config.seed.seed is None:
        raise InputError(f"{title}: sections backdoor and seed are needed")
    data, _ = load_data(config)
    device, _ = find_device(None)
    _, truth = poison_data(config, data, Streams(config.seed.seed), device)
    backdoor = config.backdoor
    rule = LabelRule(backdoor.label_rule, backdoor.target_label, data.num_classes)
    places = torch.nonzero(rule.attackable(data.test.labels)).flatten()
    assert truth.triggered_test is not None
    return Column(title, data.test, data.classes, places, truth.triggered_test.images)


def common_places(columns: Sequence[Column]) -> Tensor:
    """Return which test images every attack triggers, (n,) int64.

    Raises:
        InputError: the attacks are on different test sets.
    """
    first = columns[0].test.images
    common = torch.ones(len(first), dtype=torch.bool)
    for column in columns:
        if not torch.equal(column.test.images, first):
            raise InputError(f"{column.title}: other test images than {columns[0].title} has")
        common &= torch.isin(torch.arange(len(first)), column.places)
    return torch.nonzero(common).flatten()


def gallery_rows(columns: Sequence[Column], samples: int) -> list[tuple[str, list[Tensor]]]:
    """Return two rows for each sample: images and differences."""
    rows = []
    for index in spread(common_places(columns), samples):
        clean, label = columns[0].test.images[index], int(columns[0].test.labels[index])
        images = [clean, *(column.image(index) for column in columns)]
        rows.append((f"test image {index}: {columns[0].classes[label]}", images))
        differences = [difference(clean, image) for image in images]
        rows.append((f"difference x {AMPLIFY}, grey: none", differences))
    return rows


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Return the arguments; what has a `=` is an override.

    Raises:
        InputError: unknown or incomplete ones.
    """
    parser = Parser(prog="assets/draw_gallery.py", description="Draw attacks side by side.")
    parser.add_argument("attacks", nargs="+", metavar="attack", help="a name, or a YAML")
    parser.add_argument(
        "--base", type=Path, default=PROJECT / "config" / "cifar10_small.yaml", help="of names"
    )
    number = whole_number()
    parser.add_argument("--samples", type=number, default=3, help="how many images (default: 3)")
    parser.add_argument("--out", type=Path, default=PROJECT / "assets" / "gallery.png")
    arguments = parser.parse_intermixed_args(argv)
    arguments.overrides = [given for given in arguments.attacks if "=" in given]
    arguments.attacks = [given for given in arguments.attacks if "=" not in given]
    if not arguments.attacks:
        parser.error("attack: name at least one")
    return arguments


def draw(arguments: argparse.Namespace) -> None:
    """Draw the sheet."""
    made_folder(arguments.out.parent, "--out")
    columns = []
    for argument in arguments.attacks:
        loaded = load_attack(argument, arguments.base, arguments.overrides)
        columns.append(run_attack(Path(argument).stem, loaded))
    rows = gallery_rows(columns, arguments.samples)
    if not rows:
        raise InputError("there is no test image that all these attacks trigger")
    sheet = draw_tiles(rows, ["clean", *(column.title for column in columns)])
    write_picture(sheet, arguments.out)
    say(f"{len(columns)} attacks on {len(rows) // 2} images: {arguments.out}")


def main(argv: Sequence[str] | None = None) -> int:
    """Run and return the exit code."""
    return run_program(lambda: draw(parse(argv)))


if __name__ == "__main__":
    sys.exit(main())
