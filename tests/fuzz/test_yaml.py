"""YAML files of all kinds, by the real entry point: taken, or refused in one short line."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.conftest import DIGITS, NO_FILES, TINY
from tests.fuzz.entry import fuzz, is_answered, is_untouched

READY = DIGITS.read_text()
TOKENS = st.sampled_from(
    [": ", "- ", "? ", "{", "}", "[", "]", "&a ", "*a", "<<: ", "!!int ", "!!set ", "!x ", "|", ">",
     "'", '"', "#", "%", "---\n", "...\n", "\t", "\n  ", "\r", "\x00", "\ufeff", "\x85", "\u2028",
     "\\", ",", "null", "1e999", "0o7", "=", "@", "`", "extends: x\n", "extends: [1]\n",
     "num_epochs: -1\n", "dataset: cifar11\n"]
)  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


def answered(folder: Path, content: bytes) -> None:
    path = folder / "fuzz.yaml"
    path.write_bytes(content)
    storage = folder / "storage"
    argv = ["--config", str(path), "--gpu", "cpu", f"storage_dir={storage}", "--check"]
    is_answered([*argv, *TINY])
    assert is_untouched(storage)


@fuzz
@given(st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode("utf-8")))
@example(b"\xff\xfea\x00:\x00")
@example(b"[" * 100_000)
@example(b"global: &g {a: *g}")
@example(b"{{ x }}")
@example(b"? [1]\n: 2")
@example(b"a: !!timestamp foo")
@example(b"extends: /dev/zero")
@example(b"extends: fuzz.yaml")
def test_any_bytes_are_answered(folder: Path, content: bytes) -> None:
    answered(folder, content)


@fuzz
@given(st.lists(TOKENS | st.text(max_size=5), max_size=40).map("".join))
def test_any_tokens_are_answered(folder: Path, text: str) -> None:
    answered(folder, text.encode("utf-8", "surrogatepass"))


@fuzz
@given(
    st.lists(st.tuples(st.integers(0, len(READY)), st.integers(0, 12), TOKENS), max_size=4),
)
def test_a_ready_configuration_with_slips_is_answered(
    folder: Path, slips: list[tuple[int, int, str]]
) -> None:
    text = READY
    for place, removed, inserted in slips:
        text = text[:place] + inserted + text[place + removed :]
    answered(folder, text.encode("utf-8"))


@pytest.mark.parametrize("kind", NO_FILES)
def test_what_is_no_file_is_answered(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.yaml"
    NO_FILES[kind](path)
    for line in ("extends: a.yaml\n", None):
        config = path
        if line is not None:
            config = tmp_path / "b.yaml"
            config.write_text(line)
        assert is_answered(["--config", str(config), "--check"]).code == 2


@pytest.mark.parametrize("name", ["...yaml", "..yaml", "cache.yaml", f"{'x' * 230}.yaml"])
def test_a_yaml_whose_name_is_no_folders_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_text(f"extends: {DIGITS}\nstorage_dir: {tmp_path / 'storage'}\n")
    found = is_answered(["--config", str(path), "--gpu", "cpu", "--check"])
    assert found.code == 2
    assert "--name" in found.err
    assert (
        is_answered(["--config", str(path), "--gpu", "cpu", "--check", "--name", "mine"]).code == 0
    )
