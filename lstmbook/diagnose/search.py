"""Which gate of a function differs, found by asking it again and again."""

from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain, combinations
from typing import Any, NamedTuple

import numpy as np

from ..cells._activations import Array
from ..running.program import Node, Values
from ..wrong_cells import GATE_NAMES
from ..wrong_cells.changed import right_of
from .cases import Call, random_numbers
from .subject import RefusedError, Subject, listed, off_by

__all__ = ["Search"]

TINY = 1e-11  # readings divide, which costs a digit

Read = Callable[[Call], Array | None]  # a gate, as it can be read off the function's answers


class _Finding(NamedTuple):
    culprit: str  # the letter of a gate that explains it, or ""
    text: str


def _clear(findings: list[_Finding | None]) -> bool:
    """Whether gates explain all that was found."""
    return all(finding is None or finding.culprit for finding in findings)


class Search:
    """Finds the gate that differs, with calls that are made for it.

    If all equations but one are right, that one can be read off the answers: where
    ``c = f * c + i * g`` holds with the right ``i`` and ``g``, ``f`` is ``(c_new - i * g) / c``.
    A reading is trusted only if it does not change when the weights of the other gates do, so a
    gate is blamed only if it explains all that was seen.
    """

    def __init__(self, subject: Subject, rng: np.random.Generator) -> None:
        self.subject, self.rng, self.cell = subject, rng, subject.cell
        self.letters: str = self.cell.GATES
        self.holes: str = getattr(self.cell, "PEEPHOLES", "")
        self.page = right_of(self.cell)
        self.nodes = {"h": self.page.program.output, **self.page.new, **self.page.gates}

    def explain(self, off: dict[str, float]) -> tuple[str, str]:
        """The gates to blame and the text, for a function that is ``off``."""
        call, where = self.probe(), ""
        if self.subject.part == "gates":
            return self.direct(call)
        if "h" in off and "state.h" not in off:
            return "", "In the state, h is right. The h that you return beside it is not the same."
        if "h" not in off and "state.h" in off:
            return "", "The h that you return is right. In the state, h is not the same."
        if off.get("h") != off.get("state.h"):
            culprits, text = self.explain({"h": 1.0, "state.h": 1.0})
            note = "The h that you return and the h in your state are not the same. Beside that:"
            return culprits, f"{note}\n{text}"
        if not self.wrong(call):
            return "", "On numbers of moderate size it is right. Likely something is clipped."
        if self.holes:
            none = call._replace(params=call.params._replace(p=np.zeros_like(call.params.p)))
            if not self.wrong(none):
                return self.peepholes(call, none)
            call, where = none, "Without peepholes (all p = 0), "
        if self.letters == "n":
            groups = {"h": [self.judge("n", partial(self.asked, "h"), call)]}
        elif "z" in self.letters:
            groups = {"h": self.gru(call)}
        else:
            groups = {"c": self.new_c(call), "h": self.new_h(call)}
        found = {name: [f for f in group if f] for name, group in groups.items()}
        everything = list(chain(*found.values()))
        culprits = "".join(finding.culprit for finding in everything)
        if len(culprits) == len(everything):  # each by a gate
            return culprits, self.words("all" if where else "All", everything, where)
        texts = [self.words(name, group, where) for name, group in found.items() if group]
        return culprits, "\n".join(texts)

    def words(self, name: str, findings: list[_Finding], where: str) -> str:
        culprits = [finding.culprit for finding in findings]
        texts = [finding.text for finding in findings]
        if not all(culprits):
            return "\n".join(texts)
        only = f"only the {GATE_NAMES[culprits[0]]} is wrong"
        if len(culprits) > 1:
            only = f"{listed(culprits)} are wrong and nothing else"
        return "\n".join([f"{where}{name} fits if {only}.", *texts])

    # Calls

    def probe(self) -> Call:
        """Numbers for which no gate is near 0 or 1, and no state near 0."""
        params, xs, state = random_numbers(self.rng, self.cell, 3, 4, 5)
        state = type(state)(*(np.copysign(self.rng.uniform(0.4, 1.2, a.shape), a) for a in state))
        return self.other(Call(params, xs[0], state), self.letters)

    def other(self, call: Call, letters: str) -> Call:
        """Other weights for these gates; zero peepholes stay zero."""
        inputs, hidden = call.params.W_x.shape[1:]
        for k in letters:
            new = {
                "W_x": 0.3 * self.rng.normal(size=(inputs, hidden)),
                "W_h": 0.6 * np.linalg.qr(self.rng.normal(size=(hidden, hidden)))[0],
                "b": 0.4 * self.rng.normal(size=hidden),
            }
            if k in self.holes and np.any(call.params.p):
                new["p"] = 0.4 * self.rng.normal(size=hidden)
            if k == "n" and "b_hn" in call.params._fields:
                new["b_hn"] = 0.4 * self.rng.normal(size=hidden)
            call = self.put(call, k, **new)
        return call

    def put(self, call: Call, k: str, **values: Any) -> Call:
        """The call with these weights for gate ``k``."""
        params = call.params
        for field, value in values.items():
            array = getattr(params, field).copy()
            row: Any = (self.holes if field == "p" else self.letters).index(k)
            array[... if field == "b_hn" else row] = value
            params = params._replace(**{field: array})
        return call._replace(params=params)

    def hold(self, call: Call, **at: int) -> Call:
        """The call with gates held at 0 or 1 by their biases (g at 1)."""
        for k, one in at.items():
            call = self.put(call, k, W_x=0.0, W_h=0.0, b=50.0 if one else -50.0)
        return call

    def old(self, call: Call, name: str, value: Array) -> Call:
        return call._replace(state=call.state._replace(**{name: value}))

    def ask(self, call: Call) -> dict[str, Array]:
        answer = self.subject(call)
        if not all(np.isfinite(a).all() for a in answer.values()):
            raise RefusedError("not finite")
        return answer

    def asked(self, name: str, call: Call) -> Array:
        return self.ask(call)[name]

    def right(self, call: Call) -> dict[str, Array]:
        """The right gates."""
        return dict(zip(self.letters, self.cell.gates(*call), strict=True))

    def of_page(self, name: str | Node, call: Call, **others: Any) -> Array:
        """What the page gives for a gate, c or h, with other values for some of them."""
        changes = {self.nodes[k]: (lambda _, value=value: value) for k, value in others.items()}
        values = Values(tuple(call), changes)
        value: Array = values[self.nodes[name] if isinstance(name, str) else name]
        return value

    def solved(self, k: str, name: str | Node, call: Call, got: Array, **others: Any) -> Array:
        """Gate ``k`` for which the page gives ``got``, where that is a straight line in it."""
        at_0, at_1 = (
            self.of_page(name, call, **{**others, k: np.full_like(got, end)}) for end in (0, 1)
        )
        return _ratio(got - at_0, at_1 - at_0)

    def wrong(self, call: Call) -> bool:
        return bool(off_by(self.ask(call), self.subject.right(call), TINY))

    # Judging one gate

    def judge(self, k: str, read: Read, call: Call, own: str = "") -> _Finding | None:
        """What is wrong with a gate; None if nothing is.

        ``own`` are the gates that may change the reading, ``k`` if not given.
        """
        got, right = read(call), self.right(call)[k]
        if got is not None and not _differ(got, right):
            return None
        if got is None:
            return _Finding("", f"{k} cannot be told.")
        leaks = self.leaks(read, call, own or k, TINY + 1e-3 * _distance(got, right))
        if leaks == ["the old c"]:
            return _Finding(k, f"{k}: changes with the old c. Does it see c?")
        if leaks:
            return _Finding("", f"What should be {k} also changes with {listed(leaks)}.")
        return _Finding(k, f"{k}: {self.parts(k, read, call)}")

    def leaks(self, read: Read, call: Call, own: str, tolerance: float) -> list[str]:
        """What changes a reading and should not: other gates' weights, or the old c."""
        others = {f"the weights of {k}": self.other(call, k) for k in self.letters if k not in own}
        if "c" in call.state._fields:
            others["the old c"] = self.old(call, "c", -1.1 * call.state.c)
        first, found = read(call), []
        for name, other in others.items():
            again = read(other)
            if first is None or again is None or _differ(first, again, tolerance):
                found.append(name)
        return found

    def parts(self, k: str, read: Read, call: Call) -> str:
        """Which parts of its sum make a gate wrong: all subsets of them are tried."""
        names = {"W_x": f"x @ W_x{k}", "W_h": f"h @ W_h{k}", "b": f"b_{k}"}
        if k == "n" and "r" in self.letters:
            names["W_h"] = "(r * h) @ W_hn"
        if k == "n" and "b_hn" in call.params._fields:
            names |= {"W_h": "r * (h @ W_hn)", "b_hn": "r * b_hn"}
        if k in self.holes and np.any(call.params.p):
            names["p"] = f"p_{k} * c"
        wrong = {}
        for there in _subsets(tuple(names)):
            less = self.put(call, k, **{part: 0.0 for part in names if part not in there})
            got, want = read(less), self.want(k, less)
            wrong[there] = got is None or _differ(got, want)
            if not there and wrong[there]:
                return (
                    f"where {listed(list(names.values()))} are all 0, it should be "
                    f"{want.flat[0]:.3g} and yours is {_range(got, want)}. Likely its "
                    "nonlinearity, or something that is added to it."
                )
        alone = tuple(part for part in names if wrong[part,])
        rest = tuple(part for part in names if part not in alone)
        if not rest:
            return (
                f"right where {listed(list(names.values()))} are all 0, wrong with each of them "
                "alone. Likely its nonlinearity."
            )
        if not wrong[rest]:
            which = listed([names[part] for part in alone])
            return f"right where {which} {'is' if len(alone) == 1 else 'are'} 0. Look there."
        together = next(there for there in wrong if wrong[there] and set(there) <= set(rest))
        which = listed([names[part] for part in together])
        return f"wrong when {which} are there together, but right with each of them alone."

    def want(self, k: str, call: Call) -> Array:
        if self.subject.part == "gates":
            return self.given(call, self.ask(call))[k]
        return self.right(call)[k]

    def facts(self, call: Call, name: str, *facts: tuple[dict[str, int], str]) -> str:
        """What should hold with gates held at 0 or 1 and does not."""
        text = ""
        for held, words in facts:
            still = self.hold(call, **held)
            answer = self.ask(still)
            own = {"c": answer["c"]} if name == "h" and "c" in answer else {}
            distance = _distance(answer[name], self.of_page(name, still, **own))
            if distance > TINY:
                gates = listed([f"{k} held at {at}" for k, at in held.items()])
                bias = "its bias" if len(held) == 1 else "their biases"
                text += f"\nWith {gates} by {bias}, {words}; yours is off by {distance:.2g}."
        return text

    # Cells

    def new_c(self, call: Call) -> list[_Finding | None]:
        if not _differ(self.ask(call)["c"], self.cell.step(*call)[1].c):
            return []
        coupled = "i" not in self.letters
        share = "(1 - f)" if coupled else "i"
        look = f"Look at c = f * c + {share} * g."
        look += self.facts(
            call,
            "c",
            ({"f": 1} if coupled else {"f": 1, "i": 0}, "c should stay as it is"),
            ({"f": 0} if coupled else {"f": 0, "i": 1}, "c should be g"),
        )

        def line(call: Call) -> tuple[Array, Array] | None:
            """``c = slope * old c + rest``, or None if it is not of this form."""
            olds = [call.state.c, call.state.c + 0.7, call.state.c - 0.9]
            first, second, third = (self.ask(self.old(call, "c", c))["c"] for c in olds)
            slope = (second - first) / 0.7
            rest = first - slope * olds[0]
            return None if _differ(third, slope * olds[2] + rest) else (slope, rest)

        def read(k: str) -> Read:
            def reading(call: Call) -> Array | None:
                parts = line(call)
                if parts is None or k == "f":
                    return parts and parts[0]
                still = self.old(call, "c", np.zeros_like(call.state.c))
                return self.solved(k, "c", still, parts[1], f=parts[0])

            return reading

        def rest(call: Call, **at: int) -> Array | None:
            parts = line(self.hold(call, **at))
            return parts and parts[1]

        text = "The new c is not something times the old c plus something."
        findings: list[_Finding | None] = [_Finding("", f"{text} {look}")]
        straight = line(call) is not None
        if straight:
            f = self.judge("f", read("f"), call)
            others = [self.judge("g" if coupled else "i", read("g" if coupled else "i"), call)]
            if not coupled and not _clear(others):
                others = [self.judge("g", read("g"), call)]
            if not coupled and not _clear(others):  # neither alone; both?
                i, g = partial(rest, g=1), partial(rest, i=1)
                if all(_times(i(c), g(c), rest(c)) for c in (call, self.other(call, "ig"))):
                    others = [self.judge("i", i, call), self.judge("g", g, call)]
            findings = [f, *others]
            if _clear(findings):
                return findings
            if not _clear(others):
                findings = [_Finding("", f"What is added to f * c is not {share} * g. {look}")]
                if f:
                    text = f"What multiplies the old c is not {f.text}" if f.culprit else f.text
                    findings.insert(0, _Finding("", text))
            elif f:
                findings[0] = f._replace(text=f"{f.text} {look}")
        for k in self.letters.replace("o", "").replace("f", "" if straight else "f"):
            if self.leaks(partial(self.alone, k), call, k, TINY) == ["the old c"]:
                mend = f", or is c = f * c + {share} * g another" if k == "f" else ""
                return [_Finding(k, f"{k}: changes with the old c. Does it see c{mend}?")]
        return findings

    def alone(self, k: str, call: Call) -> Array:
        """Gate ``k`` if all else in c is right."""
        return self.solved(k, "c", call, self.ask(call)["c"])

    def new_h(self, call: Call) -> list[_Finding | None]:
        """What is wrong in h, given the function's own c."""

        def read_o(call: Call) -> Array | None:
            answer = self.ask(call)
            return self.solved("o", "h", call, answer["h"], c=answer["c"])

        found = self.judge("o", read_o, call)
        if found and not found.culprit:
            text = "h is not o * tanh(c), with your own new c. Look at this line." + self.facts(
                call,
                "h",
                ({"o": 1}, "h should be tanh(c)"),
                ({"o": 0}, "h should be 0"),
            )
            found = _Finding("", text)
        return [found]

    def gru(self, call: Call) -> list[_Finding | None]:
        after = "b_hn" in call.params._fields

        def n_from_z(call: Call) -> Array:
            return self.solved("n", "h", call, self.ask(call)["h"])

        def n_held(call: Call) -> Array:
            return n_from_z(self.hold(call, z=0))

        def z_from(read_n: Callable[[Call], Array]) -> Read:
            return lambda call: self.solved("z", "h", call, self.ask(call)["h"], n=read_n(call))

        def r_from(read_n: Callable[[Call], Array]) -> Read:
            def reading(call: Call) -> Array | None:
                n, sum_of_n = read_n(call), self.page.gates["n"].args[0]
                if not np.all(np.abs(n) < 1):
                    return None
                if after:
                    return self.solved("r", sum_of_n, call, np.arctanh(n))
                (product,) = self.page.parts("n").h
                rest = self.of_page(sum_of_n, call, r=0.0)
                W = self.of_page(product.args[1], call)
                return self.solved(
                    "r", product.args[0], call, (np.arctanh(n) - rest) @ np.linalg.inv(W)
                )

            return reading

        def candidate(read_n: Callable[[Call], Array]) -> _Finding | None:
            found = self.judge("n", read_n, call, own="rn")
            r = self.judge("r", r_from(read_n), call) if found and found.culprit else None
            if r and r.culprit:  # the one cannot be told from the other
                part = "r * (h @ W_hn + b_hn)" if after else "(r * h) @ W_hn"
                return r._replace(text=f"{r.text}\nOr it is {part} in the candidate n.")
            return found

        found = candidate(n_from_z)
        if found and found.culprit:
            return [found]
        found = self.judge("z", z_from(lambda call: self.right(call)["n"]), call)
        if found and found.culprit:
            return [found]
        look = "Look at h = z * h + (1 - z) * n."
        stays = ({"z": 1}, "h should stay as it is")
        if not self.facts(call, "h", stays):  # so z can be held, and n be read off
            both = [candidate(n_held), self.judge("z", z_from(n_held), call)]
            if _clear(both):
                return both
            if both[0] is None and both[1]:  # n is right, so this can be trusted
                look = f"{both[1].text} {look}"
        is_n = ({"z": 0}, "h should be n")
        return [_Finding("", look + self.facts(call, "h", stays, is_n))]

    def peepholes(self, call: Call, none: Call) -> tuple[str, str]:
        """What is wrong if all is right without peepholes."""
        rows = dict(zip(self.holes, call.params.p, strict=True))
        alone = [k for k in self.holes if self.wrong(self.put(none, k, p=rows[k]))]
        text = "With all peephole weights 0 it is right: look at the peepholes."
        if not alone:
            text += "\nEach of them alone is right too; together they are not."
        for k in alone:
            c = "new c" if k == "o" else "old c"
            text += f"\nWith p_{k} alone it is wrong: the {GATE_NAMES[k]} should see p_{k} * c, "
            text += f"with the {c}."
        return "".join(alone), text

    def direct(self, call: Call) -> tuple[str, str]:
        """What is wrong in gates that the function returns itself."""
        answer, right = self.ask(call), self.right(call)
        order = "".join(
            next((k for k, a in right.items() if not _differ(a, answer[place])), "?")
            for place in self.letters
        )
        if sorted(order) == sorted(self.letters) and order != self.letters:
            text = f"You return the gates in the order {', '.join(order)}; "
            return "", f"{text}here it is {', '.join(self.letters)}."
        culprits, lines = "", []
        for k, want in self.given(call, answer).items():
            if _differ(answer[k], want):
                culprits += k
                lines.append(f"{k}: {self.parts(k, partial(self.asked, k), call)}")
            elif _differ(answer[k], right[k]):
                lines.append(f"{k}: right for your other gates.")
        return culprits, "\n".join(lines)

    def given(self, call: Call, answer: dict[str, Array]) -> dict[str, Array]:
        """The right gates; one that depends on others takes the function's own others."""
        return {
            k: self.of_page(k, call, **{j: a for j, a in answer.items() if j != k})
            for k in self.letters
        }


