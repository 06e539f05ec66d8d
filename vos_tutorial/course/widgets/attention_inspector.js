// AttentionInspector: keys of all cells are on the page, and the page computes the softmax; only the mask needs Python.

const DECADE = 20; // steps of the temperature slider between 1 and 10
const PATIENCE = 2500; // ms without a sign of the kernel before the page says so
const percent = (share) => `${(100 * share).toFixed(1)} %`;

/** A float16 from its bits. */
function half(bits) {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  return exponent === 31 ? (fraction ? NaN : sign * Infinity) : sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
}

/** A binary trait as numbers; copied, because its bytes may begin anywhere. */
function floats(view, dtype) {
  const { buffer } = bytesOf(view).slice();
  return dtype === "float16" ? Float32Array.from(new Uint16Array(buffer), half) : new Float32Array(buffer);
}

/** The scores of query cell q with the N cells of all memory frames, before temperature and softmax. */
function scoresOf({ affinity, C }, queryKey, memoryKey, q, cells, N) {
  const scores = new Float64Array(N);
  if (affinity === "given") return scores.map((_, i) => queryKey[q * N + i]);
  for (let c = 0; c < C; c++) {
    const one = queryKey[c * cells + q];
    const start = c * N;
    if (affinity === "dot") for (let i = 0; i < N; i++) scores[i] += one * memoryKey[start + i];
    else for (let i = 0; i < N; i++) scores[i] -= (one - memoryKey[start + i]) ** 2;
  }
  const root = Math.sqrt(C);
  return scores.map((score) => score / root);
}

/** Softmax over the cells of kept frames, then the k largest divided by their sum (of equals, the first).
 *  Returns the weights, the mass that top-k kept, the mass of each frame and the strongest cell. */
function read(scores, cells, removed, temperature, topk) {
  const N = scores.length;
  const kept = (i) => !removed.has(Math.floor(i / cells));
  let best = -1;
  for (let i = 0; i < N; i++) if (kept(i) && (best < 0 || scores[i] > scores[best])) best = i;
  const weights = scores.map((score, i) => (kept(i) ? Math.exp((score - scores[best]) / temperature) : 0));
  const divide = () => {
    const sum = weights.reduce((a, b) => a + b, 0);
    weights.forEach((weight, i) => { weights[i] = weight / sum; });
    return sum;
  };
  divide();
  let mass = 1;
  const order = Array.from(scores.keys()).filter(kept);
  if (topk !== null && topk < order.length) {
    order.sort((i, j) => scores[j] - scores[i] || i - j);
    for (const i of order.slice(topk)) weights[i] = 0;
    mass = divide();
  }
  const masses = Array.from({ length: N / cells }, (_, m) => weights.subarray(m * cells, (m + 1) * cells).reduce((a, b) => a + b, 0));
  return { weights, mass, masses, best };
}

/** The values of the top-k slider for N cells; the last, null, is all of them. */
function topkSteps(N) {
  const steps = [];
  for (let k = 1; k < N; k *= 2) steps.push(...[k, 1.5 * k].filter((s) => s === Math.floor(s) && s < N));
  return [...steps, null];
}

