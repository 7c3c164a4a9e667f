"""lstmbook.showing.trace: each line of a function beside the shapes that it made."""
# ruff: noqa: B007, E701, E702, F401, F841, RUF059, SIM105
# The functions that are traced here are odd on purpose.

import contextlib
import functools
import html.parser
import importlib
import linecache
import sys
import threading
import types
from collections import namedtuple

import numpy as np
import pytest

from lstmbook.showing.trace import trace
from lstmbook.showing.values import numbers_of, safely, shape_of

State = namedtuple("State", "c h")
One = namedtuple("One", "h")


def line_of(t, source):
    (line,) = (line for line in t.lines if line.source.strip().startswith(source))
    return line


def times(t):
    """How often each line ran; None where it did not run at all."""
    return {line.source.strip(): line.times if line.executed else None for line in t.lines[1:]}


def names(t):
    """What each line assigned, for the lines that assigned something."""
    return {line.source.strip(): line.names for line in t.lines[1:] if line.names}


# The text


def cell(x, state, W):
    """A docstring.

    # Not a comment.
    """
    # a comment
    c, h = state  # beside the code

    z = np.tanh(
        # inside a statement
        np.hstack([x, h]) @ W
    )
    i, j = np.split(z, 2, axis=1)
    if i is None:
        raise ValueError("a long line, with an <i> that is missing & wanted")
    else:
        c = c + i * j
    return c, State(c, i)


CELL = """\
def cell(x, state, W):                                        x: (2, 3) float32
                                                              state: (c (2, 4), h (2, 4))
                                                              W: (7, 8) float32
    c, h = state  # beside the code                           c, h: (2, 4) float32
    z = np.tanh(                                              z: (2, 8) float32
        np.hstack([x, h]) @ W
    )
    i, j = np.split(z, 2, axis=1)                             i, j: (2, 4) float32
    if i is None:
        raise ValueError("a long line, with an <i> that is missing & wanted")
                                                              not run
    else:
        c = c + i * j                                         c: (2, 4) float32
    return c, State(c, i)                                     return: ((2, 4), (c (2, 4), h (2, 4)))
"""


@pytest.fixture
def arguments():
    x, c, h, W = (np.full(s, 0.5, np.float32) for s in [(2, 3), (2, 4), (2, 4), (7, 8)])
    return x, State(c, h), W


def test_text(arguments):
    t = trace(cell, *arguments)
    assert f"{t}\n" == CELL
    assert repr(t) == str(t)


def test_the_result_is_what_the_function_returned(arguments):
    t = trace(cell, *arguments)
    np.testing.assert_array_equal(t.result[0], cell(*arguments)[0])
    assert trace(cell, arguments[0], W=arguments[2], state=arguments[1]).lines == t.lines


def test_line_numbers_are_those_of_the_file(arguments):
    first = cell.__code__.co_firstlineno
    assert [line.number - first for line in trace(cell, *arguments).lines] == [
        *(0, 6, 8, 12, 13, 14, 15, 16, 17)
    ]


def test_docstring_and_comments_on_request(arguments):
    t = trace(cell, *arguments, docstring=True)
    sources = [line.source.strip() for line in t.lines]
    assert sources[1] == '"""A docstring.\n\n    # Not a comment.\n    """'
    assert sources[2] == "# a comment"
    assert "# inside a statement" in line_of(t, "z =").source
    assert all(line.executed for line in t.lines if "raise" not in line.source)


def test_a_long_description_is_wrapped():
    def f(x):
        return [{"a": x}, (x, x, x), (x, x, x), (x, x, x)]

    assert line_of(trace(f, np.ones((100, 100))), "return").notes() == [
        "return: [dict, ((100, 100), (100, 100), (100, 100)),",
        "  ((100, 100), (100, 100), (100, 100)), ((100, 100),",
        "  (100, 100), (100, 100))]",
    ]


# Values


