"""The layout table: by hand, there and back, across all pairs, and its transpose for gradients."""

import re

import numpy as np
import pytest
from cases import HIDDEN, INPUT, LENGTHS, case
from collected import each

from lstmbook import CELLS, LayoutError, run
from lstmbook.layouts import LAYOUTS, describe, export, load, pull_back

H = HIDDEN
HELD = [(cell, layout) for layout, row in LAYOUTS.items() for cell in row.cells]
held = each(("cell", "layout"), HELD)


def says(*parts):
    return "(?s)" + ".*".join(map(re.escape, parts))


def params_for(cell, layout, **options):
    """Params that the layout can hold: Flax's NNX has no bias inside the reset gate."""
    params = case(cell, **options).params
    if (cell, layout) == ("gru_reset_after", "flax_nnx"):
        params = params._replace(b_hn=np.zeros_like(params.b_hn))
    return params


def columns(array, k):
    return array[..., k * H : (k + 1) * H]


# By hand: which number stands where, written out once more without the table.


@pytest.mark.parametrize("name", ["lstm", "peephole"])
def test_tf1_lstm_by_hand(name):
    params = case(name).params
    arrays = export(name, "tf1", params, forget_bias=0.75)
    for k, gate in enumerate([0, 2, 1, 3]):  # i, j, f, o
        np.testing.assert_array_equal(columns(arrays["kernel"][:INPUT], k), params.W_x[gate])
        np.testing.assert_array_equal(columns(arrays["kernel"][INPUT:], k), params.W_h[gate])
        bias = params.b[gate] - (0.75 if gate == 1 else 0)
        np.testing.assert_array_equal(columns(arrays["bias"], k), bias)
    if name == "peephole":
        for key, row in (("w_i_diag", 0), ("w_f_diag", 1), ("w_o_diag", 2)):
            np.testing.assert_array_equal(arrays[key], params.p[row])
        assert list(arrays) == ["kernel", "bias", "w_f_diag", "w_i_diag", "w_o_diag"]


@pytest.mark.parametrize("name", ["coupled", "coupled_peephole"])
def test_tf1_coupled_by_hand(name):
    params = case(name).params
    arrays = export(name, "tf1", params, forget_bias=0.75)
    for k, gate in enumerate([1, 0, 2]):  # j, f, o
        np.testing.assert_array_equal(columns(arrays["W_0"][:INPUT], k), params.W_x[gate])
        np.testing.assert_array_equal(columns(arrays["W_0"][INPUT:], k), params.W_h[gate])
        bias = params.b[gate] - (0.75 if gate == 0 else 0)
        np.testing.assert_array_equal(columns(arrays["B"], k), bias)
    if name == "coupled_peephole":
        np.testing.assert_array_equal(arrays["W_F_diag"], params.p[0])
        np.testing.assert_array_equal(arrays["W_O_diag"], params.p[1])


def test_tf1_gru_and_rnn_by_hand():
    params = case("gru").params
    arrays = export("gru", "tf1", params)
    for k in range(2):  # r, u
        np.testing.assert_array_equal(columns(arrays["gates/kernel"][:INPUT], k), params.W_x[k])
        np.testing.assert_array_equal(columns(arrays["gates/kernel"][INPUT:], k), params.W_h[k])
        np.testing.assert_array_equal(columns(arrays["gates/bias"], k), params.b[k])
    np.testing.assert_array_equal(arrays["candidate/kernel"][:INPUT], params.W_x[2])
    np.testing.assert_array_equal(arrays["candidate/kernel"][INPUT:], params.W_h[2])
    np.testing.assert_array_equal(arrays["candidate/bias"], params.b[2])
    params = case("rnn").params
    arrays = export("rnn", "tf1", params)
    np.testing.assert_array_equal(arrays["kernel"], np.vstack([params.W_x[0], params.W_h[0]]))
    np.testing.assert_array_equal(arrays["bias"], params.b[0])


@pytest.mark.parametrize(
    ("name", "order"),
    [("rnn", [0]), ("lstm", [0, 1, 2, 3]), ("gru", [1, 0, 2]), ("gru_reset_after", [1, 0, 2])],
)
def test_keras_by_hand(name, order):
    params = case(name).params
    arrays = export(name, "keras", params, forget_bias=0.75)  # Keras adds none at run time
    assert list(arrays) == ["kernel", "recurrent_kernel", "bias"]
    bias = arrays["bias"][0] if name == "gru_reset_after" else arrays["bias"]
    for k, gate in enumerate(order):
        np.testing.assert_array_equal(columns(arrays["kernel"], k), params.W_x[gate])
        np.testing.assert_array_equal(columns(arrays["recurrent_kernel"], k), params.W_h[gate])
        np.testing.assert_array_equal(columns(bias, k), params.b[gate])
    if name == "gru_reset_after":
        np.testing.assert_array_equal(arrays["bias"][1], [0] * 2 * H + params.b_hn.tolist())


