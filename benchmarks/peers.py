"""The peers of the speed benchmark: each makes a function that does one run, NumPy in and out.

One process per peer: `speed.py` starts it, sends a case on each line and reads the milliseconds.
"""

import argparse
import json
import os
import statistics
import sys
import time
import warnings

THREADS = int(os.environ.get("BENCH_THREADS", "2"))
for name in ("OPENBLAS", "OMP", "MKL", "NUMBA"):
    os.environ[f"{name}_NUM_THREADS"] = str(THREADS)
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["TF_ENABLE_ONEDNN_OPTS"] = "1"  # TensorFlow's own default
os.environ["LSTMBOOK_NUMBA"] = "0" if "without Numba" in sys.argv[-1] else "1"
warnings.filterwarnings("ignore")
warnings.filterwarnings("error", "the compiled loops of lstmbook failed")  # NumPy would be timed

import numpy as np  # noqa: E402  (after the numbers of threads)

from lstmbook import CELLS, backprop, layouts, run, unroll  # noqa: E402


class Case:
    """Weights and inputs, float32, the same for every peer."""

    def __init__(self, cell, batch, steps, input_size, hidden):
        rng = np.random.default_rng([batch, steps, input_size, hidden])
        self.name, self.cell = cell, CELLS[cell]
        self.batch, self.steps, self.input, self.hidden = batch, steps, input_size, hidden
        self.params = self.cell.init(rng, input_size, hidden)
        self.xs = rng.normal(size=(batch, steps, input_size)).astype(np.float32)
        self.d_hs = rng.normal(size=(batch, steps, hidden)).astype(np.float32)


# Ours


def ours(case, mode):
    """`lstmbook.run` and `lstmbook.backprop`, with Numba or without: the process decides."""
    if mode == "train":
        return lambda: backprop(case.cell, case.params, case.xs, case.d_hs)[0]
    return lambda: run(case.cell, case.params, case.xs)[0]


def numpy_loop(case, mode):
    """The loop of a beginner: `step` after `step`."""
    if mode == "train":
        return None
    state = case.cell.zero_state(case.params, case.batch)
    return lambda: unroll(case.cell.step, case.params, case.xs.swapaxes(0, 1), state)[0]


def numpy_matmuls(case, mode):
    """The floor: the matrix products alone, one for the inputs and one for every step."""
    if mode == "train":
        return None
    gates = len(case.cell.GATES)
    W_x = np.ascontiguousarray(np.concatenate(list(case.params.W_x), axis=1))
    W_h = np.ascontiguousarray(np.concatenate(list(case.params.W_h), axis=1))
    h = np.zeros((case.batch, case.hidden), np.float32)
    z = np.empty((case.batch, gates * case.hidden), np.float32)
    xs = case.xs.reshape(-1, case.input)

    def products():
        zx = xs @ W_x
        for _ in range(case.steps):
            np.matmul(h, W_h, out=z)
        return zx

    return products


# TensorFlow


def _tensorflow():
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(THREADS)
    tf.config.threading.set_inter_op_parallelism_threads(THREADS)
    return tf


def _trained(tf, case, mode, forward, variables, **options):
    """A compiled function of the inputs, or of the gradients at everything."""
    xs, d_hs = tf.constant(case.xs), tf.constant(case.d_hs)

    @tf.function(**options)
    def compiled(xs, d_hs):
        if mode == "run":
            return forward(xs)
        with tf.GradientTape() as tape:
            tape.watch(xs)
            loss = tf.reduce_sum(forward(xs) * d_hs)
        return tape.gradient(loss, [*variables, xs])

    return lambda: [np.asarray(out) for out in tf.nest.flatten(compiled(xs, d_hs))]


def tf_dynamic_rnn(case, mode, **options):
    """`tf.function` of `dynamic_rnn` with TensorFlow's own v1 cell."""
    tf = _tensorflow()
    from lstmbook.live import tf1

    if case.name.startswith("coupled") or case.name == "gru_reset_after":
        return None  # no v1 cell of TensorFlow 2 computes it
    cell = tf1.make(case.name, case.params)

    def forward(xs):
        return tf.compat.v1.nn.dynamic_rnn(cell, xs, dtype=tf.float32)[0]

    return _trained(tf, case, mode, forward, cell.trainable_variables, **options)


def tf_xla(case, mode):
    """The same, compiled by XLA."""
    return tf_dynamic_rnn(case, mode, jit_compile=True)


def tf_block(case, mode):
    """The raw op `BlockLSTM`."""
    tf = _tensorflow()
    if case.name not in ("lstm", "peephole"):
        return None
    arrays = layouts.export(case.name, "tf1", case.params, forget_bias=0.0)
    w, b = tf.constant(arrays["kernel"]), tf.constant(arrays["bias"])
    zero = tf.zeros(case.hidden)
    p = [tf.constant(arrays.get(f"w_{g}_diag", zero)) for g in "ifo"]
    state = tf.zeros((case.batch, case.hidden))

    def forward(xs):
        return tf.raw_ops.BlockLSTM(
            seq_len_max=tf.constant(case.steps, tf.int64), x=tf.transpose(xs, (1, 0, 2)),
            cs_prev=state, h_prev=state, w=w, wci=p[0], wcf=p[1], wco=p[2], b=b,
            forget_bias=0.0, cell_clip=-1.0, use_peephole=case.name == "peephole",
        ).h  # fmt: skip

    return _trained(tf, case, mode, forward, [w, b]) if mode == "run" else None