def test_values(arguments):
    def f(x, state):
        n = 3
        x = x / n
        x *= 2
        return x, state

    x, state, _ = arguments
    state = State(state.c[:, :2], state.h[:1, :2])
    t = trace(f, x, state, values=True)
    assert str(t) == (
        "def f(x, state):     x: (2, 3) float32\n"
        "                       [[0.5 0.5 0.5]\n"
        "                        [0.5 0.5 0.5]]\n"
        "                     state: (c (2, 2), h (1, 2))\n"
        "                       c [[0.5 0.5]\n"
        "                          [0.5 0.5]]\n"
        "                       h [[0.5 0.5]]\n"
        "    n = 3            n: 3\n"
        "    x = x / n        x: (2, 3) float32\n"
        "                       [[0.167 0.167 0.167]\n"
        "                        [0.167 0.167 0.167]]\n"
        "    x *= 2           x: (2, 3) float32\n"
        "                       [[0.333 0.333 0.333]\n"
        "                        [0.333 0.333 0.333]]\n"
        "    return x, state  return: ((2, 3), (c (2, 2), h (1, 2)))\n"
        "                       [[0.333 0.333 0.333]\n"
        "                        [0.333 0.333 0.333]]\n"
        "                       c [[0.5 0.5]\n"
        "                          [0.5 0.5]]\n"
        "                       h [[0.5 0.5]]"
    )
    assert str(t.show(values=False)) == str(trace(f, x, state))
    assert str(t.show(values=False).show()) == str(t)


def test_values_are_cut_short():
    def f(x):
        return x

    assert line_of(trace(f, np.arange(1000.0)), "return").notes(values=True) == [
        "return: (1000,) float64",
        "  [  0.   1. ... 998. 999.]",
    ]


def test_names_of_equal_shape_share_a_line_unless_their_values_differ():
    def f(x):
        a, b = x, 2 * x
        return a + b

    t = trace(f, np.ones(2))
    assert line_of(t, "a, b").notes() == ["a, b: (2,) float64"]
    assert line_of(t, "a, b").notes(values=True) == [
        *("a: (2,) float64", "  [1. 1.]", "b: (2,) float64", "  [2. 2.]")
    ]


# Descriptions


class Torch:
    """Like a torch tensor that requires a gradient."""

    shape = (2, 3)
    dtype = "torch.float32"

    def __array__(self, dtype=None, copy=None):
        raise RuntimeError("call detach() first")

    def detach(self):
        return np.ones(self.shape)


class TensorShape:
    def __init__(self, *sizes):
        self.sizes = sizes

    def __iter__(self):
        return iter(self.sizes)

    def __len__(self):
        return len(self.sizes)

    def as_list(self):
        return list(self.sizes)


class Symbolic:
    """Like a tensor of TensorFlow while a graph is built."""

    shape = TensorShape(None, 4)
    dtype = types.SimpleNamespace(name="float32")

    def __array__(self, dtype=None, copy=None):
        raise NotImplementedError("no numbers yet")


class Hostile:
    @property
    def shape(self):
        raise RuntimeError("no shape for you")


LOOP = []
LOOP += [LOOP, LOOP]


@pytest.mark.parametrize(
    ("value", "shape"),
    [
        (np.ones((2, 16), np.float32), "(2, 16) float32"),
        (np.ones(4), "(4,) float64"),
        (np.float32(1), "() float32"),
        (Torch(), "(2, 3) float32"),
        (Symbolic(), "(None, 4) float32"),
        (TensorShape(None, 4), "TensorShape (None, 4)"),
        (State(np.ones((2, 4)), np.ones((2, 5))), "(c (2, 4), h (2, 5))"),
        ((np.ones(1), [1, None]), "((1,), [1, None])"),
        ([np.ones((2, 2))] * 9, "[(2, 2), (2, 2), (2, 2), (2, 2), …]"),
        ((), "()"),
        ((np.ones(2),), "((2,),)"),
        (One(np.ones((2, 4))), "(h (2, 4))"),
        (TensorShape(4), "TensorShape (4,)"),
        (LOOP, "[[[[…], […]], [[…], […]]], [[[…], […]], [[…], […]]]]"),
        (3, "3"),
        (True, "True"),
        (None, "None"),
        ("relu", "'relu'"),
        ("x" * 100, "'" + "x" * 38 + "…"),
        (np.tanh, "ufunc"),
        ([np, np.ndarray], "[module, type]"),
        ({"a": 1}, "dict"),
        (Hostile(), "Hostile"),
    ],
)
def test_descriptions(value, shape):
    def f(value):
        return value

    assert trace(f, value).lines[0].names == {"value": shape}
    assert safely(shape_of, value, type(value).__name__) == shape  # where coverage can see it


