"""What is called often, as text: one step of a stream, and a small run as a whole."""

from __future__ import annotations

from .plan import Forward
from .text_rows import Names, vector_name, vectors_of

__all__ = ["alone", "can_be_alone", "stream"]


def stream(name: str, plan: Forward, names: Names) -> list[str]:
    """One step in one piece of memory: a call has two arrays to look at, and no more."""
    text = [
        "@compiled",
        f"def {name}_stream(room, sizes):",
        "    batch = sizes[0]",
        f"    at = {', '.join(f'sizes[{k + 1}]' for k in range(len(plan.slots) + 1))}",
        f"    place = {len(plan.slots) + 2}",
    ]

    def piece(array: str, axes: int) -> None:
        """Where it starts and ends, and its shape, stand in ``sizes``."""
        shape = ", ".join(f"sizes[place + {k + 2}]" for k in range(axes))
        text.append(f"    {array} = room[sizes[place] : sizes[place + 1]].reshape({shape})")
        text.append(f"    place += {axes + 2}")

    for g in names.groups:
        piece(f"W_{g}", 3)  # (panels, m, columns)
    for array in ("b", *names.vectors):
        piece(array, 1)
    for array in ("z", "xs", "hs"):
        piece(array, 2)  # (batch, n)
    for state in names.states:
        piece(state, 3)  # (2, batch, n)
    text += [
        "    steps = np.empty(batch, np.int64)",
        "    for s in range(batch):",
        "        steps[s] = 1",
        "    first, one = np.int64(0), np.int64(1)",
        f"    weights = {names.weights}",
        "    inputs, outputs = (xs, first, one, one), (hs, first, one, one)",
        f"    {name}_forward(weights, inputs, steps, outputs, z, ({names.state()}))",
    ]
    for state in names.states:
        text += [
            "    for s in range(batch):",
            f"        copy({state}[0, s], {state}[1, s])",
        ]
    return text


def alone(name: str, plan: Forward, names: Names) -> list[str]:
    """A whole run in one thread, the weights packed within: one call, for what is small."""
    fields = [f"params_{field}" for field in plan.program.params]
    text = [
        "@compiled",
        f"def {name}_alone({', '.join(fields)}, xs, hs, {', '.join(names.states)}, ",
    ]
    text[-1] += "per_sequence, per_step, end):"
    text += [f"    batch = len({names.states[0]})"]
    for k, slot in enumerate(plan.slots):
        field, _ = slot.products[0].args[1].value
        before = f"at_{k - 1} + n_{k - 1}" if k else "np.int64(0)"
        axis = plan.program.params[field] - 1
        text += [f"    n_{k} = params_{field}.shape[{axis}]", f"    at_{k} = {before}"]
    last = len(plan.slots) - 1
    places = [*(f"at_{k}" for k in range(len(plan.slots))), f"at_{last} + n_{last}"]
    text.append(f"    at = ({', '.join(places)})")
    ends = []
    for g, group in names.groups.items():
        [field] = {matrix.value[0] for matrix in group.matrices}
        gates = [matrix.value[1] for matrix in group.matrices]
        if gates == [None]:
            given = f"params_{field}.reshape((1, params_{field}.shape[0], params_{field}.shape[1]))"
        elif gates == list(range(gates[0], gates[-1] + 1)):
            given = f"params_{field}[{gates[0]} : {gates[-1] + 1}]"
        else:
            given = f"picked(params_{field}, ({', '.join(map(str, gates))}))"
        text.append(f"    W_{g} = pack_here({given})")
        ends.append(f"at_{group.first} + W_{g}.shape[0] * W_{g}.shape[2]")
    width = ends[0] if len(ends) == 1 else f"max({', '.join(ends)})"
    text += [f"    width = {width}", "    b = room(np.int64(1), width, xs)[0]"]
    for k, slot in enumerate(plan.slots):
        for bias in slot.biases:
            field, gate = bias.value
            given = f"params_{field}" if gate is None else f"params_{field}[{gate}]"
            text.append(f"    add(b[at_{k} :], {given})")
    for node in vectors_of(plan):
        field, gate = node.value
        given = f"params_{field}" if gate is None else f"params_{field}[{gate}]"
        text.append(f"    {vector_name(node)} = {given}")
    text.append("    z = room(steps_at_once(batch) * batch, width, xs)")
    for state in names.states:
        text += [
            f"    both_{state} = room(2 * batch, {state}.shape[1], xs)",
            f"    both_{state} = both_{state}.reshape(2, batch, {state}.shape[1])",
            "    for s in range(batch):",
            f"        copy(both_{state}[0, s], {state}[s])",
        ]
    text += [
        "    first = np.int64(0)",
        "    inputs = xs, first, per_sequence, per_step",
        "    outputs = hs, first, per_sequence, per_step",
        "    steps = np.empty(batch, np.int64)",
        "    for s in range(batch):",
        "        steps[s] = end",
        f"    weights, states = ({names.weights}), ({names.state('both_')})",
        f"    {name}_forward(weights, inputs, steps, outputs, z, states)",
        "    for s in range(batch):",
    ]
    return [*text, *(f"        copy({n}[s], both_{n}[end % 2, s])" for n in names.states)]


def can_be_alone(plan: Forward) -> bool:
    """Whether each group of matrices lies in one field."""
    for group in (*plan.inputs, *(group for groups in plan.groups for group in groups)):
        gates = [matrix.value[1] for matrix in group.matrices]
        fields = {matrix.value[0] for matrix in group.matrices}
        if len(fields) > 1 or (None in gates and gates != [None]):
            return False
    return bool(plan.slots)
