"""The program of a cell: what its page does in a step, as a list of operations.

``record`` runs ``cell.step`` once on symbols. A symbol stands for rows, an array ``(batch, n)``, or
for weights; what the page does with them becomes the nodes of a `Program`: products with a matrix,
and operations element by element. Gates are split at once: ``x @ params.W_x`` with a gate axis is
one product a gate. Equal nodes are one node. From the program follow gradients, whole runs, and
compiled loops (`plan`); a page that does something else cannot be recorded, and runs as it stands.
"""

from __future__ import annotations

import numbers
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from types import CodeType, FunctionType, ModuleType
from typing import Any

import numpy as np

__all__ = [
    "Node",
    "NotRecordableError",
    "Program",
    "Values",
    "evaluate",
    "gates_of",
    "program_of",
    "record",
]


class NotRecordableError(TypeError):
    """A page does something that a program cannot say."""


class Node:
    """One operation; ``value`` says which leaf it is, and is None for what has arguments.

    ========== =============================== ============================================
    ``op``     ``args``                        value
    ========== =============================== ============================================
    x                                          the inputs of the step, ``(batch, input)``
    state                                      the number of a part of the old state
    matrix     (used by product alone)         ``(field, gate or None)`` of Params
    vector                                     ``(field, gate or None)``, one number a column
    const                                      a number
    product    rows, matrix
    others     rows or vectors                 element by element: `OPERATIONS`
    ========== =============================== ============================================
    """

    __slots__ = ("args", "op", "value")

    def __init__(self, op: str, args: tuple[Node, ...] = (), value: Any = None) -> None:
        self.op, self.args, self.value = op, args, value

    def __repr__(self) -> str:
        return f"{self.op}({', '.join(map(str, self.args or [self.value]))})"


# Each operation as NumPy's ufunc computes it. "at_least" is 1 where a >= b, else 0.
OPERATIONS: dict[str, Any] = {
    "add": np.add,
    "subtract": np.subtract,
    "multiply": np.multiply,
    "divide": np.divide,
    "negative": np.negative,
    "tanh": np.tanh,
    "exp": np.exp,
    "sqrt": np.sqrt,
    "maximum": np.maximum,
    "minimum": np.minimum,
    "at_least": lambda a, b: np.asarray(a >= b, np.result_type(a, b)),
    "sigmoid": lambda z: 0.5 * (1.0 + np.tanh(0.5 * z)),
}
_UFUNCS = {ufunc: name for name, ufunc in OPERATIONS.items() if isinstance(ufunc, np.ufunc)}


class Nodes:
    """Makes nodes: equal ones once, numbers folded, a sigmoid known by its formula."""

    def __init__(self) -> None:
        self.known: dict[Any, Node] = {}

    def leaf(self, op: str, value: Any = None) -> Node:
        return self._one(op, (), value)

    def const(self, number: float) -> Node:
        return self._one("const", (), float(number))

    def _one(self, op: str, args: tuple[Node, ...], value: Any = None) -> Node:
        return self.known.setdefault((op, *map(id, args), value), Node(op, args, value))

    def __call__(self, op: str, *args: Node) -> Node:
        values = [a.value if a.op == "const" else None for a in args]
        if all(a.op == "const" for a in args):
            return self.const(OPERATIONS[op](*values))
        first, *others = args
        second = others[0] if others else None
        if op in ("add", "multiply") and second is not None and first.op != "const":
            values, args = values[::-1], args[::-1]  # the number first
        if op == "multiply":
            if values[0] == 1:
                return args[1]
            if values[0] == 0.5 and (z := self._of_sigmoid(args[1])):
                return self._one("sigmoid", (z,))
        if op == "divide" and values[0] == 1 and (z := self._of_logistic(args[1])):
            return self._one("sigmoid", (z,))
        return self._one(op, args)

    @staticmethod
    def _of_sigmoid(node: Node) -> Node | None:
        """``z``, if the node is ``1 + tanh(z / 2)``."""
        one, t = (*node.args, node)[:2] if node.op == "add" else (node, node)
        if (one.op, one.value, t.op) == ("const", 1, "tanh") and t.args[0].op == "multiply":
            half, z = t.args[0].args
            return z if (half.op, half.value) == ("const", 0.5) else None
        return None

    @staticmethod
    def _of_logistic(node: Node) -> Node | None:
        """``z``, if the node is ``1 + exp(-z)``."""
        one, e = (*node.args, node)[:2] if node.op == "add" else (node, node)
        if (one.op, one.value, e.op) == ("const", 1, "exp") and e.args[0].op == "negative":
            return e.args[0].args[0]
        return None


# What a page is given in place of arrays


