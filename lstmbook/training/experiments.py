"""Which cell when: every cell on every task, and the LSTM with one part missing.

``python -m lstmbook.training.experiments`` trains them all (``make experiments``) and writes
``data/experiments.json``; stopped and started again, it goes on where it was. `run_one` repeats a
single run. `results` reads the file.

The comparison is one of equal weights: each cell has the hidden size that comes nearest to the
number of weights of an LSTM of `HIDDEN`, so a simple RNN has twice as many units, a GRU a few more.
Each is trained at every rate of `SETTINGS["rates"]`, since no rate suits all, and from every seed.
All else is alike. No run is left out.

The parts that the small study takes away follow Greff et al. (2017), section V.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import statistics
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .. import __version__
from ..cells import CELLS, find, lstm
from ..files._whole import replacing
from ..wrong_cells.changed import Changed
from . import tasks
from .progress import Progress
from .tasks import Task
from .train import Model, fit, init_model, start

__all__ = [
    "PARTS",
    "SETTINGS",
    "VARIANTS",
    "Result",
    "best",
    "build",
    "hidden_size",
    "plan",
    "results",
    "run_one",
]

FILE = Path(__file__).parent.parent / "data" / "experiments.json"

TASKS = {
    "adding": {"time": 40},
    "copying": {"delay": 12, "symbols": 4, "length": 3},
    "timing": {"shortest": 8, "longest": 16},
    "counting": {"most": 16},
    "parity": {"time": 24},
}
PART_TASKS = ("adding", "timing")  # those of the small study
HIDDEN = 24  # of the LSTM; `hidden_size` gives the others'
SETTINGS: dict[str, Any] = {
    "tasks": TASKS,
    "part tasks": list(PART_TASKS),
    "LSTM hidden size": HIDDEN,
    "rates": [0.005, 0.015],
    "seeds": [0, 1, 2],
    "steps": 600,
    "every": 40,
    "batch": 32,
    "max_norm": 1.0,
    "judged on": 200,
    "solved from": 0.95,
    "dtype": "float32",
}


# The LSTM with one part missing


def open_gate(params: Any, gate: str) -> Any:
    """LSTM Params whose ``gate`` is 1 for ever.

    Its weights are 0 and its bias is 100: ``sigmoid(100)`` is 1 to the last bit and its slope 0,
    so training does not move them.
    """
    k = lstm.GATES.index(gate)
    W_x, W_h, b = (array.copy() for array in params)
    W_x[k], W_h[k], b[k] = 0, 0, 100
    return lstm.Params(W_x, W_h, b)


def forget_bias_zero(params: Any) -> Any:
    """LSTM Params with a forget-gate bias of 0 at the start, where ours is 1."""
    b = params.b.copy()
    b[lstm.GATES.index("f")] = 0
    return params._replace(b=b)


class Variant(NamedTuple):
    """A cell, and what is done to its fresh Params."""

    cell: Any
    prepare: Any = None
    gates: int = 0  # the number of gates that learn; 0: all


VARIANTS: dict[str, Variant] = {
    "no input gate": Variant(lstm, lambda params: open_gate(params, "i"), 3),
    "no forget gate": Variant(lstm, lambda params: open_gate(params, "f"), 3),
    "no output gate": Variant(lstm, lambda params: open_gate(params, "o"), 3),
    "no input tanh": Variant(Changed("lstm", {"squash_g": lambda z: z}, "no_input_tanh")),
    "no output tanh": Variant(
        Changed("lstm", {"output": lambda o, new, c: o * new}, "no_output_tanh")
    ),
    "forget bias 0": Variant(lstm, forget_bias_zero),
}
# The rows of the small study: the LSTM, what is taken away, and what other cells change.
PARTS = ("lstm", *VARIANTS, "coupled", "peephole")


def build(name: str) -> Variant:
    """The cell or the variant of this name."""
    if name in VARIANTS:
        return VARIANTS[name]
    if name in CELLS:
        return Variant(CELLS[name])
    raise ValueError(f"there is no cell {name!r}; there are {', '.join([*CELLS, *VARIANTS])}")


def weights(name: str, input_size: int, hidden_size: int) -> int:
    """The number of weights that learn, the head's not counted."""
    cell, _, gates = build(name)
    params = find(cell).init(np.random.default_rng(0), input_size, hidden_size)
    count = int(sum(array.size for array in params))
    return count * gates // len(cell.GATES) if gates else count


