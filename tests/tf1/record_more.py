"""Checkpoints of other releases and other cells of TensorFlow 1, to read.

    python record_more.py OUTDIR

writes OUTDIR/<release>/<name>.*, and <name>.npz with the inputs and what Session.run gave. It runs
under TensorFlow 0.12.1, 1.1.0 and 1.12.3, each with CPython 3.6; more/README.md says what is there.
"""

import os
import sys
import zlib

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"  # read when TensorFlow is imported

import numpy as np
import tensorflow as tf
from tensorflow.contrib import rnn as contrib

RELEASE = tf.__version__
OLD = RELEASE.startswith("0.")
NEW = RELEASE.startswith("1.12")
cells = tf.nn.rnn_cell if OLD else contrib
Coupled = contrib.CoupledInputForgetGateLSTMCell
TUPLE = {} if NEW else {"state_is_tuple": True}
BATCH, TIME, INPUT, HIDDEN = 3, 5, 2, 4


def run(cell, xs, **more):
    return [tf.nn.dynamic_rnn(cell, xs, dtype=tf.float32, **more)[0]]


def stacked(xs):
    parts = [cells.BasicLSTMCell(4, **TUPLE), cells.GRUCell(3)]
    return run(cells.MultiRNNCell(parts, **TUPLE), xs)


def bidirectional(xs):
    one, two = cells.BasicLSTMCell(HIDDEN, **TUPLE), cells.GRUCell(HIDDEN)
    lengths = [TIME] * BATCH
    return list(tf.nn.bidirectional_dynamic_rnn(one, two, xs, lengths, dtype=tf.float32)[0])


def heads(xs):
    """A GRU among what is no recurrent layer: numbers and strings, dense and other layers."""
    hs = run(contrib.GRUCell(HIDDEN), xs)
    tf.layers.dense(hs[0], 8)
    tf.layers.dense(hs[0], 8, name="scores")
    tf.layers.conv1d(hs[0], 3, 2)
    tf.layers.batch_normalization(hs[0])
    tf.get_variable("embedding", [20, 7])
    tf.get_variable("count", [], tf.int64, initializer=tf.zeros_initializer())
    tf.get_variable("words", initializer=tf.constant(["a", "b"]), dtype=tf.string, trainable=False)
    return hs


def averages(xs):
    hs = run(contrib.BasicLSTMCell(HIDDEN), xs)
    return hs, tf.train.ExponentialMovingAverage(0.9).apply(tf.trainable_variables())


def sharded(xs):
    with tf.variable_scope("parts", partitioner=tf.fixed_size_partitioner(3)):
        return run(contrib.BasicLSTMCell(HIDDEN), xs)


def slots(xs):
    hs = run(contrib.LSTMCell(HIDDEN, name="mylstm"), xs)
    loss = tf.reduce_sum(hs[0])
    with tf.variable_scope("train"):
        makers = [tf.train.MomentumOptimizer(0.1, 0.9), tf.train.RMSPropOptimizer(0.1)]
        return hs, [maker.minimize(loss) for maker in makers]


def wide(cell, xs, **more):
    """16 inputs, so that a kernel of 4 hidden units would fit a simple network as well."""
    return run(cell, tf.tile(xs, [1, 1, 8]), **more)


def cudnn(name):
    return getattr(tf.contrib.cudnn_rnn, name)(HIDDEN)


EVERYWHERE = {
    "lstm": lambda xs: run(cells.BasicLSTMCell(HIDDEN, **TUPLE), xs),
    "gru": lambda xs: run(cells.GRUCell(HIDDEN), xs),
    "peephole": lambda xs: run(cells.LSTMCell(HIDDEN, use_peepholes=True, **TUPLE), xs),
    "coupled_peephole": lambda xs: run(Coupled(HIDDEN, use_peepholes=True, **TUPLE), xs),
    "stacked": stacked,
    "bidirectional": bidirectional,
    "one_file": lambda xs: run(cells.BasicLSTMCell(HIDDEN, **TUPLE), xs),
}
ONLY_NEW = {
    "projection": lambda xs: run(contrib.LSTMCell(HIDDEN, num_proj=3, use_peepholes=True), xs),
    "coupled_norm": lambda xs: run(Coupled(HIDDEN, layer_norm=True), xs),
    "ugrnn": lambda xs: run(contrib.UGRNNCell(HIDDEN), xs),
    "phased": lambda xs: [
        tf.nn.dynamic_rnn(
            contrib.PhasedLSTMCell(HIDDEN), (tf.ones([BATCH, TIME, 1]), xs), dtype=tf.float32
        )[0]
    ],
    "block_gru": lambda xs: run(contrib.GRUBlockCell(HIDDEN), xs),
    "cudnn_lstm": lambda xs: run(cudnn("CudnnCompatibleLSTMCell"), xs),
    "cudnn_gru": lambda xs: run(cudnn("CudnnCompatibleGRUCell"), xs),
    "keras_gru": lambda xs: [
        tf.keras.layers.GRU(HIDDEN, return_sequences=True, recurrent_activation="sigmoid")(xs)
    ],
    "heads": heads,
    "averages": averages,
    "sharded": sharded,
    "slots": slots,
    "graph_lstm": lambda xs: wide(
        contrib.BasicLSTMCell(HIDDEN, forget_bias=0.4, name="memory"), xs, scope="encoder"
    ),
    "graph_rnn": lambda xs: wide(
        contrib.BasicRNNCell(HIDDEN, name="memory"), xs, scope="encoder"
    ),
    "graph_clip": lambda xs: run(contrib.LSTMCell(HIDDEN, cell_clip=0.5), xs),
    "graph_relu": lambda xs: run(contrib.GRUCell(HIDDEN, activation=tf.nn.relu), xs),
}


def save(folder, name, build):
    """Build, fill with random numbers, run, save; the graph too where the name says so."""
    random = np.random.RandomState(zlib.crc32(name.encode()))

    def draw(shape):
        return np.round(random.standard_normal(shape) * 512) / 1024

    with tf.Graph().as_default(), tf.Session() as session:
        xs = draw([BATCH, TIME, INPUT]).astype(np.float32)
        built = build(tf.constant(xs))
        hs, then = built if isinstance(built, tuple) else (built, [])
        start = getattr(tf, "global_variables_initializer", None) or tf.initialize_all_variables
        session.run(start())
        for variable in tf.trainable_variables():
            value = draw(variable.get_shape().as_list()).astype(np.float32)
            session.run(tf.assign(variable, value))
        path = os.path.join(folder, name)
        session.run(then)
        arrays = {"hs%d" % k: array for k, array in enumerate(session.run(hs))}
        np.savez_compressed(path + ".npz", xs=xs, **arrays)
        version = tf.train.SaverDef.V1 if name == "one_file" else tf.train.SaverDef.V2
        tf.train.Saver(write_version=version).save(
            session, path, write_meta_graph=name.startswith("graph_")
        )
    os.remove(os.path.join(folder, "checkpoint"))
    print(RELEASE + "/" + name)


def main():
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        sys.exit("usage: python record_more.py OUTDIR")
    folder = os.path.join(sys.argv[1], RELEASE)
    os.makedirs(folder, exist_ok=True)
    for name, build in sorted(dict(EVERYWHERE, **(ONLY_NEW if NEW else {})).items()):
        save(folder, name, build)


if __name__ == "__main__":
    main()
