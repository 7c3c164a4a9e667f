"""How fast the cells run, beside every framework that is installed: a table, JSON and a figure.

One process per peer, asked in turns, so that a noisy minute hits all alike. A number is the median
over rounds of the median in a round; the spread is the middle half of the rounds.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
from pathlib import Path

import lstmbook

HERE = Path(__file__).parent
PEERS = [
    "lstmbook", "lstmbook without Numba", "NumPy loop of steps", "NumPy matmuls alone",
    "TensorFlow dynamic_rnn in tf.function", "TensorFlow dynamic_rnn with XLA",
    "TensorFlow BlockLSTM", "Keras in tf.function", "PyTorch", "ONNX Runtime",
]  # fmt: skip
FLOOR = "NumPy matmuls alone"
CELLS = ["lstm", "peephole", "coupled", "gru", "gru_reset_after"]
# (batch, time, input, hidden)
SIZES = [
    (2, 3, 4, 4),
    (1, 50, 64, 64),
    (32, 100, 128, 128),
    (64, 100, 256, 256),
    (64, 50, 512, 512),
]
# One size grows at a time.
GROWTH = {
    "batch": [(batch, 50, 128, 128) for batch in (1, 4, 16, 64, 256)],
    "time": [(16, steps, 128, 128) for steps in (1, 10, 100, 1000)],
    "hidden": [(16, 50, hidden, hidden) for hidden in (16, 64, 256, 1024)],
}


class Peer:
    """A process that measures one peer."""

    def __init__(self, name):
        self.name, self.versions, self.missing = name, {}, None
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / "peers.py"), name],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip

    def ask(self, case, mode, seconds):
        """Milliseconds, or None where the peer has no such cell or is not installed."""
        if self.missing:
            return None
        order = {"case": case, "mode": mode, "seconds": seconds}
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            self.missing = "the process died"
            return None
        answer = json.loads(line)
        self.missing = answer.get("missing")
        self.versions |= answer["versions"]
        return answer["ms"]


def cpu():
    """The processor's name, where the system tells."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    names = {line.partition(":")[2].strip() for line in lines if line.startswith("model name")}
    return f"{', '.join(names) or platform.processor()} ({os.cpu_count()} cores)"


def measure(peers, cases, mode, rounds, seconds):
    """``{case: {peer: [milliseconds of each round]}}``."""
    table = {}
    for number, case in enumerate(cases, 1):
        print(f"\r{mode}: case {number} of {len(cases)}, {case}".ljust(70), end="", file=sys.stderr)
        taken = {peer.name: [] for peer in peers}
        for _ in range(rounds):
            for peer in peers:
                ms = peer.ask(case, mode, seconds)
                if ms is not None:
                    taken[peer.name].append(ms)
        table[case] = {name: times for name, times in taken.items() if times}
    print(file=sys.stderr)
    return table


def summary(times):
    """Median and middle half."""
    if len(times) < 2:
        return [times[0]] * 3
    low, middle, high = statistics.quantiles(times, n=4)
    return [middle, low, high]


def markdown(table, mode):
    """A row per case, a column per peer, and ours as a ratio to each."""
    lines = []
    for cell in dict.fromkeys(case[0] for case in table):
        rows = {case: times for case, times in table.items() if case[0] == cell}
        names = [name for name in PEERS if any(name in times for times in rows.values())]
        lines += [f"### {cell}, {mode}", ""]
        lines += ["| (batch, time, input, hidden) | " + " | ".join(names) + " |"]
        lines += ["|---" * (len(names) + 1) + "|"]
        for case, times in rows.items():
            ours = summary(times["lstmbook"])[0]
            entries = []
            for name in names:
                if name not in times:
                    entries.append("")
                    continue
                middle, low, high = summary(times[name])
                ratio = "" if name == "lstmbook" else f", {ours / middle:.2f}"
                entries.append(f"{middle:.3g} ({low:.3g} to {high:.3g}){ratio}")
            lines.append(f"| {case[1:]} | " + " | ".join(entries) + " |")
        lines.append("")
    return lines


