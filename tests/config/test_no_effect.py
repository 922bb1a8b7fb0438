"""Keys that change nothing are said where somebody meant them, and only there."""

from __future__ import annotations

from pathlib import Path

import pytest

from config.load import load_config
from config.no_effect import is_ignored
from tests.conftest import DIGITS
from utils.files import PROJECT

SIG = "backdoor={badnets: null, sig: {delta: 30}}"


def said(*overrides: str, path: Path = DIGITS) -> list[str]:
    return [line.partition(" has no effect: ")[0] for line in load_config(path, overrides).notices]


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("overrides", "keys"),
    [
        (["backdoor.sig.delta=30", "backdoor.poison_ratio=0.3"], ["backdoor.poison_ratio"]),
        (["backdoor.sig=null", "backdoor.selection=official"], ["backdoor.selection"]),
        (["backdoor.clb=null", "backdoor.poison_ratio=0.3"], ["backdoor.poison_ratio"]),
        (["backdoor.sig=null", "backdoor.target_label=1"], []),
        (["backdoor.poison_ratio=0.3"], []),
        (["backdoor.label_rule=all_to_all", "backdoor.target_label=1"], ["backdoor.target_label"]),
        (["meta.train_iteration=3", "meta.epoch=2"], ["meta.epoch"]),
        (["meta.epoch=2"], []),
        (["global.growth=0.1", "global.n=3"], ["global.n"]),
        (["speed.reference=true", "speed.precision=bf16"], ["speed.precision"]),
        (["speed.reference=false", "speed.precision=bf16"], []),
        (["defense=none", "semi.mixmatch.alpha=1", "global.n=3", "global.seed_num=3"],
         ["semi.mixmatch.alpha", "global.n"]),
        (["defense=abl", "optimizer.Adam.lr=0.5", "loader.batch_size=8", "semi.ema=0.5"],
         ["optimizer.Adam.lr", "semi.ema"]),
        (["defense=dbd", "optimizer.Adam.lr=0.5", "loader.batch_size=8", "global.epsilon=0.3",
          "meta.epoch=3", "witness.heard=[pattern]"],
         ["loader.batch_size", "meta.epoch", "witness.heard"]),
        (["defense=none", "witness.heard=[pattern]"], ["witness.heard"]),
        (["defense=none", "witness.heard=[pattern]", "global.seed_choice=witnesses"], []),
        (["global.n=3", "defense=asd"], []),
        (["criterion.cross_entropy.reduction=mean"], ["criterion.cross_entropy.reduction"]),
        (["criterion.cross_entropy.reduction=mean", "defense=none"], []),
        (["semi.loader.num_workers=3", "defense=none"], ["semi.loader.num_workers"]),
        (["prefetch=true"], ["prefetch"]),
        (["abl.level=2"], ["abl.level"]),
        (["abl.level=2", "defense=abl"], []),
        (["defense=abl", "dbd.mixmatch_epochs=2"], ["dbd.mixmatch_epochs"]),
        (["repair.nad.num_epochs=2", "repair.clean_fraction=0.1"],
         ["repair.nad.num_epochs", "repair.clean_fraction"]),
        (["repair.method=nad", "repair.nad.num_epochs=2", "repair.clean_fraction=0.1",
          "repair.fine_pruning.num_epochs=3"], ["repair.fine_pruning.num_epochs"]),
        (["methods.abl.abl.level=2"], []),
        (["backdoor.gcb=null", "backdoor.selection=official"], ["backdoor.selection"]),
        (["backdoor.flip=null", "backdoor.selection=official"], ["backdoor.selection"]),
        (["backdoor.natural_feature=null", "backdoor.selection=official"],
         ["backdoor.selection"]),
        (["backdoor.selection=official"], []),
        (["global.epoch_second=26", "meta.epoch=2", "global.meta_agreement=0.5",
          "global.epsilon_meta=0.3"],
         ["meta.epoch", "global.meta_agreement", "global.epsilon_meta"]),
        (["global.epoch_second=25", "meta.epoch=2", "global.epsilon_meta=0.3"], []),
        (["witness.vetoed=left_out", "witness.reference.epochs=3"],
         ["witness.vetoed", "witness.reference.epochs"]),
        (["witness.vetoed=left_out", "witness.heard=[pattern]"], []),
        (["witness.reference.epochs=3", "global.epsilon=auto"], []),
        (["witness.reference.epochs=3", "global.seed_choice=witnesses"], []),
        (["semi.ema.use.test=false"], ["semi.ema.use.test"]),
        (["semi.ema.use.test=false", "semi.ema.decay=0.9"], []),
        (["semi.ema.use.test=false", "defense=none"], ["semi.ema.use.test"]),
        (["defense=abl", "abl.unlearning_epochs=0", "abl.unlearning_rate=1.0",
          "abl.keep_learning=true", "abl.ascent_bound=3.0", "abl.fraction=0.1"],
         ["abl.unlearning_rate", "abl.keep_learning", "abl.ascent_bound"]),
        (["defense=abl", "abl.unlearning_rate=1.0"], []),
        (["defense=dbd", "dbd.contrastive.epochs=0", "dbd.contrastive.temperature=0.3",
          "dbd.contrastive.batch_size=64"],
         ["dbd.contrastive.temperature", "dbd.contrastive.batch_size"]),
        (["defense=dbd", "dbd.contrastive.temperature=0.3"], []),
        (["backdoor.refool.ghost_probability=0.0", "backdoor.refool.ghost_offset.high=3"],
         ["backdoor.refool.ghost_offset.high"]),
        (["backdoor.refool.ghost_offset.high=3"], []),
        (["backdoor.clb.robust=false", "backdoor.clb.training_eps=3.0",
          "backdoor.clb.training_iterations=2"],
         ["backdoor.clb.training_eps", "backdoor.clb.training_iterations"]),
        (["backdoor.clb.training_eps=3.0"], []),
    ],
)  # fmt: skip
def test_a_key_without_effect_is_said(overrides: list[str], keys: list[str]) -> None:
    assert [key for key in said(*overrides) if not key.startswith("num_epochs")] == keys


