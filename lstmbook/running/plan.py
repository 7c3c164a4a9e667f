"""How a program is run over a sequence, forward and back: what comes of its structure alone.

Forward. A *slot* is a sum that products add to: ``x W_xi + h W_hi + b_i`` is one. All slots of a
step stand side by side, so that the products of the inputs fill them for many steps at once, before
the steps, and each product within a step is one with several slots. What is left is element by
element, in *segments* between the products: a segment for each product that waits for it.

Back. The gradient at a node is a sum of *terms*, a gradient that is known before times a factor of
values that the run forward knows. Where there is a single term, nothing is computed: factors are
multiplied along the way. What remains is a statement for each slot, and one for each node that
more than one gradient reaches.
"""

from __future__ import annotations

from collections import Counter
from itertools import permutations
from typing import NamedTuple

from .program import Node, Nodes, Program, in_order

__all__ = ["Back", "Forward", "Group", "Slot", "Statement", "Term", "plan_back", "plan_forward"]


class Slot(NamedTuple):
    """A sum that products add to."""

    leaf: Node  # stands for it in what is computed element by element
    products: tuple[Node, ...]  # "product" nodes
    biases: tuple[Node, ...]  # "vector" nodes
    kept: Node  # what stands in its place after the step: the slot, or what is computed from it


class Group(NamedTuple):
    """Products that are computed as one: of the same rows with slots that stand side by side."""

    left: Node  # the rows: x, a part of the old state, or what a segment has computed
    first: int  # slots[first : first + len(matrices)] get the products
    matrices: tuple[Node, ...]


class Forward(NamedTuple):
    """A step, in this order: ``inputs``, and for each k ``segments[k]``, then ``groups[k]``."""

    program: Program
    slots: tuple[Slot, ...]
    inputs: tuple[Group, ...]  # products of x, for many steps at once
    segments: tuple[tuple[Node, ...], ...]  # each after its arguments; one more than groups
    groups: tuple[tuple[Group, ...], ...]
    output: Node
    state: tuple[Node, ...]

    @property
    def lefts(self) -> tuple[Node, ...]:
        """What segments compute for products."""
        lefts = (group.left for groups in self.groups for group in groups)
        return tuple(dict.fromkeys(node for node in lefts if node.op not in ("state", "x")))


def plan_forward(program: Program) -> Forward:
    """The order of a step."""
    nodes, order = program.nodes, program.order()
    ends = [program.output, *program.state]
    uses = Counter(argument for node in order for argument in node.args) + Counter(set(ends))
    inside: set[Node] = set()  # of a larger sum
    for node in order:
        if node.op == "add":
            inside |= {a for a in node.args if a.op in ("add", "product") and uses[a] == 1}

    slots: list[tuple[Node, list[Node], list[Node]]] = []
    new: dict[Node, Node] = {}  # a node of the program, and what stands for it here

    def rebuilt(node: Node) -> Node:
        """A sum without products of its own."""
        if node.op != "add" or node in new:
            return new.get(node, node)
        return nodes("add", *map(rebuilt, node.args))

    for node in order:
        if node.op == "product" and node not in inside:
            leaf = nodes.leaf("slot", len(slots))
            slots.append((leaf, [node], []))
            new[node] = leaf
        elif node.op == "add" and node not in inside:
            parts = _parts(node, inside)
            products = [part for part in parts if part.op == "product" and part in inside]
            rest = [part for part in parts if part not in products]
            biases = [part for part in rest if products and part.op == "vector"]
            if products:
                total = nodes.leaf("slot", len(slots))
                slots.append((total, products, biases))
                rest = [part for part in rest if part not in biases]
                for part in rest:
                    total = nodes("add", total, new.get(part, part))
            else:
                total = rebuilt(node)
            new[node] = total
        elif node not in inside and node.args:
            new[node] = nodes(node.op, *(new.get(a, a) for a in node.args))

    slots.sort(key=lambda s: [str(p.args[1].value) for p in s[1]][-1:])  # as the gates stand
    places = _places([[new.get(p.args[0], p.args[0]) for p in s[1]] for s in slots])
    slots = [slots[k] for k in places]
    renamed = {slot[0]: nodes.leaf("slot", (k,)) for k, slot in enumerate(slots)}

    def rename(node: Node) -> Node:
        if node not in renamed:
            renamed[node] = nodes._one(node.op, tuple(map(rename, node.args)), node.value)
        return renamed[node]

    def here(node: Node) -> Node:
        return rename(new.get(node, node))

    output, state = here(program.output), tuple(map(here, program.state))
    lefts = {id(p): here(p.args[0]) for slot in slots for p in slot[1]}
    stages: dict[Node, int] = {}

    def stage(node: Node) -> int:
        """The number of products that come before."""
        if node not in stages:
            if node.op == "slot":
                _, products, _ = slots[node.value[0]]
                before = [lefts[id(p)] for p in products if lefts[id(p)].op != "x"]
                stages[node] = max((stage(left) + 1 for left in before), default=0)
            else:
                stages[node] = max(map(stage, node.args), default=0)
        return stages[node]

    computed = [*dict.fromkeys([*lefts.values(), output, *state])]
    order = in_order(computed)
    last = max(map(stage, order), default=0)
    segments: list[list[Node]] = [[] for _ in range(last + 1)]
    for node in order:
        if node.args:
            segments[stage(node)].append(node)
    groups: list[list[Group]] = [[] for _ in range(last)]
    inputs: list[Group] = []
    for left in dict.fromkeys(lefts.values()):
        into = inputs if left.op == "x" else groups[stage(left)]
        into += _runs(left, [[p.args[1] for p in s[1] if lefts[id(p)] is left] for s in slots])
    uses = Counter(argument for node in order for argument in node.args) + Counter(computed)
    leaves = [renamed[slot[0]] for slot in slots]
    finished = tuple(
        Slot(leaf, tuple(products), tuple(biases), _kept(leaf, order, uses))
        for leaf, (_, products, biases) in zip(leaves, slots, strict=True)
    )
    return Forward(
        program,
        finished,
        tuple(inputs),
        tuple(map(tuple, segments)),
        tuple(map(tuple, groups)),
        output,
        state,
    )


