"""Train a clean model on poisoned data: ASD (Gao et al., CVPR 2023), from a YAML to ACC and ASR.

    python ASD.py --config config/baseline_asd.yaml --resume False --gpu 0

`prepare` and `train` below tell the whole story; each part of them names the module with the
details. Exit codes: 0 done; 1 a failure while running; 2 wrong use or input; 3, 4 suspicion, where
`--fail-on-suspicion` asks for it; 130 Ctrl-C.
"""

from __future__ import annotations

if __name__ == "__main__":  # first of all, since the imports below take seconds
    from utils.starting import hear_interrupts

    hear_interrupts()

import argparse
import sys
import time
from collections.abc import Sequence

import torch

from command.arguments import parse_arguments
from command.check import print_plan
from command.without_training import WITHOUT_TRAINING
from defense import DEFENSES
from report.finish import examine_data
from report.verdict import exit_code, read_verdict, told
from run.checkpoint import check_finite, set_damaged_aside
from run.choosing import choose_seeds
from run.describe import begin_folder
from run.forecast import time_left
from run.learning import (
    build_fitting_network,
    build_learner,
    build_session,
    build_views,
    call_witnesses,
    lay_ground,
)
from run.material import read_material
from run.measure import Score
from run.product import is_saved
from run.repairing import is_repaired, refuse_report_and_bench, repaired_session
from run.results import comparable_results
from run.session import Session
from run.setup import Setup, only_writer, set_up
from run.standing import refuse_without_checkpoint, remarks_on
from utils.console import EpochTable, progress, quiet_libraries, say, say_error, shown, table
from utils.device import asked_for_several, check_devices
from utils.errors import InputError, TrainingError, of_system
from utils.interrupt import Interrupt, Interrupted
from utils.launch import already_launched, follow_launcher, launch, report_lost_process
from utils.memory import leave_old_objects_alone, shortage
from utils.output import printed
from utils.place import is_first_process
from utils.world import leave, lost_contact

CHECK_EVERY = 50  # steps between two looks at the loss, each of which waits for the device


def prepare(setup: Setup, dry_run: bool = False) -> Session:
    """Build all that a run needs, up to its start; `dry_run`: without training or asking."""
    # ------------------------------- the poisoned data set: what the defender sees, and truth
    material = read_material(setup, dry_run)
    views = build_views(setup.config, material.training)

    # ------------------------------------------- the network, where and with what it learns
    network = build_fitting_network(setup, material, views)
    ground = lay_ground(setup, material, views, network)
    method = DEFENSES.get(setup.config.method)
    learner = build_learner(setup.config, network, method.supports_weight_average)

    # --------------------------- witnesses; where nobody has verified samples, they choose some
    hearing = call_witnesses(setup, material, ground)
    material = choose_seeds(setup, material, hearing, dry_run)

    # ---------------------------------------------- the defence, which never sees the truth
    asked = hearing if setup.config.needs_hearing else None
    session = build_session(setup, material, views, ground, learner, asked)
    if setup.start.state is not None:
        session.restore(setup.start)
    return session


def begin(session: Session) -> None:
    """Make the run's folder, unless it goes on in it; an earlier run is moved aside."""
    session.engine.world.wait()  # all have read what is there
    if not session.engine.world.is_first:
        return
    start = session.setup.start
    if start.path is not None and session.folder.holds(start.path):
        set_damaged_aside(start.path)
        return
    session.earlier = begin_folder(session)


def train(session: Session, interrupt: Interrupt) -> None:
    """Train to the end: at each epoch split, train on both pools, test, and save."""
    leave_old_objects_alone()
    state, defense, printed = session.progress, session.defense, EpochTable()
    epochs = range(state.epoch, session.config.num_epochs)
    bar = progress(epochs, "epochs", unit="epoch", leave=True, own_time=True)
    for epoch in bar:
        session.start_clock()

        # ------------------------------------------- divide all samples into clean and polluted
        if state.clean is None:
            pools = defense.split(epoch)
            with interrupt.deferred():  # noted once, or not at all
                state.row = session.describe_split(epoch, pools)
                state.totals = torch.zeros(len(defense.loss_names), device=session.engine.device)
                state.clean = pools.clean

        # --------------------------------------------------------------------- train on both
        began = time.perf_counter()
        first_step = state.step
        take_steps(session, interrupt)
        training_seconds = time.perf_counter() - began
        for network in session.learner.networks:
            session.engine.world.same_buffers(network)

        # ----------------------------------------------------- measure; log and save, or neither
        row = session.complete_row(training_seconds, state.step - first_step)
        with interrupt.deferred():
            session.finish_epoch(row)
        left = time_left(session)
        bar.set_postfix_str("" if left is None else f"{left} left")
        printed.row(shown(row) | {"left": "-" if left is None else str(left)})


