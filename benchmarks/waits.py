"""What people wait for: imports and first runs in fresh interpreters; with --book, the book too.

Printed, and written to ``results/waits.md``.
"""

import argparse
import importlib.util
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
OUT = Path(__file__).parent / "results" / "waits.md"
IMPORTS = ["pass", "import numpy", "import lstmbook", "import lstmbook.cli", "import tensorflow"]
RUN = """
import warnings, numpy as np, lstmbook
warnings.simplefilter("error")  # if the compiled loops failed, NumPy would be timed
params = lstmbook.lstm.init(np.random.default_rng(0), 3, 4)
lstmbook.run("lstm", params, np.ones((2, 5, 3), np.float32))
"""
FIRST_RUNS = {"a first `run`, in NumPy": "0", "a first `run`, compiled before": "1"}
NBVAL = ["-m", "pytest", "book", "--nbval", "--nbval-current-env", "-W", "default", "-q"]
LONG = {
    "build the book, all chapters run": ["make", "book", "CI=1"],
    "build the book, chapters from the cache": ["make", "book"],
    "run all chapters against their outputs": [sys.executable, *NBVAL, "-p", "no:cacheprovider"],
}


def seconds(command, **options):
    """Wall time of a process."""
    start = time.perf_counter()
    subprocess.run(command, check=True, **options)
    return time.perf_counter() - start


def main():
    """Print medians, spreads and the ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--book", action="store_true", help="time the book and its tests as well")
    options = parser.parse_args()
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    missing = [m for m in ("tensorflow",) if importlib.util.find_spec(m) is None]
    waits = {f"`{s}`": (s, "0") for s in IMPORTS if s.removeprefix("import ") not in missing}
    waits |= {what: (RUN, numba) for what, numba in FIRST_RUNS.items()}
    times = {what: [] for what in waits}
    for _ in range(options.rounds):
        for what, (code, numba) in waits.items():
            env = os.environ | {"LSTMBOOK_NUMBA": numba}
            times[what].append(seconds([sys.executable, "-I", "-c", code], env=env, **quiet))
    medians, lines = {}, []

    def say(line):
        lines.append(line)
        print(line, flush=True)

    say("# Waiting\n\n| | median | middle half |\n|---|---|---|")
    for what, taken in times.items():
        low, medians[what], high = (1e3 * t for t in statistics.quantiles(taken, n=4))
        say(f"| {what} | {medians[what]:.1f} ms | {low:.1f} to {high:.1f} ms |")
    for what, command in LONG.items() if options.book else ():
        say(f"| {what} | {seconds(command, cwd=ROOT, **quiet):.0f} s | once |")
    bare = medians["`pass`"]
    ratio = (medians["`import lstmbook`"] - bare) / (medians["`import numpy`"] - bare)
    say(f"\nImporting lstmbook costs {ratio:.2f} times what importing NumPy costs.")
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
