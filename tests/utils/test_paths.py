"""Paths that people write: each key of YAML and command line, each wrong path, in one line."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import ASD
from run.names import run_folder_name
from tests.conftest import TINY
from tests.data.own_data_cases import make_folder
from utils.errors import InputError
from utils.files import PROJECT
from utils.paths import refuse_unusable, user_path

WRONG = {
    "nobody's home": "~nosuchuser/x",
    "NUL": "a\0b",
    "line break": "a\nb",
    "line separator": "a\u2028b",
    "escape": "\x1b[31ma",
    "C1": "a\x9bb",
    "too long a name": "x" * 300,
    "too long a path": "x/" * 3000,
    "empty": "",
    "half a character": "a\ud800b",
}


@pytest.mark.parametrize("given", WRONG.values(), ids=WRONG.keys())
def test_a_wrong_path_is_refused_in_a_short_line(given: str) -> None:
    with pytest.raises(InputError) as caught:
        user_path(given, "some.key")
    line = str(caught.value)
    assert line.startswith("some.key: ")
    assert line.isprintable()
    assert len(line) < 200


def test_a_path_may_lead_nowhere_yet_and_home_is_the_persons(tmp_path: Path) -> None:
    assert user_path(str(tmp_path / "a" / "b"), "k") == tmp_path / "a" / "b"
    assert user_path("~/x", "k") == Path.home() / "x"
    (tmp_path / "file").touch()
    user_path(str(tmp_path / "file" / "below"), "k")
    user_path(os.fsdecode(b"caf\xe9"), "k")  # bytes of another encoding are a name


def test_a_circle_of_links_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    with pytest.raises(InputError, match=r"k: .* cannot be used"):
        refuse_unusable(str(tmp_path / "a"), "k")


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="only root may become another")
def test_a_place_without_permission_is_refused(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0o700)
    script = (
        "import os, sys; from utils.paths import user_path; from utils.errors import InputError\n"
        "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "try: user_path(sys.argv[1], 'storage_dir')\n"
        "except InputError as error: print(error)"
    )
    os.chmod(tmp_path, 0o755)  # noqa: S103 (nobody must come as far as the closed folder)
    for parent in tmp_path.parents[:2]:
        os.chmod(parent, 0o755)  # noqa: S103
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "closed" / "x")],
        cwd=PROJECT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.startswith("storage_dir: ")
    assert "Permission denied" in done.stdout


@pytest.mark.parametrize(
    "given",
    ["..", ".", "...", "/x", "a/../b", "", "cache", "cache/x", "a\nb", "x" * 201, "caf\udce9",
     "\x1b", "~x"],
)  # fmt: skip
def test_a_run_stays_below_the_storage_folder(given: str) -> None:
    with pytest.raises(InputError, match="--name"):
        run_folder_name(given, "--name")


def test_usual_names_of_runs() -> None:
    for given in ("digits", "small/blend", "a.b", ".hidden", "x" * 200, "Größe", "caches"):
        assert run_folder_name(given, "--name") == given


KEYS = (
    "storage_dir", "dataset_dir", "data.cache_dir", "data.classes", "review", "global.seed_dir",
    "global.seed_indices", "backdoor.badnets.trigger_path", "backdoor.blend.image",
    "backdoor.refool.reflections",
)  # fmt: skip
ARGUMENTS = ("--resume", "--export", "--export-clean", "--name", "--predict", "--config")


@pytest.mark.parametrize("key", [*KEYS, *ARGUMENTS, "extends"])
def test_every_path_passes_the_gate(
    key: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One wrong path of each kind, by the real entry point."""
    images = make_folder(tmp_path / "images")
    for wrong in ("~nosuchuser/x", "x" * 300):
        config = tmp_path / "own.yaml"
        config.write_text(text_for(key, images, wrong))
        arguments = ["--config", str(config), "--gpu", "cpu", *TINY[1:], *overrides_for(key, wrong)]
        if key not in ("storage_dir", "extends"):
            arguments.append(f"storage_dir={tmp_path / 'storage'}")
        asked = [key, wrong] if key in ARGUMENTS else []
        also = ["--check"] if key not in ("--export", "--export-clean", "--predict") else []
        if key == "--config":
            arguments = arguments[2:]
        code = ASD.main([*arguments, *also, *asked])
        error = capsys.readouterr().err
        if key == "--predict" and wrong[0] == "~":
            continue  # the shell reads a home; here it is a file's name
        assert code == 2, error
        assert error.count("\n") == 1
        assert key in error


def text_for(key: str, images: Path, wrong: str) -> str:
    """Return a YAML on own images, or on digits where an attack is asked for."""
    if key == "extends":
        return f"extends: {wrong}"
    if key.startswith("backdoor"):
        return f"extends: {PROJECT / 'config' / 'digits.yaml'}"
    return (
        f"extends: {PROJECT / 'config' / 'digits.yaml'}\ndataset: image_folder\n"
        f"dataset_dir: {images}\nbackdoor: null\nnum_classes: null\n"
        f"data: {{image_size: 16, train_samples: null}}\n"
    )


def overrides_for(key: str, wrong: str) -> list[str]:
    """Return the override that gives a key of the YAML a wrong path."""
    if key in ARGUMENTS or key == "extends":
        return []
    return [f"{key}={wrong}"]
