// A GRU (TensorFlow 1's) in plain JavaScript, held to the golden vectors: it shows how to read them.
//
//   node reader.js gru.json       the largest difference from each vector
//   node reader.js < one.json     answers one vector, as `lstmbook verify --command` asks it
//
// In a browser: <script src="reader.js"></script>, then
//   console.log(check(await (await fetch("gru.json")).json()));
"use strict";

const sigmoid = (z) => 1 / (1 + Math.exp(-z));

// x . W[gate] + h . V[gate] + b[gate], for every unit
function sums(params, gate, x, h) {
  return params.b[gate].map((bias, k) =>
    x.reduce((sum, value, j) => sum + value * params.W_x[gate][j][k],
      h.reduce((sum, value, j) => sum + value * params.W_h[gate][j][k], bias)));
}

function step(params, x, h) {
  const r = sums(params, 0, x, h).map(sigmoid);
  const z = sums(params, 1, x, h).map(sigmoid);
  const n = sums(params, 2, x, h.map((value, k) => r[k] * value)).map(Math.tanh);
  return h.map((value, k) => z[k] * value + (1 - z[k]) * n[k]);
}

// The answer to what is given: outputs, zero past the length, and the final state.
function run(given) {
  const final = [];
  const hs = given.xs.map((xs, row) => {
    let h = given.state.h[row];
    const outputs = xs.map((x, t) => {
      if (t >= given.lengths[row]) return h.map(() => 0);
      h = step(given.params, x, h);
      return h;
    });
    final.push(h);
    return outputs;
  });
  return { hs, final: { h: final } };
}

// max |a - b| of two nested arrays or objects of the same form; NaN if one number is NaN
function difference(a, b) {
  if (typeof a === "number") return Math.abs(a - b);
  return Object.keys(a).reduce((worst, k) => Math.max(worst, difference(a[k], b[k])), 0);
}

function check(file) {
  return file.vectors.map(({ name, given, expected, tolerance }) => {
    const off = difference(run(given), expected);
    return { name, off, ok: off <= tolerance.float64 };
  });
}

if (typeof require !== "undefined" && typeof process !== "undefined") {
  const read = (file) => JSON.parse(require("fs").readFileSync(file, "utf8"));
  if (process.argv.length < 3) {
    console.log(JSON.stringify(run(read(0).given)));
  } else {
    for (const { name, off, ok } of check(read(process.argv[2]))) {
      console.log(`${name.padEnd(12)} max |Δ| = ${off.toExponential(1)}`);
      if (!ok) process.exitCode = 1;
    }
  }
}