@pytest.mark.parametrize(
    ("value", "numbers"),
    [
        (Torch(), "[[1. 1. 1.]\n [1. 1. 1.]]"),
        (Symbolic(), ""),
        (Hostile(), ""),
        (3, ""),
        (np.array([None]), ""),
        ((1, np.ones(1), [np.zeros(1)]), "[1.]\n[0.]"),
    ],
)
def test_numbers(value, numbers):
    def f(value):
        return value

    assert trace(f, value).lines[0].values == {"value": numbers}
    assert safely(numbers_of, value, "") == numbers


# Every kind of statement


def test_branches():
    def f(x):
        if x > 3:
            y = 1
        elif x > 1:
            y = 2
        else:
            y = 3
        if x > 100:
            if x > 1000: y = 4  # fmt: skip
            print("x is large")
        if x > 1: y = 5; z = 6  # fmt: skip
        if x < 1: y = y  # fmt: skip
        return y + z

    t = trace(f, 2)
    assert times(t) == {
        "if x > 3:": 1,
        "y = 1": None,
        "elif x > 1:": 1,
        "y = 2": 1,
        "else:": None,
        "y = 3": None,
        "if x > 100:": 1,
        "if x > 1000: y = 4  # fmt: skip": None,
        'print("x is large")': None,
        "if x > 1: y = 5; z = 6  # fmt: skip": 1,
        "if x < 1: y = y  # fmt: skip": 1,
        "return y + z": 1,
    }
    assert names(t) == {
        "y = 2": {"y": "2"},
        "if x > 1: y = 5; z = 6  # fmt: skip": {"y": "5", "z": "6"},
        "return y + z": {"return": "11"},
    }
    assert line_of(t, "else:").notes() == ["not run"]


def test_loops():
    def f(xs):
        total = 0
        for x in xs:
            total = total + x
        for x in []:
            total = None
        else:
            last = x
        while total < 11:
            total += 2
            if total > 8:
                continue
        return total, last

    t = trace(f, [1, 2, 3])
    assert times(t) == {
        "total = 0": 1,
        "for x in xs:": 3,
        "total = total + x": 3,
        "for x in []:": 0,
        "total = None": None,
        "else:": 1,
        "last = x": 1,
        "while total < 11:": 4,
        "total += 2": 3,
        "if total > 8:": 3,
        "continue": 2,
        "return total, last": 1,
    }
    assert line_of(t, "for x in xs").notes() == ["(×3) x: 3"]
    assert line_of(t, "total = total + x").notes() == ["(×3) total: 6"]
    assert line_of(t, "for x in []").notes() == ["(×0)"]
    assert line_of(t, "if total").notes() == ["(×3)"]


def test_endless_loops():
    def f(x):
        while True:
            x = [x]
            if len(repr(x)) > 6:
                break
        return x

    t = trace(f, 0)
    assert line_of(t, "while True").executed
    assert times(t) | {"while True:": 3} == {
        "while True:": 3,  # once in some versions of Python
        "x = [x]": 3,
        "if len(repr(x)) > 6:": 3,
        "break": 1,
        "return x": 1,
    }


