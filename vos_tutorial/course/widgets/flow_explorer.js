// FlowExplorer: the networks of the plane, evaluated here; whatever is dragged, nobody else is asked.

const PATH_STEPS = 64; // of Heun's method, from noise to data
const DIRECTIONS = 128; // of the sliced distance
const SLICE = 12; // milliseconds of work between two looks at the page
const SIDE = 360; // of the plane, in its own units; a cloud is CLOUD wide
const CLOUD = 232;
const NUDGE = 0.05; // an arrow key

/** Half floats as floats. */
function halfFloats(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  return Float32Array.from({ length: bytes.byteLength / 2 }, (_, i) => {
    const word = view.getUint16(2 * i, true);
    const [exponent, fraction] = [(word >> 10) & 31, word & 1023];
    const size = exponent === 0 ? fraction * 2 ** -24 : (1024 + fraction) * 2 ** (exponent - 25);
    return word & 0x8000 ? -size : size;
  });
}

/** Little-endian floats out of bytes that may lie anywhere. */
function floats(bytes) {
  return new Float32Array(bytes.slice().buffer);
}

/** PlaneVelocity or PlaneFlowMap of models/plane.py. */
class Network {
  /** `take(n)` gives the next n weights. */
  constructor({ width, body, rates, logSigma, hasEnd }, take) {
    Object.assign(this, { width, rates, logSigma });
    const layer = (from, to) => ({ weight: take(from * to), bias: take(to), from, to });
    this.point = layer(2, width);
    this.time = layer(2 * rates.length, width);
    this.end = hasEnd ? layer(2 * rates.length, width) : null;
    let from = width;
    this.body = body.map((to) => {
      const made = layer(from, to);
      from = to;
      return made;
    });
  }

  features(t) {
    const safe = Math.min(1 - 1e-4, Math.max(1e-4, t));
    const clock = this.logSigma ? Math.log(safe / (1 - safe)) / 4 : t;
    return [...this.rates.map((rate) => Math.cos(rate * clock)), ...this.rates.map((rate) => Math.sin(rate * clock))];
  }

  /** What the times add to the first layer: the same for all points. */
  moment(t, s) {
    const sum = Float64Array.from(this.point.bias);
    for (const [{ weight, bias, from, to }, time] of this.end ? [[this.time, t], [this.end, s]] : [[this.time, t]]) {
      const waves = this.features(time);
      for (let j = 0; j < to; j++) {
        sum[j] += bias[j];
        for (let k = 0; k < from; k++) sum[j] += weight[j * from + k] * waves[k];
      }
    }
    return sum;
  }

  /** The (average) velocity of points [x0, y0, x1, y1, ...] from index `first` up to `last`, into `out`. */
  evaluate(points, moment, out, first = 0, last = points.length / 2) {
    let [now, next] = [new Float32Array(this.width), new Float32Array(this.width)];
    const { weight } = this.point;
    for (let i = first; i < last; i++) {
      const [x, y] = [points[2 * i], points[2 * i + 1]];
      for (let j = 0; j < this.width; j++) now[j] = moment[j] + weight[2 * j] * x + weight[2 * j + 1] * y;
      for (const layer of this.body) {
        for (let k = 0; k < layer.from; k++) now[k] /= 1 + Math.exp(-now[k]); // SiLU
        multiply(layer, now, next);
        [now, next] = [next, now];
      }
      out[2 * i] = now[0];
      out[2 * i + 1] = now[1];
    }
  }

  /** The same, for a point alone. */
  at([x, y], t, s) {
    const out = new Float32Array(2);
    this.evaluate(Float32Array.of(x, y), this.moment(t, s), out);
    return out;
  }
}

