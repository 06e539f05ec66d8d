// RecurrenceGrid: the roll-outs are on the page; radio buttons choose among them, and the page finds the ancestors.

// Letter and meaning of every kind of arrow; colours and dashes are in the style. KINDS in recurrence_grid.py is the same.
const KINDS = {
  space: ["S", "h and c"],
  time: ["T", "h"],
  mask: ["M", "own output"],
};
const STEPS = 16; // of a probability; half of them and more is the mask
const HALF = STEPS / 2;
const ROOM = 716; // pixels of the page: what JupyterLab leaves of a window of 900

/** The cells that cell (t, i) reads itself, by kind; rule: {space, time, mask, cut} as in Rollout. */
function parentsOf(t, i, { space, time, mask, cut }) {
  const found = {};
  if (i > 0 && (space === true || (space === "first frame" && t === 0))) found.space = [t, i - 1];
  if (time && t > 0 && t !== cut) found.time = [t - 1, i];
  if (mask && t > (mask === "from frame 2" ? 1 : 0)) found.mask = [t - 1, i];
  return found;
}

/** All cells that can influence (t, i): the parents by kind, and the others; `ancestors` in Python is the same. */
function ancestorsOf(t, i, rule) {
  const direct = parentsOf(t, i, rule);
  const known = new Map(Object.values(direct).map((cell) => [String(cell), cell]));
  const parents = new Set(known.keys());
  const ask = [...known.values()];
  while (ask.length > 0) {
    for (const cell of Object.values(parentsOf(...ask.pop(), rule))) {
      if (known.has(String(cell))) continue;
      known.set(String(cell), cell);
      ask.push(cell);
    }
  }
  const found = Object.fromEntries(Object.keys(KINDS).map((kind) => [kind, direct[kind] ? [direct[kind]] : []]));
  return { ...found, indirect: [...known.values()].filter((cell) => !parents.has(String(cell))) };
}

/** Sizes of the pictures below the grid, in pixels of the page: two pictures, and beside them all levels, as high as they. */
function details(ratio, levels) {
  const tiles = Math.max(...levels.map(({ channels }) => channels[0].length));
  for (let pictureWidth = Math.min(240, Math.round(210 / ratio)); ; pictureWidth -= 1) {
    const tileHeight = Math.max(32, Math.floor((pictureWidth * ratio - 4 * (levels.length - 1)) / levels.length));
    const tileWidth = Math.round(tileHeight / ratio);
    const levelWidth = tileHeight < 46 ? 92 : 68; // two lines or three
    const width = 2 * (pictureWidth + 16) + levelWidth + tiles * (tileWidth + 4);
    if (width <= ROOM || pictureWidth <= 120) return { pictureWidth, tileHeight, tileWidth, levelWidth };
  }
}