def test_a_second_bias_adds_where_it_only_adds():
    """Keras keeps two rows of bias for r and z as well; a trained file has numbers in both."""
    cell, params, xs, state = case("gru_reset_after")
    arrays = export(cell, "keras", params)
    moved = np.random.default_rng(1).normal(size=2 * H)
    arrays["bias"][0, : 2 * H] -= moved
    arrays["bias"][1, : 2 * H] += moved
    loaded = load(cell, "keras", arrays)
    hs, _ = run(cell, loaded, xs, state)
    np.testing.assert_allclose(hs, run(cell, params, xs, state)[0], rtol=0, atol=1e-12)
    np.testing.assert_array_equal(loaded.b_hn, params.b_hn)


def test_a_tied_input_gate_is_the_negated_forget_gate():
    params = case("coupled_peephole").params
    arrays = export("coupled_peephole", "tf1_tied", params, forget_bias=0.75)
    i, j, f, o = (columns(arrays["kernel"], k) for k in range(4))
    np.testing.assert_array_equal(i, -f)
    np.testing.assert_array_equal(f[:INPUT], params.W_x[0])
    np.testing.assert_array_equal(j[INPUT:], params.W_h[1])
    np.testing.assert_array_equal(o[INPUT:], params.W_h[2])
    np.testing.assert_array_equal(columns(arrays["bias"], 0), -params.b[0])
    np.testing.assert_array_equal(columns(arrays["bias"], 2), params.b[0] - 0.75)
    np.testing.assert_array_equal(arrays["w_i_diag"], -arrays["w_f_diag"])


def test_tflite_by_hand():
    params = case("coupled_peephole").params
    arrays = export("coupled_peephole", "tflite", params)
    np.testing.assert_array_equal(arrays["input_to_cell_weights"], params.W_x[1].T)
    np.testing.assert_array_equal(arrays["recurrent_to_forget_weights"], params.W_h[0].T)
    np.testing.assert_array_equal(arrays["cell_to_output_weights"], params.p[1])
    np.testing.assert_array_equal(arrays["output_gate_bias"], params.b[2])
    assert not any("input_gate" in key or "to_input" in key for key in arrays)


@pytest.mark.parametrize(
    ("name", "order", "peepholes"),
    [
        ("rnn", [0], None),
        ("lstm", [0, 3, 1, 2], None),  # i, o, f, c
        ("peephole", [0, 3, 1, 2], [0, 2, 1]),  # i, o, f
        ("gru", [1, 0, 2], None),  # z, r, h
        ("gru_reset_after", [1, 0, 2], None),
    ],
)
def test_onnx_by_hand(name, order, peepholes):
    params = case(name).params
    arrays = export(name, "onnx", params)
    for k, gate in enumerate(order):
        rows = slice(k * H, (k + 1) * H)
        np.testing.assert_array_equal(arrays["W"][0, rows], params.W_x[gate].T)
        np.testing.assert_array_equal(arrays["R"][0, rows], params.W_h[gate].T)
        np.testing.assert_array_equal(arrays["B"][0, rows], params.b[gate])
    second = arrays["B"][0, len(order) * H :]
    bias = getattr(params, "b_hn", np.zeros(H))
    np.testing.assert_array_equal(second, [0] * (len(order) - 1) * H + bias.tolist())
    if peepholes:
        np.testing.assert_array_equal(arrays["P"][0], params.p[peepholes].ravel())


def test_onnx_coupled_by_hand():
    params = case("coupled_peephole").params
    arrays = export("coupled_peephole", "onnx", params)
    zero = np.zeros((H, INPUT))
    np.testing.assert_array_equal(
        arrays["W"][0], np.vstack([-params.W_x[0].T, params.W_x[2].T, zero, params.W_x[1].T])
    )
    np.testing.assert_array_equal(arrays["P"][0], [*-params.p[0], *params.p[1], *[0] * H])
    arrays["W"][0, 2 * H : 3 * H] = np.nan  # the block of f, which ONNX does not read
    loaded = load("coupled_peephole", "onnx", arrays)
    np.testing.assert_array_equal(loaded.W_x, params.W_x)


def rows(array, k):
    return array[k * H : (k + 1) * H]


