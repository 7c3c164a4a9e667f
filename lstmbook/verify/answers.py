"""Who answers a golden vector: a Python function, a program in any language, a file of results.

An answer is a flat dict of arrays by name: ``hs``, ``final/…`` and, from those who have them,
``gates/…``, ``d_params/…``, ``d_xs`` and ``d_state/…``.
"""

import importlib
import inspect
import json
import math
import os
import shlex
import signal
import subprocess
import sys
import threading
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np

from .. import layouts
from ..activations import Array
from ..cells import CELLS
from .vectors import Vector, flatten, nest

__all__ = [
    "AnswerError",
    "Command",
    "SilentError",
    "answer",
    "ask_of",
    "checked",
    "python_function",
    "request",
]

GROUPS = ("hs", "final", "gates", "d_params", "d_xs", "d_state")
UNREADABLE = (  # what a file that is damaged or something else may raise
    OSError,
    ValueError,
    EOFError,
    MemoryError,
    NotImplementedError,
    RecursionError,
    zipfile.BadZipFile,
    zlib.error,
)
LIMIT = 64 * 2**20  # bytes of a file of results, or of an answer

Ask = Callable[[Vector], dict[str, Array]]


class AnswerError(Exception):
    """An answer cannot be compared; the message is for the reader."""


class SilentError(AnswerError):
    """There is nobody who answers, so asking again would not help."""


def checked(vector: Vector, flat: Mapping[str, Any]) -> dict[str, Array]:
    """An answer as arrays of the right names and shapes."""
    arrays: dict[str, Array] = {}
    said = flat.get("dtype", "float64")
    if said not in ("float64", "float32"):
        raise AnswerError(f"the answer says dtype {said!r}; expected float64 or float32")
    for name, value in flat.items():
        if value is None or name in ("name", "dtype"):
            continue
        if name not in vector.expected:
            groups = {part.split("/")[0] for part in vector.expected}
            if name.split("/")[0] in set(GROUPS) - groups:
                continue  # more than this vector asks for
            known = ", ".join(vector.expected)
            raise AnswerError(f"the answer has {name!r}, which is unknown; expected {known}")
        array = _array(name, value, vector.expected[name].shape)
        arrays[name] = array.astype(np.float32) if said == "float32" else array
    if not arrays:
        raise AnswerError(f"the answer is empty; expected {', '.join(vector.expected)}")
    return arrays


def _array(name: str, value: Any, shape: tuple[int, ...]) -> Array:
    try:
        array = np.asarray(value)
        if array.dtype.kind in "iub" or (array.dtype == object and array.size):
            array = array.astype(np.float64)  # whole numbers in JSON; None is NaN
    except Exception as error:
        raise AnswerError(f"{name} is no array of numbers ({error})") from None
    if array.dtype.kind != "f":
        raise AnswerError(f"{name} is of dtype {array.dtype}; expected floats")
    if array.shape != shape:
        axes = {"hs": "(batch, time, hidden) = ", "d_xs": "(batch, time, input) = "}.get(name, "")
        mend = ""
        if len(shape) == 3 and array.shape == (shape[1], shape[0], shape[2]):
            mend = ". Is time the first axis? Batch comes first"
        elif array.ndim == 2 and array.shape == shape[::-1]:
            mend = ". Is it transposed?"
        elif array.size == math.prod(shape):
            mend = ". Is an axis dropped or flattened?"
        elif name == "hs" and array.shape == (shape[0], shape[2]):
            mend = ". Is it the last output alone? All are expected"
        raise AnswerError(f"{name} has shape {array.shape}; expected {axes}{shape}{mend}")
    return array


# Python functions