def tf_keras(case, mode):
    """The Keras layer in `tf.function`."""
    tf = _tensorflow()
    import keras

    kinds = {
        "rnn": keras.layers.SimpleRNN,
        "lstm": keras.layers.LSTM,
        "gru": lambda *a, **k: keras.layers.GRU(*a, reset_after=False, **k),
        "gru_reset_after": keras.layers.GRU,
    }
    if case.name not in kinds:
        return None
    layer = kinds[case.name](case.hidden, return_sequences=True)
    layer.build(case.xs.shape)
    layer.set_weights(list(layouts.export(case.name, "keras", case.params).values()))
    variables = [v.value for v in layer.trainable_variables]
    return _trained(tf, case, mode, layer, variables)


# Others


def pytorch(case, mode):
    """`torch.nn`."""
    import torch

    torch.set_num_threads(THREADS)
    kinds = {"rnn": torch.nn.RNN, "lstm": torch.nn.LSTM, "gru_reset_after": torch.nn.GRU}
    if case.name not in kinds:
        return None
    module = kinds[case.name](case.input, case.hidden, batch_first=True)
    xs = torch.from_numpy(case.xs)
    arrays = layouts.export(case.name, "torch", case.params)
    module.load_state_dict({k: torch.from_numpy(v) for k, v in arrays.items()})
    if mode == "run":

        def forward():
            with torch.inference_mode():
                return module(xs)[0].numpy()

        return forward
    xs.requires_grad_()
    d_hs = torch.from_numpy(case.d_hs)

    def train():
        module.zero_grad()
        xs.grad = None
        (module(xs)[0] * d_hs).sum().backward()
        return xs.grad.numpy()

    return train


def onnxruntime(case, mode):
    """ONNX Runtime's operator."""
    if mode == "train":
        return None
    import onnxruntime as ort

    from lstmbook.live import onnx

    options = ort.SessionOptions()
    options.intra_op_num_threads = THREADS
    model = onnx.model(case.name, case.params).SerializeToString()
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    zero = np.zeros((1, case.batch, case.hidden), np.float32)
    feeds = {"X": np.ascontiguousarray(case.xs.swapaxes(0, 1))}
    feeds |= {"sequence_lens": np.full(case.batch, case.steps, np.int32)}
    feeds |= {"initial_h": zero, "initial_c": zero}
    names = {entry.name for entry in session.get_inputs()}
    feeds = {name: value for name, value in feeds.items() if name in names}
    return lambda: session.run(None, feeds)[0]


PEERS = {
    "lstmbook": ours,
    "lstmbook without Numba": ours,
    "NumPy loop of steps": numpy_loop,
    "NumPy matmuls alone": numpy_matmuls,
    "TensorFlow dynamic_rnn in tf.function": tf_dynamic_rnn,
    "TensorFlow dynamic_rnn with XLA": tf_xla,
    "TensorFlow BlockLSTM": tf_block,
    "Keras in tf.function": tf_keras,
    "PyTorch": pytorch,
    "ONNX Runtime": onnxruntime,
}
MODULES = {"tf": "tensorflow", "pytorch": "torch", "onnxruntime": "onnxruntime"}


def versions(peer):
    """What the numbers belong to."""
    names = ["numpy"]
    names += [m for key, m in MODULES.items() if PEERS[peer].__name__.startswith(key)]
    return {name: __import__(name).__version__ for name in names}


def measure(call, seconds):
    """Milliseconds of one call: the median of as many as fit, after one to warm up."""
    time.sleep(0.25)  # the threads of the peer before spin for 0.2 s before they sleep
    call()
    taken, start = [], time.perf_counter()
    while not taken or time.perf_counter() - start < seconds:
        before = time.perf_counter()
        call()
        taken.append((time.perf_counter() - before) * 1e3)
    return statistics.median(taken)


def serve(peer):
    """Answer a line of JSON, ``{"case": …, "mode": …, "seconds": …}``, with milliseconds."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a framework prints is not an answer
    made = {}
    for line in sys.stdin:
        order = json.loads(line)
        key = (*order["case"], order["mode"])
        try:
            if key not in made:
                made.clear()
                made[key] = PEERS[peer](Case(*order["case"]), order["mode"])
            answer = {"ms": None if made[key] is None else measure(made[key], order["seconds"])}
        except ImportError as error:
            answer = {"ms": None, "missing": str(error)}
        answer["versions"] = {} if "missing" in answer else versions(peer)
        print(json.dumps(answer), file=out, flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("peer", choices=PEERS)
    serve(parser.parse_args().peer)
