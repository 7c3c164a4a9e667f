// The cell explorer: one unit over twelve time steps, with everything that can be moved.
// A page asks for it by <div class="cell-explorer" data-cells="lstm peephole">fallback</div>.
window.lstmbookExplorer = (() => {
  "use strict";

  // 1. The cells: those of cells.js, which is made from the pages in lstmbook/cells.

  const { coupled, coupled_peephole, ...others } = lstmbookCells;
  const CELLS = {
    ...others,
    coupled: { ...coupled, rest: "if" }, // i is 1 - f
    coupled_peephole: { ...coupled_peephole, rest: "if" },
  };
  // Not a cell of lstmbook: ONNX keeps i, and f is 1 - i. So the weights of i are those of f with
  // the other sign.
  const turn = (params) => Object.fromEntries(
    Object.entries(params).map(([field, [first, ...others]]) => [field, [-first, ...others]]));
  CELLS.coupled_onnx = { ...coupled, gates: "igo", rest: "fi", step(params, x, old) {
    const { f, ...seen } = coupled.step(turn(params), x, old);
    return { i: 1 - f, ...seen };
  } };

  // Like lstmbook.record: {letter: its value at every step}. Params has lists in gate order.
  function run(name, params, xs, state) {
    const { gates, states, step } = CELLS[name];
    const seen = Object.fromEntries([...gates, ...states].map((letter) => [letter, []]));
    for (const x of xs) {
      state = step(params, x, state);
      for (const letter in seen) seen[letter].push(state[letter]);
    }
    return seen;
  }

  const differ = (a, b) => Math.abs(a - b) > 1e-6;

  // The first step at which something that both have differs, and what; undefined if none.
  function firstDifference(seen, other) {
    for (let t = 0; t < other.h.length; t++) {
      const names = Object.keys(other).filter((k) => seen[k] && differ(seen[k][t], other[k][t]));
      if (names.length) return { t, names };
    }
  }

  // 2. Settings to start from: a sentence on the first cell {}, then the numbers; for a gate
  // W_x, W_h, b and p (of n: b_hn). What is not said is 0.

  const STEPS = 12;
  const at = (...steps) => Array.from({ length: STEPS }, (_, t) => Number(steps.includes(t + 1)));
  const RESET = ["Move an input, the initial state or a weight, and see what follows.", {
    xs: [0, 0, 1, 0, 0, 0, -1.5, 0, 0, 1, 0, 0],
    i: [2, -1, -1, 1.5], f: [-0.5, 0.5, 2, -1.5], g: [2, 0.5, 0], o: [1, 0.5, 0.4, 2],
    r: [2, 1, 0], z: [-2, 0.5, 1], n: [1.5, 1, 0, 0.5],
  }];
  const COUNT = { xs: at(2, 4, 5, 8, 11), i: [10, 0, -5], f: [0, 0, 8], g: [4], o: [0, 0, 1] };
  const LSTM = {
    Remember: ["In {}, the input of step 2 opens i and shuts f. Then f is near 1, and c stays.",
      { xs: at(2), i: [8, 0, -5, 0.5], f: [-8, 0, 5, 1], g: [2], o: [0, 0, 1, 1] }],
    Forget: ["In {}, c starts at 1 and stays, until the input of step 6 shuts f.",
      { xs: at(6), c: 1, i: [0, 0, -5, 0.5], f: [-8, 0, 5, 1], o: [0, 0, 1, 1] }],
    Count: ["In {}, f is near 1 all the time. Each input of 1 adds nearly 1 to c.", COUNT],
  };
  const PRESETS = {
    rnn: {
      Remember: ["In {}, W_h = 2 holds h up after step 2. It keeps a sign, not a value.",
        { xs: at(2), n: [2, 2] }],
      Forget: ["In {}, W_h = 0.5 takes more than half of h away at each step. No gate can stop it.",
        { xs: at(6), h: 1, n: [0, 0.5] }],
      Count: ["In {}, each input of 1 lifts h. Then h leaks.", { xs: COUNT.xs, n: [0.3, 1] }],
    },
    gru: {
      Remember: ["In {}, the input of step 2 shuts z, and h is written. Then h stays.",
        { xs: at(2), r: [0, 0, 1], z: [-8, 0, 5], n: [2, 0.5, 0, 0.5] }],
      Forget: ["In {}, h starts at 1 and stays, until the input of step 6 shuts z and r.",
        { xs: at(6), h: 1, r: [-8, 0, 4], z: [-8, 0, 5], n: [0, 1] }],
      Count: ["In {}, each input of 1 lifts h, by less each time: h stays below 1.",
        { xs: COUNT.xs, r: [0, 0, 5], z: [-8, 0, 6], n: [0.3, 1] }],
    },
    lstm: LSTM,
    peephole: { ...LSTM, Count: [
      "In {}, c counts the inputs of 1. Only a peephole lets o see it: there o opens at 3.",
      { ...COUNT, o: [0, 0, -10, 4] }] },
    coupled: { ...LSTM, Count: [
      "An lstm counts in c with these weights. Coupled gates cannot: their c stays below 1.",
      COUNT] },
  };

  // Every number that can be moved, by its name: "x 0", "h0", "W_x f" and so on.
  function preset(cells, name) {
    const family = Object.keys(PRESETS).findLast((k) => cells.some((cell) => cell.includes(k)));
    const [says, found] = PRESETS[family][name] ?? RESET;
    const values = { h0: found.h ?? 0, c0: found.c ?? 0 };
    found.xs.forEach((x, t) => (values[`x ${t}`] = x));
    for (const k of "ifgorzn") {
      const fields = ["W_x", "W_h", "b", k === "n" ? "b_hn" : "p"];
      fields.forEach((field, j) => (values[`${field} ${k}`] = found[k]?.[j] ?? 0));
    }
    return { says: says.replace("{}", cells[0]), values };
  }

  const xsOf = (values) => at().map((_, t) => values[`x ${t}`]);

  function paramsOf(name, values) {
    const list = ([field, letters]) => [field, [...letters].map((k) => values[`${field} ${k}`])];
    return Object.fromEntries(Object.entries(CELLS[name].fields).map(list));
  }

  // 3. The same runs in Python.

  const number = (v) => (Number.isInteger(v) ? v.toFixed(1) : String(v));
  const array = (list) => `np.array([${list.map(number).join(", ")}])`;

  function pythonRun(name, values) {
    const module = name.replace("_onnx", "");
    const turned = name !== module;
    const params = turned ? turn(paramsOf(name, values)) : paramsOf(name, values);
    const fields = Object.entries(params).map(([field, list]) => {
      const shape = list.length + ({ W_x: ", 1, 1", W_h: ", 1, 1", b_hn: "" }[field] ?? ", 1");
      return `    ${field}=${array(list)}.reshape(${shape}),\n`;
    });
    return `
${turned ? "# ONNX keeps i: for f = 1 - i the weights of i change their sign.\n" : ""}\
params = ${module}.Params(  # gates in the order ${[...CELLS[module].gates].join(" ")}
${fields.join("")})
state = ${module}.State(${CELLS[module].states === "h" ? "h0" : "h0, c0"})
hs["${name}"], _ = run(${module}, params, xs, state)
seen["${name}"] = record(${module}, params, xs, state)  # every gate and state
`;
  }

  function python(cells, values) {
    const modules = new Set(cells.map((name) => name.replace("_onnx", "")));
    const states = cells.some((name) => CELLS[name].states === "hc") ? ["h0", "c0"] : ["h0"];
    return `import numpy as np

from lstmbook import ${[...modules].sort().join(", ")}, record, run

xs = ${array(xsOf(values))}
xs = xs.reshape(1, ${STEPS}, 1)  # (batch, time, input)
${states.map((k) => `${k} = np.array([[${number(values[k])}]])\n`).join("")}\
hs, seen = {}, {}
${cells.map((name) => pythonRun(name, values)).join("")}
for name, values in hs.items():
    print(name, np.round(values.ravel(), 6))
`;
  }

  // 4. What is seen. A view is all that is shown at the moment; the rest makes elements of it.

  const WORDS = {
    x: "input", i: "input gate", f: "forget gate", g: "candidate", o: "output gate",
    r: "reset gate", z: "update gate", n: "candidate", c: "cell state", h: "hidden state",
  };
  const [ROW, PAD] = [50, 8]; // a row of a picture, and the space above and below its line

  const maker = (create) => (tag, attributes = {}, ...children) => {
    const node = create(tag);
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    node.append(...children);
    return node;
  };
  const el = maker((tag) => document.createElement(tag));
  const svg = maker((tag) => document.createElementNS("http://www.w3.org/2000/svg", tag));
  const on = (node, event, act) => (node.addEventListener(event, act), node);
  const say = (node, text) => node.textContent === text || (node.textContent = text);
  const show = (v, digits) => v.toFixed(digits).replace(/^-(?=0\.?0*$)/, "").replace("-", "−");
  const word = (text) => el("span", { class: "word" }, text);
  const chip = (letter) => el("b", { class: `chip role-${letter}` }, letter);

  // The letters that stand in a part of some cell, and the fields that a letter has in some cell.
  const used = (cells, part, letters) =>
    [...letters].filter((letter) => cells.some((name) => CELLS[name][part]?.includes(letter)));
  const fieldsOf = (cells, letter) => ["W_x", "W_h", "b", "p", "b_hn"].filter((field) =>
    cells.some((name) => CELLS[name].fields[field]?.includes(letter)));

  function look(cells, values, step) {
    const states = used(cells, "states", "ch");
    const gates = [...used(cells, "gates", "ifgorzn"), ...used(cells, "rest", "if")];
    const letters = [..."ifgorznch"].filter((k) => gates.includes(k) || states.includes(k));
    const xs = xsOf(values);
    const start = { h: values.h0, c: values.c0 };
    const runs = cells.map((name) => run(name, paramsOf(name, values), xs, start));
    const valuesOf = (k, letter) => { // also of x, and of i where it is 1 - f
      const { rest = "" } = CELLS[cells[k]];
      if (letter === rest[0]) return runs[k][rest[1]].map((v) => 1 - v);
      return letter === "x" ? xs : runs[k][letter];
    };
    const sizes = [1, start.c, ...runs.flatMap((seen) => seen.c ?? [])].map(Math.abs);
    const most = Math.ceil(Math.max(...sizes));
    const c = [-most, most];
    const rangeOf = (letter) =>
      ({ c, x: [-2, 2], g: [-1, 1], n: [-1, 1], h: [-1, 1] })[letter] ?? [0, 1];
    const rows = cells.length > 1 ? ["x", ...letters] : letters;
    const found = runs.map((seen) => firstDifference(runs[0], seen));
    return { cells, step, states, letters, rows, xs, start, runs, found, valuesOf, rangeOf };
  }

  const rowLabel = (letter, [low, high]) => el("div", { class: "row-label" }, chip(letter),
    word(WORDS[letter]),
    el("span", { class: "ticks" }, ...[high, low].map((v) => el("span", {}, show(v, 0)))));

  // A row of the picture of cell k: lines of reference, the first cell dashed, line and dots.
  function drawRow({ cells, step, start, runs, valuesOf, rangeOf }, k, letter, row) {
    const [low, high] = rangeOf(letter);
    const y = (v) => (row * ROW + PAD + ((high - v) / (high - low)) * (ROW - 2 * PAD)).toFixed(2);
    const line = (list) => list.map((v, t) => `${t ? "L" : "M"}${t + 0.5} ${y(v)}`).join("");
    const path = (kind, d) => svg("path", { class: kind, d });
    const parts = [low, high, 0].map((v) => path(v ? "limit" : "zero", `M0 ${y(v)}H${STEPS}`));
    const [values, before] = [valuesOf(k, letter), runs[k][letter] && start[letter]];
    const ghost = k && letter !== "x" && valuesOf(0, letter);
    if (ghost) parts.push(path("ghost", line(ghost)));
    if (values) {
      const lead = before === undefined ? "" : `M0 ${y(before)}L0.5 ${y(values[0])}`;
      const kind = letter === CELLS[cells[k]].rest?.[0] ? "line rest" : "line";
      parts.push(path(kind, lead + line(values)),
        path("dots", values.map((v, t) => `M${t + 0.5} ${y(v)}h0`).join("")),
        path("dots now", `M${step + 0.5} ${y(values[step])}h0`));
    }
    return svg("g", { class: `role-${letter}` }, ...parts);
  }

  function drawCell(view, k, select) {
    const { cells, step, rows, runs, found } = view;
    const height = ROW * rows.length;
    const [now, last] = [runs[k].h[step], runs[k].h.at(-1)].map((v) => show(v, 2));
    const label = `${cells[k]}: a line over ${STEPS} steps for each of ${rows.join(", ")}. ` +
      `h is ${now} at step ${step + 1} and ${last} at the end.`;
    const picture = svg("svg", { role: "img", "aria-label": label, height,
      viewBox: `0 0 ${STEPS} ${height}`, preserveAspectRatio: "none" },
    svg("rect", { class: "band", x: step, width: 1, height }),
    ...rows.map((letter, row) => drawRow(view, k, letter, row)));
    on(picture, "pointerdown", (event) => {
      const { left, width } = picture.getBoundingClientRect();
      select(Math.min(STEPS - 1, Math.floor(((event.clientX - left) / width) * STEPS)));
    });
    const mark = el("span");
    if (found[k]) {
      const { t } = found[k];
      picture.append(svg("path", { class: "first", d: `M${t} 0V${height}` }));
      say(mark, `≠ from step ${t + 1}`);
      const [side, steps] = t < STEPS / 2 ? ["left", t] : ["right", STEPS - t];
      mark.style[side] = `${(steps / STEPS) * 100}%`;
    }
    const axis = at().map((_, t) => el("span", {}, String(t + 1)));
    return el("div", { class: "column" }, el("b", {}, cells[k]),
      el("div", { class: "parting" }, mark), picture,
      el("div", { class: "axis", "aria-hidden": "true" }, ...axis));
  }

  function drawTable({ cells, step, states, letters, xs, start, runs, valuesOf }) {
    const row = (letter, text, list, marked = () => false) => el("tr", {},
      el("th", { scope: "row" }, chip(letter), " ", text),
      ...list.map((v, k) => el("td", {}, v === undefined ? "" : show(v, 6),
        ...(marked(k) && differ(v, list[0]) ? [el("span", {}, "≠")] : []))));
    const head = cells.map((name) => el("th", { scope: "col" }, name));
    return el("table", {}, el("caption", {}, `Step ${step + 1} of ${STEPS}`),
      el("thead", {}, el("tr", {}, el("td"), ...head)),
      el("tbody", {}, row("x", word("input"), cells.map(() => xs[step])),
        ...states.map((s) => row(s, "before",
          runs.map((seen) => seen[s] && (step ? seen[s][step - 1] : start[s])))),
        ...letters.map((letter) => row(letter, word(WORDS[letter]),
          cells.map((_, k) => valuesOf(k, letter)?.[step]),
          (k) => runs[0][letter] && runs[k][letter]))));
  }

  // The selected step, and for each cell after the first where it leaves the first.
  function sentences({ cells: [first, ...others], step, xs, runs, found }) {
    const stateOf = (name, k) => [...CELLS[name].states].map((s) =>
      `${s} is ${show(runs[k][s][step], 2)}`);
    const told = [first, ...others].map((name, k) => `${name}: ${stateOf(name, k).join(", ")}.`);
    return [
      `Step ${step + 1} of ${STEPS}: x is ${show(xs[step], 1)}. ${told.join(" ")}`,
      ...others.map((name, k) => found[k + 1]
        ? `${name} first differs from ${first} at step ${found[k + 1].t + 1}, ` +
          `in ${found[k + 1].names.join(", ")}.`
        : `${name} and ${first} agree at all ${STEPS} steps.`),
    ];
  }

  function remarks([first, ...others]) {
    const rests = [first, ...others].filter((name) => CELLS[name].rest).map((name) =>
      `${CELLS[name].rest[0]} = 1 − ${CELLS[name].rest[1]} in ${name}`);
    const both = first === "gru" && others.includes("gru_reset_after");
    return [
      ...(others.length ? [`Dashed: ${first}.`] : []),
      ...(rests.length ? [`Dotted: ${rests.join("; ")}.`] : []),
      ...(both ? ["With one unit (r h) W = r (h W), so only b_hn tells these two apart."] : []),
    ].join(" ");
  }

  // 5. What can be moved.

  // A label, a slider for values[key], and the value; `update` shows what the value is now.
  function slider(values, key, label, limit, moved) {
    const input = el("input", { type: "range", min: -limit, max: limit, step: 0.1 });
    const upright = key[0] === "x";
    if (upright) input.setAttribute("aria-orientation", "vertical");
    const value = el("span", { class: "value", "aria-hidden": "true" });
    on(input, "input", () => moved((values[key] = input.valueAsNumber)));
    const update = () => {
      if (input.valueAsNumber !== values[key]) input.value = values[key];
      say(value, show(values[key], 1));
    };
    const node = el("label", { class: upright ? "upright" : "across" }, label, input, value);
    return { node, update };
  }

  function copyButton(code, unfold, copied) {
    const button = on(el("button", { type: "button" }, "Copy as Python"), "click", async () => {
      try {
        await navigator.clipboard.writeText(code.value);
        say(copied, "Copied.");
      } catch { // not allowed here
        unfold.open = true;
        code.select();
        say(copied, "Selected: copy it from below.");
      }
    });
    return el("div", { class: "copy" }, button, copied);
  }

  function explore(root) {
    const cells = root.dataset.cells.trim().split(/\s+/);
    const unknown = cells.find((name) => !Object.hasOwn(CELLS, name));
    if (unknown) throw new Error(`cell explorer: there is no cell "${unknown}"`);
    let { says, values } = preset(cells);
    let step = 2;
    const select = (t) => redraw((step = t));
    const sliders = [];
    const add = (key, label, limit) => {
      sliders.push(slider(values, key, label, limit, redraw));
      return sliders.at(-1).node;
    };

    const buttons = [...Object.keys(LSTM), "Reset to defaults"].map((name) =>
      on(el("button", { type: "button" }, name), "click", () => {
        const found = preset(cells, name);
        says = found.says;
        redraw(Object.assign(values, found.values));
      }));
    const initial = used(cells, "states", "hc").map((k) =>
      add(`${k}0`, `${k}0`, k === "h" ? 1 : 3));
    const weights = [..."ifgorzn"].filter((k) => fieldsOf(cells, k).length).map((k) =>
      el("fieldset", {}, el("legend", {}, chip(k), " ", WORDS[k]),
        ...fieldsOf(cells, k).map((field) => add(`${field} ${k}`, field, 10))));
    const numbers = at().map((_, t) => el("span", { class: "number" }, String(t + 1)));
    const inputs = numbers.map((number, t) =>
      add(`x ${t}`, el("span", {}, el("span", { class: "unseen" }, "x at step "), number), 2));
    const clock = on(el("input", { type: "range", min: 1, max: STEPS, step: 1 }), "input", () =>
      select(clock.valueAsNumber - 1));

    const note = el("p", { class: "note" });
    const pictures = el("div", { class: "pictures" });
    const told = cells.map((_, k) => el("p", k ? {} : { class: "unseen" }));
    const grid = el("div", { class: "numbers" });
    const code = el("textarea", { readonly: "", rows: 14, "aria-label": "Python" });
    const unfold = el("details", {}, el("summary", {}, "The same in Python"), code);
    const copied = el("span", { role: "status" });

    function redraw() {
      const view = look(cells, values, step);
      for (const { update } of sliders) update();
      numbers.forEach((number, t) => number.classList.toggle("now", t === step));
      clock.value = step + 1;
      say(note, says);
      pictures.replaceChildren(
        el("div", {}, ...view.rows.map((letter) => rowLabel(letter, view.rangeOf(letter)))),
        ...cells.map((_, k) => drawCell(view, k, select)));
      sentences(view).forEach((text, k) => say(told[k], text));
      grid.replaceChildren(drawTable(view));
      code.value = python(cells, values);
      say(copied, "");
    }

    redraw();
    root.replaceChildren(
      el("div", { class: "top" }, el("b", {}, `Cell explorer: ${cells.join(", ")}`),
        el("div", { class: "presets" }, ...buttons)),
      note,
      el("fieldset", { class: "initial" }, el("legend", {}, "Initial state"), ...initial),
      el("details", {}, el("summary", {}, "Weights, gate by gate"),
        el("div", { class: "weights" }, ...weights)),
      el("div", { class: "deck" }, rowLabel("x", [-2, 2]), ...inputs,
        el("label", { class: "clock" }, el("span", {}, "Time step"), clock)),
      pictures,
      el("div", { class: "results" }, el("div", { class: "told" },
        el("div", { "aria-live": "polite" }, ...told), el("p", { class: "note" }, remarks(cells))),
      grid, copyButton(code, unfold, copied)),
      unfold,
    );
    root.setAttribute("role", "group");
    root.setAttribute("aria-label", `Cell explorer: ${cells.join(", ")}`);
    root.classList.add("live");
  }

  on(document, "DOMContentLoaded", () =>
    document.querySelectorAll(".cell-explorer").forEach(explore));
  return Object.freeze({ run });
})();