def ask_of(
    cell: str,
    implementation: Any,
    gradients: Callable[..., Any] | None,
    layout: str | None,
    forget_bias: float,
    dtype: np.dtype[Any],
) -> tuple[Ask, Callable[..., Any] | None]:
    """The function that answers a vector, and the reader's step if there is one."""
    if isinstance(implementation, Command):
        return partial(_of_command, implementation, layout, forget_bias), None
    if isinstance(implementation, str | os.PathLike):
        implementation = _results(cell, Path(implementation))
    if isinstance(implementation, Mapping):
        return partial(_of_results, implementation, layout), None
    if dtype.kind != "f":
        raise TypeError(f"dtype is {dtype}; expected a float dtype such as np.float32")
    at = _functions(implementation, gradients)
    step = at.get("step") if layout is None and dtype == np.float64 else None
    return partial(_of_functions, at, layout, forget_bias, dtype), step


def _functions(implementation: Any, gradients: Callable[..., Any] | None) -> dict[str, Any]:
    names = ("step", "gates", "step_vjp", "run", "backprop")
    at = {k: getattr(implementation, k) for k in names if callable(getattr(implementation, k, 0))}
    if "step" in at or "run" in at:
        at.pop("run" if "step" in at else "", None)
    elif callable(implementation):
        at = {"run" if _takes(implementation, "lengths") else "step": implementation}
    else:
        raise TypeError(
            f"implementation is of type {type(implementation).__name__}; expected a function "
            "step(params, x, state) or run(params, xs, state, lengths), an object that has one, "
            "a Command, or the path of a file of results"
        )
    if gradients is not None:
        if not callable(gradients):
            raise TypeError(f"gradients is of type {type(gradients).__name__}; expected a function")
        at["step_vjp" if "step" in at else "backprop"] = gradients
    return at


def _takes(function: Callable[..., Any], name: str) -> bool:
    try:
        return name in inspect.signature(function).parameters
    except (TypeError, ValueError):
        return False


def _of_functions(
    at: Mapping[str, Any],
    layout: str | None,
    forget_bias: float,
    dtype: np.dtype[Any],
    vector: Vector,
) -> dict[str, Array]:
    """Ask Python functions: run, then gates, then gradients."""

    def cast(arrays: Any) -> Any:
        return type(arrays)(*(array.astype(dtype) for array in arrays))

    def params() -> Any:
        fresh = cast(vector.params)
        if layout is None:
            return fresh
        return layouts.export(vector.cell, layout, fresh, forget_bias=forget_bias)

    xs, lengths = vector.given["xs"].astype(dtype), vector.given["lengths"].copy()
    with _Told():
        if "run" in at:
            result = at["run"](params(), xs, cast(vector.state), lengths)
        else:
            result = _run_step(at["step"], params(), xs, cast(vector.state), lengths)
        flat = _named(vector, result)
        if "gates" in at and any(name.startswith("gates/") for name in vector.expected):
            gates = at["gates"](params(), xs[:, 0], cast(vector.state))
            letters = CELLS[vector.cell].GATES
            flat |= {f"gates/{k}": a for k, a in zip(letters, gates, strict=True)}
        if vector.has_gradients and ("backprop" in at or "step_vjp" in at):
            d_hs = vector.given["d_hs"].astype(dtype)
            d_final = cast(vector.below("d_final", CELLS[vector.cell].State))
            arguments = (params(), xs, d_hs, d_final, cast(vector.state), lengths)
            if "backprop" in at:
                result = at["backprop"](*arguments)
            else:
                result = _back_steps(at["step"], at["step_vjp"], *arguments)
            flat |= _named_gradients(vector, result, layout)
    return flat


