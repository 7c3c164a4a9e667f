"""Streams, small runs and a reader's own cell, each beside what people have instead.

One process and one thread for all; a number is the median of many calls, in turns. Printed, and
written to ``results/streaming.md``.
"""

import os

for library in ("OPENBLAS", "OMP", "MKL", "NUMBA"):  # before NumPy is imported
    os.environ.setdefault(f"{library}_NUM_THREADS", "1")

import argparse  # noqa: E402
import statistics  # noqa: E402
import time  # noqa: E402
import warnings  # noqa: E402
from functools import partial  # noqa: E402
from pathlib import Path  # noqa: E402
from types import SimpleNamespace  # noqa: E402

import numpy as np  # noqa: E402

import lstmbook  # noqa: E402
from lstmbook import backprop, lstm, rnn, run  # noqa: E402
from lstmbook.cells import sigmoid  # noqa: E402

warnings.filterwarnings("error", "the compiled loops of lstmbook failed")  # NumPy would be timed
OUT = Path(__file__).parent / "results" / "streaming.md"
UNITS = [64, 128, 256]
SMALL = [(1, 50, 64, 64), (2, 3, 4, 4)]  # (batch, time, input, hidden)
OWN = (32, 100, 128, 128)


def race(calls, seconds):
    """Microseconds per call, the median of each, taken in turns."""
    for call in calls.values():
        call()
    taken = {name: [] for name in calls}
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(next(iter(taken.values()))) < 7:
        for name, call in calls.items():
            start = time.perf_counter()
            call()
            taken[name].append(1e6 * (time.perf_counter() - start))
    return {name: statistics.median(each) for name, each in taken.items()}


def inputs(batch, steps, size, seed=1):
    return np.random.default_rng(seed).normal(size=(batch, steps, size)).astype(np.float32)


def params_of(cell, size, hidden):
    params = cell.init(np.random.default_rng(0), size, hidden)
    noise = np.random.default_rng(2).normal(size=params.b.shape).astype(np.float32)
    return params._replace(b=params.b + noise)


def in_onnx_runtime(cell, params, xs):
    """The same run in ONNX Runtime, in one thread; None where it is not installed."""
    try:
        import onnxruntime

        from lstmbook.live import onnx
    except ImportError:
        return None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        onnx.model(cell, params).SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    batch, steps, _ = xs.shape
    state = np.zeros((1, batch, params.b.shape[1]), np.float32)
    known = {"X": np.ascontiguousarray(xs.swapaxes(0, 1)), "initial_h": state, "initial_c": state}
    known["sequence_lens"] = np.full(batch, steps, np.int32)
    feeds = {entry.name: known[entry.name] for entry in session.get_inputs()}
    return partial(session.run, None, feeds)


def streams(seconds):
    for name in ("lstm", "gru"):
        for units in UNITS:
            params, xs = params_of(lstmbook.CELLS[name], units, units), inputs(1, 1, units)
            calls = {"lstmbook": partial(lstmbook.stream(name, params), xs[:, 0])}
            yield f"stream, {name}, {units} units", calls, in_onnx_runtime(name, params, xs)


def small_runs(seconds):
    for name in ("lstm", "gru"):
        for batch, steps, size, hidden in SMALL:
            params = params_of(lstmbook.CELLS[name], size, hidden)
            xs = inputs(batch, steps, size)
            calls = {"lstmbook": partial(run, name, params, xs)}
            what = f"run, {name}, {(batch, steps, size, hidden)}"
            yield what, calls, in_onnx_runtime(name, params, xs)


def update_gate(params, x, state):
    """A reader's own cell."""
    u, n = x @ params.W_x + state.h @ params.W_h + params.b[:, None]
    h = sigmoid(u) * state.h + (1 - sigmoid(u)) * np.tanh(n)
    return h, rnn.State(h)


def own_cell(seconds):
    """Of a reader's own cell: beside our LSTM for each multiplication, and a loop of PyTorch."""
    batch, steps, size, hidden = OWN
    whole, xs, d_hs = params_of(lstm, size, hidden), inputs(*OWN[:3]), inputs(batch, steps, hidden)
    params = rnn.Params(*(array[:2].copy() for array in whole))
    own = SimpleNamespace(**vars(rnn) | {"GATES": "un", "step": update_gate})
    for what, ours, theirs in (
        ("forward", partial(run, own, params, xs), partial(run, lstm, whole, xs)),
        (
            "training",
            partial(backprop, own, params, xs, d_hs),
            partial(backprop, lstm, whole, xs, d_hs),
        ),
    ):
        calls = {"own": ours, "lstm": theirs}
        loop = in_pytorch(params, xs, d_hs if what == "training" else None)
        taken = race(calls | ({"PyTorch": loop} if loop else {}), seconds)
        line = f"| own cell, {what} | {taken['own']:.0f} | {2 * taken['own'] / taken['lstm']:.2f} |"
        yield line + (f" {taken['PyTorch'] / taken['own']:.1f} |" if loop else " |")


def in_pytorch(params, xs, d_hs):
    """The same cell as a PyTorch module in a Python loop; None where it is not installed."""
    try:
        import torch
    except ImportError:
        return None
    torch.set_num_threads(1)
    W_x, W_h = (torch.tensor(np.concatenate(W, axis=1), requires_grad=True) for W in params[:2])
    b = torch.tensor(params.b.ravel(), requires_grad=True)
    x = torch.tensor(xs, requires_grad=d_hs is not None)

    def forward():
        h, hs = torch.zeros(len(xs), W_h.shape[0]), []
        for t in range(xs.shape[1]):
            u, n = (x[:, t] @ W_x + h @ W_h + b).chunk(2, dim=1)
            h = torch.sigmoid(u) * h + (1 - torch.sigmoid(u)) * torch.tanh(n)
            hs.append(h)
        return torch.stack(hs, dim=1)

    def both():
        return torch.autograd.grad(forward(), [W_x, W_h, b, x], torch.tensor(d_hs))

    def alone():
        with torch.no_grad():
            return forward()

    return alone if d_hs is None else both


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=2.0, help="for each row")
    seconds = parser.parse_args().seconds
    lines = []

    def say(line):
        lines.append(line)
        print(line, flush=True)

    say("# Streams, small runs, a reader's own cell\n\nOne thread, float32, microseconds.\n")
    say("| | lstmbook | ONNX Runtime | ratio |\n|---|---|---|---|")
    for rows in (streams, small_runs):
        for what, calls, theirs in rows(seconds):
            taken = race(calls | ({"ONNX Runtime": theirs} if theirs else {}), seconds)
            ours, peer = taken["lstmbook"], taken.get("ONNX Runtime")
            ratio = f"{peer:.1f} | {ours / peer:.2f}" if peer else "|"
            say(f"| {what} | {ours:.1f} | {ratio} |")
    say("\n| | lstmbook | to our LSTM, per multiplication | a loop in PyTorch takes times |")
    say("|---|---|---|---|")
    for line in own_cell(seconds):
        say(line)
    OUT.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