async function render({ model, el }) {
  const keys = model.get("_keys");
  const { M, h, w } = keys;
  const cells = h * w;
  const N = M * cells;
  const queryKey = floats(model.get("_query_key"), keys.dtype);
  const memoryKey = floats(model.get("_memory_key"), keys.dtype);
  const { picture: [H, W], query: querySize, memory: memorySize } = model.get("_sizes");
  const labels = model.get("_labels");
  const solid = colourWords(bytesOf(model.get("_colours")), 255);
  const tint = colourWords(bytesOf(model.get("_colours")), 105);
  const decodes = model.get("_decoded").byteLength > 0;
  const steps = topkSteps(N);
  const frames = new Frames(bytesOf(model.get("_memory")), model.get("_offsets"), M);

  // --- the page ---
  const queryWidth = Math.round(Math.min(372, (250 * querySize[1]) / querySize[0])); // two of them beside each other
  const columns = M === 4 ? 2 : Math.min(M, 3);
  const tileWidth = Math.round(Math.min(372, (756 - 12 * (columns - 1)) / columns, (340 * memorySize[1]) / memorySize[0]));
  const canvasFor = (size, width, attributes) => make("canvas", {
    width: 2 * width, height: Math.round((2 * width * size[0]) / size[1]), role: "img", ...attributes,
  });
  const query = canvasFor(querySize, queryWidth, { class: "vos-query", tabindex: "0", ...OWN_KEYS });
  const place = make("output", { class: "vos-note" });
  const decoded = canvasFor(querySize, queryWidth, {});
  const status = make("div", { class: "vos-note", role: "status" });
  const again = make("button", { type: "button", click: () => ask(), ...OWN_KEYS }, "Decode again");
  const ids = { temperature: freshId(), topk: freshId() };
  const temperature = make("input", {
    type: "range", id: ids.temperature, min: -DECADE, max: DECADE, step: 1, ...OWN_KEYS,
    input: () => { model.set("temperature", Number((10 ** (temperature.value / DECADE)).toPrecision(3))); },
    change: () => model.save_changes(),
  });
  const topk = make("input", {
    type: "range", id: ids.topk, min: 0, max: steps.length - 1, step: 1, ...OWN_KEYS,
    input: () => { model.set("topk", steps[topk.value]); },
    change: () => model.save_changes(),
  });
  const temperatureText = make("output", { for: ids.temperature });
  const topkText = make("output", { for: ids.topk });
  const massText = make("output", {});
  const scale = make("span", { class: "vos-scale" });
  const controls = make(
    "div",
    { class: "vos-controls" },
    make("div", {}, make("label", { for: ids.temperature }, "Temperature"), temperatureText, temperature),
    make("div", {}, make("label", { for: ids.topk }, "Top-k cells"), topkText, topk),
    make("div", {}, make("span", {}, "Mass kept"), massText),
  );
  const tiles = labels.map((label, m) => memoryTile(label, m));
  const root = make(
    "div",
    { class: "vos vos-inspector", role: "group", "aria-label": "Attention inspector" },
    make(
      "div",
      { class: "vos-pair" },
      make("div", { class: "vos-column" }, make("div", { class: "vos-head" }, make("b", {}, "Query frame")), query, place),
      ...(decodes
        ? [make("div", { class: "vos-column" }, make("div", { class: "vos-head" }, make("b", {}, "Decoded mask"), again), decoded, status)]
        : []),
      controls,
    ),
    make(
      "div",
      { class: "vos-head vos-memory-head" },
      make("b", {}, "Memory"),
      make("span", { class: "vos-legend-heat" }, "weight of a cell: 0 ", make("span", { class: "vos-ramp", "aria-hidden": "true" }), " ", scale, " (root scale)"),
      make("span", { class: "vos-legend-heat" }, make("span", { class: "vos-ring", "aria-hidden": "true" }), " strongest cell"),
    ),
    make("div", { class: "vos-memory" }, ...tiles.map((tile) => tile.element)),
  );
  root.style.setProperty("--query", `${queryWidth}px`);
  root.style.setProperty("--tile", `${tileWidth}px`);
  root.style.setProperty("--columns", columns);
  el.append(root);

  function memoryTile(label, m) {
    const canvas = canvasFor(memorySize, tileWidth, {});
    const bar = make("div", { class: "vos-bar-value" });
    const number = make("span", { class: "vos-number" });
    const box = make("input", {
      type: "checkbox", "aria-label": `use ${label}`, ...OWN_KEYS,
      change: () => {
        const removed = new Set(model.get("removed"));
        box.checked ? removed.delete(m) : removed.add(m);
        model.set("removed", [...removed].sort((a, b) => a - b));
        model.save_changes();
        if (decodes) pending() ? (after = true) : ask();
      },
    });
    const element = make(
      "div",
      { class: "vos-tile" },
      make("label", {}, box, label), canvas,
      make("div", { class: "vos-bar", "aria-hidden": "true" }, make("div", { class: "vos-bar-track" }, bar), number),
    );
    return { label, canvas, bar, number, box, element };
  }

  // --- pictures that do not change ---
  const queryPicture = await createImageBitmap(new Blob([bytesOf(model.get("_query"))], { type: "image/jpeg" }));
  const heat = make("canvas", { width: w, height: h });
  const heatImage = new ImageData(w, h);
  const heatWords = new Uint32Array(heatImage.data.buffer);

  /** A picture as large as a canvas. */
  function layer(canvas, draw) {
    const copy = make("canvas", { width: canvas.width, height: canvas.height });
    draw(copy.getContext("2d"), copy);
    return copy;
  }

  /** Draw ids over what is on a canvas: outlines, and tints where they are given. */
  function drawIds(context, canvas, mask, [height, width], pageWidth, words) {
    const painter = new Painter(height, width, pageWidth, 2 * Math.max(pageWidth, (pageWidth * height) / width));
    painter.objects(mask, words, solid);
    const drawing = make("canvas", { width: painter.image.width, height: painter.image.height });
    drawing.getContext("2d").putImageData(painter.image, 0, 0);
    context.drawImage(drawing, 0, 0, canvas.width, canvas.height);
  }

  const packed = bytesOf(model.get("_masks"));
  const masks = packed.length > 0 ? await inflate(packed) : null;
  for (let m = 0; m < M; m++) {
    const bitmap = await frames.get(m);
    const tile = tiles[m];
    tile.ground = layer(tile.canvas, (context, copy) => {
      context.drawImage(bitmap, 0, 0, copy.width, copy.height);
      mute(context, copy);
    });
    if (masks === null) continue;
    const size = memorySize[0] * memorySize[1];
    tile.outlines = layer(tile.canvas, (context, copy) =>
      drawIds(context, copy, masks.subarray(m * size, (m + 1) * size), memorySize, tileWidth, new Uint32Array(256)));
  }

  // --- the cell ---
  const chosen = () => {
    const [y, x] = model.get("pixel");
    return [Math.floor((y * h) / H), Math.floor((x * w) / W)];
  };
  let looked = null; // a cell that is looked at but not chosen
  const shown = () => looked ?? chosen();

  function look(cell) {
    if (String(cell) === String(looked)) return;
    looked = cell;
    draw();
  }

  function choose([row, column], pixel) {
    const middle = [Math.floor(((2 * row + 1) * H) / (2 * h)), Math.floor(((2 * column + 1) * W) / (2 * w))];
    looked = null;
    model.set("pixel", pixel ?? middle);
    model.save_changes();
    draw();
  }

  /** Where the pointer is: a pixel of the query frame, and its cell. */
  function under(event) {
    const box = query.getBoundingClientRect();
    const clamp = (v, n) => Math.max(0, Math.min(n - 1, Math.floor(v * n)));
    const [y, x] = [clamp((event.clientY - box.top) / box.height, H), clamp((event.clientX - box.left) / box.width, W)];
    return { pixel: [y, x], cell: [Math.floor((y * h) / H), Math.floor((x * w) / W)] };
  }
  query.addEventListener("pointermove", (event) => { if (event.pointerType !== "touch") look(under(event).cell); });
  query.addEventListener("pointerleave", () => look(null));
  query.addEventListener("click", (event) => { const { pixel, cell } = under(event); choose(cell, pixel); });

  const moves = {
    ArrowUp: ([r, c]) => [Math.max(0, r - 1), c], ArrowDown: ([r, c]) => [Math.min(h - 1, r + 1), c],
    ArrowLeft: ([r, c]) => [r, Math.max(0, c - 1)], ArrowRight: ([r, c]) => [r, Math.min(w - 1, c + 1)],
    Home: ([r]) => [r, 0], End: ([r]) => [r, w - 1],
  };
  query.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    if (moves[event.key]) look(moves[event.key](shown()));
    else if (event.key === "Enter" || event.key === " ") choose(shown(), looked === null ? model.get("pixel") : undefined);
    else if (event.key === "Escape") look(null);
    else return;
    event.preventDefault();
    event.stopPropagation();
  });

  // --- drawing ---
  let drawing = 0;
  /** Draw with the next frame of the screen; more calls until then cost nothing. */
  function draw() {
    drawing ||= requestAnimationFrame(() => { drawing = 0; paint(); });
  }

  function paint() {
    const begun = performance.now();
    const [row, column] = shown();
    const removed = new Set(model.get("removed"));
    const scores = scoresOf(keys, queryKey, memoryKey, row * w + column, cells, N);
    const result = read(scores, cells, removed, model.get("temperature"), model.get("topk"));
    const top = result.weights.reduce((a, b) => Math.max(a, b), 0);
    root.weights = result.weights;
    paintQuery(row, column);
    tiles.forEach((tile, m) => paintTile(tile, m, result, top, removed));
    describe(row, column, result, top, removed);
    root.dataset.cell = `${row} ${column}`;
    root.dataset.chosen = chosen().join(" ");
    root.dataset.removed = [...removed].join(" ");
    root.dataset.drawMs = (performance.now() - begun).toFixed(2);
  }

  function paintQuery(row, column) {
    const context = query.getContext("2d");
    context.drawImage(queryPicture, 0, 0, query.width, query.height);
    const [y, x] = chosen();
    if (y !== row || x !== column) frameCell(context, query, y, x, [6, 6]);
    frameCell(context, query, row, column, []);
  }

  /** A white line with a dark casing around a cell; small cells get some air. */
  function frameCell(context, canvas, row, column, dash) {
    const [height, width] = [canvas.height / h, canvas.width / w];
    const air = Math.max(2, 10 - Math.min(height, width) / 2);
    for (const [colour, thick] of [["#222", 7], ["#fff", 3]]) {
      context.strokeStyle = colour;
      context.lineWidth = thick;
      context.setLineDash(colour === "#fff" ? dash : []);
      context.strokeRect(column * width - air, row * height - air, width + 2 * air, height + 2 * air);
    }
  }

  function paintTile({ canvas, ground, outlines, bar, number, label, box }, m, { weights, masses, best }, top, removed) {
    const context = canvas.getContext("2d");
    const off = removed.has(m);
    context.globalAlpha = 1;
    context.drawImage(ground, 0, 0);
    if (!off) {
      for (let i = 0; i < cells; i++) heatWords[i] = STRONG_HEAT[Math.round(255 * Math.sqrt(weights[m * cells + i] / top))];
      heat.getContext("2d").putImageData(heatImage, 0, 0);
      context.imageSmoothingEnabled = false;
      context.drawImage(heat, 0, 0, canvas.width, canvas.height);
    }
    if (outlines) context.drawImage(outlines, 0, 0);
    const strongest = Math.floor(best / cells) === m;
    if (strongest) {
      const at = best % cells;
      ring(context, ((at % w) + 0.5) * (canvas.width / w), (Math.floor(at / w) + 0.5) * (canvas.height / h));
    }
    canvas.parentElement.classList.toggle("vos-off", off);
    bar.style.width = `${100 * masses[m]}%`;
    number.textContent = off ? "removed" : percent(masses[m]);
    box.checked = !off;
    box.disabled = !off && removed.size === M - 1; // something has to answer
    const said = off ? "removed" : `${percent(masses[m])} of the attention${strongest ? ", with the strongest cell" : ""}`;
    canvas.setAttribute("aria-label", `${label}: ${said}.`);
  }

  function ring(context, x, y) {
    for (const [colour, thick] of [["#222", 7], ["#fff", 3]]) {
      context.strokeStyle = colour;
      context.lineWidth = thick;
      context.beginPath();
      context.arc(x, y, 14, 0, 2 * Math.PI);
      context.stroke();
    }
  }

  function describe(row, column, { mass, masses, best }, top, removed) {
    const strongest = [labels[Math.floor(best / cells)], Math.floor((best % cells) / w), best % w];
    const free = looked !== null && String(looked) !== String(chosen());
    place.textContent = `row ${row}, column ${column} ${free ? "(click or Enter to choose)" : "(chosen)"}`;
    const shares = labels.flatMap((label, m) => (removed.has(m) ? [] : [`${label} ${percent(masses[m])}`])).join(", ");
    query.setAttribute(
      "aria-label",
      `${model.get("alt")}. Query frame, row ${row} of ${h}, column ${column} of ${w}${free ? "" : ", chosen"}. Attention: ${shares}. ` +
        `Strongest cell: ${strongest[0]}, row ${strongest[1]}, column ${strongest[2]}.`,
    );
    const degrees = model.get("temperature");
    const k = model.get("topk");
    temperature.value = Math.round(DECADE * Math.log10(degrees));
    temperatureText.textContent = degrees.toFixed(2);
    temperature.setAttribute("aria-valuetext", degrees.toFixed(2));
    const at = k === null ? -1 : steps.findIndex((step) => step === null || step >= k);
    topk.value = at < 0 ? steps.length - 1 : at;
    const count = (M - removed.size) * cells;
    topkText.textContent = k === null || k >= count ? `all ${count}` : k;
    topk.setAttribute("aria-valuetext", topkText.textContent);
    massText.textContent = percent(mass);
    scale.textContent = percent(top);
    followAnswer();
  }

  // --- the mask ---
  let asked = { number: model.get("_answer")?.number ?? 0, since: 0 };
  let after = false; // ask once more when the answer is there
  let patience = 0;
  const heard = () => model.get("_answer").number >= asked.number;
  const patient = () => performance.now() - asked.since < PATIENCE;
  const pending = () => asked.since > 0 && (heard() || patient());

  /** Ask the kernel for the mask from what is left. */
  function ask() {
    after = false;
    const last = Math.max(asked.number, model.get("_request").number ?? 0); // another view may have asked, too
    asked = { number: last + 1, since: performance.now() };
    model.set("_request", { number: asked.number });
    model.save_changes();
    clearTimeout(patience);
    patience = setTimeout(followAnswer, PATIENCE + 50);
    followAnswer();
  }

  function followAnswer() {
    if (!decodes) return;
    const answer = model.get("_answer");
    const state = heard() ? answer.state : patient() ? "asked" : "silent";
    let text = "";
    if (state === "asked") text = "Asking the kernel…";
    else if (state === "silent") text = "No answer yet: this needs the kernel, running and idle.";
    else if (state === "working") text = "Decoding…";
    else if (state === "failed") text = `Could not decode: ${answer.text}`;
    else text = tell(answer);
    if (status.textContent !== text) status.textContent = text; // or screen readers would say it again
    root.dataset.decoded = state;
  }

  /** What the mask was decoded from, and whether that still holds. */
  function tell({ keep, temperature: degrees, topk: k, agreement }) {
    const removed = model.get("removed");
    const now = labels.map((_, m) => m).filter((m) => !removed.includes(m));
    const same = String(now) === String(keep) && degrees === model.get("temperature") && k === model.get("topk");
    const from = keep.length === M ? (M === 1 ? "the memory frame" : `all ${M} memory frames`) : `${keep.length} of ${M} memory frames`;
    const settings = [degrees === 1 ? "" : `, temperature ${degrees.toFixed(2)}`, k === null ? "" : `, top ${k}`].join("");
    const agrees = agreement === null || agreement === undefined ? "" : ` IoU with the mask from everything: ${agreement.toFixed(2)}.`;
    return `From ${from}${settings}.${agrees}${same ? "" : " The settings have changed since."}`;
  }

  let loads = 0;
  async function showDecoded() {
    const mine = (loads += 1);
    const mask = await inflate(bytesOf(model.get("_decoded")));
    if (mine !== loads || root.dataset.closed !== undefined) return;
    const context = decoded.getContext("2d");
    context.drawImage(queryPicture, 0, 0, decoded.width, decoded.height);
    drawIds(context, decoded, mask, querySize, queryWidth, tint);
    const share = mask.reduce((sum, id) => sum + (id !== 0 && id !== VOID), 0) / mask.length;
    decoded.setAttribute("aria-label", `The query frame with its decoded mask, which covers ${percent(share)} of it.`);
  }

  function onAnswer() {
    const answer = model.get("_answer");
    if (heard() && answer.state !== "working") asked.since = 0;
    if (asked.since === 0 && after) ask();
    followAnswer();
  }

  const follow = {
    "change:pixel": () => { looked = null; draw(); },
    "change:temperature": draw,
    "change:topk": draw,
    "change:removed": draw,
    "change:_decoded": showDecoded,
    "change:_answer": onAnswer,
  };
  for (const [event, listener] of Object.entries(follow)) model.on(event, listener);

  if (decodes) await showDecoded();
  paint();
  root.dataset.ready = "true";

  return () => {
    for (const [event, listener] of Object.entries(follow)) model.off(event, listener);
    cancelAnimationFrame(drawing);
    clearTimeout(patience);
    root.dataset.closed = "true";
    frames.close();
    queryPicture.close();
    root.remove();
  };
}

export default { render };
