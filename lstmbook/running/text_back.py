"""The compiled loop back as text."""

from __future__ import annotations

from .plan import Back, Forward, Term
from .program import Node, in_order
from .text_rows import Names, Row, vector_name, width_of

__all__ = ["back_loop"]

DEAR = ("tanh", "sigmoid", "exp", "sqrt", "divide")  # computed once, if two loops need them


def back_loop(name: str, back: Back, names: Names) -> list[str]:
    """The lines of ``{name}_back``, and of what it calls for a row."""
    plan = back.forward
    rows: list[Row] = []
    nodes: dict[Node, str] = {}  # "d_node", and its width
    scratch: dict[str, str] = {}
    uses_x = False
    final = len(back.segments) - 1
    written: set[Node] = set()

    def source_array(row: Row, source: Node) -> str:
        match source.op:
            case "d_state":
                state = names.states[source.value]
                return row.array(f"d_{state}", f"d_{state}[turn, s, : {state}.shape[2]]")
            case "d_output":
                return row.array("d_out", "d_hs[0][place(d_hs, s, t)]")
            case "d_slot":
                k = source.value
                return row.array(f"d_{names.slots[k]}", names.slot_rows("d_row", k))
            case "d_left":
                width = width_of(plan.lefts[source.value], plan, names)
                name = f"d_left_{source.value}"
                return row.array(name, f"{name}[s, : {width}]")
            case "d_x":
                return row.array("d_x", "d_x[first + s, : xs[0].shape[1]]")
            case "d_old":
                state = names.states[source.value]
                given = f"d_{state}[1 - turn, s, : {state}.shape[2]]"
                return row.array(f"d_old_{state}", given)
        nodes.setdefault(source, "")
        return row.array(f"d_node_{source.value}", f"d_node_{source.value}[s]")

    for stage, segment in enumerate(back.segments):
        row = Row(f"_{name}_row_back_{stage}")
        jobs: list[tuple[Node | None, Node, tuple[Term, ...]]] = [
            (s.target, s.target, s.terms) for s in segment
        ]
        if stage == final:
            jobs += [(None, node, terms) for node, terms in back.vectors.items()]
        factors = [term.factor for _, _, terms in jobs for term in terms]
        _know_back(row, plan, names, factors)
        # What is dear to compute, and in two loops
        count: dict[Node, int] = {}
        for _, _, terms in jobs:
            for node in in_order([term.factor for term in terms], row.known):
                if node.op in DEAR and node not in row.known:
                    count[node] = count.get(node, 0) + 1
        for node in in_order(factors):
            if count.get(node, 0) > 1:
                array = f"dear_{len(scratch)}"
                scratch[array] = width_of(node, plan, names)
                row.loop(row.array(array, array), [node])
                row.known[node] = array
        for target, node, terms in jobs:
            sources = [(source_array(row, term.source), term.factor) for term in terms]
            if target is None:
                row.loop(row.array(f"d_{vector_name(node)}", f"d_{vector_name(node)}"),
                         [*sources], add=True)  # fmt: skip
                continue
            written.add(target)
            uses_x |= target.op == "d_x"
            if target.op == "d_node":
                like = terms[0].source
                nodes[target] = _like_source(like, nodes, plan, names)
            row.loop(source_array(row, target), [*sources])
        rows.append(row)

    text = [line for row in rows if row.body for line in [*row.text(), "", ""]]
    left_rows = []
    for k, left in enumerate(plan.lefts):
        row = Row(f"_{name}_left_{k}")
        out = row.array("left", f"left_{k}")
        _know_back(row, plan, names, [left])
        row.loop(out, [left])
        left_rows.append(row)
        text += [*row.text(), "", ""]

    weights = [*(f"W_{g}T" for g in names.groups), *names.vectors, "at"]
    gradients = [*(f"d_W_{g}" for g in names.groups)]
    gradients += [f"d_{vector}" for vector in names.vectors]
    states = names.states
    text += [
        "@compiled",
        f"def {name}_back(weights, xs, lengths, d_hs, d_xs, z, states, d_states, gradients):",
        f"    {', '.join(weights)} = weights",
        f"    {names.state()} = states",
        f"    {names.state('d_')} = d_states",
        f"    {', '.join(gradients)}{',' if len(gradients) == 1 else ''} = gradients",
        "    batch, end = len(lengths), longest(lengths)",
        "    steps = steps_of_a_block(batch, end)",
        "    rows = steps * batch",
        "    dz = room(rows, z.shape[1], z)",
        "    panel = room(rows, padded(1, z), z)",
    ]
    x_needed = "rows" if uses_x else "rows if len(d_xs[0]) else 0"
    text += [
        f"    d_x = room({x_needed}, padded(xs[0].shape[1], z), z)",
        "    x_columns = ones_below(xs[0].shape[1], rows, z)",
    ]
    columns: dict[Node, str] = {}
    for group in names.groups.values():
        if group.left.op == "state" and group.left not in columns:
            state = states[group.left.value]
            columns[group.left] = f"{state}_columns"
            text.append(f"    {state}_columns = ones_below({state}.shape[2], rows, z)")
    for k, left in enumerate(plan.lefts):
        columns[left] = f"left_{k}_columns"
        width = width_of(left, plan, names)
        text += [
            f"    left_{k} = room(np.int64(1), {width}, z)[0]",
            f"    d_left_{k} = room(batch, padded({width}, z), z)",
            f"    left_{k}_columns = ones_below({width}, rows, z)",
        ]
    for node, width in nodes.items():
        text.append(f"    d_node_{node.value} = room(batch, {width}, z)")
    text += [f"    {array} = room(np.int64(1), {width}, z)[0]" for array, width in scratch.items()]
    text += [
        "    for t in range(end - 1, -1, -1):",
        "        first, turn = t % steps * batch, (end - 1 - t) % 2",
    ]
    for stage, row in enumerate(rows):
        if row.body:
            text += ["        for s in range(batch):", "            if t < lengths[s]:"]
            text += row.call(_given("t") | {"d_row": "dz[first + s]"}, " " * 16)
        if stage < final:
            for target in dict.fromkeys(target for target, _ in back.groups[stage]):
                text.append(f"        zero_rows(d_left_{target.value})")
            for target, group in back.groups[stage]:
                g = next(g for g, other in names.groups.items() if other is group)
                text.append(
                    f"        add_product(d_left_{target.value}[::1, 0:], "
                    f"dz[first::1, at[{group.first}] :][:batch], W_{g}T)"
                )
    for k, state in enumerate(states):
        if not any(node.op == "d_old" and node.value == k for node in written):
            text.append(f"        zero_rows(d_{state}[1 - turn])")
    for target, group in back.state:
        g = next(g for g, other in names.groups.items() if other is group)
        text.append(
            f"        add_product(d_{states[target.value]}[1 - turn, ::1, 0:], "
            f"dz[first::1, at[{group.first}] :][:batch], W_{g}T)"
        )
    text += [f"        keep_ended(d_{n}, turn, t, lengths)" for n in states]
    text += [
        "        if not first:",
        "            stop = min(t + steps, end)",
        "            rows = (stop - t) * batch",
        "            input_columns(x_columns, xs, t, stop, lengths)",
    ]
    for left, array in columns.items():
        if left.op == "state":
            state = states[left.value]
            text.append(f"            state_columns({array}, {state}, t, stop, lengths)")
            continue
        k = plan.lefts.index(left)
        text += [
            "            for u in range(t, stop):",
            "                for s in range(batch):",
            "                    n, alive = (u - t) * batch + s, u < lengths[s]",
            "                    if alive:",
        ]
        text += left_rows[k].call(_given("u"), " " * 24)
        text.append(f"                    column({array}, n, left_{k}, alive)")
    for g, group in names.groups.items():
        array = "x_columns" if g.startswith("x_") else columns[group.left]
        text.append(
            f"            add_gradient(d_W_{g}, {array}, dz[:rows], at[{group.first}], panel)"
        )
    inputs = [(g, group) for g, group in names.groups.items() if g.startswith("x_")]
    text.append("            if len(d_xs[0]):")
    if not uses_x:
        text.append("                zero_rows(d_x[:rows])")
    for g, group in inputs:
        text.append(
            f"                add_product(d_x[::1, 0:], dz[:rows:1, at[{group.first}] :], W_{g}T)"
        )
    text += [
        "                give_inputs(d_xs, d_x, t, stop, lengths)",
        "    return end % 2",
    ]
    return text


