"""How long `detect` takes: every cell in a few layouts, what is found and what is not, one core.

Processor time of one call each, on random weights and a pair from random states. ``none`` is the
same pair with outputs that no convention computes; ``last`` gives the last outputs alone.
"""

import argparse
import os
import time

os.environ["OPENBLAS_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np

from lstmbook import CELLS, layouts, run
from lstmbook.convention import detect

LAYOUTS = ("tf1", "keras", "torch", "onnx", "tflite", "gates")  # as far as they store the cell
PAIRS = ("found", "none", "last", "last, none")


def stored(cell, layout, params):
    """The arrays under names without meaning, or None; ``gates`` is an array for each gate."""
    if layout == "gates":
        rows = [row for part in params for row in (part if part.ndim > 1 else [part])]
        return {f"a{k}": row for k, row in enumerate(rows)}
    try:
        arrays = layouts.export(cell, layout, params)
    except layouts.LayoutError:
        return None
    return {f"a{k}": array for k, array in enumerate(arrays.values())}


def random_params(cell, rng, inputs, hidden):
    """Weights of unit gain, biases and peepholes not zero."""
    fresh = CELLS[cell].init(rng, inputs, hidden)
    gain = {"W_x": inputs**-0.5, "W_h": hidden**-0.5}
    made = {
        name: (gain.get(name, 0.7) * rng.normal(size=part.shape)).astype(np.float32)
        for name, part in fresh._asdict().items()
    }
    return CELLS[cell].Params(**made)


def main():
    """Print a table of cases and seconds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, nargs=4, default=[4, 20, 128, 128],
                        metavar=("BATCH", "TIME", "INPUT", "HIDDEN"))  # fmt: skip
    parser.add_argument("--cell", action="append", choices=CELLS, help="only this; may be several")
    parser.add_argument("--zero", action="store_true", help="from the zero state, not told")
    options = parser.parse_args()
    batch, steps, inputs, hidden = options.size
    print(f"{'cell':18}{'arrays':8}" + "".join(f"{pair:>14}" for pair in PAIRS))
    worst = 0.0
    for cell in options.cell or CELLS:
        for layout in LAYOUTS:
            rng = np.random.default_rng(0)
            params = random_params(cell, rng, inputs, hidden)
            arrays = stored(cell, layout, params)
            if arrays is None:
                continue
            xs = rng.normal(size=(batch, steps, inputs)).astype(np.float32)
            parts = [rng.normal(size=(batch, hidden)) for _ in CELLS[cell].State._fields]
            state = None if options.zero else [part.astype(np.float32) for part in parts]
            start = None if state is None else CELLS[cell].State(*state)
            hs, _ = run(cell, params, xs, start)
            line = f"{cell:18}{layout:8}"
            for pair in PAIRS:
                seen = hs[:, -1] if "last" in pair else hs
                seen = seen[..., ::-1] if "none" in pair else seen
                begin = time.process_time()
                found = detect(arrays, xs, seen, state=state)
                taken = time.process_time() - begin
                worst = max(worst, taken)
                told = "one" if found else len(found.matches) or "none"
                line += f"{told:>6}{'' if found.complete else '*':1}{taken:7.2f}"
            print(line, flush=True)
    print(f"seconds; the longest took {worst:.2f}. * not all was tried, and the answer says so")


if __name__ == "__main__":
    main()