@cache
def hidden_size(name: str, input_size: int) -> int:
    """The size whose number of weights comes nearest to that of the LSTM of `HIDDEN`.

    No cell has more weights per unit than the LSTM, but for the few of the peepholes.
    """
    aim = weights("lstm", input_size, HIDDEN)
    return min(
        range(HIDDEN, 3 * HIDDEN), key=lambda size: abs(weights(name, input_size, size) - aim)
    )


# One run


class Result(NamedTuple):
    """What came of a run."""

    task: str
    cell: str
    rate: float
    seed: int
    loss: float  # at the end
    curve: tuple[float, ...]  # accuracy every ``SETTINGS["every"]`` steps

    @property
    def accuracy(self) -> float:
        """The accuracy at the end."""
        return self.curve[-1]

    @property
    def solved(self) -> int | None:
        """The first step at which the accuracy was ``SETTINGS["solved from"]``, or None."""
        for k, accuracy in enumerate(self.curve, start=1):
            if accuracy >= SETTINGS["solved from"]:
                return k * int(SETTINGS["every"])
        return None


def task_of(name: str) -> Task:
    """A task in the size of these experiments."""
    if name not in TASKS:
        raise ValueError(f"there is no task {name!r} here; there are {', '.join(TASKS)}")
    return tasks.TASKS[name](**TASKS[name])


def fresh_model(task: Task, cell: str, seed: int) -> Model:
    """The model that a run begins with."""
    variant, size = build(cell), hidden_size(cell, task.input_size)
    rng = np.random.default_rng(seed)
    model = init_model(rng, variant.cell, task.input_size, size, task.output_size)
    if variant.prepare:
        model = model._replace(params=(variant.prepare(model.params[0]),))
    return model


def run_one(
    task: str,
    cell: str,
    rate: float,
    seed: int,
    *,
    steps: int | None = None,
    progress: bool = False,
) -> Result:
    """Train one model; the same arguments give the same result, to rounding.

    Parameters
    ----------
    task : str
        A name in `TASKS`.
    cell : str
        A name in `CELLS` or `VARIANTS`.
    rate : float
        Adam's learning rate.
    seed : int
        Of the first weights and of all that is drawn.
    steps : int, optional
        Fewer than ``SETTINGS["steps"]``, for the beginning of the curve alone.
    progress : bool
        Whether to draw a bar.
    """
    problem = task_of(task)
    run = start(fresh_model(problem, cell, seed), seed, learning_rate=rate)
    fit(
        run,
        problem.source(SETTINGS["batch"]),
        problem.loss,
        SETTINGS["steps"] if steps is None else steps,
        max_norm=SETTINGS["max_norm"],
        evaluate=lambda model: tasks.evaluate(model, problem, SETTINGS["judged on"]),
        every=SETTINGS["every"],
        progress=progress,
    )
    scores = [score for _, score in run.evaluations]
    if not scores:
        raise ValueError(f"steps is {steps}; expected at least {SETTINGS['every']}")
    curve = tuple(round(score.accuracy, 3) for score in scores)
    return Result(task, cell, rate, seed, float(f"{scores[-1].loss:.4g}"), curve)


def plan() -> list[tuple[str, str, float, int]]:
    """``(task, cell, rate, seed)`` of every run, seed by seed."""
    return [
        (task, cell, rate, seed)
        for seed in SETTINGS["seeds"]
        for task in TASKS
        for cell in dict.fromkeys([*CELLS, *(PARTS if task in PART_TASKS else [])])
        for rate in SETTINGS["rates"]
    ]


# All runs, and their file


def results(path: str | os.PathLike[str] = FILE) -> list[Result]:
    """The stored results of all runs, in the order of `plan`."""
    return _read(Path(path))[1]