def _given(t: str) -> dict[str, str]:
    """What a row of step ``t`` is given on the way back."""
    return {
        "row": f"z[{t} * batch + s]",
        "old": t,
        "new": f"{t} + 1",
        "x": f"xs[0][place(xs, s, {t})]",
    }


def _know_back(row: Row, plan: Forward, names: Names, ends: list[Node]) -> None:
    """The arrays that hold values on the way back: slots, both states, inputs."""
    kept = {slot.kept: k for k, slot in enumerate(plan.slots)}
    new = {node: k for k, node in enumerate(plan.state) if node.args or node.op == "slot"}

    def visit(node: Node) -> None:
        if node in row.known:
            return
        if node in kept:
            k = kept[node]
            row.known[node] = row.array(names.slots[k], names.slot_rows("row", k))
        elif node in new:
            state = names.states[new[node]]
            row.known[node] = row.array(f"new_{state}", f"{state}[new, s]")
        elif node.op == "state":
            state = names.states[node.value]
            row.known[node] = row.array(f"old_{state}", f"{state}[old, s]")
        elif node.op == "x":
            row.known[node] = row.array("x", "x")
        else:
            for argument in node.args:
                visit(argument)

    for end in ends:
        visit(end)


def _like_source(source: Node, nodes: dict[Node, str], plan: Forward, names: Names) -> str:
    match source.op:
        case "d_state" | "d_old":
            return f"{names.states[source.value]}.shape[2]"
        case "d_output":
            return width_of(plan.output, plan, names)
        case "d_slot":
            return f"at[{source.value + 1}] - at[{source.value}]"
        case "d_left":
            return width_of(plan.lefts[source.value], plan, names)
    return nodes[source]