def _parts(node: Node, inside: set[Node]) -> list[Node]:
    """What a sum adds, sums within it taken apart."""
    return [
        part
        for argument in node.args
        for part in (
            _parts(argument, inside) if argument in inside and argument.op == "add" else [argument]
        )
    ]


def _places(lefts: list[list[Node]]) -> list[int]:
    """An order of the slots in which the slots of each left side stand together."""
    sides = list(dict.fromkeys(left for each in lefts for left in each))
    members = [[left in each for each in lefts] for left in sides]

    def pieces(order: list[int]) -> int:
        return sum(
            sum(here and not before for before, here in zip([False, *row], row, strict=False))
            for row in ([member[k] for k in order] for member in members)
        )

    kinds = list(dict.fromkeys(tuple(member[k] for member in members) for k in range(len(lefts))))
    of_kind = [
        [k for k in range(len(lefts)) if tuple(m[k] for m in members) == kind] for kind in kinds
    ]
    if len(kinds) > 6:
        return [k for each in of_kind for k in each]
    orders = [[k for each in order for k in each] for order in permutations(of_kind)]
    return min(orders, key=pieces)


def _runs(left: Node, matrices: list[list[Node]]) -> list[Group]:
    """The products of one left side, a group for each run of slots."""
    groups: list[Group] = []
    for k, each in enumerate(matrices):
        for extra in each[1:]:  # the same rows twice in one sum
            groups.append(Group(left, k, (extra,)))
        if each:
            if groups and groups[-1].first + len(groups[-1].matrices) == k:
                groups[-1] = groups[-1]._replace(matrices=(*groups[-1].matrices, each[0]))
            else:
                groups.append(Group(left, k, (each[0],)))
    return groups


_KEPT = ("tanh", "sigmoid", "exp", "sqrt")  # dear to compute again


def _kept(slot: Node, order: list[Node], uses: Counter[Node]) -> Node:
    """What may take the place of a slot: the first dear value on the only way from it."""
    node = slot
    while uses[node] == 1:
        users = [user for user in order if node in user.args]
        if not users or users[0].op not in ("add", *_KEPT):
            return slot
        [node] = users
        if node.op in _KEPT:
            return node
    return slot


# Back


class Term(NamedTuple):
    """A known gradient times a factor."""

    source: Node  # "d_state" or "d_output" (value: which), "d_slot", "d_left", "d_node"
    factor: Node  # of values that the run forward knows


class Statement(NamedTuple):
    """``target = sum of the terms``."""

    target: Node  # "d_slot", "d_node"; "d_old" (value: which part of the old state), "d_x"
    terms: tuple[Term, ...]


class Back(NamedTuple):
    """A step back, in this order: for each k ``segments[k]``, then ``groups[k]``.

    A group's ``left`` is the node "d_left", "d_old" or "d_x" that gets the products of the
    gradients at its slots with the transposed matrices; to "d_old" and "d_x" they are added last.
    """

    forward: Forward
    segments: tuple[tuple[Statement, ...], ...]  # one more than groups
    groups: tuple[tuple[tuple[Node, Group], ...], ...]
    state: tuple[tuple[Node, Group], ...]  # products for "d_old", after all segments
    vectors: dict[Node, tuple[Term, ...]]  # for each "vector" that is no bias: its gradient