def test_a_loop_of_one_long_statement_counts_its_rounds():
    def f(rest, x=0):
        try:
            while True:
                x = rest(
                    [
                        y
                        for y in "abc"
                    ],
                    key=x,
                )  # fmt: skip
        except StopIteration as stop:
            return x, str(stop)

    def rest(items, key):
        if key == len(items):
            raise StopIteration("the end")
        return key + 1

    t = trace(f, rest)
    assert t.result == (3, "the end")
    assert line_of(t, "x = rest").times == 4
    assert line_of(t, "x = rest").names == {"x": "3"}
    assert line_of(t, "try").executed
    assert line_of(t, "except").names == {"stop": "StopIteration"}


class Manager:
    def __enter__(self):
        return np.ones((2, 2))

    def __exit__(self, *error):
        return True


def test_with():
    def f():
        for _ in range(3):
            with Manager() as a, Manager() as (b, c):
                d = a + b
                raise ValueError
        with Manager():
            return d

    t = trace(f)
    header = "with Manager() as a, Manager() as (b, c):"
    assert times(t) == {
        "for _ in range(3):": 3,
        header: 3,
        "d = a + b": 3,
        "raise ValueError": 3,
        "with Manager():": 1,
        "return d": 1,
    }
    assert names(t) == {
        "for _ in range(3):": {"_": "2"},
        header: {"a": "(2, 2) float64", "b": "(2,) float64", "c": "(2,) float64"},
        "d = a + b": {"d": "(2, 2) float64"},
        "return d": {"return": "(2, 2) float64"},
    }


def test_try():
    def f(d):
        try:
            a = d["a"]
            b = d["b"]
        except KeyError as error:
            b = repr(error)
        except ValueError:
            b = None
        else:
            b = 1
        finally:
            done = True
        try:
            return a, b
        finally:
            done = False

    t = trace(f, {"a": 1})
    assert [(line.source.strip(), line.times) for line in t.lines[1:]] == [
        ("try:", 1),
        ('a = d["a"]', 1),
        ('b = d["b"]', 1),
        ("except KeyError as error:", 1),
        ("b = repr(error)", 1),
        ("except ValueError:", 0),
        ("b = None", 0),
        ("else:", 0),
        ("b = 1", 0),
        ("finally:", 1),
        ("done = True", 1),
        ("try:", 1),
        ("return a, b", 1),
        ("finally:", 1),
        ("done = False", 1),
    ]
    assert names(t) == {
        'a = d["a"]': {"a": "1"},
        "except KeyError as error:": {"error": "KeyError"},
        "b = repr(error)": {"b": "\"KeyError('b')\""},
        "done = True": {"done": "True"},
        "return a, b": {"return": "(1, \"KeyError('b')\")"},
        "done = False": {"done": "False"},
    }


def test_an_assignment_that_fails_has_not_assigned():
    def f(d):
        found = 0
        try:
            found = d["a"]
        except KeyError:
            pass
        return found

    t = trace(f, {})  # `found` is a target of the line, and it has a value from before
    assert names(t) == {"found = 0": {"found": "0"}, "return found": {"return": "0"}}
    assert line_of(t, "pass").executed


def test_a_return_that_fails_has_not_returned():
    def f(d):
        for key in "ab":
            try:
                return d[key]
            except KeyError:
                found = None
        return found

    t = trace(f, {})
    assert line_of(t, "return d").names == {}
    assert line_of(t, "return d").times == 2
    assert line_of(t, "return found").names == {"return": "None"}
    assert line_of(trace(f, {"b": 1}), "return d").names == {"return": "1"}


def test_match():
    def f(x):
        match x:
            case [a, b]:
                y = a + b
            case {"k": k}:
                y = k
            case _:
                y = 0
        return y

    t = trace(f, {"k": 7})
    assert names(t) == {
        'case {"k": k}:': {"k": "7"},
        "y = k": {"y": "7"},
        "return y": {"return": "7"},
    }
    assert times(t)["case _:"] is None
    assert times(t)["y = a + b"] is None
    assert times(trace(f, 3))["case _:"] == 1


