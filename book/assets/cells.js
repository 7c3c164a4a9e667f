// The explorer's cells for one unit, generated from their pages: do not
// edit, `make generate` writes them. step(params, x, old) gives every gate
// and the new state; old is the state before it. params has a list for each
// of fields, which have the letters of its numbers.
const lstmbookCells = (() => {
  "use strict";
  const { exp, max, min, sqrt, tanh } = Math;
  const sigmoid = (z) => 0.5 * (1 + tanh(0.5 * z));
  return {
    rnn: {
      gates: "n",
      states: "h",
      fields: { W_x: "n", W_h: "n", b: "n" },
      step(params, x, old) {
        const n = tanh(x * params.W_x[0] + old.h * params.W_h[0] + params.b[0]);
        return { n, h: n };
      },
    },
    lstm: {
      gates: "ifgo",
      states: "hc",
      fields: { W_x: "ifgo", W_h: "ifgo", b: "ifgo" },
      step(params, x, old) {
        const i = sigmoid(x * params.W_x[0] + old.h * params.W_h[0] + params.b[0]);
        const f = sigmoid(x * params.W_x[1] + old.h * params.W_h[1] + params.b[1]);
        const g = tanh(x * params.W_x[2] + old.h * params.W_h[2] + params.b[2]);
        const o = sigmoid(x * params.W_x[3] + old.h * params.W_h[3] + params.b[3]);
        const c = f * old.c + i * g;
        const h = o * tanh(c);
        return { i, f, g, o, h, c };
      },
    },
    peephole: {
      gates: "ifgo",
      states: "hc",
      fields: { W_x: "ifgo", W_h: "ifgo", b: "ifgo", p: "ifo" },
      step(params, x, old) {
        const i = sigmoid(x * params.W_x[0] + old.h * params.W_h[0] + params.b[0] + params.p[0] * old.c);
        const f = sigmoid(x * params.W_x[1] + old.h * params.W_h[1] + params.b[1] + params.p[1] * old.c);
        const g = tanh(x * params.W_x[2] + old.h * params.W_h[2] + params.b[2]);
        const c = f * old.c + i * g;
        const o = sigmoid(x * params.W_x[3] + old.h * params.W_h[3] + params.b[3] + params.p[2] * c);
        const h = o * tanh(c);
        return { i, f, g, o, h, c };
      },
    },
    coupled: {
      gates: "fgo",
      states: "hc",
      fields: { W_x: "fgo", W_h: "fgo", b: "fgo" },
      step(params, x, old) {
        const f = sigmoid(x * params.W_x[0] + old.h * params.W_h[0] + params.b[0]);
        const g = tanh(x * params.W_x[1] + old.h * params.W_h[1] + params.b[1]);
        const o = sigmoid(x * params.W_x[2] + old.h * params.W_h[2] + params.b[2]);
        const c = f * old.c + (1.0 - f) * g;
        const h = o * tanh(c);
        return { f, g, o, h, c };
      },
    },
    coupled_peephole: {
      gates: "fgo",
      states: "hc",
      fields: { W_x: "fgo", W_h: "fgo", b: "fgo", p: "fo" },
      step(params, x, old) {
        const f = sigmoid(x * params.W_x[0] + old.h * params.W_h[0] + params.b[0] + params.p[0] * old.c);
        const g = tanh(x * params.W_x[1] + old.h * params.W_h[1] + params.b[1]);
        const c = f * old.c + (1.0 - f) * g;
        const o = sigmoid(x * params.W_x[2] + old.h * params.W_h[2] + params.b[2] + params.p[1] * c);
        const h = o * tanh(c);
        return { f, g, o, h, c };
      },
    },
    gru: {
      gates: "rzn",
      states: "h",
      fields: { W_x: "rzn", W_h: "rzn", b: "rzn" },
      step(params, x, old) {
        const r = sigmoid(x * params.W_x[0] + params.b[0] + old.h * params.W_h[0]);
        const z = sigmoid(x * params.W_x[1] + params.b[1] + old.h * params.W_h[1]);
        const n = tanh(x * params.W_x[2] + params.b[2] + r * old.h * params.W_h[2]);
        const h = z * old.h + (1.0 - z) * n;
        return { r, z, n, h };
      },
    },
    gru_reset_after: {
      gates: "rzn",
      states: "h",
      fields: { W_x: "rzn", W_h: "rzn", b: "rzn", b_hn: "n" },
      step(params, x, old) {
        const r = sigmoid(x * params.W_x[0] + params.b[0] + old.h * params.W_h[0]);
        const z = sigmoid(x * params.W_x[1] + params.b[1] + old.h * params.W_h[1]);
        const n = tanh(x * params.W_x[2] + params.b[2] + r * (old.h * params.W_h[2] + params.b_hn[0]));
        const h = z * old.h + (1.0 - z) * n;
        return { r, z, n, h };
      },
    },
  };
})();
