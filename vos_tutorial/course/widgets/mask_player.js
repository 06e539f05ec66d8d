// MaskPlayer: every frame and mask is on the page; Jupyter only hears where the reader stopped.

const INK = word(34, 34, 34);
// Kinds of error: colour, and the pixels of the drawing that carry ink, so that colour is never alone.
const ERRORS = [
  null,
  { name: "miss", rgb: [0, 114, 178], inked: (x, y) => (x + y) % 7 < 1 },
  { name: "false alarm", rgb: [213, 94, 0], inked: (x, y) => x % 5 < 2 && y % 5 < 2 && ((x / 5) | 0) % 2 === ((y / 5) | 0) % 2 },
  { name: "wrong object", rgb: [240, 228, 66], inked: (x, y) => (x + y) % 8 < 1 || (x - y + 8000) % 8 < 1 },
];

/** What is wrong in one cell: 0 right, 1 miss, 2 false alarm, 3 wrong object; void is never wrong. */
function errorKind(truth, prediction) {
  if (truth === prediction || truth === VOID || prediction === VOID) return 0;
  return prediction === 0 ? 1 : truth === 0 ? 2 : 3;
}

/** Draws masks and, in place of them, what is wrong with them. */
class ErrorPainter extends Painter {
  /** Colour every cell by its kind of error, hatched; returns how many cells there are of each kind. */
  errors(truth, prediction, hidden) {
    const { H, W, scale, density } = this;
    const stride = W * scale;
    const colours = ERRORS.map((kind) => (kind ? word(...kind.rgb) : 0));
    const counts = [0, 0, 0, 0];
    for (let y = 0, i = 0; y < H; y++) {
      for (let x = 0; x < W; x++, i++) {
        const kind = errorKind(truth[i], prediction[i]);
        const off = (id) => id === 0 || hidden.has(id);
        if (kind === 0 || (off(truth[i]) && off(prediction[i]))) continue;
        counts[kind] += 1;
        for (let py = y * scale; py < (y + 1) * scale; py++) {
          for (let px = x * scale; px < (x + 1) * scale; px++) {
            this.out[py * stride + px] = ERRORS[kind].inked((px / density) | 0, (py / density) | 0) ? INK : colours[kind];
          }
        }
      }
    }
    return counts;
  }
}