class _Symbol(np.lib.mixins.NDArrayOperatorsMixin):
    """NumPy's operators and functions on it make nodes."""

    nodes: Nodes

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        if method != "__call__" or options:
            raise NotRecordableError(f"{ufunc.__name__} with {method}, {options}")
        if ufunc is np.matmul:
            return _product(self.nodes, *inputs)
        if ufunc is np.square:
            return _apply(self.nodes, "multiply", inputs[0], inputs[0])
        if ufunc is np.power and inputs[1] == 2:
            return _apply(self.nodes, "multiply", inputs[0], inputs[0])
        if ufunc is np.positive:
            return inputs[0]
        if ufunc not in _UFUNCS:
            raise NotRecordableError(f"{ufunc.__name__} has no place in a program")
        return _apply(self.nodes, _UFUNCS[ufunc], *inputs)

    def __array_function__(self, function: Any, _: Any, args: Any, options: Any) -> Any:
        if function is np.clip and len(args) == 3 and not options:
            return np.minimum(np.maximum(args[0], args[1]), args[2])
        raise NotRecordableError(f"{function.__name__} has no place in a program")

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise NotRecordableError("a symbol has no numbers")

    def __bool__(self) -> bool:
        raise NotRecordableError("a branch depends on numbers")

    __hash__ = None  # type: ignore[assignment]


class _Rows(_Symbol):
    """Rows ``(batch, n)``; with a gate axis, ``(gates, batch, n)``, several of them."""

    def __init__(self, nodes: Nodes, rows: tuple[Node, ...], gates: bool = False) -> None:
        self.nodes, self.rows, self.gates = nodes, rows, gates

    def __iter__(self) -> Iterator[_Rows]:
        if not self.gates:
            raise NotRecordableError("rows are taken one by one")
        return (_Rows(self.nodes, (row,)) for row in self.rows)

    def __getitem__(self, key: Any) -> _Rows:
        if self.gates and isinstance(key, int):
            return _Rows(self.nodes, (self.rows[key],))
        if self.gates and isinstance(key, slice):
            return _Rows(self.nodes, self.rows[key], gates=True)
        raise NotRecordableError(f"rows are indexed by {key!r}")


class _Weights(_Symbol):
    """A field of Params, or a part of it along its first axis, the gates."""

    def __init__(
        self, nodes: Nodes, field: str, ndim: int, gates: tuple[int, ...] | int | None
    ) -> None:
        # gates: all that are meant, while the axis is there; a number once one is taken
        self.nodes, self.field, self.ndim, self.gates = nodes, field, ndim, gates

    def __iter__(self) -> Iterator[_Weights]:
        if not isinstance(self.gates, tuple) or self.ndim < 2:
            raise NotRecordableError(f"params.{self.field} is taken apart number by number")
        return (_Weights(self.nodes, self.field, self.ndim - 1, k) for k in self.gates)

    def __getitem__(self, key: Any) -> Any:
        if isinstance(self.gates, tuple) and self.ndim > 1:
            if isinstance(key, int):
                return _Weights(self.nodes, self.field, self.ndim - 1, self.gates[key])
            if isinstance(key, slice):
                return _Weights(self.nodes, self.field, self.ndim, self.gates[key])
            if isinstance(key, list) and all(type(k) is int for k in key):
                chosen = tuple(self.gates[k] for k in key)
                return _Weights(self.nodes, self.field, self.ndim, chosen)
            if self.ndim == 2 and key in [(slice(None), None), (slice(None), None, slice(None))]:
                return _Rows(self.nodes, tuple(w.vector() for w in self), gates=True)
        elif self.ndim == 1 and (key is None or key in [(None, slice(None)), (None,)]):
            return _Rows(self.nodes, (self.vector(),))
        raise NotRecordableError(f"params.{self.field} is indexed by {key!r}")

    def vector(self) -> Node:
        if self.ndim != 1:
            raise NotRecordableError(f"params.{self.field} is added or multiplied whole")
        which = self.gates if isinstance(self.gates, int) else None
        return self.nodes.leaf("vector", (self.field, which))

    def matrices(self) -> list[Node]:
        """One; or one a gate, where the axis is there."""
        if self.ndim == 3:
            return [w.matrices()[0] for w in self]
        if self.ndim == 2:
            which = self.gates if isinstance(self.gates, int) else None
            return [self.nodes.leaf("matrix", (self.field, which))]
        raise NotRecordableError(f"a product with params.{self.field}, which is no matrix")


