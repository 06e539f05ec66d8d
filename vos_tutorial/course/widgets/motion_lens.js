// MotionLens: both videos, the running and the frozen one, were looked at beforehand; the page only chooses.

const FPS = 5;
const GROUND = "#262626"; // under the heat; the ramp of common.css starts with it
const OBJECT = 1;

/** The outline of a mask as closed loops along the edges of its cells, on a canvas of `scale` pixels a cell. */
function outline(mask, H, W, scale) {
  const next = new Map(); // corner -> corners that follow, with the mask on the right hand
  const inside = (y, x) => y >= 0 && y < H && x >= 0 && x < W && mask[y * W + x] !== 0;
  const edge = (y0, x0, y1, x1) => {
    const from = y0 * (W + 1) + x0;
    next.set(from, [...(next.get(from) ?? []), y1 * (W + 1) + x1]);
  };
  for (let y = 0; y < H; y++) {
    for (let x = 0; x < W; x++) {
      if (!inside(y, x)) continue;
      if (!inside(y - 1, x)) edge(y, x, y, x + 1);
      if (!inside(y, x + 1)) edge(y, x + 1, y + 1, x + 1);
      if (!inside(y + 1, x)) edge(y + 1, x + 1, y + 1, x);
      if (!inside(y, x - 1)) edge(y + 1, x, y, x);
    }
  }
  const path = new Path2D();
  const at = (corner) => [scale * (corner % (W + 1)), scale * Math.floor(corner / (W + 1))];
  for (const start of next.keys()) {
    let corner = start;
    for (let begun = false; (next.get(corner) ?? []).length > 0; begun = true) {
      if (!begun) path.moveTo(...at(corner));
      corner = next.get(corner).pop();
      path.lineTo(...at(corner));
    }
  }
  return path;
}