class _Told:
    """Errors of the reader's code become the message of one vector."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, Exception) and not isinstance(error, AnswerError):
            text = f"{type(error).__name__}: {error}".rstrip(": ")
            raise AnswerError(f"your function raises an error. {text}") from None


def _run_step(
    step: Callable[..., Any], params: Any, xs: Array, state: Any, lengths: Array
) -> tuple[Array, Any]:
    """A step over sequences that end at different times."""
    hs = np.zeros((*xs.shape[:2], state.h.shape[-1]), xs.dtype)
    for t in range(xs.shape[1]):
        on = lengths > t
        if on.any():
            h, new = _pair(state, step(params, xs[on, t], rows(state, on)))
            hs = hs.astype(np.result_type(h), copy=False)  # what the step computes in
            hs[on, t] = h
            state = _written(state, on, new)
    return hs, state


def _back_steps(
    step: Callable[..., Any],
    step_vjp: Callable[..., Any],
    params: Any,
    xs: Array,
    d_hs: Array,
    d_state: Any,
    state: Any,
    lengths: Array,
) -> tuple[Any, Array, Any]:
    """``step_vjp`` from the last step to the first."""
    states = [state]
    for t in range(xs.shape[1]):
        on = lengths > t
        if on.any():
            _, new = _pair(state, step(params, xs[on, t], rows(state, on)))
            state = _written(state, on, new)
        states.append(state)
    total: dict[Any, Any] = {}
    d_xs = np.zeros_like(xs)
    for t in reversed(range(xs.shape[1])):
        on = lengths > t
        if not on.any():
            continue
        d_new = rows(d_state, on)
        d_new = d_new._replace(h=d_new.h + d_hs[on, t])
        d_params, d_x, d_old = step_vjp(params, xs[on, t], rows(states[t], on), d_new)
        for name, part in _items(d_params, params):
            total[name] = total.get(name, 0) + part
        d_xs[on, t] = d_x
        d_state = _written(d_state, on, d_old)
    return total, d_xs, d_state


def _pair(state: Any, result: Any) -> tuple[Any, Any]:
    """A step's answer; a plain tuple is taken in the order of State."""
    if not isinstance(result, tuple | list) or len(result) != 2:
        raise AnswerError("your step returns no pair; expected (h, state)")
    h, new = result
    return h, _as_state(type(state), new)


def _as_state(made: Any, new: Any) -> Any:
    fields = made._fields
    if isinstance(new, Mapping):
        new = [new[k] for k in fields]
    elif hasattr(new, "_fields") and set(new._fields) == set(fields):
        new = [getattr(new, k) for k in fields]
    if not isinstance(new, tuple | list) or len(new) != len(fields):
        raise AnswerError(f"the state that comes back is no State({', '.join(fields)})")
    return made(*new)


def rows(state: Any, on: Array) -> Any:
    """The State of some sequences of the batch."""
    return type(state)(*(part[on] for part in state))


def _written(state: Any, on: Array, new: Any) -> Any:
    parts = []
    for whole, part in zip(state, new, strict=True):
        whole = whole.astype(np.result_type(part), copy=True)
        whole[on] = part
        parts.append(whole)
    return type(state)(*parts)


def _items(group: Any, like: Any) -> Iterator[tuple[str, Any]]:
    """Params, a dict or a plain tuple, by the names of ``like``."""
    if isinstance(group, Mapping):
        yield from group.items()
    else:
        names = like.keys() if isinstance(like, Mapping) else like._fields
        names = getattr(group, "_fields", names)
        yield from zip(names, group, strict=True)


def _named(vector: Vector, result: Any) -> dict[str, Any]:
    """``hs``, ``(hs, state)`` or a mapping, by name."""
    if isinstance(result, Mapping):
        return dict(flatten(result))
    if not isinstance(result, tuple | list):
        return {"hs": result}
    if len(result) != 2:
        raise AnswerError(f"your function returns {len(result)} things; expected (hs, state)")
    hs, state = result
    final = _as_state(CELLS[vector.cell].State, state)
    return {"hs": hs} | {f"final/{k}": a for k, a in final._asdict().items()}


def _named_gradients(vector: Vector, result: Any, layout: str | None) -> dict[str, Any]:
    if not isinstance(result, tuple | list) or len(result) != 3:
        raise AnswerError("your gradients are no triple; expected (d_params, d_xs, d_state)")
    d_params, d_xs, d_state = result
    made = CELLS[vector.cell]
    if layout is None:
        named = dict(_items(d_params, vector.params))
    else:
        named = dict(layouts.pull_back(vector.cell, layout, d_params)._asdict())
    flat = {f"d_params/{k}": a for k, a in named.items()} | {"d_xs": d_xs}
    return flat | {f"d_state/{k}": a for k, a in _as_state(made.State, d_state)._asdict().items()}