/** next = weight * now + bias; four sums at a time keep a processor busy. */
function multiply({ weight, bias, from, to }, now, next) {
  let j = 0;
  for (; j + 3 < to; j += 4) {
    const [a, b, c, d] = [j * from, (j + 1) * from, (j + 2) * from, (j + 3) * from];
    let [p, q, r, s] = [bias[j], bias[j + 1], bias[j + 2], bias[j + 3]];
    for (let k = 0; k < from; k++) {
      const value = now[k];
      p += weight[a + k] * value;
      q += weight[b + k] * value;
      r += weight[c + k] * value;
      s += weight[d + k] * value;
    }
    next[j] = p;
    next[j + 1] = q;
    next[j + 2] = r;
    next[j + 3] = s;
  }
  for (; j < to; j++) {
    let sum = bias[j];
    for (let k = 0; k < from; k++) sum += weight[j * from + k] * now[k];
    next[j] = sum;
  }
}

/** Where a point goes under the velocity, by Heun's method, with all places on the way: [[x, y], ...]. */
function follow(teacher, point, from, to) {
  const steps = Math.max(1, Math.ceil(Math.abs(to - from) * PATH_STEPS));
  const places = [point];
  for (let k = 0; k < steps; k++) {
    const [t, then] = [from + ((to - from) * k) / steps, from + ((to - from) * (k + 1)) / steps];
    const [x, y] = places[k];
    const here = teacher.at([x, y], t);
    const there = teacher.at([x + (then - t) * here[0], y + (then - t) * here[1]], then);
    places.push([x + ((then - t) / 2) * (here[0] + there[0]), y + ((then - t) / 2) * (here[1] + there[1])]);
  }
  return places;
}

/** The three ways from noise to data: each says how a jump from t to `then` is made of its network's velocity. */
const SAMPLERS = {
  euler: { network: 0, to: (then) => then, fresh: false },
  consistency: { network: 2, to: () => 0, fresh: true },
  map: { network: 1, to: (then) => then, fresh: false },
};

/** Samples after `steps` jumps from `noise`, in slices: `await` comes back when it is done, or null when it shall stop.
 *  `freshAt(i)` is where sample i finds the noise of later steps. */
async function samplesOf(kind, networks, noise, steps, fresh, pause = async () => true, freshNoise = noise) {
  const { network: index, to, fresh: renoise } = SAMPLERS[kind];
  const network = networks[index];
  const [points, average, N] = [Float32Array.from(noise), new Float32Array(noise.length), noise.length / 2];
  const total = freshNoise.length / 2;
  for (let k = 0; k < steps; k++) {
    const [t, then] = [1 - k / steps, 1 - (k + 1) / steps];
    const s = to(then);
    const moment = network.moment(t, s);
    for (let first = 0; first < N; first += 100) {
      network.evaluate(points, moment, average, first, Math.min(N, first + 100));
      if (!(await pause())) return null;
    }
    for (let i = 0; i < points.length; i++) points[i] += (s - t) * average[i];
    if (!renoise) continue;
    for (let i = 0; i < N; i++) {
      const from = (i + fresh * (k + 1)) % total;
      for (const c of [0, 1]) points[2 * i + c] = (1 - then) * points[2 * i + c] + then * freshNoise[2 * from + c];
    }
  }
  return points;
}

/** The sliced Wasserstein-2 distance of samples.py. */
function slicedWasserstein(a, b) {
  const N = a.length / 2;
  const project = (points, cos, sin) =>
    Float32Array.from({ length: N }, (_, i) => points[2 * i] * cos + points[2 * i + 1] * sin).sort();
  let sum = 0;
  for (let d = 0; d < DIRECTIONS; d++) {
    const [cos, sin] = [Math.cos((Math.PI * d) / DIRECTIONS), Math.sin((Math.PI * d) / DIRECTIONS)];
    const [left, right] = [project(a, cos, sin), project(b, cos, sin)];
    for (let i = 0; i < N; i++) sum += (left[i] - right[i]) ** 2;
  }
  return Math.sqrt(sum / (N * DIRECTIONS));
}

