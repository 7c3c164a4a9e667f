"""The command line: ``lstmbook info | convert | detect | verify``.

Exit codes: 0 all is well; 1 refused, or a check failed; 2 wrong usage, or a file that cannot be
read. With ``--json`` what would be printed comes as one JSON object.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import math
import os
import re
import signal
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from . import __version__
from .cells import CELLS
from .layouts import LayoutError

__all__ = ["main"]

OK, REFUSED, BAD = 0, 1, 2

_TARGETS = ("keras", "torch", "onnx", "tf1", "npz")
# What is imported before a file of a kind is read or written: it talks while it is imported.
_TALKERS = {"tf1": "tensorflow", "frozen": "tensorflow", "keras": "keras"}

_CODES = """
exit codes:
  0  all is well
  1  refused, or a check failed
  2  wrong usage, or a file that cannot be read
"""

_EXAMPLES = {
    "": """
examples:
  lstmbook info model.ckpt
  lstmbook convert model.ckpt encoder.keras --to keras
  lstmbook detect weights.npz
  lstmbook verify lstm --python mymodule:step
""",
    "info": """
examples:
  lstmbook info model.ckpt                    or model.ckpt.index, or the folder
  lstmbook info weights.h5 --json
  lstmbook info model.ckpt --cell encoder/memory=lstm     what the file does not tell
  lstmbook info weights.h5 --config model.json            what model.to_json() gave
""",
    "convert": """
examples:
  lstmbook convert model.ckpt model.keras --to keras
  lstmbook convert model.ckpt model.onnx --to onnx --layer 'encoder/*' --forget-bias 0
  lstmbook convert silero.onnx weights.safetensors --to torch --force
  lstmbook convert weights.npz model.keras --chain first --chain second
Layers read one another in OUT where they do in FILE. Where FILE does not say, or something stands
between them (a dense layer, a residual), each has an input of its own; --chain joins them.
Nothing is written unless both ends agree on random inputs. What FILE does not say is assumed, and
said: then they are equal, as far as the file tells.
""",
    "detect": """
examples:
  lstmbook detect weights.npz                 the arrays, and x and y, one input and its output
  lstmbook detect weights.npz --pair xy.npz
""",
    "verify": """
examples:
  lstmbook verify lstm --python mymodule:step
  lstmbook verify gru --command './mygru'     JSON in, JSON out
  lstmbook verify lstm --results answers.json
