"""A repair as a run: the model of a finished one in, a session with a better one out.

A repair is short and a function of its input, so nothing is kept on the way: killed, it is done
again from its beginning, and ends with the same bits.
"""

from __future__ import annotations

import json
import time
from typing import Any

from config.schema import Config
from data.clean_subset import draw_clean, verified_samples
from data.dataset import Split
from data.feed import SMALLEST_BATCH
from data.seen import listing_of
from model import Network
from repair import REPAIRS, RepairSetting
from repair.settings import RepairSection
from run.choosing import choose_seeds
from run.describe import begin_folder
from run.fingerprints import first_difference, of_data, of_files
from run.folder import RunFolder
from run.learning import (
    build_fitting_network,
    build_learner,
    build_session,
    build_views,
    call_witnesses,
    lay_ground,
)
from run.material import Material, read_material
from run.names import find_folder
from run.product import DESCRIPTION, is_saved, load_model, read_description
from run.results import has_result, read_result
from run.resume import reads_elsewhere, what_differs
from run.session import Session
from run.setup import Setup
from training.ground import Ground
from utils.console import say
from utils.errors import InputError
from utils.files import read_regular
from utils.plain_yaml import read_yaml

SUMMARY = "repair.json"
MOST_SUMMARY = 2**24  # bytes
REMEDY = "train it to its end first, with defense=none"


def refuse_report_and_bench(report: bool, bench: bool) -> None:
    """Raise `InputError` for `--report` or `--bench` of a repair, which keeps nothing to go on."""
    if report:
        raise InputError(
            "--report: repair.method names a repair, which leaves its report when it is done"
        )
    if bench:
        raise InputError("--bench: repair.method names a repair; time a run that trains")


def is_repaired(setup: Setup, resume: str | None) -> bool:
    """Return whether this very repair is done, and was not asked for anew (`--resume False`)."""
    folder, config = setup.folder, setup.config
    if (resume or "").lower() == "false" or not has_result(folder) or not is_saved(folder.path):
        return False
    try:
        return asks_for(config, folder, read_yaml(folder.path / "config.yaml", "config.yaml"))
    except (InputError, AttributeError):  # no configuration of a run
        return False


def asks_for(config: Config, folder: RunFolder, settings: dict[str, Any]) -> bool:
    """Return whether the finished run in `folder`, of `settings`, is what `config` asks for.

    Of data in another place a run finds out whether they are the same; of a repair, the model that
    is repaired must be the same.

    Raises:
        InputError: a path of the configuration is none.
    """
    if what_differs(settings, config) or reads_elsewhere(settings, config):
        return False
    known = read_result(folder.result).get("fingerprints", {})
    if first_difference(known, of_files(config)) is not None:
        return False
    if not sees_the_same_files(config, folder):
        return False
    return config.repair.method is None or repairs_the_same(folder, source_folder(config, folder))


def sees_the_same_files(config: Config, folder: RunFolder) -> bool:
    """Return whether the images' files are as when the run began, as far as both are known."""
    try:
        before = folder.read_manifest("").get("listing")
    except InputError:  # the figures stay those of a finished run
        return True
    now = None if before is None else listing_of(config)
    return now is None or now == before


def repairs_the_same(folder: RunFolder, source: RunFolder) -> bool:
    """Return whether the repair in `folder` was one of the model that `source` has now."""
    try:
        told = json.loads(read_regular(folder.path / SUMMARY, MOST_SUMMARY))
        return bool(told["weights"] == read_description(source.path / DESCRIPTION).weights_sha256)
    except (InputError, OSError, ValueError, RecursionError, TypeError, KeyError):
        return False


def source_folder(config: Config, folder: RunFolder) -> RunFolder:
    """Return the folder of the run whose model is repaired.

    Args:
        config: of the repair.
        folder: of the repair.

    Raises:
        InputError: neither `repair.of` nor this run's name tells.
    """
    name = source_name(config.repair, folder.path.name)
    if config.repair.of is not None:
        return find_folder(config.storage_dir, None, name)
    return RunFolder(folder.path.with_name(name))