def test_the_smallest_case_a_ratio_beside_an_attack_that_does_not_read_it(tmp_path: Path) -> None:
    attack = "backdoor: {sig: {delta: 30}, poison_ratio: 0.3, target_label: 3}\n"
    alone = write(tmp_path, "alone.yaml", f"dataset: digits\n{attack}")
    assert said(path=alone) == ["backdoor.poison_ratio"]


def test_a_file_may_hold_the_settings_of_all_methods(tmp_path: Path) -> None:
    both = "defense: asd\nabl: {level: 2}\nrepair: {nad: {num_epochs: 3}}\n"
    path = write(tmp_path, "all.yaml", f"extends: {DIGITS}\n{both}")
    assert said(path=path) == []
    assert said("abl.level=1", path=path) == ["abl.level"]
    assert "abl.level" not in said("defense=abl", "abl.level=1", path=path)


def test_keys_of_a_general_file_are_not_said(tmp_path: Path) -> None:
    child = write(tmp_path, "child.yaml", f"extends: {DIGITS}\nbackdoor: {{sig: null}}\n")
    assert said(path=child) == []
    grandchild = write(tmp_path, "two.yaml", "extends: child.yaml\nbackdoor: {poison_ratio: 0.3}\n")
    assert said(path=grandchild) == ["backdoor.poison_ratio"]
    assert said("defense=none") == []  # the file is for both
    assert said(path=PROJECT / "config" / "cifar10" / "sig.yaml") == []


@pytest.mark.parametrize(
    ("overrides", "key", "ignored"),
    [
        (["defense=none"], "semi.mixmatch.adjustment", True),
        (["defense=none"], "global.epsilon", True),
        (["defense=none"], "global.seed_num", False),
        (["defense=none"], "witness.heard", True),
        (["defense=none"], "criterion", False),
        (["defense=none"], "learning_rate.warmup", False),
        (["defense=asd"], "semi.mixmatch.adjustment", False),
        (["defense=asd"], "witness.heard", False),
        (["defense=none", "global.seed_choice=witnesses"], "witness.heard", False),
        (["defense=dbd"], "semi.criterion.mixmatch.lambda_u", False),
        (["defense=dbd"], "semi.ema.decay", True),
        (["defense=abl"], "semi.mixmatch.alpha", True),
        (["defense=abl"], "loader.batch_size", False),
        (["defense=none"], "semimixed", False),
        (["defense=abl", "abl.unlearning_epochs=0"], "abl.unlearning_epochs", False),
        (["defense=dbd", "dbd.contrastive.epochs=0"], "dbd.contrastive.epochs", False),
        (["defense=dbd", "dbd.contrastive.epochs=0"], "dbd.contrastive.optimizer.SGD.lr", True),
        (["backdoor.clb.robust=false"], "backdoor.clb.robust", False),
        (["global.epoch_second=26"], "global.epoch_second", False),
        (["global.epoch_second=26"], "meta.layers", True),
        ([], "witness.heard", False),
        ([], "semi.ema.decay", False),
    ],
)
def test_what_a_run_does_not_read(overrides: list[str], key: str, ignored: bool) -> None:
    assert is_ignored(load_config(DIGITS, overrides).config, key) is ignored