def _apply(nodes: Nodes, op: str, *inputs: Any) -> _Rows:
    """Element by element, with the gate axis spread over what has none."""
    rows, gates = [], 1
    for value in inputs:
        if isinstance(value, _Rows):
            many = value.rows if value.gates else None
            rows.append(many or value.rows[0])
        elif isinstance(value, _Weights):
            rows.append(value.vector())
        elif type(value) in (int, float, bool):
            rows.append(nodes.const(value))
        else:
            raise NotRecordableError(f"a {type(value).__name__} takes part")
    counts = {len(row) for row in rows if isinstance(row, tuple)}
    if len(counts - {1}) > 1:
        raise NotRecordableError(f"gate axes of {sorted(counts)} do not fit together")
    gates = max(counts, default=1)
    results = tuple(
        nodes(op, *(row[min(k, len(row) - 1)] if isinstance(row, tuple) else row for row in rows))
        for k in range(gates)
    )
    return _Rows(nodes, results, gates=bool(counts))


def _product(nodes: Nodes, left: Any, right: Any) -> _Rows:
    if not isinstance(left, _Rows) or not isinstance(right, _Weights):
        raise NotRecordableError("a product is rows @ weights")
    matrices = right.matrices()
    lefts = left.rows if left.gates else left.rows * len(matrices)
    if len(lefts) != len(matrices) or (left.gates and right.ndim == 2):
        raise NotRecordableError("a product of gates that do not fit together")
    products = tuple(nodes._one("product", pair) for pair in zip(lefts, matrices, strict=True))
    return _Rows(nodes, products, gates=right.ndim == 3)


class Program:
    """What a step does, as nodes: ``output``, and a node for each part of the new ``state``."""

    def __init__(
        self, cell: Any, params: Any, nodes: Nodes, output: Node, state: tuple[Node, ...]
    ) -> None:
        self.nodes, self.output, self.state = nodes, output, state
        self.params = {field: array.ndim for field, array in params._asdict().items()}
        self.fields, self.letters = cell.State._fields, cell.GATES
        self.ways: Any = None  # what has been made of it: `engine`

    def order(self) -> list[Node]:
        """All nodes of the program, each after its arguments."""
        return in_order([*self.state, self.output])


def in_order(ends: Iterable[Node], known: Container[Node] = ()) -> list[Node]:
    """The nodes that some need, each after its arguments; those of a known one are not needed."""
    order: dict[Node, None] = {}

    def visit(node: Node) -> None:
        if node not in order:
            for argument in () if node in known else node.args:
                visit(argument)
            order[node] = None

    for end in ends:
        visit(end)
    return list(order)


def record(cell: Any, params: Any) -> Program:
    """Run ``cell.step`` once on symbols.

    Raises
    ------
    NotRecordableError
        If the page does something that a program cannot say.
    """
    nodes = Nodes()

    def parts(*symbols: Any) -> list[Any]:
        output, new = cell.step(*symbols)
        return [output, *new]

    rows = _on_symbols(parts, cell, params, nodes)
    for value in rows:
        if not isinstance(value, _Rows) or value.gates:
            raise NotRecordableError("step returns something else than rows")
    if len(rows) != 1 + len(cell.State._fields):
        raise NotRecordableError(f"step returns a state of {len(rows) - 1} parts")
    first, *others = (value.rows[0] for value in rows)
    return Program(cell, params, nodes, first, tuple(others))


def gates_of(cell: Any, params: Any, program: Program) -> dict[str, Node]:
    """The nodes that ``cell.gates`` gives, by letter; where ``step`` needs them, they are its own.

    Raises
    ------
    NotRecordableError
        If the page does something that a program cannot say.
    """
    gates = _on_symbols(lambda *symbols: tuple(cell.gates(*symbols)), cell, params, program.nodes)
    if len(gates) != len(cell.GATES) or not all(isinstance(gate, _Rows) for gate in gates):
        raise NotRecordableError(f"gates returns something else than {len(cell.GATES)} rows")
    return {k: gate.rows[0] for k, gate in zip(cell.GATES, gates, strict=True)}


def _on_symbols(function: Callable[..., Any], cell: Any, params: Any, nodes: Nodes) -> Any:
    weights = [
        _Weights(nodes, field, array.ndim, tuple(range(len(array))) if array.ndim > 1 else None)
        for field, array in zip(params._fields, params, strict=True)
    ]
    state = (_Rows(nodes, (nodes.leaf("state", k),)) for k in range(len(cell.State._fields)))
    x = _Rows(nodes, (nodes.leaf("x"),))
    try:
        return function(type(params)(*weights), x, cell.State(*state))
    except NotRecordableError:
        raise
    except Exception as error:  # what the page did with a symbol, no array would have allowed
        raise NotRecordableError(f"{type(error).__name__}: {error}") from error


def sample_program(cell: Any) -> Program:
    """The program of a cell of the library, which does not depend on sizes."""
    return record(cell, cell.init(np.random.default_rng(0), 2, 3))