/** An SVG element with attributes. */
function drawn(tag, attributes = {}, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/** The networks that Python has sent: teacher, student, consistency model. */
function networksOf(model) {
  const bytes = bytesOf(model.get("_weights"));
  const weights = model.get("_half") ? halfFloats(bytes) : floats(bytes);
  let at = 0;
  const take = (count) => weights.subarray(at, (at += count));
  return model.get("_networks").map((about) => new Network(about, take));
}

async function render({ model, el }) {
  const networks = networksOf(model);
  const [teacher, student] = networks;
  const clouds = floats(bytesOf(model.get("_clouds")));
  const noise = clouds.subarray(0, clouds.length / 2);
  const reference = clouds.subarray(clouds.length / 2);
  const extent = model.get("_extent");
  const fresh = model.get("_fresh");
  const grid = model.get("_grid");
  const hasPictures = grid.samplers !== undefined;
  const hasOwn = model.get("_has_consistency");
  const urls = [];

  // --- from the plane to the page ---
  const placed = ([x, y], side) => [((x + extent) / (2 * extent)) * side, ((extent - y) / (2 * extent)) * side];
  const text = (point, side) => placed(point, side).map((value) => value.toFixed(2)).join(" ");
  const line = (points) => `M${points.map((point) => text(point, SIDE)).join("L")}`;
  const dots = (points, side) => {
    let d = "";
    for (let i = 0; i < points.length; i += 2) d += `M${text([points[i], points[i + 1]], side)}h0`;
    return d;
  };
  const distance = ([a, b], [c, d]) => Math.hypot(a - c, b - d);

  const board = (side) =>
    drawn("path", {
      class: "vos-board",
      d: model.get("_squares").map(([x, y, a]) => `M${text([x, y], side)}L${text([x + a, y], side)}L${text([x + a, y + a], side)}L${text([x, y + a], side)}Z`).join(""),
    });

  // --- the plane ---
  const lines = {
    before: drawn("path", { class: "vos-way vos-other" }), after: drawn("path", { class: "vos-way vos-other" }),
    path: drawn("path", { class: "vos-way vos-path" }), euler: drawn("path", { class: "vos-way vos-euler" }),
    map: drawn("path", { class: "vos-way vos-map" }),
  };
  const ends = {
    path: drawn("circle", { class: "vos-end vos-path", r: 6.5 }),
    euler: drawn("rect", { class: "vos-end vos-euler", width: 9, height: 9 }),
    map: drawn("circle", { class: "vos-end vos-map", r: 4.5 }),
  };
  const handle = drawn("circle", { class: "vos-handle", r: 8 });
  const plane = drawn(
    "svg",
    { viewBox: `0 0 ${SIDE} ${SIDE}`, class: "vos-plane", tabindex: "0", role: "application", ...OWN_KEYS },
    board(SIDE),
    drawn("path", { class: "vos-ground", d: dots(reference, SIDE) }),
    lines.before, lines.after, lines.path, lines.euler, lines.map, ends.path, ends.euler, ends.map, handle,
  );

  // Only one line speaks while something is dragged (`said`); an output element would be one more.
  const value = () => make("span", { class: "vos-number" });
  const values = { t: value(), s: value(), steps: value(), euler: value(), map: value() };
  const slider = (attributes, act) =>
    make("input", { type: "range", ...attributes, ...OWN_KEYS, input: (event) => act(Number(event.target.value)) });
  const sliders = {
    t: slider({ min: 0, max: 1, step: 0.01, "aria-label": "t, where the jump begins" }, (t) => set({ t, s: Math.min(t, model.get("s")) })),
    s: slider({ min: 0, max: 1, step: 0.01, "aria-label": "s, where the jump ends" }, (s) => set({ s: Math.min(s, model.get("t")) })),
    steps: slider({ min: 1, max: 16, step: 1, "aria-label": "Steps" }, (steps) => set({ steps })),
  };
  const sample = (kind) =>
    drawn("svg", { class: "vos-sample", viewBox: "0 0 44 14", "aria-hidden": "true" },
      drawn("path", { class: `vos-way vos-${kind}`, d: "M2 7L34 7" }),
      kind === "euler" ? drawn("rect", { class: "vos-end vos-euler", x: 30, y: 3, width: 8, height: 8 })
        : drawn("circle", { class: `vos-end vos-${kind}`, cx: 34, cy: 7, r: kind === "path" ? 5 : 4 }));
  const row = (kind, name, ...off) => make("div", { class: "vos-found" }, sample(kind), make("span", {}, name), ...off);
  const timeRow = (name, what) =>
    make("div", { class: "vos-time" }, make("div", { class: "vos-time-head" }, make("b", {}, name), make("span", {}, what), values[name]), sliders[name]);
  const said = make("div", { class: "vos-said", role: "status" });

  const one = make(
    "section",
    { class: "vos-one-point", "aria-label": "One point" },
    plane,
    make(
      "div",
      { class: "vos-controls" },
      make("b", { class: "vos-head" }, "One point, one jump"),
      timeRow("t", "where the jump begins; 1 is noise"),
      timeRow("s", "where it ends; 0 is data"),
      make("div", { class: "vos-ends", "aria-hidden": "true" }, make("span", {}, "data"), make("span", {}, "noise")),
      row("path", "the flow: true end", make("span", { class: "vos-off" }, "off by")),
      row("map", "flow map: one learned jump", values.map),
      row("euler", "Euler: one straight step", values.euler),
      make("p", { class: "vos-hint" }, "Drag the point, or use the arrow keys. Grey dots are the teacher’s samples."),
      said,
    ),
  );

  // --- the clouds ---
  const names = {
    euler: ["Euler", "straight steps of the teacher"],
    consistency: ["Consistency model", `${hasOwn ? "jump" : "the flow map jumps"} to 0, then fresh noise`],
    map: ["Flow map", "a learned jump to the next time"],
  };
  const panels = Object.fromEntries(
    Object.keys(SAMPLERS).map((kind) => {
      const cloud = drawn("path", { class: `vos-cloud vos-${kind}` });
      const mine = drawn("circle", { class: `vos-end vos-${kind}`, r: 4.5 });
      const goal = drawn("circle", { class: "vos-goal", r: 8 });
      const svg = drawn("svg", { viewBox: `0 0 ${CLOUD} ${CLOUD}`, role: "img" }, board(CLOUD), cloud, goal, mine);
      const far = make("span", { class: "vos-distance" });
      const head = make("div", { class: "vos-panel-head" }, make("b", {}, names[kind][0]), make("span", {}, names[kind][1]));
      const element = make("div", { class: "vos-panel" }, head, svg, make("div", { class: "vos-under" }, "distance ", far));
      return [kind, { cloud, mine, goal, svg, far, element }];
    }),
  );
  const many = make(
    "section",
    { class: "vos-many", "aria-label": "Clouds" },
    make("div", { class: "vos-steps" }, make("b", { class: "vos-head" }, "From noise to samples in"), sliders.steps, values.steps),
    make("div", { class: "vos-panels" }, ...Object.values(panels).map(({ element }) => element)),
    make(
      "p",
      { class: "vos-hint" },
      `Distance: sliced Wasserstein-2 to the teacher’s samples after ${PATH_STEPS} steps, from the same noise; two fresh draws of ` +
        `${noise.length / 2} samples are ${model.get("_floor").toFixed(3)} apart. Large dot: your point, which the flow carries into the ring; fresh noise sends it elsewhere.`,
    ),
  );

  // --- pictures ---
  const pictures = make("section", { class: "vos-pictures", "aria-label": "Pictures" });
  const marks = [];
  const large = [];
  const chosen = make("b", { class: "vos-head" });
  function buildPictures() {
    const { samplers, steps, count, size: [height, width] } = grid;
    const strips = bytesOf(model.get("_strips"));
    const offsets = model.get("_offsets");
    const stripOf = (row, column) => {
      const n = row * steps.length + column;
      if (offsets[n] === offsets[n + 1]) return null;
      urls.push(URL.createObjectURL(new Blob([strips.subarray(offsets[n], offsets[n + 1])], { type: "image/png" })));
      return urls.at(-1);
    };
    const table = make("div", { class: "vos-grid", tabindex: "0", role: "group", "aria-label": "Samples from the same noise", ...OWN_KEYS });
    const closer = make("div", { class: "vos-closer" });
    table.style.setProperty("--samplers", samplers.length);
    closer.style.setProperty("--columns", steps.length);
    table.append(make("span", {}), ...samplers.map((name) => make("b", {}, name)));
    closer.append(make("span", {}), ...steps.map((n) => make("span", { class: "vos-under" }, `${n} step${n === 1 ? "" : "s"}`)));
    const found = samplers.map((_, row) => steps.map((_, column) => stripOf(row, column)));
    for (const [column, n] of steps.entries()) {
      table.append(make("span", { class: "vos-label" }, `${n} step${n === 1 ? "" : "s"}`));
      for (const [row, name] of samplers.entries()) {
        const strip = make("div", { class: "vos-strip" });
        if (found[row][column]) {
          const mark = make("div", { class: "vos-mark" });
          marks.push(mark);
          strip.append(make("img", { src: found[row][column], alt: `${name}, ${n} step${n === 1 ? "" : "s"}: ${count} samples`, draggable: "false" }), mark);
          strip.addEventListener("pointerdown", (event) => {
            const { left, width: wide } = strip.getBoundingClientRect();
            set({ picture: Math.max(0, Math.min(count - 1, Math.floor(((event.clientX - left) / wide) * count))) });
          });
        }
        table.append(strip);
      }
    }
    for (const [row, name] of samplers.entries()) {
      closer.append(make("span", { class: "vos-label" }, name));
      for (const [column, n] of steps.entries()) {
        const tile = make("div", { class: "vos-tile", role: "img", "aria-label": `${name}, ${n} step${n === 1 ? "" : "s"}, enlarged` });
        if (found[row][column]) {
          tile.style.backgroundImage = `url(${found[row][column]})`;
          large.push(tile);
        }
        closer.append(tile);
      }
    }
    for (const element of [table, closer]) element.style.setProperty("--ratio", `${width} / ${height}`);
    table.style.setProperty("--strip", `${count * width} / ${height}`);
    table.addEventListener("keydown", (event) => {
      const move = { ArrowLeft: -1, ArrowUp: -1, ArrowRight: 1, ArrowDown: 1 }[event.key];
      const to = { Home: 0, End: count - 1 }[event.key] ?? (move && model.get("picture") + move);
      if (to === undefined || event.altKey || event.ctrlKey || event.metaKey) return;
      set({ picture: Math.max(0, Math.min(count - 1, to)) });
      event.preventDefault();
      event.stopPropagation();
    });
    pictures.append(
      make("p", { class: "vos-hint" }, "A column of pictures began at the same noise. Click one, or use the arrow keys."),
      table, chosen, closer,
    );
  }
  function paintPictures() {
    if (!hasPictures) return;
    const [k, count] = [model.get("picture"), grid.count];
    for (const mark of marks) {
      mark.style.left = `${(100 * k) / count}%`;
      mark.style.width = `${100 / count}%`;
    }
    for (const tile of large) {
      tile.style.backgroundSize = `${100 * count}% 100%`;
      tile.style.backgroundPosition = `${count > 1 ? (100 * k) / (count - 1) : 0}% 0`;
    }
    chosen.textContent = `Sample ${k + 1} of ${count}, enlarged`;
    root.dataset.picture = k;
  }

  // --- tabs ---
  const bodies = { plane: make("div", { class: "vos-body" }, one, many), pictures };
  const tabs = Object.entries({ plane: "The plane", pictures: "Pictures" }).map(([name, title]) => {
    const ids = { tab: freshId(), panel: freshId() };
    const tab = make("button", { type: "button", role: "tab", id: ids.tab, "aria-controls": ids.panel, click: () => set({ tab: name }), ...OWN_KEYS }, title);
    if (hasPictures) for (const [key, to] of Object.entries({ id: ids.panel, role: "tabpanel", "aria-labelledby": ids.tab })) bodies[name].setAttribute(key, to);
    return { name, tab };
  });
  const bar = make("div", { class: "vos-tabs", role: "tablist", "aria-label": "What is shown" }, ...tabs.map(({ tab }) => tab));
  bar.addEventListener("keydown", (event) => {
    if (event.key !== "ArrowLeft" && event.key !== "ArrowRight") return;
    const other = tabs.find(({ name }) => name !== model.get("tab"));
    set({ tab: other.name });
    other.tab.focus();
    event.preventDefault();
    event.stopPropagation();
  });
  const root = make("div", { class: "vos vos-flow", role: "group", "aria-label": "Flow explorer" });
  root.append(...(hasPictures ? [bar] : []), bodies.plane, ...(hasPictures ? [pictures] : []));
  if (hasPictures) buildPictures();
  el.append(root);

  function paintTabs() {
    const shown = hasPictures ? model.get("tab") : "plane";
    for (const { name, tab } of tabs) {
      tab.setAttribute("aria-selected", name === shown);
      tab.tabIndex = name === shown ? 0 : -1;
      bodies[name].hidden = name !== shown;
    }
    root.dataset.tab = shown;
  }

  // --- one point ---
  let here = [0, 0]; // where the point is at time t
  const put = (element, point, side, half = 0) => {
    const [x, y] = placed(point, side);
    const names = element.tagName === "rect" ? ["x", "y"] : ["cx", "cy"];
    element.setAttribute(names[0], (x - half).toFixed(2));
    element.setAttribute(names[1], (y - half).toFixed(2));
  };

  function paintPoint() {
    const [t, s] = [model.get("t"), model.get("s")];
    const before = follow(teacher, model.get("point"), 1, t);
    here = before.at(-1);
    const path = follow(teacher, here, t, s);
    const after = follow(teacher, path.at(-1), s, 0);
    const jumped = (network, end) => {
      const average = network.at(here, t, end);
      return here.map((value, c) => value + (s - t) * average[c]);
    };
    const found = { path: path.at(-1), map: jumped(student, s), euler: jumped(teacher, t) };
    for (const [name, way] of Object.entries({ before, path, after })) lines[name].setAttribute("d", line(way));
    for (const name of ["map", "euler"]) lines[name].setAttribute("d", line([here, found[name]]));
    for (const [name, end] of Object.entries(found)) put(ends[name], end, SIDE, name === "euler" ? 4.5 : 0);
    put(handle, here, SIDE);
    for (const name of ["t", "s"]) {
      sliders[name].value = model.get(name);
      values[name].textContent = model.get(name).toFixed(2);
    }
    const off = { map: distance(found.map, found.path), euler: distance(found.euler, found.path) };
    for (const name of ["map", "euler"]) values[name].textContent = off[name].toFixed(2);
    const place = ([x, y]) => `${x.toFixed(2)}, ${y.toFixed(2)}`;
    plane.setAttribute(
      "aria-label",
      `${model.get("alt")}. The point is at ${place(here)} at time ${t.toFixed(2)}; arrow keys move it. At time ${s.toFixed(2)} the flow has it at ` +
        `${place(found.path)}, the flow map's jump at ${place(found.map)}, Euler's step at ${place(found.euler)}.`,
    );
    said.textContent =
      t === s ? "The jump has no length: move t or s." :
      off.euler < 0.05 ? "The path is almost straight here: Euler’s step is good enough." :
      `The learned jump lands ${off.map.toFixed(2)} from the flow’s end, Euler’s step ${off.euler.toFixed(2)}.`;
    root.dataset.point = place(here);
    root.dataset.jump = `${t.toFixed(2)} ${s.toFixed(2)}`;
    root.dataset.off = `${off.map.toFixed(4)} ${off.euler.toFixed(4)}`;
    paintMine();
  }

  /** Put the point where the plane is touched, at the time that is shown: its noise is found by going back. */
  function moveTo(point) {
    const limit = (value) => Math.max(-extent, Math.min(extent, value));
    const origin = follow(teacher, point.map(limit), model.get("t"), 1).at(-1);
    if (origin.every(Number.isFinite)) set({ point: origin });
  }
  const touched = (event) => {
    const box = plane.getBoundingClientRect();
    return [((event.clientX - box.left) / box.width) * 2 * extent - extent, extent - ((event.clientY - box.top) / box.height) * 2 * extent];
  };
  plane.addEventListener("pointerdown", (event) => {
    plane.setPointerCapture(event.pointerId);
    plane.focus();
    moveTo(touched(event));
    event.preventDefault();
  });
  plane.addEventListener("pointermove", (event) => {
    if (event.buttons === 1) moveTo(touched(event));
  });
  plane.addEventListener("keydown", (event) => {
    const move = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key];
    if (!move || event.altKey || event.ctrlKey || event.metaKey) return;
    const far = event.shiftKey ? 5 * NUDGE : NUDGE;
    moveTo(here.map((value, c) => value + far * move[c]));
    event.preventDefault();
    event.stopPropagation();
  });

  // --- clouds ---
  const known = new Map(); // "map 4" -> { points, far }
  let asked = 0;
  async function paintClouds() {
    const [steps, ours] = [model.get("steps"), (asked += 1)];
    sliders.steps.value = steps;
    values.steps.textContent = `${steps} step${steps === 1 ? "" : "s"}`;
    sliders.steps.setAttribute("aria-valuetext", values.steps.textContent);
    root.dataset.clouds = "busy";
    let begun = performance.now();
    const pause = async () => {
      if (performance.now() - begun > SLICE) {
        await new Promise((resolve) => setTimeout(resolve));
        begun = performance.now();
      }
      return ours === asked && root.dataset.closed === undefined;
    };
    if (!(await new Promise((resolve) => setTimeout(() => resolve(ours === asked))))) return; // a slider in motion
    for (const kind of Object.keys(SAMPLERS)) {
      const key = `${kind} ${steps}`;
      if (!known.has(key)) {
        const points = await samplesOf(kind, networks, noise, steps, fresh, pause);
        if (points === null) return;
        known.set(key, { points, d: dots(points, CLOUD), far: slicedWasserstein(points, reference) });
      }
      const { d, far } = known.get(key);
      panels[kind].cloud.setAttribute("d", d);
      panels[kind].far.textContent = far.toFixed(3);
      panels[kind].svg.setAttribute("aria-label", `${names[kind][0]}, ${values.steps.textContent}: ${noise.length / 2} samples, ${far.toFixed(3)} from the teacher's`);
    }
    paintMine();
    root.dataset.clouds = steps;
  }

  /** The dragged point among the clouds: where it ends, and where it should. */
  async function paintMine() {
    const goal = follow(teacher, model.get("point"), 1, 0).at(-1);
    const start = Float32Array.from(model.get("point"));
    for (const [kind, panel] of Object.entries(panels)) {
      const end = await samplesOf(kind, networks, start, model.get("steps"), fresh, undefined, noise);
      put(panel.mine, end, CLOUD);
      put(panel.goal, goal, CLOUD);
    }
  }

  // --- the model ---
  function set(changes) {
    for (const [name, to] of Object.entries(changes)) model.set(name, to);
    later.save();
  }
  /** Things to do once, before the next picture: a drag moves several times between two. */
  function once(act) {
    let request = 0;
    const run = () => {
      request = 0;
      if (root.dataset.closed === undefined) act();
    };
    return () => {
      if (request === 0) request = requestAnimationFrame(run);
    };
  }
  const later = { point: once(paintPoint), save: once(() => model.save_changes()) };
  const follows = {
    "change:point": later.point, "change:t": later.point, "change:s": later.point,
    "change:steps": paintClouds, "change:tab": paintTabs, "change:picture": paintPictures,
  };
  for (const [event, listener] of Object.entries(follows)) model.on(event, listener);
  paintTabs();
  paintPictures();
  paintPoint();
  paintClouds();
  root.dataset.ready = "true";

  return () => {
    for (const [event, listener] of Object.entries(follows)) model.off(event, listener);
    root.dataset.closed = "true";
    for (const url of urls) URL.revokeObjectURL(url);
    root.remove();
  };
}

export { networksOf, samplesOf, slicedWasserstein };
export default { render };