""",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    arguments = _parser().parse_args(argv)
    if not sys.warnoptions:
        warnings.simplefilter("ignore")
    for name, value in (("TF_CPP_MIN_LOG_LEVEL", "3"), ("TF_ENABLE_ONEDNN_OPTS", "0")):
        os.environ.setdefault(name, value)
    try:
        code: int = arguments.do(arguments)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except BrokenPipeError:  # as in `lstmbook info FILE | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + 13
    except LayoutError as error:
        return _fail(arguments, REFUSED, f"refused: {_in_options(str(error))}")
    except (ValueError, TypeError, OSError, ImportError, MemoryError) as error:
        return _fail(arguments, BAD, f"error: {_in_options(str(error)) or type(error).__name__}")
    return code


# What messages of `lstmbook.files` call by the names of arguments, and the options for it.
_OPTIONS = {
    r"\boverwrite=True": "--force",
    r"\bmax_bytes=": "--max-bytes ",
    r"\bto='(\w+)'": r"--to \1",
    r"(?<=: )cells names": "--cell names",
    r"(?<=[;,] )config (?=is for|takes)": "--config ",
    r"\baverage(=True)?(?= (asks|is) for)": "--average",
    r"\bgiven as config\b": "given by --config",
    r"\bcells={'([^']+)': '(\w+)'}, or None to leave it aside": r"--cell \1=\2 (or =none)",
    r"\blayers='([^']*)': no": r"--layer \1: no",
    r"\bchain='([^']*)': no": r"--chain \1: no",
    r"\(layers=\[…\] chooses": "(--layer chooses",
    r"\bto=(?=keras\|)": "--to ",
}


def _in_options(text: str) -> str:
    """A message in the words of the command line."""
    for pattern, option in _OPTIONS.items():
        text = re.sub(pattern, option, text)
    return text


def _fail(arguments: argparse.Namespace, code: int, text: str) -> int:
    if arguments.json:
        _print_json({"ok": False, "error": text})
    print(f"lstmbook {arguments.command}: {text}", file=sys.stderr)
    return code


# The arguments


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="lstmbook",
        description="Recurrent layers in files of TensorFlow 1, Keras, PyTorch and ONNX: look at "
        "them, convert them with proof, find their convention, verify an implementation.",
        epilog=_EXAMPLES[""] + _CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"lstmbook {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, do: Callable[[argparse.Namespace], int], help: str) -> Any:
        sub = commands.add_parser(
            name,
            help=help,
            description=help[0].upper() + help[1:] + ".",
            epilog=_EXAMPLES[name] + _CODES,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        sub.set_defaults(do=do)
        sub.add_argument("--json", action="store_true", help="print one JSON object")
        return sub

    info = command("info", _info, "list the recurrent layers of a file, and what else is in it")
    _add_file(info)
    convert = command("convert", _convert, "convert recurrent layers to another framework's file")
    _add_file(convert)
    convert.add_argument("out", metavar="OUT", type=Path, help="the file to write")
    convert.add_argument("--to", choices=_TARGETS, help="default: by the ending of OUT")
    convert.add_argument(
        "--layer",
        action="append",
        metavar="NAME",
        help="only this layer; may be a pattern, and several",
    )
    convert.add_argument(
        "--chain",
        action="append",
        metavar="NAME",
        help="layers that read one another, in this order, where FILE does not say; may be a "
        "pattern, and several",
    )
    convert.add_argument(
        "--force",
        action="store_true",
        help="replace OUT if it is there, and what would be read with it",
    )
    convert.add_argument(
        "--tolerance", type=_number, default=1e-5, metavar="X", help="for max |Δ| (default: 1e-5)"
    )
    convert.add_argument(
        "--out-forget-bias",
        type=_number,
        default=1.0,
        metavar="X",
        help="for --to tf1: the forget_bias of the cell that will read OUT (default: 1)",
    )
    detect = command("detect", _detect, "find the convention of arrays from one input and output")
    detect.add_argument("file", metavar="FILE", type=Path, help=".npz of the arrays (with x and y)")
    detect.add_argument("--pair", type=Path, metavar="FILE", help=".npz with x and y, if apart")
    detect.add_argument("--cell", action="append", choices=CELLS, help="only this; may be several")
    detect.add_argument(
        "--forget-bias",
        action="append",
        type=_number,
        metavar="X",
        help="what may be added at run time (default: 0 and 1)",
    )
    detect.add_argument("--tolerance", type=_number, metavar="X", help="default: by the dtype")
    verify = command("verify", _verify, "hold an implementation of a cell to the golden vectors")
    verify.add_argument("cell", choices=CELLS, metavar="CELL", help=", ".join(CELLS))
    source = verify.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--python", metavar="MODULE:FUNCTION", help="a step, or a run over sequences"
    )
    source.add_argument(
        "--command", dest="program", metavar="COMMAND", help="a program: JSON in, out"
    )
    source.add_argument("--results", type=Path, metavar="FILE", help="answers in JSON or NPZ")
    verify.add_argument("--layout", metavar="NAME", help="hand the weights over in this layout")
    verify.add_argument("--forget-bias", type=_number, default=1.0, metavar="X")
    verify.add_argument("--dtype", choices=("float64", "float32"), default="float64")
    verify.add_argument("--tolerance", type=_number, metavar="X", help="default: by the dtype")
    verify.add_argument(
        "--vector", action="append", metavar="NAME", help="only this; may be several"
    )
    verify.add_argument("--timeout", type=_number, default=60.0, metavar="SECONDS")
    return parser


def _add_file(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", type=Path, help="checkpoint or file to read")
    parser.add_argument(
        "--forget-bias",
        type=_number,
        metavar="X",
        help="what TensorFlow 1 adds to the forget gate at run time; no checkpoint holds it "
        "(if not given, 1 is assumed: TensorFlow's default)",
    )
    parser.add_argument(
        "--cell",
        action="append",
        type=_assignment,
        metavar="LAYER=CELL",
        help="what a layer is where the file does not tell; LAYER=none leaves it aside",
    )
    parser.add_argument(
        "--config",
        type=Path,
        metavar="JSON",
        help="for weights of Keras alone: the JSON of model.to_json() (default: FILE's own name "
        "with the ending .json, if there is one)",
    )
    parser.add_argument(
        "--average",
        action="store_true",
        help="for checkpoints of TensorFlow 1: the moving averages of the weights",
    )
    parser.add_argument(
        "--max-bytes", type=int, metavar="N", help="limit for the arrays read (default: 2 GiB)"
    )


def _number(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"{text} is no finite number")
    return value


def _assignment(text: str) -> tuple[str, str | None]:
    name, _, cell = text.rpartition("=")
    if not name or cell not in (*CELLS, "none"):
        raise argparse.ArgumentTypeError(
            f"{text!r}: expected LAYER=CELL, with CELL one of {', '.join(CELLS)}, none"
        )
    return name, None if cell == "none" else cell


# info


def _info(arguments: argparse.Namespace) -> int:
    found = _contents(arguments)
    if arguments.json:
        _print_json({"ok": True} | _described(found))
        return OK
    print(f"{found.path}: {found.format}")
    if found.layers:
        print()
        _print_layers(found.layers)
    else:
        print("no recurrent layer in it")
    _print_aside(found.aside)
    return OK


def _print_aside(aside: Sequence[Any]) -> None:
    if aside:
        print("\nleft aside:")
    for item in aside:
        print(f"  {item.name}: {item.why}")


def _contents(arguments: argparse.Namespace) -> Any:
    from . import files

    _tell(f"reading {arguments.file} …")
    with _hushed(files.kind(arguments.file)):
        limit = {} if arguments.max_bytes is None else {"max_bytes": arguments.max_bytes}
        return files.contents(
            arguments.file,
            forget_bias=arguments.forget_bias,
            cells=dict(arguments.cell or ()),
            config=arguments.config,
            average=arguments.average,
            **limit,
        )


def _print_layers(layers: Sequence[Any]) -> None:
    rows = [("layer", "cell", "input", "hidden", "direction", "layout", "dtype")]
    for layer in layers:
        entry = _layer(layer)
        sizes = [str(entry[key] or "?") for key in ("input_size", "hidden_size")]
        cell = layer.cell or ("ambiguous" if layer.candidates else "none of ours")
        rows.append(
            (layer.name, cell, *sizes, entry["direction"], layer.layout, entry["dtype"] or "?")
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print(
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        )
    _print_reads(layers)
    notes: dict[str, list[str]] = {}
    for layer in layers:
        if layer.note:
            notes.setdefault(_in_options(layer.note), []).append(layer.name)
    for note, names in notes.items():
        print(f"\n{', '.join(names)}:\n  {note}")


def _print_reads(layers: Sequence[Any]) -> None:
    """What reads what, if there is more to say than that a model has an input."""
    joined = any(layer.reads or layer.between for layer in layers)
    if not joined and sum(not layer.reverse for layer in layers) < 2:
        return
    readers: dict[str, list[str]] = {}
    for layer in layers:
        words = " and ".join(layer.reads or ()) or layer.between
        unknown = "unknown: the file does not say" if layer.reads is None else "the model's input"
        readers.setdefault(words or unknown, []).append(layer.name)
    print("\nwhat they read:")
    for words, names in readers.items():
        print(f"  {words} -> {', '.join(names)}")


def _layer(layer: Any) -> dict[str, Any]:
    shape = layer.params.W_x.shape if layer.cell else (None, None, None)
    return {
        "name": layer.name,
        "cell": layer.cell,
        "input_size": shape[1],
        "hidden_size": shape[2],
        "direction": "backward" if layer.reverse else "forward",
        "layout": layer.layout,
        "dtype": layer.params.b.dtype.name if layer.cell else None,
        "reads": None if layer.reads is None else list(layer.reads),
        "between": layer.between,
        "note": layer.note,
        "assumed": list(layer.assumed),
        "candidates": list(layer.candidates),
    }


def _described(found: Any) -> dict[str, Any]:
    return {
        "file": found.path,
        "format": found.format,
        "layers": [_layer(layer) for layer in found.layers],
        "aside": [item._asdict() for item in found.aside],
    }


# convert


def _convert(arguments: argparse.Namespace) -> int:
    from .files.convert import convert

    limit = {} if arguments.max_bytes is None else {"max_bytes": arguments.max_bytes}
    with _hushed(_kind(arguments.file)):
        done = convert(
            arguments.file,
            arguments.out,
            to=arguments.to,
            layers=arguments.layer or (),
            chain=arguments.chain or (),
            overwrite=arguments.force,
            tolerance=arguments.tolerance,
            forget_bias=arguments.forget_bias,
            target_forget_bias=arguments.out_forget_bias,
            cells=dict(arguments.cell or ()),
            config=arguments.config,
            average=arguments.average,
            progress=_tell,
            quiet=_hushed,
            **limit,
        )
    code = OK if done.ok else REFUSED
    if arguments.json:
        result = {"ok": done.ok, "to": done.to, "written": [str(path) for path in done.written]}
        result |= {"cells": done.cells, "certificate": done.certificate.to_dict()}
        _print_json(result | {"aside": [item._asdict() for item in done.aside]})
        return code
    print(done.certificate)
    _print_aside(done.aside)
    if not done.ok:
        print(f"\nrefused: over the tolerance of {arguments.tolerance:g}; nothing was written")
        return code
    print("\nwritten: " + ", ".join(str(path) for path in done.written))
    print(f"to use it: {_usage(done.to, arguments.out)}")
    if done.cells:
        given = " ".join(f"--cell {name}={cell}" for name, cell in done.cells.items())
        print(f"its names do not tell all cells; to read it here: {given}")
    return code


def _kind(path: Path) -> str:
    from . import files

    return str(files.kind(path))


def _usage(to: str, path: Path) -> str:
    name = str(path)
    if to == "keras" and name.endswith(".weights.h5"):
        return f"model.load_weights({name!r})"
    if to == "torch":
        package = "safetensors.torch.load_file" if path.suffix == ".safetensors" else "torch.load"
        return f"module.load_state_dict({package}({name!r}))"
    return {
        "keras": f"keras.models.load_model({name!r})",
        "onnx": f"onnxruntime.InferenceSession({name!r})",
        "tf1": f"tf.train.Saver().restore(session, {name!r})",
        "npz": f"lstmbook.files.read({name!r})",
    }[to]


# detect and verify


def _detect(arguments: argparse.Namespace) -> int:
    from . import convention as detect

    _tell("trying conventions …")
    options = {"forget_biases": arguments.forget_bias} if arguments.forget_bias else {}
    found = detect.detect_file(
        arguments.file,
        arguments.pair,
        cells=arguments.cell,
        tolerance=arguments.tolerance,
        **options,
    )
    if arguments.json:
        _print_json({"ok": bool(found)} | found.to_dict())
    else:
        print(found)
    return OK if found else REFUSED


def _verify(arguments: argparse.Namespace) -> int:
    from . import golden as verify

    sys.path.insert(0, "")  # as `python -m` does: a module in the current folder is found
    report = verify.verify_named(
        arguments.cell,
        command=arguments.program,
        python=arguments.python,
        results=arguments.results,
        timeout=arguments.timeout,
        layout=arguments.layout,
        forget_bias=arguments.forget_bias,
        dtype=arguments.dtype,
        tolerance=arguments.tolerance,
        vectors=arguments.vector,
    )
    if arguments.json:
        _print_json(report.to_dict())
    else:
        print(report)
    return OK if report.ok else REFUSED


# Printing


def _print_json(value: dict[str, Any]) -> None:
    """One object; what JSON has no number for becomes null."""
    print(json.dumps(_plain(value), ensure_ascii=False, indent=2))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _tell(text: str) -> None:
    """Progress, for a person who waits."""
    if sys.stderr.isatty():
        print(text, file=sys.stderr)


@contextlib.contextmanager
def _hushed(kind: str) -> Iterator[None]:
    """Import what a kind of file needs, without what TensorFlow says at its import."""
    module = _TALKERS.get(kind)
    if module:
        _tell(f"importing {module} …")
        with contextlib.suppress(ImportError), _no_stderr():
            importlib.import_module(module)
    yield


@contextlib.contextmanager
def _no_stderr() -> Iterator[None]:
    """Nothing reaches the file descriptor of stderr, to which compiled code writes past Python."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