def test_the_same_object_bound_again_is_shown():
    def f(state):
        c, h = state
        h, c = h, c
        h = d = c
        (d := d)
        return d

    assert names(trace(f, (1, 2))) == {
        "c, h = state": {"c": "1", "h": "2"},
        "h, c = h, c": {"h": "2", "c": "1"},
        "h = d = c": {"h": "1", "d": "1"},
        "(d := d)": {"d": "1"},
        "return d": {"return": "1"},
    }
    assert line_of(trace(f, (np.ones(1), np.ones(1))), "h, c").notes() == ["h, c: (1,) float64"]


def test_assignments_of_other_kinds():
    # fmt: off
    def f(x, *rest, key=None, **others):
        import math
        from math import (
            pi,
        )
        def inner(y):
            """Shown."""
            z = y
            return z
        @logged
        class Inner:
            x = 3
        n: int
        n: int = 2
        if (m := n + 1) > 2:
            x.squares = [
                rest * rest
                for rest in range(3)
                if (
                    found := rest
                )
            ]
        del rest
        text = f"""
# {n}

"""
        return inner(pi)
    # fmt: on

    t = trace(f, Hostile(), 1, key="k", a=2)
    assert t.lines[0].names == {"x": "Hostile", "rest": "(1,)", "key": "'k'", "others": "dict"}
    assert [line.names for line in t.lines[1:]] == [
        {"math": "module"},
        {"pi": "3.141592653589793"},
        {"inner": "function"},
        {"Inner": "function"},
        {},
        {"n": "2"},
        {"m": "3"},
        {"found": "2"},
        {},
        {"text": r"'\n# 2\n\n'"},
        {"return": "3.141592653589793"},
    ]
    assert [line.times for line in t.lines] == [1] * 12
    assert line_of(t, "text").source == '    text = f"""\n# {n}\n\n"""'
    assert line_of(t, "def inner").source.count("\n") == 3
    assert line_of(t, "@logged").source.count("\n") == 2


def test_declarations_follow_the_line_below():
    count = 0

    def f(x):
        nonlocal count
        x: int
        count = count + 1
        if x:
            global unused
            unused = 1
        return count

    t = trace(f, False)
    assert count == 1
    assert times(t) == {
        "nonlocal count": 1,
        "x: int": 1,
        "count = count + 1": 1,
        "if x:": 1,
        "global unused": None,
        "unused = 1": None,
        "return count": 1,
    }
    assert t.lines[0].names == {"x": "False"}
    assert line_of(t, "count").names == {"count": "1"}


def test_code_that_can_never_run_is_not_run():
    def f():
        if False:
            x = 1
        y = 2
        return y
        return x

    t = trace(f)
    assert not line_of(t, "x = 1").executed
    assert not line_of(t, "return x").executed


def test_names_that_an_inner_function_uses():
    outer = 1

    def f(self, x, y):
        y = y + outer
        return (lambda: x)() + y

    t = trace(f, 0, 1, 2)
    assert t.lines[0].names == {"x": "1", "y": "2"}
    assert [line.names for line in t.lines[1:]] == [{"y": "3"}, {"return": "4"}]


def test_functions_of_one_line():
    # fmt: off
    def f(x): return x
    def g(x): x = x + 1; return x
    def h(): "Only this."
    # fmt: on

    assert str(trace(f, 2)) == "def f(x): return x  x: 2\n" + " " * 20 + "return: 2"
    assert trace(g, 2).lines[0].names == {"x": "3", "return": "3"}
    assert str(trace(h)) == 'def h(): "Only this."'


# What can be traced


def logged(function):
    @functools.wraps(function)
    def wrapper(*args):
        entered = True
        return function(*args) if entered else None

    return wrapper