@pytest.mark.parametrize(
    ("name", "order"),
    [("rnn", [0]), ("lstm", [0, 1, 2, 3]), ("gru_reset_after", [0, 1, 2])],  # i f g o; r z n
)
def test_torch_by_hand(name, order):
    params = case(name).params
    arrays = export(name, "torch", params)
    assert list(arrays) == ["weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0"]
    for k, gate in enumerate(order):
        np.testing.assert_array_equal(rows(arrays["weight_ih_l0"], k), params.W_x[gate].T)
        np.testing.assert_array_equal(rows(arrays["weight_hh_l0"], k), params.W_h[gate].T)
        np.testing.assert_array_equal(rows(arrays["bias_ih_l0"], k), params.b[gate])
    bias = getattr(params, "b_hn", np.zeros(H))
    np.testing.assert_array_equal(arrays["bias_hh_l0"], [0] * (len(order) - 1) * H + [*bias])


def test_torch_coupled_by_hand():
    params = case("coupled").params
    arrays = export("coupled", "torch", params)
    for k, block in enumerate([-params.W_x[0], params.W_x[0], params.W_x[1], params.W_x[2]]):
        np.testing.assert_array_equal(rows(arrays["weight_ih_l0"], k), block.T)
    np.testing.assert_array_equal(arrays["bias_ih_l0"], np.concatenate([-params.b[0], *params.b]))


@pytest.mark.parametrize(
    ("layout", "order", "forget_bias"),
    [("tf1_block", [0, 2, 1, 3], 0.75), ("tf1_block_v2", [0, 1, 2, 3], 0.0)],
)
@pytest.mark.parametrize("name", ["lstm", "peephole"])
def test_tf1_block_by_hand(name, layout, order, forget_bias):
    params = case(name).params
    arrays = export(name, layout, params, forget_bias=0.75)
    for k, gate in enumerate(order):  # i ci f o; i f ci o
        np.testing.assert_array_equal(columns(arrays["w"][:INPUT], k), params.W_x[gate])
        np.testing.assert_array_equal(columns(arrays["w"][INPUT:], k), params.W_h[gate])
        bias = params.b[gate] - (forget_bias if gate == 1 else 0)
        np.testing.assert_array_equal(columns(arrays["b"], k), bias)
    if name == "peephole":
        assert list(arrays) == ["w", "wci", "wcf", "wco", "b"]  # the order of the operator
        for key, row in (("wci", 0), ("wcf", 1), ("wco", 2)):
            np.testing.assert_array_equal(arrays[key], params.p[row])


def test_tf1_block_coupled_by_hand():
    params = case("coupled_peephole").params
    arrays = export("coupled_peephole", "tf1_block", params, forget_bias=0.75)
    np.testing.assert_array_equal(columns(arrays["w"][:INPUT], 0), -params.W_x[0])
    np.testing.assert_array_equal(columns(arrays["w"][INPUT:], 2), params.W_h[0])
    np.testing.assert_array_equal(columns(arrays["b"], 0), -params.b[0])
    np.testing.assert_array_equal(columns(arrays["b"], 2), params.b[0] - 0.75)
    np.testing.assert_array_equal(arrays["wci"], -params.p[0])
    np.testing.assert_array_equal(arrays["wcf"], params.p[0])
    np.testing.assert_array_equal(arrays["wco"], params.p[1])


def test_gru_block_cell_by_hand():
    params = case("gru").params
    arrays = export("gru", "tf1_block", params)
    assert list(arrays) == ["w_ru", "w_c", "b_ru", "b_c"]
    for k in range(2):  # r, u
        both = np.vstack([params.W_x[k], params.W_h[k]])
        np.testing.assert_array_equal(columns(arrays["w_ru"], k), both)
        np.testing.assert_array_equal(columns(arrays["b_ru"], k), params.b[k])
    np.testing.assert_array_equal(arrays["w_c"], np.vstack([params.W_x[2], params.W_h[2]]))
    np.testing.assert_array_equal(arrays["b_c"], params.b[2])