/** An SVG element with attributes. */
function shape(tag, attributes, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/** An arrow of a kind from (x0, y0) to (x1, y1), straight down or to the right. */
function arrow(kind, x0, y0, x1, y1, lit) {
  const [dx, dy] = x0 === x1 ? [0, 6] : [6, 0];
  const head = `${x1},${y1} ${x1 - dx - dy * 0.65},${y1 - dy - dx * 0.65} ${x1 - dx + dy * 0.65},${y1 - dy + dx * 0.65}`;
  return shape(
    "g",
    { class: `vos-arrow vos-${kind}${lit ? " vos-lit" : ""}` },
    shape("path", { d: `M${x0} ${y0}L${x1 - dx} ${y1 - dy}` }),
    shape("polygon", { points: head }),
  );
}

const share = (part) => (part > 0 && part < 0.001 ? "less than 0.1 %" : `${(100 * part).toFixed(1)} %`);

async function render({ model, el }) {
  const [T, N, H, W] = model.get("_shape");
  const modes = model.get("_modes");
  const rules = model.get("_rules");
  const labels = model.get("_labels");
  const times = model.get("_times"); // what the columns are called
  const levels = model.get("_levels");
  const steps = await inflate(bytesOf(model.get("_steps")));
  const hidden = await inflate(bytesOf(model.get("_hidden")));
  const colours = bytesOf(model.get("_colours"));
  const solid = colourWords(colours, 255);
  const tint = colourWords(colours, 105);
  const strong = colourWords(colours, 150);
  const ramp = colourWords(bytesOf(model.get("_ramp")), 255);
  const frames = new Frames(bytesOf(model.get("_frames")), model.get("_offsets"), T);
  const bitmaps = await Promise.all(Array.from({ length: T }, (_, t) => frames.get(t)));
  const someMask = rules.some(({ mask }) => mask);
  const probability = (mode, t, i) => steps.subarray(((mode * T + t) * N + i) * H * W, ((mode * T + t) * N + i + 1) * H * W);

  // Where the hidden states of a roll-out's level begin.
  const begins = [];
  let offset = 0;
  modes.forEach((_, mode) => {
    begins.push(levels.map(({ shown, channels }) => {
      const begin = offset;
      offset += T * N * channels[mode].length * shown[0] * shown[1];
      return begin;
    }));
  });

  // --- measures of the grid, in pixels of the page ---
  const left = 74 + (someMask ? 16 : 0); // names of the slots, and the given masks
  const top = 22;
  const pitch = Math.max(38, Math.min(88, (ROOM - left + 16) / T));
  const gap = Math.max(16, Math.min(26, Math.round(0.32 * pitch)));
  const cw = Math.floor(Math.min(pitch - gap, (72 * W) / H));
  const ch = Math.round((cw * H) / W);
  const down = Math.min(gap, 22); // between rows
  const x = (t) => left + t * (cw + gap);
  const y = (i) => top + i * (ch + down);
  const boardWidth = x(T - 1) + cw + 4;
  const boardHeight = y(N - 1) + ch + 4;
  const { pictureWidth, tileHeight, tileWidth, levelWidth } = details(H / W, levels);

  // --- the page ---
  const group = freshId();
  const radios = modes.map((name) => make("input", {
    type: "radio", name: group, value: name, ...OWN_KEYS,
    change: () => {
      model.set("mode", name);
      model.save_changes();
    },
  }));
  const board = make("canvas", { width: 2 * boardWidth, height: 2 * boardHeight, "aria-hidden": "true" });
  board.style.width = `${boardWidth}px`;
  const lines = shape("svg", { width: boardWidth, height: boardHeight, "aria-hidden": "true" });
  const buttons = Array.from({ length: N }, (_, i) => Array.from({ length: T }, (_, t) => {
    const button = make("button", {
      type: "button", role: "gridcell", class: "vos-cell", tabindex: "-1", ...OWN_KEYS,
      click: () => choose([t, i]),
      pointerenter: (event) => { if (event.pointerType !== "touch") look([t, i]); },
      focus: () => { if (buttons[i][t].matches(":focus-visible")) look([t, i]); },
    });
    Object.assign(button.style, { left: `${x(t)}px`, top: `${y(i)}px`, width: `${cw}px`, height: `${ch}px` });
    return button;
  }));
  const grid = make(
    "div",
    { role: "grid", "aria-label": `${model.get("alt")}. Rows are slots, columns are frames.`, class: "vos-grid" },
    ...buttons.map((row, i) => make("div", { role: "row", "aria-label": labels[i] }, ...row)),
  );
  const rowNames = labels.map((label, i) => {
    const name = make("span", { class: "vos-slot", title: label, "aria-hidden": "true" }, label);
    Object.assign(name.style, { top: `${y(i) + ch / 2 - 10}px` });
    return name;
  });
  const stage = make("div", { class: "vos-stage" }, board, lines, grid, ...rowNames);
  Object.assign(stage.style, { width: `${boardWidth}px`, height: `${boardHeight}px` });

  const legend = Object.fromEntries(Object.entries(KINDS).map(([kind, [letter, carries]]) => {
    const sample = shape("svg", { width: 30, height: 14, "aria-hidden": "true" }, arrow(kind, 1, 7, 29, 7, true));
    const state = make("span", {});
    const badge = make("span", { class: `vos-badge vos-${kind}` }, letter);
    return [kind, { state, item: make("span", { class: "vos-kind" }, badge, sample, make("span", {}, make("b", {}, kind), ": ", carries, state)) }];
  }));
  const givenSample = shape("svg", { width: 12, height: 14, class: "vos-arrow vos-mask vos-lit", "aria-hidden": "true" },
    shape("rect", { x: 2, y: 3, width: 8, height: 8 }));
  const given = make("span", { class: "vos-kind" }, givenSample, make("span", {}, "given mask"));
  const summary = make("div", { class: "vos-reads" });

  const canvasFor = (width) => {
    const canvas = make("canvas", { width: 2 * width, height: Math.round((2 * width * H) / W), role: "img" });
    canvas.style.width = `${width}px`;
    return canvas;
  };
  const picture = canvasFor(pictureWidth);
  const map = canvasFor(pictureWidth);
  const pictureHead = make("b", {});
  const covered = make("div", { class: "vos-under" });
  const rows = levels.map(({ size, shown, channels }, k) => {
    const tiles = channels[0].map(() => {
      const canvas = make("canvas", { width: shown[1], height: shown[0], role: "img" });
      Object.assign(canvas.style, { height: `${tileHeight}px`, width: `${tileWidth}px` });
      return canvas;
    });
    const scale = make("span", { class: "vos-soft" });
    const name = make("span", { class: "vos-level" }, make("span", {}, `level ${k}`), make("span", { class: "vos-soft" }, `${size[0]} × ${size[1]} `), scale);
    name.classList.toggle("vos-two-lines", levelWidth > 70);
    return { tiles, scale, element: make("div", { class: "vos-row" }, name, ...tiles) };
  });
  const rampLine = make("span", { class: "vos-hidden-ramp", "aria-hidden": "true" });
  const stops = [0, 64, 128, 192, 255].map((v) => `rgb(${bytesOf(model.get("_ramp")).subarray(3 * v, 3 * v + 3).join(" ")})`);
  rampLine.style.background = `linear-gradient(to right, ${stops.join(", ")})`;

  const root = make(
    "div",
    { class: "vos vos-recurrence", role: "group", "aria-label": "Recurrence grid" },
    make(
      "fieldset", {}, make("legend", {}, "Recurrence"),
      ...radios.map((radio) => make("label", {}, radio, radio.value)),
    ),
    make("div", { class: "vos-scroll" }, stage),
    make("div", { class: "vos-kinds" }, legend.space.item, legend.time.item, ...(someMask ? [legend.mask.item, given] : [])),
    summary,
    make(
      "div",
      { class: "vos-details" },
      make("div", {}, make("div", { class: "vos-title" }, pictureHead), picture, covered),
      make(
        "div", {}, make("div", { class: "vos-title" }, make("b", {}, "Probability")), map,
        make("div", { class: "vos-under" }, "0 ", make("span", { class: "vos-ramp", "aria-hidden": "true" }), " 1"),
      ),
      make(
        "div", {}, make("div", { class: "vos-title" }, make("b", {}, "Hidden state h"), make("span", { class: "vos-soft" }, " channels that vary most")),
        make("div", { class: "vos-rows" }, ...rows.map(({ element }) => element)),
        make("div", { class: "vos-under" }, "− ", rampLine, " +"),
      ),
    ),
  );
  root.style.setProperty("--level", `${levelWidth}px`);
  el.append(root);

  // --- thumbnails ---
  /** Draw the mask of a cell over what is on a canvas. */
  function drawMask(context, canvas, probabilities, i, words, pageWidth, side) {
    const painter = new Painter(H, W, pageWidth, side);
    painter.objects(probabilities.map((p) => (p >= HALF ? i + 1 : 0)), words, solid);
    const drawing = make("canvas", { width: painter.image.width, height: painter.image.height });
    drawing.getContext("2d").putImageData(painter.image, 0, 0);
    context.drawImage(drawing, 0, 0, canvas.width, canvas.height);
  }

  const thumbnails = new Map(); // mode -> [N][T] canvases
  function thumbnailsOf(mode) {
    if (!thumbnails.has(mode)) {
      thumbnails.set(mode, Array.from({ length: N }, (_, i) => Array.from({ length: T }, (_, t) => {
        const canvas = make("canvas", { width: 2 * cw, height: 2 * ch });
        const context = canvas.getContext("2d");
        context.drawImage(bitmaps[t], 0, 0, canvas.width, canvas.height);
        context.fillStyle = "rgb(0 0 0 / 45%)";
        context.fillRect(0, 0, canvas.width, canvas.height);
        drawMask(context, canvas, probability(mode, t, i), i, strong, cw, 4 * Math.max(cw, ch));
        return canvas;
      })));
    }
    return thumbnails.get(mode);
  }

  // --- the cell ---
  let looked = null; // a cell that is looked at but not chosen
  const chosen = () => model.get("cell");
  const shown = () => looked ?? chosen();

  function look(cell) {
    if (String(cell) === String(looked)) return;
    looked = cell;
    draw();
  }

  function choose(cell) {
    looked = null;
    if (String(cell) !== String(chosen())) {
      model.set("cell", cell);
      model.save_changes();
    }
    draw();
  }

  grid.addEventListener("pointerleave", () => look(null));
  grid.addEventListener("focusout", (event) => { if (!grid.contains(event.relatedTarget)) look(null); });
  const moves = {
    ArrowUp: ([t, i]) => [t, Math.max(0, i - 1)], ArrowDown: ([t, i]) => [t, Math.min(N - 1, i + 1)],
    ArrowLeft: ([t, i]) => [Math.max(0, t - 1), i], ArrowRight: ([t, i]) => [Math.min(T - 1, t + 1), i],
    Home: ([, i]) => [0, i], End: ([, i]) => [T - 1, i],
  };
  grid.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    if (moves[event.key]) look(moves[event.key](shown()));
    else if (event.key === "Enter" || event.key === " ") choose(shown());
    else if (event.key === "Escape") look(null);
    else return;
    const [t, i] = shown();
    buttons[i][t].focus();
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
    const mode = modes.indexOf(model.get("mode"));
    const [t, i] = shown();
    const found = ancestorsOf(t, i, rules[mode]);
    const lit = new Set([String([t, i]), ...Object.values(found).flat().map(String)]);
    paintBoard(mode, lit);
    paintLines(mode, [t, i], found, lit);
    paintDetails(mode, t, i);
    describe(mode, t, i, found, lit);
    root.ancestors = found;
    root.dataset.cell = `${t} ${i}`;
    root.dataset.chosen = chosen().join(" ");
    root.dataset.mode = modes[mode];
  }

  function paintBoard(mode, lit) {
    const context = board.getContext("2d");
    context.clearRect(0, 0, board.width, board.height);
    thumbnailsOf(mode).forEach((row, i) => row.forEach((canvas, t) => {
      context.globalAlpha = lit.has(String([t, i])) ? 1 : 0.25;
      context.drawImage(canvas, 2 * x(t), 2 * y(i));
    }));
  }

  function paintLines(mode, [t0, i0], found, lit) {
    const rule = rules[mode];
    const parts = [shape("text", { x: 0, y: 12, class: "vos-tick" }, "frame")];
    const [above, below] = rule.mask ? [-ch / 6, ch / 6] : [0, 0];
    for (let t = 0; t < T; t++) {
      parts.push(shape("text", { x: x(t) + cw / 2, y: 12, class: `vos-tick vos-middle${t === t0 ? " vos-now" : ""}` }, String(times[t])));
      if (rule.cut === t) {
        const at = x(t) - gap / 2;
        parts.push(shape("text", { x: at, y: 12, class: "vos-tick vos-middle vos-cut" }, gap > 20 ? "cut" : "✂"));
        parts.push(shape("path", { d: `M${at} 17V${boardHeight}`, class: "vos-cut-line" }));
      }
      for (let i = 0; i < N; i++) {
        const name = String([t, i]);
        const isLit = lit.has(name);
        const reads = parentsOf(t, i, rule);
        if (reads.space) parts.push(arrow("space", x(t) + cw / 2, y(i) - down + 3, x(t) + cw / 2, y(i) - 3, isLit));
        if (reads.time) parts.push(arrow("time", x(t) - gap + 3, y(i) + ch / 2 + above, x(t) - 3, y(i) + ch / 2 + above, isLit));
        if (reads.mask) parts.push(arrow("mask", x(t) - gap + 3, y(i) + ch / 2 + below, x(t) - 3, y(i) + ch / 2 + below, isLit));
        else if (rule.mask) parts.push(givenMask(x(t), y(i) + ch / 2 + below, isLit));
        if (isLit) parts.push(shape("rect", { x: x(t), y: y(i), width: cw, height: ch, class: "vos-ancestor" }));
      }
    }
    if (looked !== null && String(looked) !== String(chosen())) parts.push(outline(chosen(), "vos-chosen vos-left"));
    parts.push(outline([t0, i0], "vos-casing"), outline([t0, i0], "vos-chosen"));
    const badges = new Map(); // a parent -> kinds
    for (const kind of Object.keys(KINDS)) for (const cell of found[kind]) badges.set(String(cell), [...(badges.get(String(cell)) ?? []), kind]);
    for (const [name, kinds] of badges) {
      const [t, i] = name.split(",").map(Number);
      kinds.forEach((kind, place) => parts.push(badge(kind, x(t) + 9 + place * 17, y(i) + 9)));
    }
    lines.replaceChildren(...parts);
  }

  function outline([t, i], name) {
    return shape("rect", { x: x(t) - 1, y: y(i) - 1, width: cw + 2, height: ch + 2, rx: 2, class: name });
  }

  function badge(kind, cx, cy) {
    return shape("g", { class: `vos-letter vos-${kind}` }, shape("circle", { cx, cy, r: 7.5 }), shape("text", { x: cx, y: cy + 3.8 }, KINDS[kind][0]));
  }

  function givenMask(right, middle, isLit) {
    const box = shape("rect", { x: right - Math.min(gap, 24) + 1, y: middle - 3.5, width: 7, height: 7 });
    const line = arrow("mask", right - Math.min(gap, 24) + 9, middle, right - 3, middle, isLit);
    line.append(box);
    return line;
  }

  const small = make("canvas", { width: W, height: H });
  const heatImage = new ImageData(W, H);
  const heatWords = new Uint32Array(heatImage.data.buffer);

  function paintDetails(mode, t, i) {
    const p = probability(mode, t, i);
    const [a, b] = [picture.getContext("2d"), map.getContext("2d")];
    for (const context of [a, b]) context.drawImage(bitmaps[t], 0, 0, picture.width, picture.height);
    drawMask(a, picture, p, i, tint, pictureWidth, 2 * Math.max(pictureWidth, (pictureWidth * H) / W));
    darken(b, map);
    for (let n = 0; n < p.length; n++) heatWords[n] = HEAT[Math.round((255 * p[n]) / (STEPS - 1))];
    small.getContext("2d").putImageData(heatImage, 0, 0);
    b.drawImage(small, 0, 0, map.width, map.height);
    rows.forEach(({ tiles, scale }, k) => {
      const { shown: [h, w], channels, scale: scales } = levels[k];
      scale.textContent = `±${scales[mode].toFixed(2)}`;
      tiles.forEach((canvas, c) => {
        const start = begins[mode][k] + ((t * N + i) * tiles.length + c) * h * w;
        const image = new ImageData(w, h);
        const words = new Uint32Array(image.data.buffer);
        for (let n = 0; n < h * w; n++) words[n] = ramp[hidden[start + n]];
        canvas.getContext("2d").putImageData(image, 0, 0);
        const said = `level ${k}, channel ${channels[mode][c]}`;
        canvas.title = said;
        canvas.setAttribute("aria-label", `Hidden state of ${labels[i]} in frame ${times[t]}: ${said}.`);
      });
    });
  }

  /** How much of the frame a cell's mask covers, and the slot of the same frame whose mask is most like it. */
  function measure(mode, t, i) {
    const mine = probability(mode, t, i);
    const pixels = mine.reduce((sum, p) => sum + (p >= HALF), 0);
    let best = null;
    for (let j = 0; j < N; j++) {
      if (j === i) continue;
      const other = probability(mode, t, j);
      let both = 0;
      let either = 0;
      for (let n = 0; n < mine.length; n++) {
        both += mine[n] >= HALF && other[n] >= HALF;
        either += mine[n] >= HALF || other[n] >= HALF;
      }
      const iou = either > 0 ? both / either : 0;
      if (best === null || iou > best.iou) best = { slot: j, iou };
    }
    return { part: pixels / mine.length, best };
  }

  function describe(mode, t, i, found, lit) {
    const rule = rules[mode];
    const { part, best } = measure(mode, t, i);
    pictureHead.textContent = `${labels[i]}, frame ${times[t]}`;
    covered.replaceChildren(part > 0 ? `mask: ${share(part)} of the frame` : "no mask: all below 0.5");
    if (best && part > 0) covered.append(make("br"), `IoU with ${labels[best.slot]}: ${best.iou.toFixed(2)}`);
    const overlap = best ? ` Its overlap with ${labels[best.slot]} is ${best.iou.toFixed(2)}.` : "";
    picture.setAttribute("aria-label", `Frame ${times[t]} with the mask of ${labels[i]}, which covers ${share(part)} of it.${overlap}`);
    map.setAttribute("aria-label", `Probabilities of ${labels[i]} in frame ${times[t]}.`);
    const reads = [];
    for (const kind of Object.keys(KINDS)) {
      for (const [pt, pi] of found[kind]) {
        const what = { space: `h and c of ${labels[pi]}`, time: `h of frame ${times[pt]}`, mask: `its output of frame ${times[pt]}` }[kind];
        reads.push([kind, what]);
      }
    }
    if (rule.mask && found.mask.length === 0) reads.push(["mask", "the given mask"]);
    const others = T * N - 1;
    const count = lit.size - 1;
    summary.replaceChildren(make("b", {}, `${labels[i]}, frame ${times[t]}`), reads.length > 0 ? " reads " : " reads no other box", ...reads.flatMap(([kind, what], n) => [
      ...(n > 0 ? [", "] : []), make("span", { class: "vos-read" }, make("span", { class: `vos-badge vos-${kind}` }, KINDS[kind][0]), ` ${what}`),
    ]), `. ${count} of the ${others} other boxes can influence it.`);
    for (const radio of radios) radio.checked = radio.value === modes[mode];
    followRule(rule);
    buttons.forEach((row, slot) => row.forEach((button, frame) => {
      const current = frame === t && slot === i;
      const name = String([frame, slot]);
      const kinds = Object.keys(KINDS).filter((kind) => found[kind].some((cell) => String(cell) === name));
      let relation = lit.has(name) ? ", indirect ancestor" : "";
      if (kinds.length > 0) relation = `, parent by ${kinds.join(" and ")}`;
      if (current) relation = `: reads ${reads.map(([kind, what]) => `${kind}, ${what}`).join("; ") || "no other box"}; ${count} of ${others} other boxes can influence it`;
      button.setAttribute("aria-label", `${labels[slot]}, frame ${times[frame]}${relation}`);
      button.setAttribute("aria-selected", String([frame, slot]) === String(chosen()));
      button.tabIndex = current ? 0 : -1;
    }));
  }

  /** Which kinds of arrows this roll-out has. */
  function followRule({ space, time, mask, cut }) {
    const states = {
      space: space === true ? "" : space ? " (frame 0 only)" : " (off)",
      time: !time ? " (off)" : cut === null ? "" : ` (cut at frame ${times[cut]})`,
      mask: !mask ? " (off)" : "",
    };
    for (const [kind, { state, item }] of Object.entries(legend)) {
      state.textContent = states[kind];
      item.classList.toggle("vos-missing", states[kind] === " (off)");
    }
    given.classList.toggle("vos-missing", !mask);
  }

  const follow = { "change:cell": () => { looked = null; draw(); }, "change:mode": draw };
  for (const [event, listener] of Object.entries(follow)) model.on(event, listener);
  paint();
  root.dataset.ready = "true";

  return () => {
    for (const [event, listener] of Object.entries(follow)) model.off(event, listener);
    cancelAnimationFrame(drawing);
    root.dataset.closed = "true";
    frames.close();
    root.remove();
  };
}

export default { render };