def best(found: Sequence[Result], task: str, cell: str) -> list[Result]:
    """The runs of a cell on a task at its better rate.

    That is the rate at which more runs solved it; of equals the one at which they did so in fewer
    steps, and then that of the lower loss. The choice is made by what is then reported, so it
    flatters every cell a little.
    """
    chosen = [r for r in found if (r.task, r.cell) == (task, cell)]
    if not chosen:
        raise ValueError(f"there is no run of {cell!r} on {task!r}")

    def merit(rate: float) -> tuple[int, int, float]:
        at_rate = [r for r in chosen if r.rate == rate]
        steps = [r.solved for r in at_rate if r.solved is not None]
        return len(steps), -sum(steps), -sum(r.loss for r in at_rate)

    rate = max({r.rate for r in chosen}, key=merit)
    return [r for r in chosen if r.rate == rate]


def table(found: Sequence[Result], names: Sequence[str], on: Sequence[str]) -> str:
    """Lines of text: for each cell and task how many runs solved it, and the median steps.

    ``4/5 240`` is 4 of 5 seeds, half of the 5 within 240 steps; the dash is for half or more
    that never did.
    """
    rows = [["", *on]]
    for name in names:
        row = [name]
        for task in on:
            runs = best(found, task, name)
            never = float("inf")
            half = statistics.median(never if r.solved is None else r.solved for r in runs)
            solved = sum(r.solved is not None for r in runs)
            row.append(f"{solved}/{len(runs)} {'-' if half == never else f'{half:g}'}")
        rows.append(row)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(c.ljust(w) for c, w in zip(r, widths, strict=True)).rstrip() for r in rows)
    return "\n".join(lines)


def code_hash() -> str:
    """SHA-256 of the sources of the folders that a run rests on."""
    package, digest = Path(__file__).parent.parent, hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        if path.relative_to(package).parts[0] in ("cells", "running", "training", "wrong_cells"):
            digest.update(path.read_bytes())
    return digest.hexdigest()


def _write(path: Path, found: Sequence[Result]) -> None:
    order = {key: k for k, key in enumerate(plan())}
    header = {
        "format": "lstmbook.experiments 1",
        "made by": {
            "lstmbook": __version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
            "machine": platform.machine(),
            "code": code_hash(),
        },
        "settings": SETTINGS,
        "columns": list(Result._fields),
    }
    rows = [json.dumps(row) for row in sorted(found, key=lambda r: order[r[:4]])]
    text = json.dumps(header, indent=1)[:-2] + ',\n "runs": [\n' + ",\n".join(rows) + "\n]}\n"
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def _read(path: Path) -> tuple[dict[str, Any], list[Result]]:
    stored = json.loads(path.read_text(encoding="utf-8"))
    return stored, [Result._make([*row[:-1], tuple(row[-1])]) for row in stored.pop("runs")]


def _run_all(path: Path, workers: int) -> list[Result]:
    """Every run of `plan` that ``path`` does not hold yet; written after each."""
    found: list[Result] = []
    if path.exists():
        stored, found = _read(path)
        if stored["settings"] != SETTINGS or stored["made by"]["code"] != code_hash():
            print(f"{path} was made by other code or settings: beginning again", file=sys.stderr)
            found = []
    done = {result[:4] for result in found}
    rest = [key for key in plan() if key not in done]
    with (
        ProcessPoolExecutor(workers, get_context("spawn")) as pool,
        Progress(len(rest)) as bar,
    ):
        try:
            running = [pool.submit(run_one, *key) for key in rest]
            for k, future in enumerate(as_completed(running), start=1):
                found.append(future.result())
                _write(path, found)
                bar.update(k, " ".join(map(str, found[-1][:4])))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """What ``python -m lstmbook.training.experiments`` does."""
    parser = argparse.ArgumentParser(
        prog="python -m lstmbook.training.experiments",
        description="Train every cell on every task (10 minutes on two cores).",
    )
    parser.add_argument("--out", type=Path, default=FILE, help="the file to write (%(default)s)")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="processes at once")
    given = parser.parse_args(arguments)
    os.environ["OPENBLAS_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = "1"  # one core a process
    part = given.out.with_name(given.out.name + ".part")
    try:
        found = _run_all(part, given.workers)
    except KeyboardInterrupt:
        print(f"stopped; the same command goes on from {part}", file=sys.stderr)
        return 130
    os.replace(part, given.out)
    print(table(found, list(CELLS), list(TASKS)), end="\n\n")
    print(table(found, PARTS, PART_TASKS))
    return 0


if __name__ == "__main__":
    sys.exit(main())
