"""A plan in words, for those who do not see the picture."""

from .plans import PLANS, Plan, news

__all__ = ["compare_plans", "describe"]

_WORDS = {
    "x": "the input x", "h0": "the old hidden state h", "c0": "the old cell state c",
    "h": "the new hidden state h", "c": "the new cell state c", "i": "the input gate i",
    "f": "the forget gate f", "g": "the candidate g", "o": "the output gate o",
    "r": "the reset gate r", "z": "the update gate z", "n": "the candidate n",
}  # fmt: skip


def _say(plan: Plan, name: str, whole: bool = False) -> str:
    """What a node computes, in words; `whole` says of what a new state is made."""
    node = plan.nodes[name]
    if node.kind in ("gate", "state"):
        return name if node.kind == "gate" else _WORDS[name]
    for wire in plan.wires:
        if not whole and wire.src == name and plan.nodes[wire.dst].kind == "state":
            return _WORDS[wire.dst]
    args = [_say(plan, w.src) for w in plan.wires if w.dst == name]
    if node.text in "×+":
        return {"×": " times ", "+": ", plus "}[node.text].join(args)
    if node.kind == "weights":
        return f"a weighted sum of {' and '.join(args)}"
    return {"1−": "(1 minus {})", "tanh": "tanh of {}"}[node.text].format(*args)


def describe(plan: Plan) -> str:
    """The flow in a few sentences, for those who do not see the picture."""
    into: dict[str, list[str]] = {}
    states = []
    for src, dst, kind, *_ in plan.wires:
        node, value = plan.nodes[dst], _say(plan, src)
        if kind == "peephole":
            into.setdefault(f"also goes {value}, by a dashed peephole", []).append(_WORDS[dst])
        elif node.kind == "gate":
            function = node.text.replace("σ", "sigmoid")
            into.setdefault(f"goes {value}", []).append(f"{_WORDS[dst]} ({function})")
        elif node.kind == "state":
            states.append(f"{_WORDS[dst]} is {_say(plan, src, whole=True)}")
    words = [plan.title]
    for value, gates in into.items():
        rest, _, last = ", ".join(gates).rpartition(", ")
        words.append(f"Into {rest}{' and ' if rest else ''}{last} {value}")
    return ". ".join([*words, "; ".join(states).capitalize()]) + "."


def compare_plans(plan: Plan, name: str) -> str:
    """What is new and what is gone, in words; nothing if nothing is."""
    out, base = "", PLANS[name]
    for word, a, b in ("New (thick lines)", plan, base), ("Gone", base, plan):
        nodes, wires = news(a, b)
        what = [_WORDS.get(k) or _say(a, k) for k in nodes if a.nodes[k].text not in "×+"]
        what += [
            f"the {w.kind} from {_say(a, w.src)} to {_WORDS[w.dst]}"
            for w in wires
            if a.nodes[w.dst].kind == "gate" and not {w.src, w.dst} & set(nodes)
        ]
        out += f" {word}, compared with {name}: {'; '.join(what)}." if what else ""
    return out