def figure(table, growth, path):
    """Time as a multiple of the products alone, against each size, a line per peer."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    marks = dict(zip(PEERS, "ohxsD^v<>P", strict=True))
    parts = {"five sizes": table} | {f"growing {what}": part for what, part in growth.items()}
    figure, (axes,) = plt.subplots(
        1, len(parts), figsize=(14, 5.5), layout="constrained", squeeze=False, sharey=True
    )
    for ax, (title, part) in zip(axes, parts.items(), strict=True):
        cases = [case for case in part if case[0] == "lstm" and FLOOR in part[case]]
        for name in PEERS:
            points = [
                (k, summary(part[case][name])[0] / summary(part[case][FLOOR])[0])
                for k, case in enumerate(cases)
                if name in part[case]
            ]
            if points:
                style = {"marker": marks[name], "lw": 2.5 if name == "lstmbook" else 1}
                ax.plot(*zip(*points, strict=True), label=name, **style)
        ax.set_xticks(range(len(cases)), [str(case[1:]) for case in cases], rotation=35, ha="right")
        ax.set(yscale="log", title=title)
    axes[0].set(ylabel=f"time / {FLOOR}", xlabel="(batch, time, input, hidden)")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=5)
    plt.savefig(path, metadata={"Date": None})
    plt.close()


def main():
    """Measure, print, and write what was measured."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=0.3, help="in one round, for each peer")
    parser.add_argument("--cells", nargs="+", default=CELLS, choices=list(lstmbook.CELLS))
    parser.add_argument("--peers", nargs="+", default=PEERS, choices=PEERS, metavar="PEER")
    parser.add_argument("--modes", nargs="+", default=["run", "train"], choices=["run", "train"])
    parser.add_argument("--no-growth", action="store_true", help="the five sizes alone")
    parser.add_argument("--out", type=Path, default=HERE / "results", metavar="FOLDER")
    options = parser.parse_args()
    peers = [Peer(name) for name in options.peers]
    cases = [(cell, *size) for cell in options.cells for size in SIZES]
    effort = options.rounds, options.seconds
    tables = {mode: measure(peers, cases, mode, *effort) for mode in options.modes}
    growth = {}
    if not options.no_growth:
        for what, sizes in GROWTH.items():
            growth[what] = measure(peers, [("lstm", *size) for size in sizes], "run", *effort)
    versions = {"python": platform.python_version()}
    for peer in peers:
        versions |= peer.versions
    about = f"{cpu()}, {os.environ.get('BENCH_THREADS', '2')} threads, float32; " + ", ".join(
        f"{name} {version}" for name, version in versions.items()
    )
    lines = [
        "# Speed", "", about, "",
        "Milliseconds: median (middle half of the rounds), then what lstmbook takes as a ratio "
        "to that peer. `run` is a whole sequence forward; `train` is forward and back, with the "
        "gradients at all weights and inputs.", "",
    ]  # fmt: skip
    for mode, table in tables.items():
        lines += markdown(table, mode)
    for what, table in growth.items():
        lines += [f"## Growing {what}", "", *markdown(table, "run")]
    missing = [f"{peer.name}: {peer.missing}" for peer in peers if peer.missing]
    lines += ["Not measured: " + "; ".join(missing), ""] if missing else []
    options.out.mkdir(exist_ok=True)
    (options.out / "speed.md").write_text("\n".join(lines), encoding="utf-8")
    data = {
        "about": about,
        "tables": {
            mode: [{"case": case, "ms": times} for case, times in table.items()]
            for mode, table in (tables | growth).items()
        },
    }
    (options.out / "speed.json").write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    if "run" in tables and "lstm" in options.cells and FLOOR in options.peers:
        figure(tables["run"], growth, options.out / "speed.svg")
    print("\n".join(lines))
    for peer in peers:
        peer.process.stdin.close()
        peer.process.wait()


if __name__ == "__main__":
    main()