/** An SVG element with attributes. */
function shape(tag, attributes, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/** IoU values in 0..1 as a line over the width of the chart. */
function chartLine(values, kind) {
  const points = values.map((v, n) => `${((1000 * n) / (values.length - 1)).toFixed(1)} ${(100 - 100 * v).toFixed(1)}`);
  return shape("path", { d: `M${points.join("L")}`, class: `vos-iou vos-${kind}` });
}

async function render({ model, el }) {
  const { T, delta, freeze, size: [H, W], small: [h, w] } = model.get("_shape");
  const S = T - 1;
  const names = model.get("_names");
  const numbers = model.get("_numbers");
  const truths = await inflate(bytesOf(model.get("_truth")));
  const masks = await inflate(bytesOf(model.get("_masks")));
  const motion = await inflate(bytesOf(model.get("_motion")));
  const colours = bytesOf(model.get("_colours"));
  const frames = new Frames(bytesOf(model.get("_frames")), model.get("_offsets"), T);
  const predictions = new Frames(bytesOf(model.get("_predicted")), model.get("_predicted_offsets"), 2 * S);
  const bitmaps = await Promise.all(Array.from({ length: T }, (_, t) => frames.get(t)));
  const painted = await Promise.all(Array.from({ length: 2 * S }, (_, n) => predictions.get(n)));
  const tint = colourWords(colours, 125);
  const solid = colourWords(colours, 255);

  const state = () => (model.get("frozen") ? 1 : 0);
  const shownAt = (t) => (model.get("frozen") ? Math.min(t, freeze) : t);
  const maskOf = (kind, t) => {
    const n = (state() * names.length + kind) * S + t - 1;
    return masks.subarray(n * H * W, (n + 1) * H * W);
  };

  // --- the page ---
  const pageWidth = Math.round(Math.min(212, (180 * W) / H)); // three of them beside each other
  const ids = { slider: freshId(), frozen: freshId(), truth: freshId() };
  const canvasOf = () => make("canvas", { width: 2 * pageWidth, height: Math.round((2 * pageWidth * H) / W), role: "img" });
  const panel = (title, ...under) => {
    const canvas = canvasOf();
    const head = make("b", {}, title);
    return { canvas, head, element: make("div", { class: "vos-panel" }, head, canvas, ...under.map((part) => make("div", { class: "vos-under" }, part))) };
  };
  const text = () => make("span", {});
  const [still, sees, error, copied, parted, top] = Array.from({ length: 6 }, text);
  const ramp = make("span", {}, "0 ", make("span", { class: "vos-ramp", "aria-hidden": "true" }), " ", top);
  const ious = names.map(() => make("b", { class: "vos-value" }));
  const empty = names.map(text);
  const framePanel = panel("Frame", still);
  const predictedPanel = panel("Predicted frame", sees, make("span", {}, error, copied));
  const motionPanel = panel("|prediction − last frame|", ramp, parted);
  const maskPanels = names.map((name, k) =>
    panel(`Mask, ${name}`, make("span", {}, lineSample(k === 0 ? "space" : "time"), " IoU ", ious[k], empty[k]),
      k === 1 ? "frame and generator's features" : name === "time zeroed" ? "features set to zero" : "frame alone"));
  const bars = numbers.scores === null ? [] : ["real frame", "predicted"].map((name) => {
    const value = make("div", { class: "vos-bar-value" });
    const number = make("span", { class: "vos-number" });
    return { value, number, element: make("div", { class: "vos-judged" }, make("span", {}, name), make("div", { class: "vos-bar-track", "aria-hidden": "true" }, value), number) };
  });
  const keys = make(
    "div",
    { class: "vos-keys" },
    make("div", { class: "vos-key-line" }, sampleOutline("vos-sample-mask"), "mask: 0.5 and more"),
    make("div", { class: "vos-key-line" }, sampleOutline("vos-sample-truth"), "truth"),
  );
  const sixth = make(
    "div",
    { class: "vos-panel vos-sixth" },
    ...(bars.length > 0 ? [make("b", {}, "Discriminator: is it real?"), ...bars.map(({ element }) => element)] : []),
    make("b", { class: "vos-keys-head" }, "Outlines"),
    keys,
  );
  const said = make("div", { class: "vos-said", role: "status" });

  const play = make("button", { type: "button", class: "vos-play", click: () => (playing ? pause() : start()), ...OWN_KEYS });
  const slider = make("input", {
    type: "range", id: ids.slider, min: 1, max: S, step: 1, "aria-label": "Time",
    input: () => { pause(); go(Number(slider.value)); }, ...OWN_KEYS,
  });
  const readout = make("output", { class: "vos-readout", for: ids.slider });
  const svg = shape("svg", { viewBox: "0 0 1000 100", preserveAspectRatio: "none" });
  const cursor = make("div", { class: "vos-cursor" });
  const cold = make("div", { class: "vos-cold" }, make("span", {}, `frame ${freeze} repeated`));
  const chart = make(
    "div", { class: "vos-chart vos-iou-chart", "aria-hidden": "true", title: "IoU with the truth, 0 to 1" },
    cold, svg, make("span", { class: "vos-tick vos-one" }, "IoU 1"), make("span", { class: "vos-tick vos-zero" }, "0"), cursor,
  );
  const box = (name, id) => make("input", {
    type: "checkbox", id, ...OWN_KEYS,
    change: (event) => { model.set(name, event.target.checked); model.save_changes(); },
  });
  const freezeBox = box("frozen", ids.frozen);
  const truthBox = box("truth", ids.truth);
  const ghost = make("span", { class: "vos-line-key" }, lineSample("ghost"), " with time, while the video runs");
  const root = make(
    "div",
    { class: "vos vos-lens", role: "group", "aria-label": "Motion lens" },
    make("div", { class: "vos-panels" }, ...[framePanel, predictedPanel, motionPanel, ...maskPanels].map(({ element }) => element), sixth),
    make(
      "div", { class: "vos-switches" },
      make("label", { for: ids.frozen, class: "vos-freeze" }, freezeBox, `Freeze the video at frame ${freeze}`),
      make("label", { for: ids.truth }, truthBox, "Outline of the truth"),
    ),
    said,
    make("div", { class: "vos-row" }, play, make("div", { class: "vos-track" }, slider, chart), readout),
    make(
      "div", { class: "vos-lines" },
      ...names.map((name, k) => make("span", { class: "vos-line-key" }, lineSample(k === 0 ? "space" : "time"), ` ${name}`)), ghost,
    ),
  );
  root.style.setProperty("--panel", `${pageWidth}px`);
  cold.style.left = `${(100 * (freeze - 1)) / (S - 1)}%`;
  el.append(root);

  function lineSample(kind) {
    return shape("svg", { width: 26, height: 10, class: "vos-line-sample", "aria-hidden": "true" }, shape("path", { d: "M1 5H25", class: `vos-iou vos-${kind}` }));
  }

  function sampleOutline(name) {
    return make("span", { class: `vos-sample ${name}`, "aria-hidden": "true" });
  }

  // --- drawing ---
  const heat = make("canvas", { width: w, height: h });
  const heatImage = new ImageData(w, h);
  const heatWords = new Uint32Array(heatImage.data.buffer);
  const painter = new Painter(H, W, pageWidth, 2 * Math.max(pageWidth, (pageWidth * H) / W));
  const layer = make("canvas", { width: painter.image.width, height: painter.image.height });
  const scale = (2 * pageWidth) / W;
  const loops = new Map(); // frame -> outline of the truth

  function drawTruth(context, frame) {
    if (!model.get("truth")) return;
    if (!loops.has(frame)) loops.set(frame, outline(truths.subarray(frame * H * W, (frame + 1) * H * W), H, W, scale));
    for (const [colour, width, dash] of [["#222", 6, []], ["#fff", 3, [9, 6]]]) {
      context.strokeStyle = colour;
      context.lineWidth = width;
      context.setLineDash(dash);
      context.stroke(loops.get(frame));
    }
  }

  function drawPicture({ canvas }, bitmap) {
    const context = canvas.getContext("2d");
    context.imageSmoothingEnabled = false; // a texture of single pixels: no filter may add to it
    context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
    return context;
  }

  let drawing = 0;
  /** Draw with the next frame of the screen; more calls until then cost nothing. */
  function draw() {
    drawing ||= requestAnimationFrame(() => { drawing = 0; paint(); });
  }

  function paint() {
    const begun = performance.now();
    const t = wanted;
    const [s, shown] = [state(), shownAt(t)];
    drawPicture(framePanel, bitmaps[shown]);
    drawPicture(predictedPanel, painted[s * S + t - 1]);
    paintMotion(s, t, shown);
    maskPanels.forEach((one, kind) => {
      const context = drawPicture(one, bitmaps[shown]);
      painter.clear();
      painter.objects(maskOf(kind, t).map((inside) => (inside ? OBJECT : 0)), tint, solid);
      layer.getContext("2d").putImageData(painter.image, 0, 0);
      context.drawImage(layer, 0, 0, one.canvas.width, one.canvas.height);
      drawTruth(context, shown);
    });
    describe(s, t, shown);
    root.dataset.time = t;
    root.dataset.frozen = s === 1;
    root.dataset.truth = model.get("truth");
    root.dataset.drawMs = (performance.now() - begun).toFixed(2);
  }

  function paintMotion(s, t, shown) {
    const { canvas } = motionPanel;
    const context = canvas.getContext("2d");
    const start = (s * S + t - 1) * h * w;
    for (let n = 0; n < h * w; n++) heatWords[n] = HEAT[motion[start + n]];
    heat.getContext("2d").putImageData(heatImage, 0, 0);
    context.fillStyle = GROUND;
    context.fillRect(0, 0, canvas.width, canvas.height);
    context.imageSmoothingEnabled = false;
    context.drawImage(heat, 0, 0, canvas.width, canvas.height);
    drawTruth(context, shown);
  }

  /** The frames that the generator sees at time t. */
  const windowAt = (t) => Array.from({ length: delta }, (_, n) => shownAt(Math.max(0, t - delta + n)));

  /** How much more motion there is inside of the object than outside. */
  function ratioAt(s, t) {
    const [inside, outside] = numbers.motion[s][t - 1];
    if (inside === null || outside === null) return "no object in this frame";
    return outside < 1e-6 ? "nothing moves" : `${(inside / outside).toFixed(1)} × as much inside as outside`;
  }

  function describe(s, t, shown) {
    const seen = windowAt(t);
    const [ours, copy] = numbers.errors[s][t - 1];
    const values = numbers.iou[s].map((line) => line[t - 1]);
    framePanel.head.textContent = `Frame ${shown}${shown < t ? ", repeated" : ""}`;
    still.textContent = "all that the spatial half sees";
    sees.textContent = `from frames ${seen.join(", ")}`;
    error.textContent = `error ${ours.toFixed(1)}`;
    copied.textContent = `; last frame copied: ${copy.toFixed(1)}`;
    parted.textContent = ratioAt(s, t);
    top.textContent = numbers.scale.toFixed(2);
    ious.forEach((value, k) => {
      value.textContent = values[k].toFixed(2);
      empty[k].textContent = maskOf(k, t).includes(1) ? "" : ": nothing reaches 0.5";
    });
    if (bars.length > 0) {
      numbers.scores[s][t - 1].forEach((score, k) => {
        bars[k].value.style.width = `${100 * score}%`;
        bars[k].number.textContent = score.toFixed(2);
      });
    }
    const sentence = tell(s, t, seen);
    if (said.textContent !== sentence) said.textContent = sentence; // or screen readers would say it again
    slider.value = t;
    slider.setAttribute("aria-valuetext", `time ${t} of ${S}, frame ${shown}${s ? ", video frozen" : ""}; IoU ${names.map((name, k) => `${name} ${values[k].toFixed(2)}`).join(", ")}`);
    readout.textContent = `${t} / ${S}`;
    cursor.style.left = `${(100 * (t - 1)) / (S - 1)}%`;
    const labels = [
      [framePanel, `${model.get("alt")}. Frame ${shown}, without any mask.`],
      [predictedPanel, `The frame that the generator predicts from frames ${seen.join(", ")}.`],
      [motionPanel, `Distance of the prediction from the last frame: ${ratioAt(s, t)}.`],
      ...maskPanels.map((one, k) => [one, `Frame ${shown} with the mask ${names[k]}, IoU ${values[k].toFixed(2)}.`]),
    ];
    for (const [one, label] of labels) one.canvas.setAttribute("aria-label", label);
  }

  /** One sentence on what the generator can know. */
  function tell(s, t, seen) {
    if (new Set(seen).size > 1) return `The generator's ${delta} frames differ: it can tell what moves from what does not.`;
    return s === 1 && t > freeze
      ? `The generator's ${delta} frames are all frame ${freeze}: nothing moves, and there is nothing to tell.`
      : `The generator's ${delta} frames are all frame ${seen[0]}: there is no other frame yet.`;
  }

  // --- the chart ---
  function fillChart() {
    const s = state();
    const lines = numbers.iou[s].map((values, k) => chartLine(values, k === 0 ? "space" : "time"));
    if (s === 1) lines.push(chartLine(numbers.iou[0][1], "ghost"));
    svg.replaceChildren(...lines.reverse()); // the dashed line last: where both are equal, both can be seen
    cold.hidden = s === 0;
    ghost.hidden = s === 0;
    freezeBox.checked = s === 1;
    draw();
  }

  function followTruth() {
    truthBox.checked = model.get("truth");
    keys.lastElementChild.classList.toggle("vos-missing", !model.get("truth"));
    draw();
  }

  // --- time ---
  let wanted = model.get("time");

  function go(t) {
    wanted = Math.max(1, Math.min(S, t));
    if (!playing) note();
    draw();
  }

  /** Tell Jupyter where we are. */
  function note() {
    if (model.get("time") === wanted) return;
    model.set("time", wanted);
    model.save_changes();
  }

  // The clock decides the frame, so that a slow page drops frames and keeps the time.
  let playing = null;

  function start() {
    const from = wanted === S ? 1 : wanted;
    const begun = performance.now();
    playing = { request: 0 };
    const tick = (now) => {
      const t = 1 + ((from - 1 + Math.floor((Math.max(0, now - begun) / 1000) * FPS)) % S);
      if (t !== wanted) go(t);
      playing.request = requestAnimationFrame(tick);
    };
    playing.request = requestAnimationFrame(tick);
    label();
  }

  function pause() {
    if (!playing) return;
    cancelAnimationFrame(playing.request);
    playing = null;
    label();
    go(wanted);
  }

  function label() {
    root.dataset.playing = playing !== null;
    play.replaceChildren(make("span", { class: "vos-glyph", "aria-hidden": "true" }), playing ? "Pause" : "Play");
  }

  const page = Math.max(1, Math.round(T / 10));
  const moves = {
    ArrowLeft: () => wanted - 1, ArrowDown: () => wanted - 1, ArrowRight: () => wanted + 1, ArrowUp: () => wanted + 1,
    PageUp: () => wanted + page, PageDown: () => wanted - page,
    Home: () => 1, End: () => S,
  };
  slider.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    if (event.key === " ") playing ? pause() : start();
    else if (event.key === "f" || event.key === "F") freezeBox.click();
    else if (moves[event.key]) { pause(); go(moves[event.key]()); }
    else return;
    event.preventDefault();
    event.stopPropagation();
  });
  const scrub = (event) => {
    if (event.buttons !== 1) return;
    const { left, width } = chart.getBoundingClientRect();
    pause();
    go(1 + Math.round(((event.clientX - left) / width) * (S - 1)));
  };
  chart.addEventListener("pointerdown", (event) => { chart.setPointerCapture(event.pointerId); scrub(event); });
  chart.addEventListener("pointermove", scrub);

  const follow = {
    "change:time": () => { if (model.get("time") !== wanted) { pause(); go(model.get("time")); } },
    "change:frozen": fillChart,
    "change:truth": followTruth,
  };
  for (const [event, listener] of Object.entries(follow)) model.on(event, listener);

  label();
  fillChart();
  followTruth();
  cancelAnimationFrame(drawing);
  drawing = 0;
  paint();
  root.dataset.ready = "true";

  return () => {
    for (const [event, listener] of Object.entries(follow)) model.off(event, listener);
    if (playing) cancelAnimationFrame(playing.request);
    playing = null;
    cancelAnimationFrame(drawing);
    root.dataset.closed = "true";
    frames.close();
    predictions.close();
    root.remove();
  };
}

export default { render };
