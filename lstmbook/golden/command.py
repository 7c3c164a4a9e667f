"""Answers of a program in any language: a vector as JSON on stdin, the answer on stdout."""

import json
import os
import shlex
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import IO, Any

from .. import layouts
from . import answers
from .answers import AnswerError, SilentError
from .vectors import Vector

__all__ = ["Command", "of_command", "request"]


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
        last_lines = err.decode(errors="replace").strip().splitlines()[-5:]
        tail = "".join(f"\n  {line}" for line in last_lines)
        if late:
            raise SilentError(f"your program gave no answer within {self.timeout:g} s{tail}")
        if len(out) > answers.LIMIT:
            raise AnswerError(f"your program wrote more than {answers.LIMIT} bytes")
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
            out = process.stdout.read(answers.LIMIT + 1)
            if len(out) > answers.LIMIT:
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


def of_command(
    command: Command, layout: str | None, forget_bias: float, vector: Vector
) -> dict[str, Any]:
    return answers.from_content(vector, command(request(vector, layout, forget_bias)), layout)
