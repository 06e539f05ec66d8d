// GradeBench: four sliders make a prediction of the true mask; J, F and the picture of F are computed here.

/** Offsets [dy, dx] within a disk. */
function disk(radius) {
  const offsets = [];
  for (let dy = -radius; dy <= radius; dy++) {
    for (let dx = -radius; dx <= radius; dx++) if (dy * dy + dx * dx <= radius * radius) offsets.push([dy, dx]);
  }
  return offsets;
}

/** Every pixel of a mask spread over a disk. */
function spread(mask, H, W, radius) {
  const out = new Uint8Array(mask.length);
  const offsets = disk(radius);
  for (let i = 0; i < mask.length; i++) {
    if (!mask[i]) continue;
    const [y, x] = [Math.floor(i / W), i % W];
    for (const [dy, dx] of offsets) {
      if (y + dy >= 0 && y + dy < H && x + dx >= 0 && x + dx < W) out[i + dy * W + dx] = 1;
    }
  }
  return out;
}

/** The pixels that differ from their right, lower or lower right neighbour. */
function boundary(mask, H, W) {
  const out = new Uint8Array(mask.length);
  for (let y = 0, i = 0; y < H; y++) {
    for (let x = 0; x < W; x++, i++) {
      const [right, down] = [x < W - 1, y < H - 1];
      const differs = (j) => mask[j] !== mask[i];
      if ((right && differs(i + 1)) || (down && differs(i + W)) || (right && down && differs(i + W + 1))) out[i] = 1;
    }
  }
  return out;
}

/** Cut on the right, then grown or shrunk, then shifted. */
function changed(truth, H, W, { right, down, grow, hide }) {
  let [first, last] = [W, -1];
  truth.forEach((on, i) => {
    if (on) [first, last] = [Math.min(first, i % W), Math.max(last, i % W)];
  });
  const end = first + Math.round(((last + 1 - first) * (100 - hide)) / 100);
  let mask = truth.map((on, i) => (on && i % W < end ? 1 : 0));
  if (grow > 0) mask = spread(mask, H, W, grow);
  if (grow < 0) mask = spread(mask.map((on) => 1 - on), H, W, -grow).map((on) => 1 - on);
  const moved = new Uint8Array(mask.length);
  mask.forEach((on, i) => {
    const [y, x] = [Math.floor(i / W) + down, (i % W) + right];
    if (on && y >= 0 && y < H && x >= 0 && x < W) moved[y * W + x] = 1;
  });
  return moved;
}

/** How many pixels are set in both. */
function shared(a, b) {
  return a.reduce((sum, on, i) => sum + (on && b[i] ? 1 : 0), 0);
}

function grade(truth, guess, H, W, tolerance) {
  const [inBoth, all] = [shared(truth, guess), shared(truth, truth) + shared(guess, guess)];
  const [true_, found] = [boundary(truth, H, W), boundary(guess, H, W)];
  const [nearTrue, nearFound] = [spread(true_, H, W, tolerance), spread(found, H, W, tolerance)];
  const [nTrue, nFound] = [shared(true_, true_), shared(found, found)];
  const [precise, recalled] = [shared(found, nearTrue), shared(true_, nearFound)];
  const [p, r] = [precise / Math.max(nFound, 1), recalled / Math.max(nTrue, 1)];
  const F = nTrue === 0 && nFound === 0 ? 1 : p + r > 0 ? (2 * p * r) / (p + r) : 0;
  return {
    J: all > inBoth ? inBoth / (all - inBoth) : 1, F, inBoth, either: all - inBoth,
    precision: nFound ? p : 1, recall: nTrue ? r : 1, true_, found, nearTrue, nearFound,
  };
}

const MARGIN = 12;

/** The part of the picture around the object: left, top, width and height in pixels. */
function around(truth, H, W) {
  const [xs, ys] = [[], []];
  truth.forEach((on, i) => {
    if (on) [xs[xs.length], ys[ys.length]] = [i % W, Math.floor(i / W)];
  });
  const ends = (values, size) => [
    Math.max(0, values.reduce((a, b) => Math.min(a, b)) - MARGIN), Math.min(size, values.reduce((a, b) => Math.max(a, b)) + 1 + MARGIN),
  ];
  const [[left, right], [top, bottom]] = [ends(xs, W), ends(ys, H)];
  return [left, top, right - left, bottom - top];
}

const SLIDERS = {
  right: ["shift right", "px"], down: ["shift down", "px"], grow: ["grow", "px"], hide: ["cut off on the right", "%"],
};

