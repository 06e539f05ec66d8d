// MaskPainter: paint on the page, at once; the kernel keeps what was painted, follows it through the video, and sends
// frames and answers as they are wanted.

async function render({ model, el }) {
  const [T, H, W] = model.get("_shape");
  const palette = bytesOf(model.get("_colours"));
  const times = model.get("_times");
  const hex = (id) => `#${[...palette.subarray(id * 3, id * 3 + 3)].map((v) => v.toString(16).padStart(2, "0")).join("")}`;
  const dark = (id) => 0.3 * colours[id * 3] + 0.59 * colours[id * 3 + 1] + 0.11 * colours[id * 3 + 2] < 110;
  let colours = palette; // with those of the objects in place
  let solid = colourWords(colours, 255);
  const rgb = (id) => `rgb(${colours.subarray(id * 3, id * 3 + 3).join(" ")})`;

  const link = new Link(model, model.get("_key"), tellLink);
  const store = new FrameStore(link, stillFrames(model));
  const history = new History();
  const layers = new Layers(W, H);
  const overlay = new Overlay(W, H);
  const view = new View(W, H);
  const objects = () => model.get("_objects");
  const chosen = () => model.get("object");
  const set = (name, value, save = true) => { model.set(name, value); if (save) model.save_changes(); };

  let tool = "brush";
  let frame = -1; // on the canvas
  let wanted = Math.max(0, Math.min(T - 1, model.get("frame")));
  let bitmap = null;
  let edit = null; // what is being painted: {t, before, seen, id}
  let cursor = { x: W / 2, y: H / 2 }; // in the picture
  let pen = false; // of the keyboard
  let band = null; // a box being drawn: {a, b}
  let boxing = null; // a box that the kernel works on: {t, id, box, number}
  let hovering = false;
  let badges = new Map();
  let track = new Track(new Uint8Array(0), [], T);
  let playing = null;
  let spent = 0; // script time since the canvas was last drawn

  // --- the page ---
  const ids = { size: freshId(), opacity: freshId(), slider: freshId(), watch: freshId() };
  const canvas = make("canvas", { tabindex: "0", role: "application", "aria-roledescription": "painting area", class: "vp-canvas", ...OWN_KEYS });
  const context = canvas.getContext("2d");
  const stage = make("div", { class: "vp-stage" }, canvas);
  const toolButtons = TOOLS.map(([name, label, key, path]) => {
    const button = iconButton(path, label, () => chooseTool(name), label, `${label} (${key.toUpperCase()}): ${HINTS[name]}`);
    button.dataset.tool = name;
    return button;
  });
  const size = make("input", { type: "range", id: ids.size, min: 0, max: 100, step: 1, input: () => setBrush(sizeAt(Number(size.value))), ...OWN_KEYS });
  const sizeReadout = make("output", { for: ids.size, class: "vp-number" });
  const undoButton = iconButton(GLYPHS.undo, "Undo", () => undo(), "", "Undo (Z)");
  const redoButton = iconButton(GLYPHS.redo, "Redo", () => redo(), "", "Redo (Shift+Z)");
  const opacity = make("input", {
    type: "range", id: ids.opacity, min: 0, max: 1, step: 0.05,
    input: () => set("opacity", Number(opacity.value), false), change: () => model.save_changes(), ...OWN_KEYS,
  });
  const zoomReadout = make("button", { type: "button", class: "vp-number", title: "Show the whole picture (0)", click: () => { view.whole(); zoomed(); }, ...OWN_KEYS });
  const bar = make("div", { class: "vp-bar", role: "toolbar", "aria-label": "Painting tools" },
    make("div", { class: "vp-group vp-tools", role: "radiogroup", "aria-label": "Tool" }, ...toolButtons),
    make("div", { class: "vp-group" }, undoButton, redoButton),
    make("div", { class: "vp-group vp-dial" }, make("label", { for: ids.size }, "Size"), size, sizeReadout),
    make("div", { class: "vp-group vp-dial" }, make("label", { for: ids.opacity }, "Opacity"), opacity),
    make("div", { class: "vp-group vp-zoom" },
      make("button", { type: "button", "aria-label": "Zoom out", title: "Zoom out (-)", click: () => zoomBy(1 / 1.4), ...OWN_KEYS }, "−"),
      zoomReadout,
      make("button", { type: "button", "aria-label": "Zoom in", title: "Zoom in (+)", click: () => zoomBy(1.4), ...OWN_KEYS }, "+"),
    ),
  );
  const banner = make("div", { class: "vp-banner", role: "alert", hidden: "" });

  const playButton = iconButton(GLYPHS.play, "Play", () => (playing ? pause() : start()));
  const slider = make("input", { type: "range", id: ids.slider, min: 0, max: T - 1, step: 1, "aria-label": "Frame", input: () => visit(Number(slider.value)), ...OWN_KEYS });
  const readout = make("output", { class: "vp-readout", for: ids.slider });
  const rows = make("div", { class: "vp-rows", role: "radiogroup", "aria-label": "Objects" });
  const newButton = iconButton(GLYPHS.plus, "New object", () => newObject(), "New object", "New object (N)");
  const absentButton = make("button", { type: "button", title: "Say that the chosen object is not in this frame (A)", click: () => absent(), ...OWN_KEYS }, "Not in this frame");
  const forgetButton = make("button", { type: "button", title: "Take back what was given by hand for the chosen object in this frame", click: () => ungive(), ...OWN_KEYS }, "Take back this mask");
  const removeButton = make("button", { type: "button", title: "Remove the chosen object from the whole project", click: () => removeObject(), ...OWN_KEYS }, "Remove object");
  const timeline = make("div", { class: "vp-timeline" },
    make("div", { class: "vp-transport" },
      iconButton(GLYPHS.back, "Previous frame", () => visit(wanted - 1), "", "Previous frame (,)"),
      playButton,
      iconButton(GLYPHS.next, "Next frame", () => visit(wanted + 1), "", "Next frame (.)"),
      readout,
    ),
    make("div", { class: "vp-scrub" }, slider),
    rows,
    make("div", { class: "vp-objectbar" }, newButton, absentButton, forgetButton, removeButton, legend()),
  );

  const forwardButton = iconButton(GLYPHS.next, "Propagate", () => propagate("forward"), "Propagate", "Follow the objects forward, wherever the strip is empty or out of date (P)");
  forwardButton.classList.add("vp-primary");
  const backwardButton = iconButton(GLYPHS.back, "Propagate backward", () => propagate("backward"), "Backward", "Follow the objects from their first masks back to the beginning");
  const stopButton = iconButton(GLYPHS.stop, "Stop", () => { link.send({ kind: "stop" }); }, "Stop", "Stop (P); what is done stays, and you can go on later");
  const watch = make("input", { type: "checkbox", id: ids.watch, checked: "", ...OWN_KEYS });
  const progress = make("progress", { max: 1, value: 0, "aria-label": "Propagation" });
  const status = make("span", { class: "vp-status", role: "status" });
  const runbar = make("div", { class: "vp-run" },
    forwardButton, backwardButton, stopButton,
    make("label", { class: "vp-watch", title: "Show each frame as soon as it is computed" }, watch, "Watch"),
    progress, status,
  );
  const keyList = make("details", { class: "vp-keys" },
    make("summary", { ...OWN_KEYS }, "Keys"),
    make("dl", {}, ...KEYS.map(([keys, words]) => make("div", {}, make("dt", {}, ...keys.map((k) => make("kbd", {}, k))), make("dd", {}, words)))),
  );
  const root = make("div", { class: "vos vos-paint", role: "group", "aria-label": "Mask painter" }, bar, stage, banner, timeline, runbar, keyList);
  canvas.painted = () => [...runsOf(layers.seen)]; // for tests
  timeline.style.setProperty("--step", `${100 / T}%`);
  el.append(root);
  keyList.open = root.clientWidth > 640; // on a telephone it would be all there is

  // --- what is said ---
  let said = ""; // by the page itself, until something else is to be said
  function say(text) {
    said = text;
    tell();
  }

  function tell() {
    const run = model.get("_run");
    const text = run.running ? run.words : said || model.get("status") || HINTS[tool];
    if (status.textContent !== text) status.textContent = text;
  }

  function tellLink() {
    const waiting = link.unsaved.size;
    const frames = waiting === 1 ? "one frame" : `${waiting} frames`;
    let text = "";
    if (link.farewell) text = link.farewell;
    else if (!link.live) text = "This is a still copy of a painter: you can look and try the tools, and nothing is kept.";
    else if (!link.mine) text = "This project was opened in another view, and painting goes on there; everything painted here is saved.";
    else if (link.lost) text = `The kernel does not answer: it is busy, or gone. You can go on painting: ${waiting ? `what you painted on ${frames} is kept in this page` : "what you paint is kept in this page"} and is sent when the kernel is back. If it was restarted, run the cell again.`;
    banner.replaceChildren(text, ...(link.live && !link.mine && !link.farewell ? [make("button", { type: "button", click: takeOver, ...OWN_KEYS }, "Paint here instead")] : []));
    banner.hidden = text === "";
    root.dataset.link = !link.live ? "none" : !link.mine ? "other" : link.lost ? "lost" : "live";
    root.dataset.unsaved = waiting;
    for (const button of [forwardButton, backwardButton]) button.disabled = !link.live || !link.mine || link.lost;
  }

  const may = () => link.mine || (say("Painting goes on in another view of this project; press “Paint here instead” first."), false);

  function takeOver() {
    link.mine = true;
    hello();
    tellLink();
  }

  // --- drawing ---
  const hiddenSet = () => new Set(model.get("hidden"));
  const edgeWidth = () => (view.scale >= 3 ? 0 : view.scale > 1.6 ? 1 : 2);
  let drawnEdge = -1;

  function visibleIds() {
    const hidden = hiddenSet();
    if (hidden.size === 0) return layers.seen;
    const alias = Uint8Array.from({ length: 256 }, (_, id) => (hidden.has(id) ? 0 : id));
    return layers.seen.map((id) => alias[id]);
  }

  /** Bring the masks' picture up to date, inside a box or everywhere. */
  function tintBox(box = new Box(0, 0, W, H)) {
    if (box.empty) return;
    const tint = colourWords(colours, Math.round(model.get("opacity") * 255));
    tint[0] = 0;
    drawnEdge = edgeWidth();
    overlay.draw(visibleIds(), box, tint, solid, drawnEdge);
    redraw();
  }

  let request = 0;
  function redraw() {
    request ||= requestAnimationFrame(() => { request = 0; draw(); });
  }

  function draw() {
    const begun = performance.now();
    if (bitmap === null || root.dataset.closed !== undefined) return;
    const density = window.devicePixelRatio || 1;
    context.setTransform(density, 0, 0, density, 0, 0);
    context.clearRect(0, 0, view.width, view.height);
    context.imageSmoothingEnabled = view.scale < 2;
    const place = [view.x, view.y, W * view.scale, H * view.scale];
    context.drawImage(bitmap, ...place);
    context.drawImage(overlay.canvas, ...place);
    if (drawnEdge === 0) drawOutlines(context, view, visibleIds(), rgb);
    drawBadges(context, view, badges, hiddenSet());
    if (boxing?.t === frame) drawBand(context, view, boxing.box, true);
    if (band) drawBand(context, view, boxOf(band), false);
    cursorOf();
    spent += performance.now() - begun;
    root.dataset.paintMs = spent.toFixed(2);
    spent = 0;
  }

  function cursorOf() {
    if (tool === "hand" || playing || !(hovering || document.activeElement === canvas)) return;
    const round = tool === "brush" || tool === "eraser";
    const r = round ? (model.get("brush") / 2) * view.scale : 0;
    drawCursor(context, view.toCanvas(cursor), r, pen ? rgb(chosen()) : "#fff", tool === "eraser");
  }

  function placeBadges() {
    badges = objects().length > 1 ? badgePlaces(layers.seen, W, H) : new Map();
  }

  // --- time ---
  /** The reader goes to frame t: a preview that runs does not pull away from there. */
  function visit(t) {
    pause();
    stopWatching();
    return go(t);
  }

  function stopWatching() {
    if (!model.get("_run").running || !watch.checked) return;
    watch.checked = false;
    rewatch = true; // with the next run
  }
  let rewatch = false;

  let outdated = false; // whether the kernel may have other masks by now than those on the canvas
  let journey = null; // to the wanted frame, while one is under way
  let wake = () => {};
  /** Show frame t; calls while a frame is under way only move the goal. */
  function go(t, quiet = false) {
    wanted = store.snap(Math.max(0, Math.min(T - 1, t)));
    slider.value = wanted;
    if (wanted !== frame && edit) endEdit();
    if (!playing && !quiet) note();
    wake();
    if (!journey && (outdated || frame !== wanted)) journey = travel();
    return journey ?? Promise.resolve();
  }

  /** What is on the canvas stays there, and can be painted on, until the wanted frame or its new masks have come. */
  async function travel() {
    root.dataset.loading = "true";
    try {
      while ((outdated || frame !== wanted) && root.dataset.closed === undefined) {
        const t = wanted;
        const other = new Promise((resolve) => { wake = resolve; }); // a frame that does not come holds up no other
        const entry = await Promise.race([store.get(t), other]);
        if (!entry || t !== wanted) continue;
        const picture = await entry.bitmap;
        if (entry.old) continue;
        if (edit && t === frame) return; // new masks would take the stroke away: its end asks again
        bitmap = picture;
        idsOf(entry.result, layers.result);
        layers.restore(entry.given);
        frame = t;
        outdated = false;
        shown();
      }
    } finally {
      journey = null;
      delete root.dataset.loading;
    }
    if (playing) return;
    for (const d of [1, -1, 2]) if (frame + d >= 0 && frame + d < T) store.prefetch(frame + d);
  }

  function shown() {
    placeBadges();
    tintBox();
    describe();
    root.dataset.frame = frame;
  }

  function describe() {
    slider.value = wanted;
    const seconds = times[wanted] ?? 0;
    slider.setAttribute("aria-valuetext", `frame ${wanted} of ${T - 1}`);
    readout.replaceChildren(make("b", {}, `${wanted}`), ` / ${T - 1}`, make("span", {}, `${Math.floor(seconds / 60)}:${(seconds % 60).toFixed(2).padStart(5, "0")}`));
    timeline.style.setProperty("--at", `${(100 * (wanted + 0.5)) / T}%`);
    const here = objects().map(({ id, name }) => `${name}: ${track.words(id, wanted)}`).join("; ");
    canvas.setAttribute("aria-label", `${model.get("alt")}. Frame ${wanted} of ${T - 1}. ${here}`);
    const given = layers.objects.has(chosen());
    forgetButton.disabled = !given;
    absentButton.disabled = removeButton.disabled = objects().length === 0;
    undoButton.disabled = history.position === 0;
    redoButton.disabled = history.position === history.edits.length;
    root.dataset.undo = history.position;
    root.dataset.redo = history.edits.length - history.position;
  }

  /** Tell Jupyter where we are. */
  function note() {
    if (model.get("frame") !== wanted) set("frame", wanted);
  }

  function start() {
    const from = wanted === T - 1 ? 0 : wanted;
    const begun = performance.now();
    const tick = (now) => {
      const at = (times[from] ?? 0) + Math.max(0, now - begun) / 1000;
      let t = wanted;
      if (t < from) t = from;
      while (t < T - 1 && (times[t + 1] ?? 0) <= at) t++;
      if (t !== wanted || frame === -1) go(t);
      for (let d = 1; d <= 8; d++) if (t + d < T) store.prefetch(t + d);
      if (t === T - 1) pause();
      else playing.request = requestAnimationFrame(tick);
    };
    playing = { request: requestAnimationFrame(tick) };
    if (from !== wanted) go(from);
    labelPlay();
  }

  function pause() {
    if (!playing) return;
    cancelAnimationFrame(playing.request);
    playing = null;
    labelPlay();
    note();
    redraw();
  }

  function labelPlay() {
    const name = playing ? "Pause" : "Play";
    playButton.setAttribute("aria-label", name);
    playButton.title = name;
    playButton.replaceChildren(glyph(playing ? GLYPHS.pause : GLYPHS.play));
    root.dataset.playing = playing !== null;
  }

  // --- edits: a stroke, a fill, a box; each can be undone ---
  /** Begin to change what is given of the chosen object in the frame that is shown. */
  function beginEdit(id = chosen()) {
    if (!may()) return false;
    if (frame < 0 || frame !== wanted) return say(`Frame ${wanted} has not come from the kernel yet.`), false;
    if (!objects().some((object) => object.id === id)) id = newObject();
    if (id === 0) return false;
    if (hiddenSet().has(id)) set("hidden", model.get("hidden").filter((other) => other !== id));
    stopWatching();
    edit = { t: frame, before: layers.state(), seen: layers.seen.slice(), id };
    layers.give(id);
    said = "";
    return true;
  }

  function endEdit(always = false) {
    const { t, before, seen } = edit;
    edit = null;
    if (!always && seen.every((id, i) => id === layers.seen[i])) layers.restore(before);
    else {
      const after = layers.state();
      history.add({ t, before, after });
      commit(t, after, 0);
    }
    if (outdated) go(wanted, true);
  }

  function cancelEdit() {
    if (!edit) return;
    layers.restore(edit.before);
    edit = null;
    tintBox();
    if (outdated) go(wanted, true);
  }

  /** What is given in frame t is now `state`: keep it, send it, mark it in the strip. */
  function commit(t, state, move) {
    store.change(t, { given: state });
    if (link.live) link.save(t, state, move, Object.fromEntries(objects().map(({ id, name }) => [id, name])));
    if (t === frame) placeBadges();
    markStrip(t, state);
    tellLink();
    describe();
    tell();
    root.dataset.edits = Number(root.dataset.edits ?? 0) + 1;
    redraw();
  }

  function put(step, move) {
    if (!step) return say(move < 0 ? "There is nothing to undo." : "There is nothing to redo.");
    const state = known(move < 0 ? step.before : step.after);
    pause();
    if (step.t === frame) {
      layers.restore(state);
      tintBox();
    }
    commit(step.t, state, move); // now, though the frame may be long in coming
    go(step.t);
  }

  /** A state without objects that were removed since. */
  function known(state) {
    const there = new Set(objects().map(({ id }) => id));
    if (state.objects.every((id) => there.has(id))) return state;
    const given = idsOf(state.runs, new Uint8Array(W * H)).map((id) => (there.has(id) ? id : 0));
    return { runs: runsOf(given), objects: state.objects.filter((id) => there.has(id)) };
  }

  const undo = () => { cancelStroke(); if (may()) put(history.undo(), -1); };
  const redo = () => { cancelStroke(); if (may()) put(history.redo(), 1); };

  function cancelStroke() {
    cancelEdit();
    pen = false;
    band = null;
  }

  function fillAt({ x, y }) {
    const [px, py] = [Math.floor(x), Math.floor(y)];
    if (px < 0 || py < 0 || px >= W || py >= H || !beginEdit()) return;
    const box = layers.flood(px, py, edit.id);
    endEdit();
    if (!box.empty && (box.x1 - box.x0) * (box.y1 - box.y0) > 0.9 * W * H) say("That filled most of the frame; undo takes it back. An outline must be closed before its inside is filled.");
    tintBox(box);
  }

  const boxOf = ({ a, b }) => new Box(
    Math.max(0, Math.floor(Math.min(a.x, b.x))), Math.max(0, Math.floor(Math.min(a.y, b.y))),
    Math.min(W, Math.ceil(Math.max(a.x, b.x))), Math.min(H, Math.ceil(Math.max(a.y, b.y))),
  );

  function finishBand() {
    const box = boxOf(band);
    band = null;
    redraw();
    if (box.x1 - box.x0 < 4 || box.y1 - box.y0 < 4) return;
    if (!may()) return;
    if (!link.live || link.lost) return say("A box becomes a mask in the kernel, and the kernel does not answer; brush and fill work without it.");
    if (!objects().some(({ id }) => id === chosen())) newObject();
    boxing = { t: frame, id: chosen(), box, number: ++boxes };
    link.send({ kind: "box", t: frame, id: boxing.id, number: boxing.number, box: [box.x0, box.y0, box.x1, box.y1] });
    say("Finding the object in the box …");
    root.dataset.boxing = "true";
  }
  let boxes = 0;

  /** A mask was found in the box: inside the box the object has these pixels and no others. */
  async function boxed({ number, sentence }, [runs]) {
    if (boxing?.number !== number) return;
    const { t, id, box } = boxing;
    boxing = null;
    delete root.dataset.boxing;
    redraw();
    if (!runs) return say(sentence);
    await go(t);
    if (frame !== t || !beginEdit(id)) return;
    const found = idsOf(wordsOf(runs), new Uint8Array(W * H));
    for (let y = box.y0; y < box.y1; y++) {
      for (let i = y * W + box.x0; i < y * W + box.x1; i++) layers.put(i, id, found[i] === 0);
    }
    endEdit();
    tintBox(box);
    say("Found a mask in the box: correct it with brush and eraser, or draw the box again.");
  }

  function absent() {
    if (!beginEdit()) return;
    for (let i = 0; i < layers.seen.length; i++) layers.put(i, edit.id, true);
    endEdit(true);
    tintBox();
  }

  function ungive() {
    const id = chosen();
    if (!layers.objects.has(id) || !beginEdit()) return;
    layers.objects.delete(id);
    for (let i = 0; i < layers.given.length; i++) if (layers.given[i] === id) layers.given[i] = 0;
    layers.compose();
    endEdit(true);
    tintBox();
  }

  // --- objects ---
  function newObject() {
    if (!may()) return 0;
    let id = 1;
    while (objects().some((object) => object.id === id)) id++;
    if (id > 254) { say("There are 254 objects already, and a mask has no more ids; remove one first."); return 0; }
    const object = { id, name: `object ${id}`, colour: hex(id) };
    link.send({ kind: "object", id, name: object.name });
    set("_objects", [...objects(), object].sort((a, b) => a.id - b.id), false);
    choose(id);
    return id;
  }

  function choose(id) {
    if (chosen() !== id) set("object", id);
  }

  let doomed = 0; // the object that a second press would remove
  function removeObject() {
    const id = chosen();
    const object = objects().find((o) => o.id === id);
    if (!object || !may()) return;
    if (doomed !== id) {
      doomed = id;
      removeButton.textContent = "Really remove?";
      setTimeout(() => { doomed = 0; removeButton.textContent = "Remove object"; }, 4000);
      return say(`This removes ${object.name} and all its masks, and cannot be undone; press again to do it.`);
    }
    doomed = 0;
    removeButton.textContent = "Remove object";
    link.send({ kind: "remove", id });
    say(`${object.name} was removed.`);
  }

  function fillRows() {
    const hidden = hiddenSet();
    rows.replaceChildren(...objects().map(({ id, name }) => {
      const key = make("button", { type: "button", role: "radio", class: "vp-key", "aria-label": `Paint ${name}`, title: `Paint ${name}`, click: () => { choose(id); canvas.focus({ preventScroll: true }); }, ...OWN_KEYS }, `${id}`);
      key.style.background = rgb(id);
      key.style.color = dark(id) ? "#fff" : "#111";
      key.dataset.id = id;
      const field = make("input", { type: "text", value: name, "aria-label": `Name of object ${id}`, spellcheck: "false", maxlength: 60, focus: () => choose(id), ...OWN_KEYS });
      field.addEventListener("change", () => { if (field.value.trim()) link.send({ kind: "object", id, name: field.value.trim() }); else field.value = name; });
      field.addEventListener("keydown", (event) => { if (event.key === "Enter") canvas.focus({ preventScroll: true }); event.stopPropagation(); });
      const eye = iconButton(hidden.has(id) ? GLYPHS.shut : GLYPHS.eye, `Show ${name}`, () => toggle(id), "", "Show or hide (V)");
      eye.setAttribute("aria-pressed", !hidden.has(id));
      eye.classList.add("vp-eye");
      const picture = make("canvas", { class: "vp-track", "aria-hidden": "true" });
      picture.dataset.id = id;
      followPointer(picture, id);
      const row = make("div", { class: "vp-row" }, make("div", { class: "vp-head" }, key, field, eye), make("div", { class: "vp-lane" }, picture));
      row.dataset.id = id;
      return row;
    }));
    root.dataset.objects = objects().map(({ id }) => id).join(" ");
    followObject();
    drawStrip();
  }

  function toggle(id) {
    const hidden = hiddenSet();
    hidden.has(id) ? hidden.delete(id) : hidden.add(id);
    set("hidden", [...hidden].sort((a, b) => a - b));
  }

  function followPointer(picture, id) {
    const at = (event) => {
      const box = picture.getBoundingClientRect();
      return Math.max(0, Math.min(T - 1, Math.floor(((event.clientX - box.left) / box.width) * T)));
    };
    picture.addEventListener("pointerdown", (event) => { picture.setPointerCapture(event.pointerId); choose(id); visit(at(event)); });
    picture.addEventListener("pointermove", (event) => {
      if (event.buttons === 1) go(at(event));
      picture.title = `frame ${at(event)}: ${track.words(id, at(event))}`;
    });
  }

  // --- the strip ---
  function drawStrip() {
    const ink = getComputedStyle(root).color;
    for (const picture of rows.querySelectorAll(".vp-track")) {
      const id = Number(picture.dataset.id);
      if (track.row.has(id)) drawRow(picture, track, id, rgb(id), ink);
    }
  }

  function readStrip() {
    const trait = model.get("_strip");
    track = new Track(trait ? bytesOf(trait).slice() : new Uint8Array(0), objects(), T);
    for (const [t, { state }] of link.unsaved) markTrack(t, state);
    drawStrip();
    describe();
  }

  /** What was painted just now is in the strip before the kernel says so. */
  function markTrack(t, state) {
    const present = new Set();
    for (const run of state.runs) present.add(run >>> 24);
    for (const [id, o] of track.row) {
      const i = 2 * (o * T + t);
      const flags = track.bytes[i] ?? 0;
      if (!state.objects.includes(id)) { track.bytes[i] = flags & ~(GIVEN | CORRECTED); continue; }
      const first = track.frames(id, (f) => f & GIVEN).every((u) => u === t);
      track.bytes[i] = (flags & COMPUTED) | GIVEN | (first ? 0 : CORRECTED) | (present.has(id) ? PRESENT : 0);
    }
  }

  function markStrip(t, state) {
    markTrack(t, state);
    drawStrip();
  }

  // --- propagation ---
  function propagate(direction) {
    if (!may()) return;
    if (objects().length === 0) return say("Paint an object first: choose the brush and drag over it.");
    cancelStroke();
    said = "";
    link.send({ kind: "propagate", direction });
  }

  function followRun() {
    const run = model.get("_run");
    const was = root.dataset.running === "true";
    root.dataset.running = run.running === true;
    forwardButton.hidden = backwardButton.hidden = run.running === true;
    stopButton.hidden = progress.hidden = run.running !== true;
    status.setAttribute("aria-live", run.running ? "off" : "polite"); // nobody wants to be read every frame's number
    progress.value = run.total ? run.done / run.total : 0;
    if (was !== (run.running === true)) said = "";
    if (!was && run.running && rewatch) [watch.checked, rewatch] = [true, false];
    if (was && !run.running) note();
    tell();
  }

  /** The method has another answer in frame t. */
  function answered(t, runs) {
    const result = wordsOf(runs);
    store.change(t, { result });
    if (t !== frame || edit) return;
    idsOf(result, layers.result);
    layers.compose();
    shown();
  }

  function preview({ t }, [runs]) {
    answered(t, runs);
    if (t !== frame && watch.checked && !edit && !playing && model.get("_run").running) go(t, true);
  }

  // --- tools and view ---
  function chooseTool(name) {
    cancelStroke();
    tool = name;
    said = "";
    for (const button of toolButtons) {
      button.setAttribute("role", "radio");
      button.setAttribute("aria-checked", button.dataset.tool === name);
    }
    root.dataset.tool = name;
    tell();
    redraw();
  }

  const largest = Math.max(8, Math.round(Math.min(W, H) / 1.5));
  const sizeAt = (position) => Math.max(1, Math.round(largest ** (position / 100)));
  function setBrush(diameter) {
    set("brush", Math.max(1, Math.min(largest, diameter)));
  }

  function followBrush() {
    const diameter = model.get("brush");
    if (sizeAt(Number(size.value)) !== diameter) size.value = (100 * Math.log(diameter)) / Math.log(largest);
    sizeReadout.textContent = `${diameter} px`;
    redraw();
  }

  function zoomBy(factor, at = { x: view.width / 2, y: view.height / 2 }) {
    view.zoom(factor, at);
    zoomed();
  }

  function zoomed() {
    zoomReadout.textContent = `${Math.round(100 * view.scale * (window.devicePixelRatio || 1))} %`;
    root.dataset.zoom = (view.scale / view.fit).toFixed(2);
    edgeWidth() === drawnEdge ? redraw() : tintBox();
  }

  function resize() {
    const width = Math.floor(stage.clientWidth);
    if (width < 1) return;
    const height = Math.round(Math.min((width * H) / W, Math.max(240, Math.min(620, 0.7 * window.innerHeight))));
    if (width === view.width && height === view.height && canvas.style.height) return;
    const density = window.devicePixelRatio || 1;
    const before = { zoom: view.scale / view.fit, centre: view.toPicture({ x: view.width / 2, y: view.height / 2 }) };
    view.resize(width, height);
    if (before.zoom > 1 && canvas.style.height) {
      view.zoom(before.zoom, { x: 0, y: 0 });
      const now = view.toCanvas(before.centre);
      view.pan(width / 2 - now.x, height / 2 - now.y);
    }
    canvas.style.height = `${height}px`;
    canvas.width = Math.round(width * density);
    canvas.height = Math.round(height * density);
    zoomed();
    drawStrip();
  }

  // --- pointer: one paints, two zoom and move ---
  const pointers = new Map(); // id -> place on the canvas
  let pinch = null;
  let dragging = null; // of the hand, or the middle button
  const place = (event) => {
    const box = canvas.getBoundingClientRect();
    return { x: event.clientX - box.left, y: event.clientY - box.top };
  };

  canvas.addEventListener("pointerdown", (event) => {
    event.preventDefault();
    canvas.focus({ preventScroll: true });
    pause();
    try { canvas.setPointerCapture(event.pointerId); } catch {} // a made-up event has no pointer
    const at = place(event);
    pointers.set(event.pointerId, at);
    if (pointers.size === 2) {
      cancelStroke();
      dragging = null;
      pinch = twoFingers();
      return;
    }
    if (pointers.size > 2) return;
    cursor = view.toPicture(at);
    if (event.button === 1 || event.button === 2 || tool === "hand") dragging = at;
    else if (event.altKey) pick();
    else if (tool === "fill") fillAt(cursor);
    else if (tool === "box") band = { a: cursor, b: cursor };
    else if (beginEdit()) {
      edit.erase = tool === "eraser" || (event.buttons & 32) !== 0;
      edit.at = cursor;
      strokeTo(cursor);
    }
  });

  canvas.addEventListener("pointermove", (event) => {
    const begun = performance.now();
    const at = place(event);
    hovering = true;
    if (pointers.has(event.pointerId)) pointers.set(event.pointerId, at);
    if (pinch) return movePinch();
    cursor = view.toPicture(at);
    if (dragging) {
      view.pan(at.x - dragging.x, at.y - dragging.y);
      dragging = at;
    } else if (band) band.b = cursor;
    else if (edit?.at && pointers.has(event.pointerId)) {
      const moves = event.getCoalescedEvents?.() ?? [];
      for (const move of moves.length ? moves : [event]) strokeTo(view.toPicture(place(move)));
    }
    spent += performance.now() - begun;
    redraw();
  });

  for (const kind of ["pointerup", "pointercancel"]) {
    canvas.addEventListener(kind, (event) => {
      if (!pointers.delete(event.pointerId)) return;
      if (pinch) {
        if (pointers.size < 2) pinch = null;
        return;
      }
      dragging = null;
      if (band) kind === "pointerup" ? finishBand() : (band = null);
      if (edit?.at) kind === "pointerup" ? endEdit() : cancelEdit();
    });
  }
  canvas.addEventListener("pointerleave", () => { hovering = false; redraw(); });
  canvas.addEventListener("contextmenu", (event) => event.preventDefault());
  canvas.addEventListener("wheel", (event) => {
    if (document.activeElement !== canvas && !event.ctrlKey) return; // a page that is only scrolled past stays still
    event.preventDefault();
    const unit = event.deltaMode === 1 ? 30 : event.deltaMode === 2 ? 300 : 1;
    if (event.shiftKey) {
      view.pan(-(event.deltaX || event.deltaY) * unit, 0);
      redraw();
    } else zoomBy(Math.exp(-event.deltaY * unit * (event.ctrlKey ? 0.01 : 0.002)), place(event));
  }, { passive: false });

  function strokeTo(to) {
    const box = layers.stroke(edit.at, to, model.get("brush") / 2, edit.id, edit.erase);
    edit.at = to;
    tintBox(box);
  }

  function pick() {
    const id = layers.seen[Math.floor(cursor.y) * W + Math.floor(cursor.x)];
    if (id) choose(id);
  }

  function twoFingers() {
    const [a, b] = [...pointers.values()];
    return { centre: { x: (a.x + b.x) / 2, y: (a.y + b.y) / 2 }, apart: Math.max(1, Math.hypot(a.x - b.x, a.y - b.y)) };
  }

  function movePinch() {
    const now = twoFingers();
    view.pan(now.centre.x - pinch.centre.x, now.centre.y - pinch.centre.y);
    zoomBy(now.apart / pinch.apart, now.centre);
    pinch = now;
  }

  // --- keys ---
  function moveCursor(dx, dy, far) {
    const step = far ? Math.max(10, Math.round(Math.min(W, H) / 16)) : Math.max(1, Math.round(model.get("brush") / 4));
    const to = { x: Math.max(0, Math.min(W, cursor.x + dx * step)), y: Math.max(0, Math.min(H, cursor.y + dy * step)) };
    if (pen && edit) strokeTo(to);
    if (band) band.b = to;
    cursor = to;
    const at = view.toCanvas(to);
    view.pan(Math.max(0, 12 - at.x) + Math.min(0, view.width - 12 - at.x), Math.max(0, 12 - at.y) + Math.min(0, view.height - 12 - at.y));
    root.dataset.cursor = `${Math.round(to.x)} ${Math.round(to.y)}`;
    redraw();
  }

  function penDown() {
    if (tool !== "brush" && tool !== "eraser") return act();
    if (pen) {
      pen = false;
      if (edit) endEdit();
    } else if (beginEdit()) {
      pen = true;
      edit.erase = tool === "eraser";
      edit.at = cursor;
      strokeTo(cursor);
    }
    root.dataset.pen = pen;
    redraw();
  }

  /** Use the tool where the cursor is. */
  function act() {
    if (tool === "fill") fillAt(cursor);
    else if (tool === "box") {
      if (band) { band.b = cursor; finishBand(); }
      else { band = { a: cursor, b: cursor }; say("One corner is set: go to the other one with the arrows and press Enter."); }
    } else if (!pen) { penDown(); if (pen) penDown(); }
  }

  function nextGiven(direction) {
    const given = [...new Set(objects().flatMap(({ id }) => (track.row.has(id) ? track.frames(id, (flags) => flags & GIVEN) : [])))].sort((a, b) => a - b);
    const t = direction > 0 ? given.find((u) => u > wanted) : given.findLast((u) => u < wanted);
    t === undefined ? say(`No mask was given by hand ${direction > 0 ? "after" : "before"} this frame.`) : visit(t);
  }

  function toLeastSure() {
    const t = track.row.has(chosen()) ? track.leastSure(chosen()) : null;
    t === null ? say("The method has not answered for this object yet: propagate first.") : visit(t);
  }

  const plain = {
    b: () => chooseTool("brush"), e: () => chooseTool("eraser"), f: () => chooseTool("fill"), x: () => chooseTool("box"), h: () => chooseTool("hand"),
    "[": () => setBrush(Math.min(model.get("brush") - 1, Math.round(model.get("brush") / 1.2))), "]": () => setBrush(Math.max(model.get("brush") + 1, Math.round(model.get("brush") * 1.2))),
    ArrowLeft: (far) => moveCursor(-1, 0, far), ArrowRight: (far) => moveCursor(1, 0, far), ArrowUp: (far) => moveCursor(0, -1, far), ArrowDown: (far) => moveCursor(0, 1, far),
    " ": penDown, Enter: act, z: (shift) => (shift ? redo() : undo()), y: redo,
    ",": () => step(-1), ".": () => step(1), PageUp: () => step(-10), PageDown: () => step(10), Home: () => step(-T), End: () => step(T),
    "<": () => nextGiven(-1), ">": () => nextGiven(1), u: toLeastSure, n: newObject, v: () => toggle(chosen()), a: absent,
    o: (less) => set("opacity", Math.max(0, Math.min(1, Math.round(20 * (model.get("opacity") + (less ? -0.1 : 0.1))) / 20))),
    "+": () => zoomBy(1.4), "=": () => zoomBy(1.4), "-": () => zoomBy(1 / 1.4), 0: () => { view.whole(); zoomed(); },
    p: () => (model.get("_run").running ? link.send({ kind: "stop" }) : propagate("forward")),
    Escape: () => { cancelStroke(); root.dataset.pen = false; redraw(); },
  };
  const step = (by) => visit(wanted + by);

  root.addEventListener("keydown", (event) => {
    const command = event.ctrlKey || event.metaKey;
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    const onButton = event.target !== canvas && (event.target.tagName === "BUTTON" || event.target.tagName === "SUMMARY");
    if (event.altKey || event.target.type === "text") return;
    if (command && key !== "z" && key !== "y") return;
    if (onButton && (key === " " || key === "Enter")) return;
    if (event.target.type === "range" && /^(Arrow|Page|Home|End)/.test(key)) return;
    if (event.target.type === "checkbox" && key === " ") return;
    if (/^[1-9]$/.test(key)) {
      const object = objects()[Number(key) - 1];
      if (object) choose(object.id);
    } else if (plain[key]) plain[key](event.shiftKey);
    else return;
    event.preventDefault();
    event.stopPropagation();
  });
  for (const kind of ["focus", "blur"]) canvas.addEventListener(kind, redraw);

  // --- following Jupyter ---
  function followObject() {
    const id = chosen();
    for (const row of rows.children) {
      const mine = Number(row.dataset.id) === id;
      row.classList.toggle("vp-chosen", mine);
      row.querySelector(".vp-key").setAttribute("aria-checked", mine);
    }
    root.dataset.object = id;
    describe();
    redraw();
  }

  function followOpacity() {
    opacity.value = model.get("opacity");
    tintBox();
  }

  function followHidden() {
    root.dataset.hidden = model.get("hidden").join(" ");
    fillRows();
    tintBox();
  }

  function followObjects() {
    mixColours();
    fillRows();
    if (frame < 0) return;
    placeBadges();
    tintBox();
  }

  function mixColours() {
    colours = palette.slice();
    for (const { id, colour } of objects()) colours.set([1, 3, 5].map((i) => parseInt(colour.slice(i, i + 2), 16)), id * 3);
    solid = colourWords(colours, 255);
    solid[0] = CASING;
  }

  /** The kernel has changed masks by itself: everything that was seen may be old. */
  function reload() {
    store.distrust();
    outdated = true;
    if (!edit) go(wanted);
  }

  let recovering = false;
  const hello = () => link.send({ kind: "hello" });
  link.on("welcome", (content, buffers) => {
    if (content.view !== link.view) {
      link.mine = false;
      cancelStroke();
    } else if (!content.again) {
      link.mine = true;
      if (link.recovered > 0) {
        const frames = link.recovered === 1 ? "One frame was" : `${link.recovered} frames were`;
        say(`${frames} painted while the kernel was away; what was painted there is sent now.`);
        link.recovered = 0;
        recovering = true;
        link.resend();
      }
      const state = (k, given) => ({ runs: wordsOf(buffers[k]), objects: given });
      history.edits = content.edits.map(([t, before, after], k) => ({ t, before: state(2 * k, before), after: state(2 * k + 1, after) }));
      history.position = content.position;
      describe();
    }
    tellLink();
  });
  link.on("boxed", (content, buffers) => boxed(content, buffers));
  link.on("result", preview);
  link.on("reload", reload);
  link.on("sentence", ({ sentence }) => say(sentence));
  link.on("saved", ({ t }, [runs]) => {
    answered(t, runs);
    if (!recovering || link.unsaved.size > 0) return;
    recovering = false;
    hello(); // what was sent now can be undone, too
  });
  link.on("closed", ({ sentence }) => { link.farewell = sentence; link.mine = false; tellLink(); });

  const follow = {
    "change:frame": () => { if (model.get("frame") !== wanted) { pause(); go(model.get("frame")); } },
    "change:object": followObject,
    "change:brush": followBrush,
    "change:opacity": followOpacity,
    "change:hidden": followHidden,
    "change:_objects": followObjects,
    "change:_strip": readStrip,
    "change:_run": followRun,
    "change:status": () => { said = ""; tell(); },
  };
  for (const [event, listener] of Object.entries(follow)) model.on(event, listener);
  const observer = new ResizeObserver(resize);
  observer.observe(stage);
  const theme = new MutationObserver(drawStrip); // its ink is the page's
  theme.observe(document.body, { attributeFilter: ["data-jp-theme-name", "class"] });

  resize();
  chooseTool(tool);
  labelPlay();
  followBrush();
  opacity.value = model.get("opacity");
  mixColours();
  fillRows();
  readStrip();
  followRun();
  tellLink();
  hello();
  go(wanted).then(() => { root.dataset.ready = "true"; });

  return () => {
    for (const [event, listener] of Object.entries(follow)) model.off(event, listener);
    observer.disconnect();
    theme.disconnect();
    cancelAnimationFrame(request);
    if (edit) endEdit();
    pause();
    root.dataset.closed = "true";
    link.close();
    store.close();
    root.remove();
  };
}

export default { render };