def answer(step: Callable[..., Any], vector: Vector) -> dict[str, Array]:
    """``hs`` and ``final/…`` that a step, right or wrong, gives for a vector."""
    with np.errstate(all="ignore"):
        result = _run_step(
            step, vector.params, vector.given["xs"], vector.state, vector.given["lengths"]
        )
    return _named(vector, result)


# Files of results


def _results(cell: str, file: Path) -> dict[str, Any]:
    """``{vector: answer}`` from a JSON or NPZ file."""
    try:
        size = file.stat().st_size
        if size > LIMIT:
            raise ValueError(f"it has {size} bytes; at most {LIMIT} are read")
        if zipfile.is_zipfile(file):
            return _results_npz(file)
        content = json.loads(file.read_text(encoding="utf-8"))
    except UNREADABLE as error:
        raise ValueError(f"{file}: cannot be read as JSON or NPZ: {error}") from None
    if isinstance(content, dict) and content.get("cell", cell) != cell:
        raise ValueError(f"{file}: these are results of {content['cell']}, not of {cell}")
    if isinstance(content, dict):
        content = content.get("answers", content)
    if not isinstance(content, dict) or not all(isinstance(a, dict) for a in content.values()):
        raise ValueError(
            f'{file}: expected {{"answers": {{"one_step": {{"hs": …, "final": {{"h": …}}}}, …}}}}'
        )
    return content


def _results_npz(file: Path) -> dict[str, Any]:
    with zipfile.ZipFile(file) as archive:
        whole = sum(entry.file_size for entry in archive.infolist())
    if whole > LIMIT:
        raise ValueError(f"it unpacks to {whole} bytes; at most {LIMIT} are read")
    with np.load(file, allow_pickle=False) as arrays:
        return nest({name: arrays[name] for name in arrays.files})


def _of_results(results: Mapping[str, Any], layout: str | None, vector: Vector) -> dict[str, Array]:
    if vector.name not in results:
        raise AnswerError("there is no answer to this vector")
    return _from_answer(vector, results[vector.name], layout)


def _from_answer(vector: Vector, content: Any, layout: str | None) -> dict[str, Any]:
    """The flat arrays of an answer as it stands in JSON or NPZ."""
    if not isinstance(content, Mapping):
        raise AnswerError(f"the answer is a {type(content).__name__}; expected an object")
    content = dict(content)
    if layout is not None and isinstance(content.get("d_params"), Mapping):
        d_arrays = {
            name: np.asarray(value, np.float64) for name, value in flatten(content["d_params"])
        }
        try:
            content["d_params"] = layouts.pull_back(vector.cell, layout, d_arrays)._asdict()
        except ValueError as error:
            raise AnswerError(str(error)) from None
    return dict(flatten(content))


# Commands


@dataclass(frozen=True)
class Command:
    """A program that reads one vector as JSON on stdin and writes its answer as JSON on stdout.

    It is started once for each vector, without a shell. What it reads is `request`, what it
    writes is ``{"hs": …, "final": {"h": …, "c": …}}`` and, if it can, ``gates``, ``d_params``,
    ``d_xs`` and ``d_state``; ``"dtype": "float32"`` says that it computes in float32.
    """

    line: str | Sequence[str]  # "./mycell --quiet", or its words
    timeout: float = 60.0  # seconds for one vector

    def words(self) -> list[str]:
        """The program and its arguments."""
        line = self.line
        words = shlex.split(line, posix=os.name != "nt") if isinstance(line, str) else list(line)
        if not words:
            raise ValueError("the command is empty; expected a program, such as ./mycell")
        return words

    def __call__(self, question: Mapping[str, Any]) -> Any:
        """The answer to one question, or `AnswerError` with what went wrong."""
        code, out, err, late = _talk(self.words(), json.dumps(question), self.timeout)
        told = err.decode(errors="replace").strip().splitlines()[-5:]
        tail = "".join(f"\n  {line}" for line in told)
        if late:
            raise SilentError(f"your program gave no answer within {self.timeout:g} s{tail}")
        if len(out) > LIMIT:
            raise AnswerError(f"your program wrote more than {LIMIT} bytes")
        if code:
            how = f"with exit code {code}"
            if code < 0:
                with suppress(ValueError):
                    how = f"by signal {signal.Signals(-code).name}"
            raise AnswerError(f"your program ended {how}{tail}")
        text = out.decode(errors="replace")
        if not text.strip():
            raise AnswerError(f"your program wrote nothing to stdout{tail}")
        try:
            return json.loads(text)
        except (ValueError, RecursionError) as error:
            begin = text.strip()[:60]
            raise AnswerError(
                f"your program wrote no JSON: {error}. It begins with {begin!r}. "
                "Only the answer may go to stdout; messages go to stderr"
            ) from None