async function render({ model, el }) {
  const [H, W] = model.get("_size");
  const tolerance = model.get("_tolerance");
  const ranges = model.get("_ranges");
  const truth = await inflate(bytesOf(model.get("_truth")));
  const jpeg = new Blob([bytesOf(model.get("_frame"))], { type: "image/jpeg" });
  const bitmap = await createImageBitmap(jpeg);
  const pageWidth = 300;
  const painter = new Painter(H, W, pageWidth, 640);
  const size = { width: painter.image.width, height: painter.image.height };
  const drawing = make("canvas", size);
  const fill = new Uint32Array(256).fill(word(230, 159, 0, 105));
  const edge = new Uint32Array(256).fill(word(230, 159, 0));
  const white = new Uint32Array(256).fill(word(255, 255, 255));
  const nothing = new Uint32Array(256);

  // --- the page ---
  const picture = make("canvas", { ...size, role: "img" });
  const [left, top, wide, high] = around(truth, H, W);
  const cell = Math.round(640 / Math.max(wide, high)); // of the outlines, which show the object larger
  const outlines = make("canvas", { width: cell * wide, height: cell * high, role: "img" });
  const rows = Object.entries(SLIDERS).map(([name, [label, unit]]) => {
    const id = freshId();
    const shown = make("output", { for: id });
    const slider = make("input", {
      type: "range", id, min: ranges[name][0], max: ranges[name][1], step: 1, ...OWN_KEYS,
      input: () => {
        model.set(name, Number(slider.value));
        model.save_changes();
      },
    });
    return { name, unit, slider, shown, row: make("div", { class: "vos-dial" }, make("label", { for: id }, label), slider, shown) };
  });
  const reset = make("button", {
    type: "button", ...OWN_KEYS,
    click: () => {
      for (const { name } of rows) model.set(name, 0);
      model.save_changes();
    },
  }, "Reset");
  const values = Object.fromEntries(["J", "F", "precision", "recall"].map((name) => [name, make("b", {})]));
  const areas = make("span", { class: "vos-note" });
  const key = (kind, text) => make("span", { class: `vos-key ${kind}` }, text);
  const root = make(
    "div",
    { class: "vos vos-bench", role: "group", "aria-label": "Grade bench" },
    make("div", { class: "vos-dials" }, ...rows.map(({ row }) => row), reset),
    make(
      "div",
      { class: "vos-pair" },
      make("div", { class: "vos-column" }, picture, make("div", { class: "vos-under" }, key("filled", "prediction"), key("line", "truth"))),
      make(
        "div",
        { class: "vos-column" },
        outlines,
        make("div", { class: "vos-under" }, key("dot", "matches"), key("cross", "drawn, not true"), key("ring", "true, not drawn"), key("band", `tolerance, ${tolerance} px`)),
      ),
    ),
    make(
      "div",
      { class: "vos-grades", "aria-live": "polite" },
      make("span", {}, "J ", values.J), areas, make("span", {}, "F ", values.F),
      make("span", { class: "vos-note" }, "precision ", values.precision, ", recall ", values.recall),
    ),
  );
  root.style.setProperty("--picture", `${pageWidth}px`);
  el.append(root);

  // --- drawing ---
  function drawOver(context, ids, words, lines) {
    painter.clear();
    painter.objects(ids, words, lines);
    drawing.getContext("2d").putImageData(painter.image, 0, 0);
    context.drawImage(drawing, 0, 0);
  }

  function drawOutlines(found) {
    const context = outlines.getContext("2d");
    const at = (i, draw) => draw(((i % W) - left + 0.5) * cell, (Math.floor(i / W) - top + 0.5) * cell);
    context.fillStyle = "#ffffff";
    context.fillRect(0, 0, outlines.width, outlines.height);
    context.fillStyle = "#cfe3f3";
    found.nearTrue.forEach((on, i) => on && at(i, (x, y) => context.fillRect(x - cell / 2, y - cell / 2, cell, cell)));
    context.lineWidth = Math.max(1.5, 0.2 * cell);
    for (let i = 0; i < truth.length; i++) {
      if (found.true_[i] && !found.nearFound[i]) {
        context.strokeStyle = "#222222";
        at(i, (x, y) => context.strokeRect(x - 0.3 * cell, y - 0.3 * cell, 0.6 * cell, 0.6 * cell));
      }
      if (!found.found[i]) continue;
      context.beginPath();
      if (found.nearTrue[i]) {
        context.fillStyle = "#0072b2";
        at(i, (x, y) => context.arc(x, y, 0.36 * cell, 0, 2 * Math.PI));
        context.fill();
      } else {
        context.strokeStyle = "#d55e00";
        at(i, (x, y) => {
          const r = 0.38 * cell;
          context.moveTo(x - r, y - r);
          context.lineTo(x + r, y + r);
          context.moveTo(x + r, y - r);
          context.lineTo(x - r, y + r);
        });
        context.stroke();
      }
    }
  }

  function draw() {
    const dials = Object.fromEntries(rows.map(({ name }) => [name, model.get(name)]));
    for (const { name, unit, slider, shown } of rows) {
      slider.value = dials[name];
      slider.setAttribute("aria-valuetext", `${dials[name]} ${unit === "px" ? "pixels" : "percent"}`);
      shown.textContent = `${dials[name]} ${unit}`;
    }
    const guess = changed(truth, H, W, dials);
    const found = grade(truth, guess, H, W, tolerance);
    const context = picture.getContext("2d");
    context.drawImage(bitmap, 0, 0, picture.width, picture.height);
    drawOver(context, guess, fill, edge);
    drawOver(context, truth, nothing, white);
    drawOutlines(found);
    for (const [name, element] of Object.entries(values)) element.textContent = found[name].toFixed(2);
    areas.textContent = `${found.inBoth} of ${found.either} pixels`;
    const said = `J ${found.J.toFixed(2)}, F ${found.F.toFixed(2)}`;
    picture.setAttribute("aria-label", `${model.get("alt")}. The prediction filled, the truth as a line; ${said}.`);
    outlines.setAttribute("aria-label", `Both outlines; precision ${found.precision.toFixed(2)}, recall ${found.recall.toFixed(2)}.`);
    root.dataset.dials = rows.map(({ name }) => dials[name]).join(" ");
  }

  const names = rows.map(({ name }) => `change:${name}`);
  for (const name of names) model.on(name, draw);
  draw();
  root.dataset.ready = "true";
  return () => {
    for (const name of names) model.off(name, draw);
    root.dataset.closed = "true";
    bitmap.close();
    root.remove();
  };
}

export default { render };
