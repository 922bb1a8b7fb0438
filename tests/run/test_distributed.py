"""Two processes compute what one computes."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, distributed, multiprocessing

from command.arguments import parse_arguments
from data.feed import consecutive
from data.poison import TrainingSet
from data.transform import Chain, Normalize
from loss.cross_entropy import CrossEntropy
from model import NETWORKS, build_network
from model.synchronised import synchronise
from run.setup import set_up
from tests.conftest import DIGITS, TINY, colourful_images
from tests.run.processes import PATIENCE, opened, wait_until
from training.ground import Ground
from training.mixmatch import Batch, Mix, MixMatch
from training.record import record_losses
from utils.engine import Engine
from utils.files import PROJECT
from utils.interrupt import Interrupt, Interrupted
from utils.streams import Streams
from utils.world import World, join, lost_contact

CPU = torch.device("cpu")


def in_two_processes(function: Callable[[World], Any], folder: Path) -> list[Any]:
    """Return what `function` gives in each of two connected processes."""
    multiprocessing.spawn(_connect, (function, folder), nprocs=2)  # type: ignore[no-untyped-call]
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


def _connect(rank: int, function: Callable[[World], Any], folder: Path) -> None:
    torch.set_num_threads(1)
    meeting = f"file://{folder / 'meeting'}"
    distributed.init_process_group("gloo", init_method=meeting, rank=rank, world_size=2)
    torch.save(function(World(rank, 2)), folder / f"{rank}.pt")
    distributed.destroy_process_group()


def small_network() -> Any:
    network = NETWORKS.get("resnet18_cifar")
    return build_network(network, network.Settings(width=4), 5, 7).double()


def one_step(world: World) -> list[Tensor]:
    """Return the losses, gradients and BatchNorm statistics of a step on 10 + 10 images."""
    generator = torch.Generator().manual_seed(3)
    views = [torch.randn(10, 3, 16, 16, generator=generator, dtype=torch.float64) for _ in range(3)]
    labels = torch.randint(5, (10,), generator=generator)
    mix = Mix(torch.tensor(0.3), torch.randperm(30, generator=generator))
    network = small_network().train()
    if world.size > 1:
        synchronise(network, CPU)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.0)
    mixmatch = MixMatch(network, optimizer, Engine(CPU, world=world), 0.5)
    losses = mixmatch.step(Batch(views[0], labels, (views[1], views[2])), mix, 3.0)
    return [losses, *(p.grad for p in network.parameters()), *network.buffers()]


def test_a_step_of_two_processes_is_that_of_one(tmp_path: Path) -> None:
    expected = one_step(World())
    for given in in_two_processes(one_step, tmp_path):
        for ours, wanted in zip(given, expected, strict=True):
            torch.testing.assert_close(ours, wanted, rtol=1e-5, atol=1e-10)


def gathered(world: World) -> list[Tensor]:
    """Return a whole put together from odd parts, and the gradient that each part received."""
    results = []
    for count in (1, 3, 4, 7):
        own = world.share(count)
        values = torch.arange(float(count))[own].requires_grad_()
        whole = world.gather(2 * values, count)
        (whole * torch.arange(1.0, count + 1)).sum().backward()
        assert values.grad is not None
        results += [whole.detach(), values.grad]
    return results


def test_parts_come_together_and_gradients_stay_at_home(tmp_path: Path) -> None:
    first, second = in_two_processes(gathered, tmp_path)
    for place, count in enumerate((1, 3, 4, 7)):
        for result in (first, second):
            assert result[2 * place].tolist() == [2.0 * k for k in range(count)]
        own, other = first[2 * place + 1], second[2 * place + 1]
        wanted = [2.0 * k for k in range(1, count + 1)]
        if count < 4:  # too few to share: both compute all, one gradient counts
            assert (own + other).tolist() == wanted
        else:
            assert torch.cat([own, other]).tolist() == wanted


def recorded(world: World) -> Tensor:
    """Return the split losses of 33 samples."""
    training = TrainingSet(colourful_images(33, 16), torch.arange(33) % 5, tuple("abcde"))
    chain = Chain([], Normalize(), 16, 16)
    generator = torch.Generator().manual_seed(0)
    criterion = CrossEntropy(CrossEntropy.Settings())
    network = small_network().float()
    ground = Ground(training, chain, Streams(0), Engine(CPU, world=world), evaluation_batch=8)
    return record_losses(network, ground, criterion, generator)


def test_all_processes_hold_the_same_losses(tmp_path: Path) -> None:
    first, second = in_two_processes(recorded, tmp_path)
    assert torch.equal(first, second)
    torch.testing.assert_close(first, recorded(World()), rtol=1e-5, atol=1e-6)


def run_tiny(storage: Path, gpu: str, *more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(storage, gpu, *more), cwd=PROJECT, capture_output=True, text=True, timeout=300
    )


def command(storage: Path, gpu: str, *more: str) -> list[str]:
    words = [sys.executable, "ASD.py", "--config", str(DIGITS), "--gpu", gpu, *TINY]
    words += ["num_epochs=3", "global.epoch_first=1", "global.epoch_second=2", "global.n=0"]
    return [*words, "speed.precision=fp32", f"storage_dir={storage}", *more]


def log(storage: Path) -> list[dict[str, str]]:
    with open(storage / "digits" / "log.csv") as file:
        return list(csv.DictReader(file))


def agreed(world: World) -> list[Tensor]:
    """Return how often each process polls in passes of odd sizes, and when it stops."""
    counts = []
    for count in (1, 3, 5, 7, 9):
        polls, own = [0], world.share(count)

        def poll(polls: list[int] = polls) -> None:
            polls[0] += 1

        parts = consecutive(own.start, own.stop, 2)
        assert list(replace(world, poll_interrupt=poll).watched(parts, count, 2)) == parts
        counts.append(polls[0])
    interrupt = Interrupt()
    shared = interrupt.stop_together(world)
    for steps in range(9):
        if steps == 3 and not world.is_first:  # one alone gets the signal
            interrupt._receive(signal.SIGTERM, None)
        try:
            shared.poll_interrupt()
        except Interrupted:
            break
    return [torch.tensor(counts), torch.tensor(steps)]


def test_processes_poll_equally_often_and_stop_at_the_same_step(tmp_path: Path) -> None:
    first, second = in_two_processes(agreed, tmp_path)
    assert [value.tolist() for value in first] == [value.tolist() for value in second]
    assert int(first[1]) == 4  # one poll after the signal


def joined(world: World) -> list[Tensor]:
    """Return what waits in a group of its own, and whether a lost process is told from a fault."""
    os.environ |= {"WORLD_SIZE": "2", "RANK": str(world.rank)}
    joined = join(CPU)
    assert joined == world
    assert joined.patient is not None
    assert joined.any(world.is_first) and not joined.any(False)
    joined.wait()
    faults = [RuntimeError("a peer of the socket layer"), RuntimeError("NCCL of a user's message")]
    assert not any(lost_contact(fault) for fault in [*faults, ValueError("[gloo] no"), OSError()])
    assert lost_contact(distributed.DistBackendError("NCCL watchdog"))
    if not world.is_first:
        os._exit(0)
    while True:
        try:
            joined.wait()
        except RuntimeError as error:
            return [torch.tensor(lost_contact(error))]


def test_a_lost_process_is_known_by_what_pytorch_raises(tmp_path: Path) -> None:
    multiprocessing.spawn(_connect, (joined, tmp_path), nprocs=2)  # type: ignore[no-untyped-call]
    assert torch.load(tmp_path / "0.pt", weights_only=True)[0]


def test_the_first_process_may_take_longer_than_any_usual_timeout(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[dict[str, Any]] = []
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setattr(distributed, "is_initialized", lambda: False)
    monkeypatch.setattr(
        distributed, "init_process_group", lambda backend, **more: made.append({backend: more})
    )
    patient = distributed.ProcessGroup(0, 2)
    monkeypatch.setattr(distributed, "new_group", lambda **more: made.append(more) or patient)
    world = join(torch.device("cuda", 1))
    assert made[0] == {"nccl": {"device_id": torch.device("cuda", 1)}}
    assert made[1]["backend"] == "gloo"
    assert made[1]["timeout"] >= timedelta(days=1)
    waited: list[Any] = []
    monkeypatch.setattr(distributed, "barrier", lambda group: waited.append(group))
    world.wait()
    assert waited == [patient]


def test_a_run_in_two_processes(tmp_path: Path) -> None:
    alone = run_tiny(tmp_path / "one", "cpu")
    together = run_tiny(tmp_path / "two", "cpu,cpu", "sync_bn=true", "--fail-on-suspicion")
    result = json.loads((tmp_path / "two" / "digits" / "result.json").read_text())
    assert result["verdict"] == "cannot_tell"  # of a run of a few steps; the code comes through
    assert (alone.returncode, together.returncode) == (0, 4), together.stderr
    assert together.stdout.count("from scratch") == 1  # the first process speaks, the other not
    for ours, wanted in zip(log(tmp_path / "two"), log(tmp_path / "one"), strict=True):
        assert ours["clean_pool"] == wanted["clean_pool"]
    first = [log(tmp_path / name)[0] for name in ("one", "two")]
    assert float(first[1]["loss"]) == pytest.approx(float(first[0]["loss"]), rel=1e-3)
    assert first[1]["poisoned_in_clean_pool"] == first[0]["poisoned_in_clean_pool"]


def test_wrong_input_is_said_once(tmp_path: Path) -> None:
    done = run_tiny(tmp_path, "cpu,cpu", "backdoor.target_label=77")
    assert done.returncode == 2
    assert done.stderr.count("error:") == 1
    assert "target_label" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_process_that_dies_ends_the_run_and_it_goes_on_alone(tmp_path: Path) -> None:
    running = opened(command(tmp_path, "cpu,cpu", "semi.mixmatch.train_iteration=20"))
    wait_until((tmp_path / "digits" / "checkpoint" / "latest_model.pt").exists, running)
    os.kill(youngest_worker(running.pid), signal.SIGKILL)
    _, errors = running.communicate(timeout=PATIENCE)
    assert running.returncode == 1
    lines = [line for line in errors.splitlines() if line.startswith("error:")]
    assert lines
    assert "last checkpoint stays" in lines[-1]
    assert "Traceback" not in errors
    alone = run_tiny(tmp_path, "cpu", "semi.mixmatch.train_iteration=20")
    assert alone.returncode == 0, alone.stderr
    assert "2 process(es) before, 1 now" in alone.stdout
    assert len(log(tmp_path)) == 3


def youngest_worker(parent: int) -> int:
    """Return the process that the launcher `parent` started last."""
    listed = subprocess.run(["pgrep", "-P", str(parent)], capture_output=True, text=True)
    return max(int(word) for word in listed.stdout.split())


def told(world: World) -> Tensor:
    """Return what each process gets of what each has computed a little differently."""
    own = torch.arange(6.0).reshape(2, 3).t() + world.rank
    return torch.cat(
        [world.from_first_process(own).flatten(), world.from_first_process(own[0, 0])[None]]
    )


def test_all_get_what_the_first_computed(tmp_path: Path) -> None:
    for found in in_two_processes(told, tmp_path):
        assert found.tolist() == [0, 3, 1, 4, 2, 5, 0]


def test_a_fresh_seed_is_the_first_process_s(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each draws its own; kept, batches and views would differ from process to process."""
    monkeypatch.setattr(World, "from_first_process", lambda *_: torch.tensor(7))
    given = [*command(tmp_path, "cpu", "seed.seed=null")[2:]]
    assert set_up(parse_arguments(given), Interrupt()).streams.seed == 7