class Cell:
    def __init__(self, size):
        self.size = size

    def call(self, x):
        y = x * self.size
        return y

    @logged
    @logged
    def wrapped(
        self,
        x,
    ):
        return x

    @classmethod
    def of_class(cls, x):
        return x

    @staticmethod
    def static(x):
        return x

    def __call__(self, x):
        return self.call(x)


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (Cell(2).call, "Cell.call"),
        (functools.partial(Cell.call, Cell(2)), "Cell.call"),
        (Cell(2).wrapped, "Cell.wrapped"),
        (Cell.of_class, "Cell.of_class"),
        (Cell.static, "Cell.static"),
        (Cell(2), "Cell.__call__"),
        (functools.cache(Cell(2).call), "Cell.call"),
    ],
)
def test_callables(function, name):
    t = trace(function, 3)
    assert t.name == name
    assert t.lines[0].names == {"x": "3"}
    assert t.lines[0].source.startswith("def ")
    assert t.lines[0].source.endswith("):")
    assert len(t.lines) == 2 + (name == "Cell.call")
    assert line_of(t, "return").names == {"return": str(t.result)}


def test_inside():
    t = trace(Cell(2), 3, inside=Cell.call)
    assert (t.name, t.result, t.lines) == ("Cell.call", 6, trace(Cell(2).call, 3).lines)
    assert trace(lambda: Cell(4)(1), inside=Cell.call).result == 4


def test_calls_one_after_the_other_are_counted():
    def f(cell):
        return [cell(i) for i in range(3)]

    t = trace(f, Cell(2), inside=Cell.call)
    assert t.lines[0].notes() == ["(×3) x: 2"]
    assert line_of(t, "y =").notes() == ["(×3) y: 4"]
    assert line_of(t, "return").notes() == ["(×3) return: 4"]


def test_of_a_recursion_the_outermost_call_is_shown():
    def factorial(n):
        if n == 0:
            return 1
        m = n * factorial(n - 1)
        return m

    t = trace(factorial, 4)
    assert (t.name, t.result) == ("factorial", 24)
    assert t.lines[0].names == {"n": "4"}
    assert [line.times for line in t.lines] == [1, 1, 0, 1, 1]


def test_other_threads_are_left_alone():
    def f(n):
        m = n
        if n == 0:
            thread = threading.Thread(target=f, args=[1])
            thread.start()
            thread.join()
        return m

    t = trace(f, 0)
    assert line_of(t, "m =").notes() == ["m: 0"]
    assert line_of(t, "return").notes() == ["return: 0"]


def test_a_notebook_cell_has_source():
    source = "def f(x):\n    y = x\n    return y\n"
    linecache.cache["<cell 1>"] = (len(source), None, source.splitlines(keepends=True), "<cell 1>")
    namespace = {}
    exec(compile(source, "<cell 1>", "exec"), namespace)
    text = "def f(x):     x: 1\n    y = x     y: 1\n    return y  return: 1"
    assert str(trace(namespace["f"], 1)) == text


