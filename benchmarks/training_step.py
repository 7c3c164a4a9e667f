"""One training step of an LSTM: ours beside TensorFlow's `tf.function(dynamic_rnn)`, in turns.

A step is: forward, a linear head, mean squared error at every time step, the gradients, clipping by
global norm, Adam. Both begin with the same weights and see the same batch; their first losses and
their losses after ten steps are held together before anything is timed.
"""

import argparse
import os
import statistics
import time
import warnings

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
THREADS = int(os.environ.get("BENCH_THREADS", "2"))
os.environ["OPENBLAS_NUM_THREADS"] = os.environ["NUMBA_NUM_THREADS"] = str(THREADS)
os.environ["TF_ENABLE_ONEDNN_OPTS"] = "1"  # TensorFlow's own default
warnings.filterwarnings("ignore")
warnings.filterwarnings("error", "the compiled loops of lstmbook failed")  # NumPy would be timed

import numpy as np  # noqa: E402  (after the number of threads)
import tensorflow as tf  # noqa: E402

from lstmbook.live import tf1  # noqa: E402
from lstmbook.training import train  # noqa: E402

RATE, NORM = 1e-3, 1.0


def ours(model, xs, targets):
    """A function that makes one step and returns the loss."""
    adam = train.init_adam(model, learning_rate=RATE)

    def step():
        nonlocal model, adam
        loss, grads, _ = train.gradients(model, xs, targets, train.mean_squared_error)
        grads, _ = train.clip_by_global_norm(grads, NORM)
        model, adam = train.adam_step(adam, model, grads)
        return loss

    return step


def tensorflows(model, xs, targets):
    """The same in TensorFlow, with Keras' Adam."""
    import keras

    cell = tf1.make("lstm", model.params[0])
    W, b = tf.Variable(model.W), tf.Variable(model.b)
    weights = [*cell.trainable_variables, W, b]
    adam = keras.optimizers.Adam(RATE)
    adam.build(weights)
    xs, targets = tf.constant(xs), tf.constant(targets)

    @tf.function
    def compiled():
        with tf.GradientTape() as tape:
            hs, _ = tf.compat.v1.nn.dynamic_rnn(cell, xs, dtype=tf.float32)
            loss = tf.reduce_mean((hs @ W + b - targets) ** 2)
        grads, _ = tf.clip_by_global_norm(tape.gradient(loss, weights), NORM)
        adam.apply(grads, weights)
        return loss

    return lambda: float(compiled())


def main():
    """Hold them together, measure in turns, print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, nargs=4, default=[32, 50, 128, 128],
                        metavar=("BATCH", "TIME", "INPUT", "HIDDEN"))  # fmt: skip
    parser.add_argument("--rounds", type=int, default=60)
    options = parser.parse_args()
    batch, steps, inputs, hidden = options.size
    tf.config.threading.set_intra_op_parallelism_threads(THREADS)
    tf.config.threading.set_inter_op_parallelism_threads(THREADS)
    rng = np.random.default_rng(0)
    model = train.init_model(rng, "lstm", inputs, hidden, 4)
    xs = rng.normal(size=(batch, steps, inputs)).astype(np.float32)
    targets = rng.normal(size=(batch, steps, 4)).astype(np.float32)
    peers = {"lstmbook": ours(model, xs, targets), "TensorFlow": tensorflows(model, xs, targets)}
    losses = {name: [step() for _ in range(10)] for name, step in peers.items()}
    np.testing.assert_allclose(*losses.values(), rtol=1e-4)
    taken = {name: [] for name in peers}
    for _ in range(options.rounds):
        for name, step in peers.items():
            start = time.perf_counter()
            step()
            taken[name].append((time.perf_counter() - start) * 1e3)
    medians = {}
    for name, times in taken.items():
        low, medians[name], high = statistics.quantiles(times, n=4)
        print(f"{name:10} median {medians[name]:7.2f} ms   middle half {low:.2f} to {high:.2f} ms")
    ratio = medians["lstmbook"] / medians["TensorFlow"]
    print(f"{tuple(options.size)}, {THREADS} threads, float32: {ratio:.2f} times TensorFlow's step")


if __name__ == "__main__":
    main()
