"""The compiled loop forward as text."""

from __future__ import annotations

from .plan import Forward
from .program import Node, in_order
from .text_rows import Names, Row, width_of

__all__ = ["forward"]


def forward(name: str, plan: Forward, names: Names) -> list[str]:
    """The lines of ``{name}_forward``, and of what it calls for a row."""
    rows: list[Row] = []
    final = len(plan.segments) - 1
    outside = plan.output if plan.output not in plan.state else None
    for stage, segment in enumerate(plan.segments):
        row = Row(f"_{name}_row_{stage}")
        wanted: dict[Node, list[str]] = {}
        for k, slot in enumerate(plan.slots):
            array = names.slots[k]
            if slot.kept is not slot.leaf and slot.kept in segment:
                wanted.setdefault(slot.kept, []).append(row.array(array, names.slot_rows("row", k)))
        for k, left in enumerate(plan.lefts):
            if left in segment:
                wanted.setdefault(left, []).append(row.array(f"left_{k}", f"left_{k}[s]"))
        if stage == final:
            for k, node in enumerate(plan.state):
                state = names.states[k]
                wanted.setdefault(node, []).append(row.array(f"new_{state}", f"{state}[new, s]"))
            if outside is not None:
                wanted.setdefault(outside, []).append(row.array("output", "output"))
        _know(row, plan, names, [*wanted], stage)
        for node in in_order(list(wanted)):
            for number, array in enumerate(wanted.get(node, ())):
                if number:
                    row.body += [f"    copy({array}, {row.known[node]})"]
                else:
                    row.loop(array, [node])
                    row.known[node] = array
        rows.append(row)

    text = [line for row in rows if row.body for line in [*row.text(), "", ""]]
    text += [
        "@compiled",
        f"def {name}_forward(weights, xs, lengths, hs, z, states):",
        f"    {names.weights} = weights",
        f"    {names.state()} = states",
        "    batch, end = len(lengths), longest(lengths)",
    ]
    for k, left in enumerate(plan.lefts):
        like = width_of(left, plan, names)
        text.append(f"    left_{k} = room(batch, {like}, z)")
    if outside is not None:
        text.append(f"    output = room(np.int64(1), {width_of(outside, plan, names)}, z)[0]")
    h = names.states[0]
    text += [
        "    for t in range(end):",
        f"        old, new = t % len({h}), (t + 1) % len({h})",
    ]
    text.append("        first = fill(b, t, end, z, batch)")
    for g, group in names.groups.items():
        if g.startswith("x_"):
            text.append(f"        project(W_{g}, at[{group.first}], xs, t, end, z, batch)")
    given = {"row": "z[first + s]", "x": "xs[0][place(xs, s, t)]"}
    for stage, row in enumerate(rows):
        last = stage == final
        if row.body or last:
            text += ["        for s in range(batch):", "            if t < lengths[s]:"]
            text += row.call(given, " " * 16)
        if last:
            out = "output"
            if outside is None:
                out = f"{names.states[plan.state.index(plan.output)]}[new, s]"
            text.append(f"                copy(hs[0][place(hs, s, t)], {out})")
            text.append("            else:")
            text += [f"                copy({n}[new, s], {n}[old, s])" for n in names.states]
        else:
            for g, group in names.groups.items():
                if g.startswith(f"{stage}_"):
                    text.append(
                        f"        add_product(z[first::1, at[{group.first}] :], "
                        f"{_left(group.left, plan, names)}, W_{g})"
                    )
    return [*text, "    return end"]


def _know(row: Row, plan: Forward, names: Names, ends: list[Node], stage: int) -> None:
    """The arrays that hold values when a segment begins."""
    done = {node for segment in plan.segments[:stage] for node in segment}
    kept = {
        slot.kept: k for k, slot in enumerate(plan.slots) if slot.kept in done or not slot.kept.args
    }
    leaves = {slot.leaf: k for k, slot in enumerate(plan.slots)}
    lefts = {left: k for k, left in enumerate(plan.lefts) if left in done}

    def visit(node: Node) -> None:
        if node in row.known:
            return
        if node in kept or node in leaves:
            k = kept.get(node, leaves.get(node, 0))
            row.known[node] = row.array(names.slots[k], names.slot_rows("row", k))
        elif node in lefts:
            k = lefts[node]
            row.known[node] = row.array(f"left_{k}", f"left_{k}[s]")
        elif node.op == "state":
            state = names.states[node.value]
            row.known[node] = row.array(f"old_{state}", f"{state}[old, s]")
        elif node.op == "x":
            row.known[node] = row.array("x", "x")
        for argument in () if node in row.known else node.args:
            visit(argument)

    for end in ends:
        if end in kept or end in lefts or not end.args:
            visit(end)
        else:
            for argument in end.args:
                visit(argument)


def _left(left: Node, plan: Forward, names: Names) -> str:
    if left.op == "state":
        return f"{names.states[left.value]}[old, ::1]"
    return f"left_{plan.lefts.index(left)}[::1]"