def test_a_module_that_was_edited_and_loaded_again(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    file = tmp_path / "edited_module.py"
    file.write_text("def f():\n    x = 1\n")
    module = importlib.import_module("edited_module")
    assert str(trace(module.f)) == "def f():\n    x = 1  x: 1"
    file.write_text("def f():\n    x = 1234\n")
    importlib.reload(module)
    assert str(trace(module.f)) == "def f():\n    x = 1234  x: 1234"


# Leaving all as it was


def divide(x, y):
    return x / y


def fail(x):
    y = x
    z = y + (
        divide(y, 0)
        - y
    )  # fmt: skip
    return z


def test_an_error_says_on_which_line():
    with pytest.raises(ZeroDivisionError) as caught:
        trace(fail, 1)
    number = fail.__code__.co_firstlineno + 2
    assert caught.value.__notes__ == [f"in fail, line {number}: z = y + ("]


def test_an_error_elsewhere_has_no_note():
    def f():
        Cell(1).call(2)
        raise KeyError

    with pytest.raises(KeyError) as caught:
        trace(f, inside=Cell.call)
    assert not hasattr(caught.value, "__notes__")


def test_an_error_that_was_caught_further_up():
    def f():
        for x in (1, 2):
            with contextlib.suppress(ZeroDivisionError):
                fail(x)

    t = trace(f, inside=fail)
    assert [line.times for line in t.lines] == [2, 2, 2, 0]
    assert names(t) == {"y = x": {"y": "2"}}
    assert t.lines[-1].notes() == ["not run"]
    assert names(trace(f, inside=divide)) == {}


@pytest.mark.parametrize(
    ("function", "inside", "error"),
    [(Cell(1), None, None), (fail, None, ZeroDivisionError), (abs, Cell.call, ValueError)],
)
def test_the_tracer_that_was_there_is_put_back(function, inside, error):
    def tracer(frame, event, arg):
        return None

    before = sys.gettrace()
    sys.settrace(tracer)
    try:
        with pytest.raises(error) if error else contextlib.nullcontext():
            trace(function, 1, inside=inside)
        assert sys.gettrace() is tracer
    finally:
        sys.settrace(before)


# What cannot be traced


def generator():
    yield 1


async def coroutine():
    return 1


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (len, r"written in Python; got <built-in function len>, a builtin_function_or_method"),
        (Cell, r"written in Python; got <class '.*Cell'>, a type"),
        (3, r"written in Python; got 3, a int"),
        (lambda: 1, r"written with `def`; got .*<lambda>, a lambda"),
        (generator, r"got generator, a lambda, a generator or a coroutine"),
        (coroutine, r"got coroutine, a lambda, a generator or a coroutine"),
    ],
)
def test_what_has_no_lines_is_refused(function, message):
    with pytest.raises(TypeError, match=message):
        trace(function)


@pytest.mark.parametrize("text", ["", "def f(x):\n", "\ndef f(): pass\n", "def g(): pass\n"])
def test_a_source_that_is_missing_or_another(text):
    namespace = {}
    linecache.cache["<other>"] = (len(text), None, text.splitlines(keepends=True), "<other>")
    exec(compile("def f():\n    return 1\n", "<other>", "exec"), namespace)
    with pytest.raises(OSError, match=r"source of f, and there is none at line 1 of '<other>'"):
        trace(namespace["f"])


def test_inside_that_is_never_reached():
    with pytest.raises(ValueError, match=r"Cell\.call was never reached.*inside=type\(cell\)"):
        trace(abs, 1, inside=Cell.call)
    cached = functools.cache(Cell(1).call)
    cached(1)
    with pytest.raises(ValueError, match="a cached result"):
        trace(cached, 1)


# HTML