@pytest.mark.parametrize(
    ("name", "order"), [("lstm", [0, 1, 2, 3]), ("gru_reset_after", [1, 0, 2])]
)
def test_keras_cudnn_by_hand(name, order):
    """Number by number: place (d, u) of a block holds the (d * hidden + u)-th of its transpose."""
    params = case(name).params
    arrays = export(name, "keras_cudnn", params)
    assert arrays["kernel"].shape == (INPUT, len(order) * H)
    assert arrays["bias"].shape == (2 * len(order) * H,)
    for k, gate in enumerate(order):
        for place in range(INPUT * H):
            stored = columns(arrays["kernel"], k)[place // H, place % H]
            assert stored == params.W_x[gate][place % INPUT, place // INPUT]
        np.testing.assert_array_equal(columns(arrays["recurrent_kernel"], k), params.W_h[gate].T)
        np.testing.assert_array_equal(columns(arrays["bias"], k), params.b[gate])
    bias = getattr(params, "b_hn", np.zeros(H))
    second = arrays["bias"][len(order) * H :]
    np.testing.assert_array_equal(second, [0] * (len(order) - 1) * H + [*bias])


@pytest.mark.parametrize(("layout", "forget"), [("flax", "if"), ("flax_nnx_lstm", "if_")])
def test_flax_lstm_by_hand(layout, forget):
    params = case("lstm").params
    arrays = export("lstm", layout, params)
    for k, (i, h) in enumerate(zip(["ii", forget, "ig", "io"], "ifgo", strict=True)):
        np.testing.assert_array_equal(arrays[f"{i}/kernel"], params.W_x[k])
        np.testing.assert_array_equal(arrays[f"h{h}/kernel"], params.W_h[k])
        np.testing.assert_array_equal(arrays[f"h{h}/bias"], params.b[k])
    assert len(arrays) == 12
    coupled = export("coupled", layout, case("coupled").params)
    np.testing.assert_array_equal(coupled["ii/kernel"], -coupled[f"{forget}/kernel"])


def test_flax_gru_and_rnn_by_hand():
    params = case("gru_reset_after").params
    arrays = export("gru_reset_after", "flax", params)
    for k, gate in enumerate("rzn"):
        np.testing.assert_array_equal(arrays[f"i{gate}/kernel"], params.W_x[k])
        np.testing.assert_array_equal(arrays[f"i{gate}/bias"], params.b[k])
        np.testing.assert_array_equal(arrays[f"h{gate}/kernel"], params.W_h[k])
    np.testing.assert_array_equal(arrays["hn/bias"], params.b_hn)
    assert len(arrays) == 10
    params = case("rnn").params
    for layout, (i, h) in {"flax": "ih", "flax_nnx": ("dense_i", "dense_h")}.items():
        arrays = export("rnn", layout, params)
        assert set(arrays) == {f"{i}/kernel", f"{i}/bias", f"{h}/kernel"}
        np.testing.assert_array_equal(arrays[f"{i}/kernel"], params.W_x[0])
        np.testing.assert_array_equal(arrays[f"{i}/bias"], params.b[0])
        np.testing.assert_array_equal(arrays[f"{h}/kernel"], params.W_h[0])


def test_flax_nnx_by_hand():
    params = case("lstm").params
    arrays = export("lstm", "flax_nnx", params)
    np.testing.assert_array_equal(arrays["dense_i/kernel"], np.hstack(params.W_x))  # i f g o
    np.testing.assert_array_equal(arrays["dense_h/kernel"], np.hstack(params.W_h))
    np.testing.assert_array_equal(arrays["dense_h/bias"], params.b.ravel())
    params = params_for("gru_reset_after", "flax_nnx")
    arrays = export("gru_reset_after", "flax_nnx", params)
    np.testing.assert_array_equal(arrays["dense_i/kernel"], np.hstack(params.W_x))  # r z n
    np.testing.assert_array_equal(arrays["dense_h/kernel"], np.hstack(params.W_h))
    np.testing.assert_array_equal(arrays["dense_i/bias"], params.b.ravel())


def test_haiku_by_hand():
    params = case("lstm").params
    arrays = export("lstm", "haiku", params)
    order = [0, 2, 1, 3]  # i g f o
    np.testing.assert_array_equal(arrays["linear/w"][:INPUT], np.hstack(params.W_x[order]))
    np.testing.assert_array_equal(arrays["linear/w"][INPUT:], np.hstack(params.W_h[order]))
    bias = params.b - np.array([0, 1, 0, 0])[:, None]  # Haiku adds 1 to f
    np.testing.assert_array_equal(arrays["linear/b"], bias[order].ravel())
    params = case("gru").params
    arrays = export("gru", "haiku", params)
    r, z, n = range(3)
    for key, array in (("w_i", params.W_x), ("w_h", params.W_h), ("b", params.b)):
        np.testing.assert_array_equal(arrays[key], np.hstack([-array[z], array[r], array[n]]))


@each(
    ("cell", "layout"),
    [
        (cell, layout)
        for cell, layout in HELD
        if cell.startswith("coupled") and layout not in ("tf1", "tflite", "onnx")
    ],
)
def test_a_tied_cell_is_stored_as_the_uncoupled_one_that_it_is(cell, layout):
    f = CELLS[cell].GATES.index("f")
    coupled = case(cell).params
    tied = {name: np.stack([-a[f], *a]) for name, a in coupled._asdict().items() if name != "p"}
    whole = "lstm"
    if cell == "coupled_peephole":
        whole, tied["p"] = "peephole", np.stack([-coupled.p[f], *coupled.p])
    arrays = export(cell, layout, coupled, forget_bias=0.75)
    other = layout.removesuffix("_tied")
    expected = export(whole, other, CELLS[whole].Params(**tied), forget_bias=0.75)
    assert list(arrays) == list(expected)
    for key, array in expected.items():
        np.testing.assert_array_equal(arrays[key], array, err_msg=key)


# Several layers, both directions, no biases


def state_dict(cell="lstm", ends=("_l0", "_l0_reverse", "_l1", "_l1_reverse")):
    """Arrays as PyTorch names them, and the Params of each layer by the end of its names."""
    params = {end: case(cell, seed=k).params for k, end in enumerate(ends)}
    arrays = {}
    for end, one in params.items():
        layer = int(end[2]) if end else None
        arrays |= export(cell, "torch", one, layer=layer, reverse=end.endswith("_reverse"))
    return arrays, params


@pytest.mark.parametrize("cell", ["rnn", "lstm", "coupled", "gru_reset_after"])
def test_torch_layers_and_directions(cell):
    arrays, params = state_dict(cell)
    assert len(arrays) == 16
    assert "weight_hh_l1_reverse" in arrays
    for end, one in params.items():
        asked = {"layer": int(end[2]), "reverse": end.endswith("_reverse")}
        for name, array in load(cell, "torch", arrays, **asked)._asdict().items():
            np.testing.assert_array_equal(array, getattr(one, name))
        pulled = pull_back(cell, "torch", arrays, **asked)
        own = {key: array for key, array in arrays.items() if key.endswith(end)}
        expected = pull_back(cell, "torch", own)
        for a, b in zip(pulled, expected, strict=True):
            np.testing.assert_array_equal(a, b)
    first = load(cell, "torch", arrays, layer=0)  # forward, unless said
    np.testing.assert_array_equal(first.W_h, params["_l0"].W_h)
    backward = load(cell, "torch", arrays, reverse=True)
    np.testing.assert_array_equal(backward.W_h, params["_l0_reverse"].W_h)


@pytest.mark.parametrize("end", ["", "_l0", "_l2", "_l0_reverse", "_l11"])
def test_torch_takes_the_only_layer_there_is(end):
    params = case("lstm").params
    layer = int(end.removesuffix("_reverse")[2:]) if end else None
    arrays = export("lstm", "torch", params, layer=layer, reverse=end.endswith("_reverse"))
    assert set(arrays) == {f"{n}{end}" for n in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")}
    np.testing.assert_array_equal(load("lstm", "torch", arrays).W_x, params.W_x)
    if not end:  # nn.LSTMCell
        np.testing.assert_array_equal(load("lstm", "torch", arrays, layer=0).W_x, params.W_x)


@pytest.mark.parametrize("name", CELLS)
def test_onnx_directions(name):
    forward, backward = (case(name, seed=seed).params for seed in (0, 1))
    arrays = {
        key: np.concatenate([array, export(name, "onnx", backward)[key]])
        for key, array in export(name, "onnx", forward).items()
    }
    for reverse, params in ((False, forward), (True, backward)):
        loaded = load(name, "onnx", arrays, reverse=reverse)
        for a, b in zip(loaded, params, strict=True):
            np.testing.assert_array_equal(a, b)
        alone = load(name, "onnx", export(name, "onnx", params), reverse=reverse)
        np.testing.assert_array_equal(alone.W_x, params.W_x)
    with pytest.raises(LayoutError, match="one direction at a time, reverse=False or reverse=True"):
        load(name, "onnx", arrays)


@each(("cell", "layout"), [(c, la) for c, la in HELD if la in ("keras", "onnx", "torch")])
def test_biases_that_a_layer_is_made_without_are_zero(cell, layout):
    params = case(cell).params
    arrays = export(cell, layout, params)
    without = {key: array for key, array in arrays.items() if "bias" not in key and key != "B"}
    assert len(without) < len(arrays)
    loaded = load(cell, layout, without)
    np.testing.assert_array_equal(loaded.W_h, params.W_h)
    assert not loaded.b.any()
    assert not getattr(loaded, "b_hn", loaded.b).any()
    assert [a.shape for a in loaded] == [a.shape for a in params]


@each(("cell", "layout"), [(c, la) for c, la in HELD if la not in ("keras", "onnx", "torch")])
def test_biases_that_a_layer_always_has(cell, layout):
    held = [row.name for row in LAYOUTS[layout].cells[cell] if row.holds.startswith("W")]
    arrays = export(cell, layout, params_for(cell, layout))
    with pytest.raises(LayoutError, match=f"{layout} {cell} is stored as "):
        load(cell, layout, {key: arrays[key] for key in held})


def test_one_bias_of_two_is_not_none():
    arrays = arrays_of("lstm", "torch", bias_hh_l0=None)
    with pytest.raises(LayoutError, match="is stored as weight_ih_l0, weight_hh_l0, bias_ih_l0, b"):
        load("lstm", "torch", arrays)
    with pytest.raises(LayoutError, match="tf1 lstm is stored as kernel, bias; got kernel"):
        load("lstm", "tf1", arrays_of("lstm", "tf1", bias=None))  # TensorFlow 1 always has one


def test_a_bias_that_has_no_place():
    """The GRUCell of Flax's NNX has no bias inside the reset gate."""
    params = case("gru_reset_after").params
    with pytest.raises(
        LayoutError,
        match=says("'flax_nnx' has no place for b_hn", "is not zero", "gru_reset_after: keras,"),
    ):
        export("gru_reset_after", "flax_nnx", params)
    params = params_for("gru_reset_after", "flax_nnx")
    loaded = load("gru_reset_after", "flax_nnx", export("gru_reset_after", "flax_nnx", params))
    np.testing.assert_array_equal(loaded.b_hn, np.zeros(H))


# There and back


@held
@each("forget_bias", [1.0, 0.0, -0.5])
def test_there_and_back(cell, layout, forget_bias):
    params = params_for(cell, layout)
    arrays = export(cell, layout, params, forget_bias=forget_bias)
    back = load(cell, layout, arrays, forget_bias=forget_bias)
    for name, array in params._asdict().items():
        np.testing.assert_allclose(getattr(back, name), array, rtol=0, atol=1e-15, err_msg=name)


@each(
    ("cell", "first", "second"),
    [(c, a, b) for c in CELLS for a in LAYOUTS for b in LAYOUTS if {(c, a), (c, b)} <= set(HELD)],
)
def test_all_pairs(cell, first, second):
    params = params_for(cell, first if first == "flax_nnx" else second)
    there = export(cell, first, params)
    across = export(cell, second, load(cell, first, there))
    loaded = load(cell, second, across)
    back = export(cell, first, loaded)
    for name, array in there.items():
        np.testing.assert_allclose(back[name], array, rtol=0, atol=1e-15, err_msg=name)
    _, _, xs, state = case(cell)
    ours, theirs = (run(cell, p, xs, state, lengths=LENGTHS) for p in (params, loaded))
    np.testing.assert_allclose(theirs[0], ours[0], rtol=0, atol=1e-14)


@held
@each("dtype", [np.float32, np.float64])
def test_dtype_is_kept_and_arrays_are_fresh(cell, layout, dtype):
    params = params_for(cell, layout, dtype=dtype)
    before = [array.copy() for array in params]
    arrays = export(cell, layout, params)
    loaded = load(cell, layout, arrays)
    assert {a.dtype for a in (*arrays.values(), *loaded)} == {np.dtype(dtype)}
    for array in arrays.values():
        array += 1
    for a, b in zip(params, before, strict=True):
        np.testing.assert_array_equal(a, b)


@held
def test_the_forget_bias_is_in_no_array_but_one(cell, layout):
    params = params_for(cell, layout)
    one, two = (export(cell, layout, params, forget_bias=fb) for fb in (1.0, 2.0))
    moved = {key: np.abs(one[key] - two[key]).sum() for key in one}
    adds = LAYOUTS[layout].adds_forget_bias and "f" in CELLS[cell].GATES
    total = H if adds else 0.0
    assert sum(moved.values()) == pytest.approx(total)
    names = [row.name for row in LAYOUTS[layout].cells[cell] if row.holds == "b_x"]
    assert sum(moved[name] for name in names) == pytest.approx(total)


# In words


@held
def test_describe_says_what_export_writes(cell, layout):
    arrays = export(cell, layout, params_for(cell, layout))
    told = describe(cell, layout)
    assert [row.name for row in told] == list(arrays)
    for row in told:
        shape = eval(row.shape, {"input": INPUT, "hidden": HIDDEN})
        assert shape == arrays[row.name].shape
        gates = {letter.strip("-") for letter in row.blocks.split()} - {"."}
        assert gates <= set(CELLS[cell].GATES)


def test_describe_by_hand():
    assert describe("gru_reset_after", "keras")[2] == (
        "bias",
        "(2, 3 * hidden)",
        "bias, second bias",
        "z r n",
    )
    assert describe("coupled", "onnx")[0] == ("W", "(1, 4 * hidden, input)", "x", "-f o . g")


# Gradients


@held
def test_pull_back_is_the_transpose_of_export(cell, layout):
    """<export(d), a> = <d, pull_back(a)> for any direction d and any gradient a."""
    rng = np.random.default_rng(3)
    direction = params_for(cell, layout, seed=1)
    forward = export(cell, layout, direction, forget_bias=0.0)
    gradient = {key: rng.normal(size=array.shape) for key, array in forward.items()}
    pulled = pull_back(cell, layout, gradient)
    left = sum((forward[key] * gradient[key]).sum() for key in forward)
    right = sum((a * b).sum() for a, b in zip(direction, pulled, strict=True))
    assert left == pytest.approx(right, abs=1e-12)
    assert [a.shape for a in pulled] == [a.shape for a in direction]


def test_weights_that_are_no_numbers_stay():
    """A network that has diverged is read as it is, NaN for NaN, tied gates too."""
    for cell, layout in HELD:
        params = params_for(cell, layout)
        for array in params:
            array[..., 0] = np.nan if array.any() else 0
        loaded = load(cell, layout, export(cell, layout, params))
        for ours, theirs in zip(params, loaded, strict=True):
            np.testing.assert_allclose(ours, theirs, 0, 1e-12, err_msg=f"{cell} {layout}")
    forgetful = load("lstm", "tf1", export("lstm", "tf1", case("lstm").params), forget_bias=np.nan)
    assert np.isnan(forgetful.b).any(axis=1).tolist() == [False, True, False, False]
    arrays = export("coupled", "keras", case("coupled").params)
    arrays["kernel"][0, 0] = np.nan  # in the input gate alone
    with pytest.raises(LayoutError, match="kernel is not that of a coupled cell"):
        load("coupled", "keras", arrays)


def test_pull_back_is_not_load():
    params = case("coupled").params
    arrays = export("coupled", "tf1_tied", params, forget_bias=0.0)
    pulled = pull_back("coupled", "tf1_tied", arrays)
    np.testing.assert_allclose(pulled.W_x[0], 2 * params.W_x[0])  # f is stored as f and as -f
    np.testing.assert_allclose(pulled.W_x[1], params.W_x[1])


# What cannot be


@each("function", [export, load, pull_back])
@each(("cell", "layout"), [(c, la) for c in CELLS for la in LAYOUTS if (c, la) not in HELD])
def test_what_a_layout_cannot_hold(function, cell, layout):
    with pytest.raises(
        LayoutError, match=says(f"layout '{layout}' cannot hold the cell '{cell}': ")
    ):
        function(cell, layout, {})


def test_the_reason_names_what_is_nearest():
    with pytest.raises(
        LayoutError, match=says("Keras has no cell with peepholes; the nearest there is lstm")
    ):
        export("peephole", "keras", case("peephole").params)
    with pytest.raises(
        LayoutError, match=says("before the matrix product; the nearest there is gru")
    ):
        export("gru_reset_after", "tf1", case("gru_reset_after").params)
    with pytest.raises(LayoutError, match=says("PyTorch's GRU", "after the matrix product; the n")):
        export("gru", "torch", case("gru").params)
    with pytest.raises(LayoutError, match=says("VanillaRNN has relu where rnn has tanh")):
        export("rnn", "haiku", case("rnn").params)
    with pytest.raises(
        LayoutError, match="Flax has no cell with peepholes; the nearest there is c"
    ):
        export("coupled_peephole", "flax", case("coupled_peephole").params)
    with pytest.raises(LayoutError, match=r"Layouts that have peephole: tf1, tf1_block, tf1_bl"):
        export("peephole", "torch", case("peephole").params)
    with pytest.raises(LayoutError, match=says("there is no layout 'tf'; the layouts are tf1, ")):
        export("lstm", "tf", case("lstm").params)
    assert issubclass(LayoutError, ValueError)


def arrays_of(cell="lstm", layout="tf1", **changed):
    arrays = export(cell, layout, case(cell).params) | changed
    return {key: value for key, value in arrays.items() if value is not None}


@pytest.mark.parametrize(
    ("cell", "layout", "arrays", "parts"),
    [
        ("lstm", "tf1", arrays_of(bias=None), ["tf1 lstm is stored as kernel, bias; got kernel"]),
        ("lstm", "tf1", {}, ["got nothing"]),
        ("lstm", "tf1", arrays_of("peephole"), ["w_o_diag. These are the names of peephole"]),
        ("gru", "tf1", arrays_of("lstm"), ["These are the names of rnn or lstm"]),
        (
            "lstm",
            "tf1",
            {"rnn/basic_lstm_cell/kernel:0": 0, "rnn/basic_lstm_cell/bias:0": 0},
            ["Names stand below the cell's scope, without it and without ':0'"],
        ),
        ("lstm", "tf1", arrays_of(bias=np.zeros(20, int)), ["tf1 lstm: bias has dtype int64"]),
        (
            "lstm",
            "tf1",
            arrays_of(kernel=np.zeros((8, 18))),
            ["kernel has shape (8, 18); expected (input + hidden, 4 * hidden), and 18 is no"],
        ),
        (
            "lstm",
            "tf1",
            arrays_of(kernel=np.zeros((20, 7))),
            ["no multiple of 4. Is it transposed"],
        ),
        (
            "lstm",
            "tf1",
            arrays_of(kernel=np.zeros((8, 20)).T),
            ["bias has shape (20,)", "input = 18 and hidden = 2, which kernel (20, 8) has"],
        ),
        ("lstm", "tf1", arrays_of(kernel=np.zeros((5, 20))), ["leaves no row for the input"]),
        (
            "lstm",
            "tf1",
            arrays_of(kernel=np.zeros((0, 20))),
            ["kernel has shape (0, 20); expected"],
        ),
        (
            "lstm",
            "tf1",
            arrays_of(bias=np.zeros((1, 20))),
            ["bias has shape (1, 20); expected (4 *"],
        ),
        ("lstm", "tf1", arrays_of(bias=np.zeros(16)), ["expected (4 * hidden,) with input = 3"]),
        (
            "gru_reset_after",
            "keras",
            arrays_of("gru_reset_after", "keras", bias=np.zeros(15)),
            ["bias has shape (15,); expected (2, 3 * hidden)"],
        ),
        (
            "lstm",
            "tflite",
            arrays_of("lstm", "tflite", recurrent_to_cell_weights=np.zeros((5, 4))),
            ["recurrent_to_cell_weights has shape (5, 4); expected (hidden, hidden) with input"],
        ),
        (
            "lstm",
            "keras",
            arrays_of("lstm", "keras", kernel=np.zeros((20, 3))),
            ["kernel has shape (20, 3); expected (input, 4 * hidden)", "Is it transposed?"],
        ),
        ("coupled", "keras", arrays_of("lstm", "keras"), ["is not that of a coupled cell"]),
        ("coupled", "torch", arrays_of("lstm", "torch"), ["is not that of a coupled cell"]),
        (
            "lstm",
            "tf1",
            arrays_of("lstm", "torch"),
            ["tf1 lstm is stored as kernel, bias", "the names of lstm in the layout torch"],
        ),
        (
            "lstm",
            "tf1",
            arrays_of("lstm", "keras"),
            ["These are the names of lstm in the layout keras or keras_cudnn"],
        ),
        (
            "lstm",
            "torch",
            arrays_of("lstm", "torch", weight_hr_l0=np.zeros((2, 5))),
            ["got ", "weight_hr_l0", "A projection of the output is in no cell here"],
        ),
        (
            "lstm",
            "torch",
            {f"rnn.{key}": array for key, array in arrays_of("lstm", "torch").items()},
            ["got rnn.bias_hh_l0", "Names stand below the cell's scope"],
        ),
        (
            "lstm",
            "torch",
            arrays_of("lstm", "torch", weight_hh_l0=np.zeros((20, 4))),
            ["weight_hh_l0 has shape (20, 4); expected (4 * hidden, hidden) with input = 3"],
        ),
        (
            "lstm",
            "torch",
            arrays_of("lstm", "torch", weight_ih_l0=np.zeros((3, 20))),
            ["weight_ih_l0 has shape (3, 20); expected (4 * hidden, input)", "Is it transposed?"],
        ),
        (
            "lstm",
            "torch",
            state_dict()[0],
            [
                "torch lstm: these are several layers; the names end in _l0, _l0_reverse, _l1, ",
                "layer=0 picks _l0, layer=1 with reverse=True picks _l1_reverse",
            ],
        ),
        (
            "lstm",
            "keras_cudnn",
            arrays_of("lstm", "keras"),
            ["bias has shape (20,)", "expected (8 * hidden,)"],
        ),
        (
            "lstm",
            "onnx",
            arrays_of("lstm", "onnx", W=np.zeros((2, 20, 3))),
            ["W has shape (2, 20, 3); expected (1, 4 * hidden, input): one direction at a time"],
        ),
        (
            "lstm",
            "onnx",
            arrays_of("lstm", "onnx", B=np.zeros((1, 36))),
            ["B has shape (1, 36); expected (1, 8 * hidden), and 36 is no multiple of 8"],
        ),
    ],
)
def test_arrays_that_are_not_what_the_layout_says(cell, layout, arrays, parts):
    with pytest.raises(LayoutError, match=says(*parts)):
        load(cell, layout, arrays)


@pytest.mark.parametrize(
    ("asked", "missing"),
    [
        ({"layer": 2}, "_l2"),
        ({"layer": 0, "reverse": True}, "_l0_reverse"),
        ({"reverse": True}, "_l0_reverse"),
    ],
)
def test_a_layer_that_is_not_there(asked, missing):
    arrays, _ = state_dict(ends=("_l0", "_l1"))
    with pytest.raises(LayoutError, match=f"there is no {missing}; the names end in _l0, _l1"):
        load("lstm", "torch", arrays, **asked)
