// ComparisonPlayer: one clip under several methods, in step. Everything is on the page; Jupyter hears where the reader stopped.

const WHITE = word(255, 255, 255);

async function render({ model, el }) {
  const [T, H, W] = model.get("_shape");
  const names = model.get("_names");
  const scores = model.get("_scores"); // of each method, J in percent by frame, null where nothing is scored
  const frames = new Frames(bytesOf(model.get("_frames")), model.get("_offsets"));
  const pageWidth = Math.round(Math.min(300, (240 * W) / H));
  const painter = new Painter(H, W, pageWidth, 480);
  const masks = make("canvas", { width: painter.image.width, height: painter.image.height });
  const masksContext = masks.getContext("2d");
  const colours = bytesOf(model.get("_colours"));
  const solid = colourWords(colours, 255);
  const layers = await inflate(bytesOf(model.get("_ids"))); // [1 + methods, T, H, W], the truth first
  const layerAt = (layer, t) => layers.subarray((layer * T + t) * H * W, (layer * T + t + 1) * H * W);

  // --- the page ---
  const move = new Transport({ T, fps: () => model.get("fps"), ready: (t) => frames.get(t), show: paint, note });
  const readout = make("output", { class: "vos-readout", for: move.slider.id });
  const opacity = make("input", {
    type: "range", id: freshId(), min: 0, max: 1, step: 0.05, value: model.get("opacity"),
    input: () => model.set("opacity", Number(opacity.value)), change: () => model.save_changes(), ...OWN_KEYS,
  });
  const differ = make("button", { type: "button", click: () => move.jump(next()), ...OWN_KEYS }, "Where they differ");
  const said = make("p", { class: "vos-said", role: "status" });
  const panels = names.map((name, i) => {
    const canvas = make("canvas", { width: masks.width, height: masks.height, role: "img", class: "vos-picture" });
    const score = make("span", { class: "vos-score" });
    const cursor = make("div", { class: "vos-cursor" });
    const chart = make(
      "div", { class: "vos-chart", "aria-hidden": "true", title: `J of ${name} in every frame, 0 to 100 %` },
      strip(scores[i], T), cursor,
    );
    move.scrub(chart);
    const title = make("figcaption", {}, make("span", { class: "vos-name" }, name), score);
    return { canvas, context: canvas.getContext("2d"), score, cursor, root: make("figure", {}, title, canvas, chart) };
  });
  const grid = make(
    "div", { class: "vos-panels", tabindex: "0", role: "group", "aria-label": "Methods; arrow keys move the clip", ...OWN_KEYS },
    ...panels.map((panel) => panel.root),
  );
  move.listen(grid);
  const root = make(
    "div", { class: "vos vos-comparison", role: "group", "aria-label": "Comparison player" },
    grid,
    make("div", { class: "vos-row" }, move.play, make("div", { class: "vos-track" }, move.slider), readout),
    make(
      "div", { class: "vos-row vos-options" },
      differ, make("label", { for: opacity.id }, "Opacity"), opacity,
      make("span", { class: "vos-hint" }, "White line: the truth. Key D: where they differ."),
    ),
    said,
  );
  root.style.setProperty("--width", `${pageWidth}px`);
  root.addEventListener("keydown", (event) => {
    if (event.key.toLowerCase() !== "d" || event.altKey || event.ctrlKey || event.metaKey) return;
    move.jump(next());
    event.preventDefault();
    event.stopPropagation();
  });
  el.append(root);

  // --- where they differ: frames by their spread of J, the widest first; neighbours of a chosen one are left out ---
  const spread = model.get("_spread");
  const widest = [];
  for (const t of [...spread.keys()].sort((a, b) => spread[b] - spread[a] || a - b)) {
    if (spread[t] > 0 && widest.every((other) => Math.abs(other - t) > 2) && widest.length < 5) widest.push(t);
  }
  differ.disabled = widest.length === 0;
  const next = () => (widest.length ? widest[(widest.indexOf(move.wanted) + 1) % widest.length] : move.wanted);

  // --- drawing ---
  function paint(bitmap, t) {
    const begun = performance.now();
    const tint = colourWords(colours, Math.round(model.get("opacity") * 255));
    const here = scores.map((row) => row[t]);
    const best = Math.max(...here.filter((j) => j !== null));
    panels.forEach(({ canvas, context, score, cursor }, i) => {
      context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
      painter.clear();
      painter.objects(layerAt(i + 1, t), tint, solid);
      painter.outlines(layerAt(0, t), WHITE);
      masksContext.putImageData(painter.image, 0, 0);
      context.drawImage(masks, 0, 0);
      const j = here[i];
      score.textContent = j === null ? "" : `${j === best ? "★ " : ""}J ${j.toFixed(0)} %`;
      cursor.style.left = `${move.at(t)}%`;
      canvas.setAttribute("aria-label", `${names[i]}, frame ${t}${j === null ? "" : `, J ${j.toFixed(0)} percent`}`);
    });
    readout.replaceChildren(make("span", { class: "vos-time" }, `${t} / ${T - 1}`));
    const rank = widest.indexOf(t);
    const gap = `${spread[t].toFixed(0)} points between the best and the worst`;
    said.textContent = rank < 0 ? "" : rank === 0 ? `Here they differ most: ${gap}.` : `Another such frame: ${gap}.`;
    root.dataset.frame = t;
    root.dataset.drawMs = (performance.now() - begun).toFixed(2);
  }

  function note(t) {
    if (model.get("frame") === t) return;
    model.set("frame", t);
    model.save_changes();
  }

  const follow = {
    "change:frame": () => { if (model.get("frame") !== move.wanted) move.jump(model.get("frame")); },
    "change:opacity": () => { opacity.value = model.get("opacity"); move.repaint(); },
  };
  for (const [event, listener] of Object.entries(follow)) model.on(event, listener);
  move.wanted = model.get("frame");
  await move.repaint();
  root.dataset.ready = "true";

  return () => {
    for (const [event, listener] of Object.entries(follow)) model.off(event, listener);
    move.close();
    frames.close();
    root.remove();
  };
}

export default { render };