/** A swatch of one kind of error for the legend, drawn by the same rule as the picture. */
function swatch(kind) {
  const canvas = make("canvas", { width: 28, height: 14, "aria-hidden": "true" });
  const image = new ImageData(28, 14);
  const out = new Uint32Array(image.data.buffer);
  for (let i = 0; i < out.length; i++) {
    out[i] = kind.inked(i % 28, (i / 28) | 0) ? INK : word(...kind.rgb);
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
  return canvas;
}

async function render({ model, el }) {
  const [T, H, W] = model.get("_shape");
  const frames = new Frames(bytesOf(model.get("_frames")), model.get("_offsets"));
  const colours = bytesOf(model.get("_colours"));
  const pageWidth = Math.round(Math.min(600, (420 * W) / H)); // pixels of the page: wide enough to see, low enough to fit
  const painter = new ErrorPainter(H, W, pageWidth);
  const masks = make("canvas", { width: painter.image.width, height: painter.image.height });
  const masksContext = masks.getContext("2d");
  const solid = colourWords(colours, 255);
  let layers = new Uint8Array(); // [layers, T, H, W]

  // --- the page ---
  const ids = { view: freshId(), opacity: freshId() };
  const canvas = make("canvas", {
    width: masks.width, height: masks.height, role: "img", tabindex: "0", class: "vos-picture", ...OWN_KEYS,
  });
  const context = canvas.getContext("2d");
  const move = new Transport({
    T, fps: () => model.get("fps"), ready: (t) => frames.get(t), show: paint, note,
  });
  move.listen(canvas);
  const readout = make("output", { class: "vos-readout", for: move.slider.id });
  const chart = make("div", { class: "vos-chart", "aria-hidden": "true", title: "J of every frame, 0 to 100 %" });
  const cursor = make("div", { class: "vos-cursor" });
  const view = make("select", {
    id: ids.view, change: () => { model.set("view", view.value); model.save_changes(); }, ...OWN_KEYS,
  });
  const opacity = make("input", {
    type: "range", id: ids.opacity, min: 0, max: 1, step: 0.05,
    input: () => { model.set("opacity", Number(opacity.value)); }, change: () => model.save_changes(), ...OWN_KEYS,
  });
  const objects = make("div", { class: "vos-objects", role: "group", "aria-label": "Objects" });
  const legend = make("div", { class: "vos-legend" });
  const root = make(
    "div",
    { class: "vos vos-player", role: "group", "aria-label": "Mask player" },
    canvas,
    make("div", { class: "vos-row" }, move.play, make("div", { class: "vos-track" }, move.slider, chart), readout),
    make(
      "div",
      { class: "vos-row vos-options" },
      make("label", { for: ids.view }, "View"), view,
      make("label", { for: ids.opacity }, "Opacity"), opacity,
      objects,
    ),
    legend,
  );
  root.style.setProperty("--width", `${pageWidth}px`);
  el.append(root);

  // --- drawing ---
  const currentView = () => model.get("_views").find((v) => v.name === model.get("view")) ?? model.get("_views")[0];
  const layerAt = (layer, t) => layers.subarray((layer * T + t) * H * W, (layer * T + t + 1) * H * W);

  function paint(bitmap, t) {
    const begun = performance.now();
    const { layer, error } = currentView();
    const hidden = new Set(model.get("hidden"));
    context.globalCompositeOperation = "source-over";
    context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
    painter.clear();
    let numbers = new Map();
    let counts = null;
    if (error) {
      pale(context, canvas);
      counts = painter.errors(layerAt(0, t), layerAt(layer, t), hidden);
    } else if (layer >= 0) {
      const visible = layerAt(layer, t).map((id) => (hidden.has(id) ? 0 : id));
      painter.objects(visible, colourWords(colours, Math.round(model.get("opacity") * 255)), solid);
      if (model.get("_objects").length > 1) numbers = hearts(visible, W, H);
    }
    if (layer >= 0) {
      masksContext.putImageData(painter.image, 0, 0);
      context.drawImage(masks, 0, 0);
    }
    writeNumbers(context, numbers, painter);
    describe(t, counts);
    root.dataset.frame = t;
    root.dataset.view = currentView().name;
    root.dataset.hidden = [...hidden].join(" ");
    root.dataset.drawMs = (performance.now() - begun).toFixed(2);
  }

  function describe(t, counts) {
    const { name, layer } = currentView();
    const score = model.get("_scores")[layer]?.[t] ?? null;
    readout.replaceChildren(
      make("span", { class: "vos-time" }, `${t} / ${T - 1}`),
      ...(score === null ? [] : [make("span", { class: "vos-score" }, `J ${score.toFixed(0)} %`)]),
    );
    const said = score === null ? "" : ` J ${score.toFixed(0)} percent.`;
    canvas.setAttribute("aria-label", `${model.get("alt")}. Frame ${t} of ${T - 1}, ${name}.${said}`);
    cursor.style.left = `${move.at(t)}%`;
    if (counts) {
      for (const item of legend.children) {
        const count = counts[Number(item.dataset.kind)];
        item.querySelector("b").textContent = `${((100 * count) / (H * W)).toFixed(1)} %`;
      }
    }
  }

  const repaint = () => move.repaint();

  /** Tell Jupyter where we are. */
  function note(t) {
    if (model.get("frame") === t) return;
    model.set("frame", t);
    model.save_changes();
  }

  move.scrub(chart);

  // --- following Jupyter ---
  function fillViews() {
    view.replaceChildren(...model.get("_views").map(({ name }) => make("option", { value: name }, name)));
    view.value = currentView().name;
    const few = model.get("_views").length < 2;
    view.hidden = view.previousElementSibling.hidden = few;
    followView();
  }

  function followView() {
    const { name, layer, error } = currentView();
    view.value = name;
    const scores = model.get("_scores")[layer];
    chart.replaceChildren(...(scores ? [strip(scores, T), cursor] : []));
    chart.hidden = !scores;
    legend.hidden = !error;
    legend.replaceChildren(
      ...ERRORS.flatMap((kind, k) =>
        kind && (k < 3 || model.get("_objects").length > 1)
          ? [make("span", { "data-kind": k, title: `${kind.name}, share of the picture` }, swatch(kind), ` ${kind.name} `, make("b"))]
          : []),
    );
    opacity.hidden = opacity.previousElementSibling.hidden = layer < 0;
    opacity.disabled = error; // errors are drawn in full; the control stays, so that nothing jumps
    objects.hidden = layer < 0 || objects.children.length === 0;
    repaint();
  }

  function fillObjects() {
    objects.replaceChildren(
      ...model.get("_objects").map(({ id, label: name }) => {
        const box = make("input", {
          type: "checkbox", "aria-label": name, ...OWN_KEYS,
          change: () => {
            const hidden = new Set(model.get("hidden"));
            box.checked ? hidden.delete(id) : hidden.add(id);
            model.set("hidden", [...hidden].sort((a, b) => a - b));
            model.save_changes();
          },
        });
        box.dataset.id = id;
        const key = make("span", { class: "vos-key", "aria-hidden": "true" });
        key.style.background = `rgb(${colours.subarray(id * 3, id * 3 + 3).join(" ")})`;
        key.textContent = model.get("_objects").length > 1 ? id : "";
        return make("label", {}, box, key, name);
      }),
    );
    followHidden();
  }

  function followHidden() {
    const hidden = new Set(model.get("hidden"));
    for (const box of objects.querySelectorAll("input")) box.checked = !hidden.has(Number(box.dataset.id));
    repaint();
  }

  function followOpacity() {
    opacity.value = model.get("opacity");
    repaint();
  }

  let loads = 0;
  async function load() {
    const mine = (loads += 1); // a second load may overtake the first: the last one started counts
    delete root.dataset.ready;
    const inflated = await inflate(bytesOf(model.get("_ids")));
    if (mine !== loads || root.dataset.closed !== undefined) return;
    layers = inflated;
    fillObjects();
    fillViews();
    await repaint();
    root.dataset.ready = "true";
  }

  const follow = {
    "change:frame": () => { if (model.get("frame") !== move.wanted) move.jump(model.get("frame")); },
    "change:view": followView,
    "change:opacity": followOpacity,
    "change:hidden": followHidden,
    "change:_ids": load,
  };
  for (const [event, listener] of Object.entries(follow)) model.on(event, listener);

  move.wanted = model.get("frame");
  opacity.value = model.get("opacity");
  await load();

  return () => {
    for (const [event, listener] of Object.entries(follow)) model.off(event, listener);
    move.close();
    root.dataset.closed = "true";
    frames.close();
    root.remove();
  };
}

/** Take the colour out of what is drawn and push it back, so that errors stand out. */
function pale(context, { width, height }) {
  context.globalCompositeOperation = "saturation";
  context.fillStyle = "#808080";
  context.fillRect(0, 0, width, height);
  context.globalCompositeOperation = "source-over";
  context.fillStyle = "rgb(238 238 238 / 66%)";
  context.fillRect(0, 0, width, height);
}

/** Each object's number at its heart, unless the object is too thin to carry it. */
function writeNumbers(context, places, { scale, density }) {
  context.font = `bold ${Math.round(14 * density)}px system-ui, sans-serif`;
  context.textAlign = "center";
  context.textBaseline = "middle";
  context.lineWidth = 3 * density;
  context.lineJoin = "round";
  for (const [id, { x, y, depth }] of places) {
    if (id === VOID || depth * scale < 7 * density) continue;
    context.strokeStyle = "#222";
    context.strokeText(id, (x + 0.5) * scale, (y + 0.5) * scale);
    context.fillStyle = "#fff";
    context.fillText(id, (x + 0.5) * scale, (y + 0.5) * scale);
  }
}

export default { render };