def plan_back(forward: Forward) -> Back:
    """The order of a step back."""
    nodes = forward.program.nodes
    ends = [forward.output, *forward.state, *forward.lefts]
    order = in_order([*ends, *(slot.leaf for slot in forward.slots)])
    roots = _sums_of(order)
    terms: dict[Node, dict[Node, Node]] = {node: {} for node in order}

    def add(node: Node, source: Node, factor: Node) -> None:
        if node in terms and node.op != "const":
            known = terms[node]
            known[source] = nodes("add", known[source], factor) if source in known else factor

    one = nodes.const(1)
    for k, node in enumerate(forward.state):
        add(node, nodes.leaf("d_state", k), one)
    add(forward.output, nodes.leaf("d_output"), one)
    for left in forward.lefts:
        add(left, nodes.leaf("d_left", forward.lefts.index(left)), one)

    statements: list[Statement] = []
    vectors: dict[Node, tuple[Term, ...]] = {}
    for node in reversed(order):
        found = tuple(Term(*pair) for pair in terms[node].items())
        if node.op == "vector":
            vectors[node] = found
        if node.op in ("const", "vector", "matrix") or not found:
            continue
        if node.op == "slot" and node in roots.values():
            continue  # its sum has made the statement
        slot = roots.get(node, node)
        if slot.op == "slot":
            target = nodes.leaf("d_slot", slot.value[0])
        elif node.op == "state":
            target = nodes.leaf("d_old", node.value)
        elif node.op == "x":
            target = nodes.leaf("d_x")
        elif len(found) > 1:
            target = nodes.leaf("d_node", len(statements))
        else:
            target = None
        if target is not None:
            statements.append(Statement(target, found))
            found = (Term(target, one),)
        for argument, partial in _partials(nodes, node):
            for source, factor in found:
                if partial is not None:
                    add(argument, source, nodes("multiply", factor, partial))

    return _staged(forward, statements, vectors)


def _sums_of(order: list[Node]) -> dict[Node, Node]:
    """The sums of a slot and more: such a sum has the gradient of its slot."""
    uses = Counter(argument for node in order for argument in node.args)
    roots: dict[Node, Node] = {}
    for node in order:
        if node.op == "add":
            for argument in node.args:
                slot = roots.get(argument, argument)
                if slot.op == "slot" and uses[argument] == 1 and slot not in roots.values():
                    roots[node] = slot
                elif slot.op == "slot" and uses[argument] == 1 and argument in roots:
                    roots[node] = roots.pop(argument)
    return roots


def _partials(nodes: Nodes, node: Node) -> list[tuple[Node, Node]]:
    """Each argument of a node, and the derivative by it."""
    one, two = nodes.const(1), nodes.const(2)
    a, b = (*node.args, node, node)[:2]
    match node.op:
        case "add":
            return [(a, one), (b, one)]
        case "subtract":
            return [(a, one), (b, nodes.const(-1))]
        case "multiply":
            return [(a, b), (b, a)]
        case "divide":
            return [(a, nodes("divide", one, b)), (b, nodes("divide", nodes("negative", node), b))]
        case "negative":
            return [(a, nodes.const(-1))]
        case "tanh":
            return [(a, nodes("subtract", one, nodes("multiply", node, node)))]
        case "sigmoid":
            return [(a, nodes("multiply", node, nodes("subtract", one, node)))]
        case "exp":
            return [(a, node)]
        case "sqrt":
            return [(a, nodes("divide", one, nodes("multiply", two, node)))]
        case "maximum" | "minimum":  # as TensorFlow: where both are equal, the first has it
            first = nodes("at_least", *((a, b) if node.op == "maximum" else (b, a)))
            return [(a, first), (b, nodes("subtract", one, first))]
    return []  # leaves, and "at_least", which is flat


def _staged(
    forward: Forward, statements: list[Statement], vectors: dict[Node, tuple[Term, ...]]
) -> Back:
    nodes = forward.program.nodes
    by_target = {statement.target: statement for statement in statements}
    by_left: dict[Node, list[Group]] = {}
    for groups in forward.groups:
        for group in groups:
            by_left.setdefault(group.left, []).append(group)
    stages: dict[Node, int] = {}

    def slots_of(group: Group) -> list[Node]:
        targets = (nodes.leaf("d_slot", group.first + k) for k in range(len(group.matrices)))
        return [target for target in targets if target in by_target]

    def stage(source: Node) -> int:
        """The number of products that come before."""
        if source not in stages:
            if source.op == "d_left":
                groups = by_left[forward.lefts[source.value]]
                before = [stage(slot) for group in groups for slot in slots_of(group)]
                stages[source] = 1 + max(before, default=-1)
            elif source in by_target:
                stages[source] = max(stage(term.source) for term in by_target[source].terms)
            else:
                stages[source] = 0
        return stages[source]

    last = max(map(stage, by_target), default=0)
    segments: list[list[Statement]] = [[] for _ in range(last + 1)]
    for statement in statements:
        segments[stage(statement.target)].append(statement)
    products: list[list[tuple[Node, Group]]] = [[] for _ in range(last)]
    for k, left in enumerate(forward.lefts):
        target = nodes.leaf("d_left", k)
        if 0 < stage(target) <= last:
            products[stage(target) - 1] += [(target, group) for group in by_left[left]]
    state = [
        (nodes.leaf("d_old", left.value), group)
        for left, groups in by_left.items()
        if left.op == "state"
        for group in groups
    ]
    return Back(
        forward, tuple(map(tuple, segments)), tuple(map(tuple, products)), tuple(state), vectors
    )