def source_name(repair: RepairSection, name: str) -> str:
    """Return the name of the run whose model the repair `name` mends.

    Raises:
        InputError: neither `repair.of` nor that name tells.
    """
    if repair.of is not None:
        return repair.of
    ending = f"_{repair.method}"
    if not name.endswith(ending):
        raise InputError(
            f"repair.of: name the run without a defence whose model is repaired, e.g. {name}_none"
        )
    return f"{name.removesuffix(ending)}_none"


def finished_source(setup: Setup) -> RunFolder:
    """Return the same, once it is sure that there is such a run.

    Raises:
        InputError: it is not finished, or had a defence.
    """
    source = source_folder(setup.config, setup.folder)
    if not source.result.is_file():
        raise InputError(f"repair.of: there is no finished run {source.path}; {REMEDY}")
    trained_by = read_result(source.result).get("defense")
    if trained_by != "none":
        raise InputError(f"repair.of: {source.path} was trained by {trained_by}; {REMEDY}")
    return source


def load_into(network: Network, source: RunFolder, material: Material) -> str:
    """Give `network` the weights of a finished run on the same data; return their SHA-256.

    Raises:
        InputError: it is of other data, or of another network.
    """
    manifest = source.read_manifest(REMEDY)
    source.refuse_other_data(manifest, of_data(material.fingerprints))
    model, description = load_model(source.path)
    try:
        network.load_state_dict(model.state_dict())
    except RuntimeError as error:
        raise InputError(
            f"repair.of: the model of {source.path} is not the one of the section network"
        ) from error
    return description.weights_sha256


def clean_samples(setup: Setup, material: Material, ground: Ground) -> Split:
    """Return the clean samples that the repair may use, on the device.

    Raises:
        InputError: there are too few.
    """
    config = setup.config
    if config.truth_known:
        fraction = config.repair.clean_fraction
        index = draw_clean(material.truth, fraction, setup.streams)
    else:
        known = material.training, material.seeds, material.seeds_checked, material.review
        index = verified_samples(*known)
    if len(index) < SMALLEST_BATCH:
        raise InputError(
            f"repair.clean_fraction: a repair needs {SMALLEST_BATCH} clean samples at least, and "
            f"there is {len(index)}"
        )
    images, labels = material.training.images[index], material.training.labels[index]
    return Split(images.to(ground.engine.device), labels.to(ground.engine.device))


def repaired_session(setup: Setup) -> Session:
    """Repair a model; return a session that holds the new one, its folder begun."""
    source = finished_source(setup)  # before an attack is learnt, perhaps for hours
    material = read_material(setup)
    views = build_views(setup.config, material.training)
    network = build_fitting_network(setup, material, views)
    weights = load_into(network, source, material)
    ground = lay_ground(setup, material, views, network)
    material = choose_seeds(setup, material, call_witnesses(setup, material, ground))
    method = setup.config.repair.method
    assert method is not None
    clean = clean_samples(setup, material, ground)
    say(f"{method}: repairs the model of {source.path} with {len(clean)} clean samples")
    tools = RepairSetting(clean, views.train, views.test, setup.streams, ground.engine)
    began = time.perf_counter()
    done = REPAIRS.get(method)(setup.config.repair.settings, tools).repair(network)
    seconds = time.perf_counter() - began
    learner = build_learner(setup.config, done.network, weight_average=False)
    session = build_session(setup, material, views, ground, learner)
    logged = done.rows or [{"epoch": 0, "stage": method, "loss": None}]
    rows = [{**row, "seconds": round(seconds / len(logged), 3)} for row in logged]
    summary: dict[str, Any] = {"of": source.path.name, "weights": weights}
    summary |= {"clean_samples": len(clean), "seconds": seconds}
    leave_files(session, rows, summary | done.summary)
    return session


def leave_files(session: Session, rows: list[dict[str, Any]], summary: dict[str, Any]) -> None:
    """Make the repair's folder, and write what was done; the model and the result come last."""
    if session.engine.world.is_first:
        session.earlier = begin_folder(session)
        session.folder.write_json(SUMMARY, summary)
    score = session.evaluate()
    measured = {"acc": score.acc, **({"asr": score.asr} if session.config.truth_known else {})}
    blank = dict.fromkeys(measured)
    session.progress.rows = [{**row, **(measured if row is rows[-1] else blank)} for row in rows]
    session.progress.epoch = len(rows)
    if session.engine.world.is_first and rows:
        session.folder.write_log(session.progress.rows)