class Checker(html.parser.HTMLParser):
    """Holds that all elements are closed in order; collects the cells and the attributes."""

    def __init__(self, text):
        super().__init__()
        self.open, self.seen, self.cells = [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.open.append(tag)
        self.seen.append((tag, dict(attributes)))
        if tag in ("td", "th"):
            self.cells.append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        assert self.open[-1] in ("td", "th"), data
        self.cells[-1] += data

    def attributes(self, tag):
        return [attributes for name, attributes in self.seen if name == tag]


@pytest.mark.parametrize("values", [False, True])
def test_html(arguments, values):
    t = trace(cell, *arguments, values=values)
    text = t._repr_html_()
    page = Checker(text)
    assert page.cells[:2] == ["cell", "what the line made"]
    assert page.cells[2::2] == [line.source for line in t.lines]
    assert page.cells[3::2] == ["\n".join(line.notes(values)) for line in t.lines]
    assert "&lt;i&gt; that is missing &amp; wanted" in text
    (box,) = page.attributes("div")
    assert (box["role"], box["tabindex"]) == ("region", "0")
    assert box["aria-label"] == "cell, line by line"
    assert "overflow-x:auto" in box["style"]
    assert [th["scope"] for th in page.attributes("th")] == ["col", "col"]
    rows = zip(t.lines, page.attributes("tr")[1:], strict=True)
    assert [line.source.strip()[:5] for line, row in rows if "style" in row] == ["raise"]


def test_html_asks_for_nothing_from_outside(arguments):
    text = trace(cell, *arguments)._repr_html_()
    assert not any(word in text for word in ["<script", "<style", "<link", "http", "url("])


# The real thing


def test_the_shapes_in_tensorflows_basic_lstm_cell(tensorflow):
    from tensorflow.python.ops import rnn_cell

    cell = rnn_cell.BasicLSTMCell(4)
    cell.build((2, 4))
    t = trace(cell.call, tensorflow.ones((2, 4)), cell.zero_state(2, tensorflow.float32))
    assert line_of(t, "def call").notes() == [
        *("inputs: (2, 4) float32", "state: (c (2, 4), h (2, 4))")
    ]
    gates = [line.notes() for line in t.lines if line.source.strip().startswith("gate_inputs =")]
    assert gates == [["gate_inputs: (2, 16) float32"]] * 2
    assert line_of(t, "i, j, f, o =").notes() == ["i, j, f, o: (2, 4) float32"]
    assert line_of(t, "return").notes() == ["return: ((2, 4), (c (2, 4), h (2, 4)))"]
    assert [line.source.strip() for line in t.lines if not line.executed][::2] == ["else:"] * 2


@pytest.mark.parametrize("whole", [False, True], ids=["call", "inside"])
@pytest.mark.parametrize(
    ("name", "options", "wide", "narrow"),
    [
        ("BasicLSTMCell", {}, {"gate_inputs": 16}, "c h i j f o new_c new_h"),
        ("LSTMCell", {"use_peepholes": True}, {"lstm_matrix": 16}, "c_prev m_prev i j f o c m"),
        ("GRUCell", {}, {"gate_inputs": 8, "value": 8}, "r u r_state candidate c new_h"),
        ("BasicRNNCell", {}, {}, "gate_inputs output"),
    ],
)
def test_tensorflows_cells(tensorflow, name, options, wide, narrow, whole):
    from tensorflow.python.ops import rnn_cell

    cell = getattr(rnn_cell, name)(4, **options)
    cell.build((2, 3))
    x, state = tensorflow.ones((2, 3)), cell.zero_state(2, tensorflow.float32)
    call = type(cell).call
    t = trace(cell, x, state, inside=call) if whole else trace(cell.call, x, state)

    np.testing.assert_array_equal(t.result[0], cell.call(x, state)[0])
    assert t.name == f"{name}.call"
    assert list(t.lines[0].names) == ["inputs", "state"]
    seen = {key: value for line in t.lines for key, value in line.names.items()}
    for key, size in {**wide, **dict.fromkeys(narrow.split(), 4)}.items():
        assert seen[key] == f"(2, {size}) float32", key
    assert "[[" in line_of(t, "return").values["return"]
    Checker(t._repr_html_())


def test_tensorflow_in_a_graph(tensorflow):
    from tensorflow.python.ops import rnn_cell

    cell = rnn_cell.BasicLSTMCell(4)
    cell.build((2, 3))
    state = cell.zero_state(2, tensorflow.float32)
    step = tensorflow.function(lambda x: cell(x, state)[0])
    x = tensorflow.TensorSpec([None, 3], tensorflow.float32)
    t = trace(step.get_concrete_function, x, inside=type(cell).call)
    assert line_of(t, "def call").names["inputs"] == "(None, 3) float32"
    assert line_of(t, "def call").values["inputs"] == ""


def test_locals_are_what_they_were_at_the_return():
    def step(x, n):
        y = x + n
        x = 2 * y
        return x

    told = trace(step, np.ones(2), 1)
    assert sorted(told.locals) == ["n", "x", "y"]
    np.testing.assert_array_equal(told.locals["x"], told.result)
    np.testing.assert_array_equal(told.locals["y"], [2.0, 2.0])