def take_steps(session: Session, interrupt: Interrupt) -> None:
    """Take the steps that are left of the epoch; Ctrl-C waits for the one under way."""
    state, defense = session.progress, session.defense
    assert state.clean is not None and state.totals is not None
    steps = defense.steps_in(state.epoch)
    left = range(state.step, steps)
    with progress(left, state.row["stage"], unit="step") as bar, interrupt.deferred():
        for losses in defense.steps(state.epoch, state.clean, state.step):
            state.totals += losses
            state.step += 1
            bar.update()
            if state.step % CHECK_EVERY == 0 or state.step == steps:
                check_finite(state.totals, state.epoch, state.step, session.folder.checkpoints)
                bar.set_postfix(loss=f"{float(state.totals[0]) / state.step:.3f}")
            interrupt.poll()


def conclude(session: Session, score: Score, name: str) -> None:
    """Print ACC and ASR, of a model of that name, beside other defences on the same data."""
    method = session.config.repair.method or session.config.defense
    own = session.readable_score(score.acc, score.asr)
    rows = [{"run": name, "defence": method, **own}]
    for other in comparable_results(session.folder, session.material.fingerprints):
        scores = session.readable_score(other["acc"], other.get("asr"))
        rows.append({"run": other["run"], "defence": other["defense"], **scores})
    say(table(rows, headers="keys"))


def run(argv: Sequence[str] | None, interrupt: Interrupt) -> int:
    """Do what the command line asks; return the exit code."""
    arguments = parse_arguments(argv)
    for argument, use in WITHOUT_TRAINING.items():
        if getattr(arguments, argument) is not None:
            use(arguments)
            return printed()
    if asked_for_several(arguments.gpu) and not already_launched():
        check_devices(arguments.gpu)  # says what is wrong once, not in every process
        return launch(sys.argv[1:] if argv is None else argv, arguments.gpu.count(",") + 1)
    follow_launcher()
    setup = set_up(arguments, interrupt)
    start, alone = setup.start, only_writer(setup)
    if setup.config.repair.method is not None and not arguments.check:
        with alone:
            return mend(setup, arguments)
    session = prepare(setup, dry_run=arguments.check or arguments.bench)
    if arguments.check:
        print_plan(session)
        return printed()
    if arguments.bench:
        from command.bench import run_bench  # here, since few need it and it takes seconds

        run_bench(session)
        return printed()
    if arguments.report:
        refuse_without_checkpoint(start, session.folder)
    if start.only_evaluate or arguments.report:
        return tell(session, arguments)
    with alone:
        begin(session)
        try:
            train(session, interrupt)
        except Interrupted:
            session.stop_clock()
            session.save()
            say(f"stopped; saved at epoch {session.progress.epoch}, step {session.progress.step}")
            raise
        return tell(session, arguments, trained=True)


def mend(setup: Setup, arguments: argparse.Namespace) -> int:
    """Repair the model of a finished run, unless that is done; the new one is a run of its own."""
    refuse_report_and_bench(arguments.report, arguments.bench)
    verdict = read_verdict(setup.folder.result) if is_repaired(setup, arguments.resume) else None
    if verdict is not None:
        say(f"{setup.folder.path}: a finished repair; --resume False does it again")
    else:
        session = repaired_session(setup)
        assert session.last_score is not None
        verdict = examine_data(session, session.last_score, True, session.config.report)
        conclude(session, session.last_score, session.folder.path.name)
    leave()
    return exit_code(verdict) if arguments.fail_on_suspicion else 0


def tell(session: Session, arguments: argparse.Namespace, trained: bool = False) -> int:
    """Measure the model as it is, say what it thinks of the data; return the exit code."""
    start = session.setup.start
    finished = session.progress.epoch >= session.config.num_epochs
    own_folder = trained or start.path is None or session.folder.holds(start.path)
    score = session.last_score or session.evaluate()  # the last epoch has just been tested
    result = session.folder.result if trained else session.folder.result_beside(start.path)
    verdict = read_verdict(result)
    is_whole = verdict is not None and is_saved(session.folder.path)
    for line in remarks_on(session, arguments.report, trained):
        say(line)
    if own_folder and (arguments.report or (finished and not is_whole)):
        write = arguments.report or session.config.report
        verdict = examine_data(session, score, finished, write)
    elif arguments.fail_on_suspicion:
        say(told(verdict, result))
    conclude(session, score, session.folder.path.name if own_folder else str(start.path))
    leave()
    return exit_code(verdict) if arguments.fail_on_suspicion else 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run and return the exit code."""
    try:
        with quiet_libraries(), Interrupt() as interrupt:
            return run(argv, interrupt)
    except (InputError, TrainingError) as error:
        if is_first_process() or isinstance(error, TrainingError):  # all read the same input
            say_error(str(error))
        return error.exit_code
    except (RuntimeError, MemoryError) as error:
        line = shortage(error)
        if line is not None:
            say_error(line)
            return TrainingError.exit_code
        if not lost_contact(error):
            raise
        return report_lost_process()
    except OSError as error:
        say_error(of_system(error))
        return TrainingError.exit_code
    except Interrupted as stop:
        return stop.exit_code


if __name__ == "__main__":
    sys.exit(main())