def _talk(words: list[str], text: str, timeout: float) -> tuple[int, bytes, bytes, bool]:
    """Exit code, stdout, stderr and whether time was up; nothing is left running."""
    try:
        process = subprocess.Popen(
            words,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    except OSError as error:
        raise SilentError(f"cannot start {words[0]!r}: {error.strerror or error}") from None
    late = threading.Event()

    def stop() -> None:
        if hasattr(os, "killpg"):
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
        with suppress(OSError):
            process.kill()

    def time_is_up() -> None:
        late.set()
        stop()

    errors: list[bytes] = []
    timer = threading.Timer(timeout, time_is_up)
    threads = [
        threading.Thread(target=_write, args=(process.stdin, text.encode()), daemon=True),
        threading.Thread(target=_drain, args=(process.stderr, errors), daemon=True),
    ]
    with process:
        timer.start()
        try:
            for thread in threads:
                thread.start()
            assert process.stdout is not None
            out = process.stdout.read(LIMIT + 1)
            if len(out) > LIMIT:
                stop()
            code = process.wait()
        finally:
            timer.cancel()
            stop()  # children that it left behind
            for thread in threads:
                thread.join()
    return code, out, b"".join(errors), late.is_set()


def _write(pipe: IO[bytes], data: bytes) -> None:
    with suppress(OSError), pipe:  # it may not read all
        pipe.write(data)


def _drain(pipe: IO[bytes], kept: list[bytes]) -> None:
    with suppress(OSError, ValueError):
        while data := pipe.read(65536):
            if len(kept) < 16:
                kept.append(data)


def request(vector: Vector, layout: str | None = None, forget_bias: float = 1.0) -> dict[str, Any]:
    """What a `Command` is asked: `Vector.request`, with ``params`` in a framework's layout."""
    question = vector.request()
    if layout is not None:
        arrays = layouts.export(vector.cell, layout, vector.params, forget_bias=forget_bias)
        question["layout"] = layout
        question["given"]["params"] = {name: array.tolist() for name, array in arrays.items()}
    return question


def _of_command(
    command: Command, layout: str | None, forget_bias: float, vector: Vector
) -> dict[str, Any]:
    return _from_answer(vector, command(request(vector, layout, forget_bias)), layout)


def python_function(place: str) -> Any:
    """The function or object at ``module:name``, with the working folder on the path.

    Raises
    ------
    ValueError
        If there is no such module or name.
    """
    module_name, colon, name = place.partition(":")
    if not (module_name and colon and name):
        raise ValueError(f"{place!r} names no function; expected module:function")
    if (here := os.getcwd()) not in sys.path:
        sys.path.insert(0, here)
    try:
        thing = importlib.import_module(module_name)
    except Exception as error:
        text = f"{type(error).__name__}: {error}"
        raise ValueError(f"module {module_name!r} cannot be imported: {text}") from None
    for part in name.split("."):
        if not hasattr(thing, part):
            raise ValueError(f"module {module_name!r} has no {name!r}")
        thing = getattr(thing, part)
    return thing