def sample_gates(cell: Any, program: Program) -> dict[str, Node]:
    """The gates of a cell of the library, as nodes of its program."""
    return gates_of(cell, cell.init(np.random.default_rng(0), 2, 3), program)


def evaluate(program: Program, params: Any, x: Any, state: Any) -> tuple[Any, Any]:
    """One step by the program: what ``cell.step(params, x, state)`` gives."""
    values = Values((params, x, state))
    return values[program.output], type(state)(*(values[node] for node in program.state))


class Values(dict[Node, Any]):
    """What each node is in a step, computed when it is asked for.

    ``changes`` puts other values in the places of some nodes: functions of these values. All is of
    NumPy's own functions, so the arguments of the step may be arrays or a page's symbols.
    """

    def __init__(
        self,
        given: tuple[Any, Any, Any],  # params, x, state
        changes: Mapping[Node, Callable[[Values], Any]] | None = None,
    ) -> None:
        super().__init__()
        self.given, self.changes = given, changes or {}

    def __missing__(self, node: Node) -> Any:
        change = self.changes.get(node)
        value = self[node] = change(self) if change else self.compute(node)
        return value

    def compute(self, node: Node) -> Any:
        """What the node is of the values of its arguments."""
        if node.op in OPERATIONS:
            return OPERATIONS[node.op](*[self[a] for a in node.args])
        if node.op == "product":
            return self[node.args[0]] @ self[node.args[1]]
        params, x, state = self.given
        if node.op == "x":
            return x
        if node.op == "state":
            return state[node.value]
        return node.value if node.op == "const" else weight(params, node)


def weight(params: Any, node: Node) -> Any:
    """The array that a leaf of weights stands for: a view of it in Params, or in its gradients."""
    field, gate = node.value
    array = getattr(params, field)
    return array if gate is None else array[gate]


# Programs are kept until the page changes


class _Page:
    """What a step refers to: a program is right as long as all of it is the same objects."""

    def __init__(self, step: FunctionType) -> None:
        self.names: list[tuple[dict[str, Any], str, Any]] = []
        self.cells: list[tuple[Any, Any]] = []
        self.codes: list[tuple[FunctionType, CodeType]] = []
        self.fixed = True  # whether nothing in it can change without being another object
        self._visit(step)

    def _visit(self, function: FunctionType) -> None:
        if any(function is known for known, _ in self.codes):
            return
        self.codes.append((function, function.__code__))
        for cell in function.__closure__ or ():
            try:
                value = cell.cell_contents
            except ValueError:  # not filled yet
                self.fixed = False
                continue
            self.cells.append((cell, value))
            self._value(value)
        for value in (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()):
            self._value(value)
        names = set(_names(function.__code__))
        for name in names & function.__globals__.keys():
            value = function.__globals__[name]
            self.names.append((function.__globals__, name, value))
            if isinstance(value, ModuleType):
                for inner in names & vars(value).keys():
                    self.names.append((vars(value), inner, vars(value)[inner]))
                    self._value(vars(value)[inner])
            else:
                self._value(value)

    def _value(self, value: Any) -> None:
        if isinstance(value, FunctionType):
            self._visit(value)
        elif not isinstance(value, (type, ModuleType, np.ufunc, numbers.Number, str, type(None))):
            self.fixed &= isinstance(value, type(len))  # a built-in function

    def is_same(self) -> bool:
        return (
            all(space.get(name) is value for space, name, value in self.names)
            and all(cell.cell_contents is value for cell, value in self.cells)
            and all(function.__code__ is code for function, code in self.codes)
        )


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for const in code.co_consts:
        if isinstance(const, CodeType):
            yield from _names(const)


_KEPT: dict[Any, tuple[_Page, Program | None]] = {}
_MOST = 256  # programs; the oldest goes first


def program_of(cell: Any, params: Any) -> Program | None:
    """The program of a cell, recorded when it is first asked for or when the page has changed.

    None if the page cannot be recorded. A cell that is made of a program has it already, as
    ``cell.recorded()``.
    """
    if hasattr(cell, "recorded"):
        try:
            recorded: Program = cell.recorded()
        except NotRecordableError:
            return None
        return recorded
    step = cell.step
    key = (step, cell.State, *((f, a.ndim, len(a)) for f, a in zip(params._fields, params)))  # noqa: B905
    found = _KEPT.get(key)
    if found and found[0].is_same():
        return found[1]
    try:
        program = record(cell, params)
    except NotRecordableError:
        program = None
    if isinstance(step, FunctionType):
        page = _Page(step)
        if page.fixed:
            while len(_KEPT) >= _MOST:
                del _KEPT[next(iter(_KEPT))]
            _KEPT[key] = page, program
    return program