def _distance(a: Array, b: Array) -> float:
    """How far two readings are apart, where both could be made; infinite if nowhere."""
    distance = np.abs(a - b)
    known = distance[~np.isnan(distance)]
    return float(np.max(known)) if known.size else float("inf")


def _differ(a: Array, b: Array, tolerance: float = TINY) -> bool:
    return _distance(a, b) > tolerance


def _times(a: Array | None, b: Array | None, product: Array | None) -> bool:
    """Whether three readings could be made and ``a * b = product``."""
    return not (a is None or b is None or product is None) and not _differ(a * b, product)


def _ratio(a: Array, b: Array) -> Array:
    """``a / b``; NaN where ``b`` is too near 0 to divide by."""
    return np.divide(a, b, out=np.full_like(a, np.nan), where=np.abs(b) > 0.02)


def _range(a: Array | None, right: Array) -> str:
    if a is None or np.isnan(a).all():
        return "unknown: your answer does not show it"
    if _distance(a, right) < 1e-3:
        return f"off by {_distance(a, right):.2g}"
    low, high = (round(float(v), 9) + 0.0 for v in (np.nanmin(a), np.nanmax(a)))
    return f"{low:.3g}" if low == high else f"between {low:.3g} and {high:.3g}"


def _subsets(names: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    for count in range(len(names) + 1):
        yield from combinations(names, count)
