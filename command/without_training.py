"""What `ASD.py` does beside training: write out data, and label images with a run's model."""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path

from command.arguments import own_command
from command.onnx_file import check_target, write_onnx
from command.prediction import (
    as_json,
    as_table,
    find_images,
    predict_files,
    print_whole,
    refuse_unreadable,
)
from config.load import load_config
from data.build import assemble, load_data, with_truth
from data.chosen_set import source_of
from data.clean import FOLDERS, read_kept, reviewed, write_clean
from data.dataset.remarks import describe_left_out
from data.export import export, make_empty_folder
from data.poison import leave_clean
from data.review import read_review
from report.verdict import EPOCH, read_report
from run.folder import RunFolder
from run.names import find_folder
from run.product import DESCRIPTION, load_model
from run.resume import Resumption, find_start
from run.setup import settle_auto
from utils.console import say, say_aside
from utils.device import find_device
from utils.errors import InputError
from utils.paths import user_path
from utils.streams import Streams


def export_data(arguments: argparse.Namespace) -> None:
    """Write the poisoned training set to the folder `--export`; nothing is trained."""
    loaded = load_config(Path(arguments.config), arguments.overrides)
    device, _ = find_device(arguments.gpu)
    config = settle_auto(arguments, loaded, device).config
    seed = config.seed.seed
    if seed is None:
        raise InputError("seed.seed: null, but an export needs the run's seed (see manifest.json)")
    folder = user_path(arguments.export, "--export")
    data, lines = load_data(config)
    make_empty_folder(folder, root=data.root)
    if config.truth_known:
        known = with_truth(config, data, Streams(seed), device)
        data, training, truth = known.data, known.training, known.truth
        lines += known.lines
    else:
        training, truth = leave_clean(data)
    # What an imported set looked like before it was poisoned, nobody here knows.
    before = None if config.data.truth is not None else data.train.images
    tells = config.truth_known or source_of(config).known_to_be_clean
    for line in [*lines, *export(before, training, truth, folder, tells)]:
        say(line)


def export_clean_data(arguments: argparse.Namespace) -> None:
    """Write the training images that the run's report keeps to the folder `--export-clean`."""
    task = "--export-clean"
    folder = user_path(arguments.export_clean, task)
    loaded = load_config(Path(arguments.config), arguments.overrides)
    device, _ = find_device(arguments.gpu)
    run_folder = find_folder(loaded.config.storage_dir, arguments.name, loaded.name)
    manifest = run_folder.read_manifest(f"{own_command(arguments, task)} makes the run")
    start = find_start(run_folder, None, None)
    config = settle_auto(arguments, loaded, device, start).config
    data, lines = load_data(config)
    material = assemble(config, data, Streams(manifest["seed"]), device)
    run_folder.refuse_other_data(manifest, material.fingerprints(config.truth_known))
    kept = read_kept(
        run_folder.purified, material.training, own_command(arguments, task, "--report")
    )
    review = read_review(config.review, material.training, material.data.left_out)
    kept, remarks = reviewed(kept, review)
    make_empty_folder(folder, task, data.root)
    home = material.training.home
    locate = None if home is None else home.path
    layout = arguments.layout or FOLDERS
    lines += [*review.lines(), *remarks]
    lines += age_of_list(run_folder, start, config.num_epochs)
    for line in [*lines, *write_clean(material.training, kept, folder, locate, layout)]:
        say(line)


def age_of_list(folder: RunFolder, start: Resumption, planned: int) -> list[str]:
    """Return lines where the list of what is kept is not the last word of the run.

    Args:
        folder: of the run.
        start: its latest checkpoint.
        planned: epochs of the whole run.
    """
    done = planned if start.own_state is None else start.own_state["epoch"]
    written = read_report(folder.report).get(EPOCH, done)
    lines = []
    if done < planned:
        lines.append(
            f"{folder.path}: unfinished, epoch {done} of {planned}; what is kept may change until "
            f"the end, to which the same command without --export-clean trains"
        )
    if written != done:
        lines.append(
            f"{folder.purified}: written after epoch {written}, and the run has come to {done}; "
            f"--report writes it anew"
        )
    return lines


def predict_images(arguments: argparse.Namespace) -> None:
    """Print labels for the images of `--predict`; neither training data nor checkpoint is read."""
    device, _ = find_device(arguments.gpu)
    left_out: Counter[str] = Counter()
    files = find_images(arguments.predict, left_out)
    folder = find_model(arguments, "--predict")
    predictions, unreadable = predict_files(files, *load_model(folder), device)
    print_whole(as_json(predictions) if arguments.json else as_table(predictions))
    refuse_unreadable(unreadable, len(files))
    for line in describe_left_out(left_out):
        say_aside(f"--predict: {line}")


def export_onnx(arguments: argparse.Namespace) -> None:
    """Write the run's model to the file `--export-onnx`; no training data are read."""
    file = user_path(arguments.export_onnx, "--export-onnx")
    check_target(file)
    for line in write_onnx(*load_model(find_model(arguments, "--export-onnx")), file):
        say(line)


def find_model(arguments: argparse.Namespace, argument: str) -> Path:
    """Return the folder of the run whose model `argument` is about.

    Raises:
        InputError: there is no model.
    """
    loaded = load_config(Path(arguments.config), arguments.overrides)
    folder = find_folder(loaded.config.storage_dir, arguments.name, loaded.name).path
    if not (folder / DESCRIPTION).exists():
        raise InputError(
            f"{argument}: there is no {folder / DESCRIPTION}; {own_command(arguments, argument)} "
            f"trains to the end, or evaluates the finished run, and writes it"
        )
    return folder


# By the argument that asks for it.
WITHOUT_TRAINING = {
    "export": export_data,
    "export_clean": export_clean_data,
    "export_onnx": export_onnx,
    "predict": predict_images,
}
