"""An LSTM in plain Python, held to the golden vectors: it shows how to read them.

python reader.py lstm.json       the largest difference from each vector
python reader.py < one.json      answers one vector, as `lstmbook verify --command` asks it
"""

import json
import sys
from math import exp, tanh
from typing import Any


def sigmoid(z: float) -> float:
    return 1 / (1 + exp(-z)) if z >= 0 else 1 - 1 / (1 + exp(z))


def dot(x: Any, W: Any, k: int) -> Any:
    return sum(value * row[k] for value, row in zip(x, W, strict=True))


def step(p: Any, x: Any, h: Any, c: Any) -> Any:
    new_h, new_c = [], []
    for k in range(len(h)):
        i, f, g, o = (
            dot(x, p["W_x"][j], k) + dot(h, p["W_h"][j], k) + p["b"][j][k] for j in range(4)
        )
        new_c.append(sigmoid(f) * c[k] + sigmoid(i) * tanh(g))
        new_h.append(sigmoid(o) * tanh(new_c[k]))
    return new_h, new_c


def run(given: Any) -> Any:
    """The answer to what is given: outputs, zero past the length, and the final state."""
    hs, final_h, final_c = [], [], []
    for row, xs in enumerate(given["xs"]):
        h, c = given["state"]["h"][row], given["state"]["c"][row]
        outputs = []
        for t, x in enumerate(xs):
            alive = t < given["lengths"][row]
            if alive:
                h, c = step(given["params"], x, h, c)
            outputs.append(h if alive else [0.0] * len(h))
        hs.append(outputs)
        final_h.append(h)
        final_c.append(c)
    return {"hs": hs, "final": {"h": final_h, "c": final_c}}


def difference(a: Any, b: Any) -> float:
    """max |a - b| of two nested lists or dicts of the same form; other names are left out."""
    if isinstance(a, dict):
        return max(difference(a[k], b[k]) for k in a)
    if isinstance(a, list):
        return max((difference(u, v) for u, v in zip(a, b, strict=True)), default=0.0)
    return abs(float(a) - float(b))


def main() -> None:
    if len(sys.argv) < 2:
        print(json.dumps(run(json.load(sys.stdin)["given"])))
        return
    with open(sys.argv[1], encoding="utf-8") as file:
        content = json.load(file)
    for vector in content["vectors"]:
        off = difference(run(vector["given"]), vector["expected"])
        print(f"{vector['name']:12} max |Δ| = {off:.1e}")
        assert off <= vector["tolerance"]["float64"]


if __name__ == "__main__":
    main()
