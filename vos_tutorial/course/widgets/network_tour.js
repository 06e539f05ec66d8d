// NetworkTour: drawing, pictures and code of all frames are on the page; choosing a part is all that happens.

const PACE = 1100; // ms a part, when following the data

/** Whether the page around is dark: its text is light. */
function isDark(element) {
  const [r, g, b] = getComputedStyle(element).color.match(/[\d.]+/g).map(Number);
  return 0.299 * r + 0.587 * g + 0.114 * b > 140;
}

/** "#rrggbb" as numbers. */
const rgb = (hex) => [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));

/** 256 words of image data, from one colour to another. */
function shadesOf([from, to]) {
  const [a, b] = [rgb(from), rgb(to)];
  return Uint32Array.from({ length: 256 }, (_, v) => word(...a.map((x, i) => x + ((b[i] - x) * v) / 255)));
}

/** Paint bytes onto a canvas of their size: RGB where there are three times as many as cells, else shades. */
function paint(canvas, bytes, [height, width], shades) {
  canvas.width = width;
  canvas.height = height;
  const image = new ImageData(width, height);
  const out = new Uint32Array(image.data.buffer);
  const colour = bytes.length === 3 * out.length;
  for (let i = 0; i < out.length; i++) {
    out[i] = colour ? word(bytes[3 * i], bytes[3 * i + 1], bytes[3 * i + 2]) : shades[bytes[i]];
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
}

async function render({ model, el }) {
  const parts = model.get("_parts");
  const byKey = new Map(parts.map((part) => [part.key, part]));
  const order = model.get("_order");
  const names = model.get("_names");
  const looks = model.get("_looks");
  const sizes = model.get("_sizes");
  const pixels = await inflate(bytesOf(model.get("_pictures")));
  const drawings = JSON.parse(new TextDecoder().decode(await inflate(bytesOf(model.get("_drawings")))));

  // Where each picture and each channel lies: first by frame, then by part.
  const places = names.map(() => new Map());
  let at = 0;
  const take = (length) => pixels.subarray(at, (at += length));
  for (const place of places) {
    for (const part of parts) {
      const [h, w] = part.picture;
      const picture = take(h * w * (part.kind === "picture" ? 3 : 1));
      const channels = part.channels.map(() => take(part.small[0] * part.small[1]));
      place.set(part.key, { picture, channels });
    }
  }

  // --- the page ---
  const svg = make("div", { class: "vos-drawing", "aria-hidden": "true" });
  const faces = parts.filter((part) => part.faces.length > 0).map((part) => (
    { part, canvas: make("canvas", { class: `vos-face vos-${part.kind}`, "aria-hidden": "true" }) }
  ));
  const spots = parts.map((part) => make("button", {
    type: "button", class: "vos-spot", tabindex: "-1", ...OWN_KEYS,
    click: () => choose(part.key),
    focus: () => choose(part.key),
    pointerenter: (event) => { if (event.pointerType !== "touch") look(part.key); },
    pointerleave: () => look(null),
  }));
  const spotOf = new Map(parts.map((part, i) => [part.key, spots[i]]));
  const scene = make("div", { class: "vos-scene", role: "group", "aria-label": "Parts of the network; arrow keys move" },
    svg, ...faces.map((face) => face.canvas), ...spots);

  const sliderId = freshId();
  const slider = make("input", {
    type: "range", id: sliderId, min: 0, max: names.length - 1, step: 1, ...OWN_KEYS,
    input: () => { halt(); go(Number(slider.value)); },
  });
  const frameName = make("output", { for: sliderId, class: "vos-frame-name" });
  const player = make("button", { type: "button", click: () => (timer ? halt() : start()), ...OWN_KEYS }, "Follow the data");
  const title = make("b", {});
  const shape = make("span", { class: "vos-shape" });
  const leads = make("div", { class: "vos-note" });
  const large = make("canvas", { class: "vos-large", role: "img" });
  const grid = make("div", { class: "vos-channels" });
  const codeTitle = make("div", { class: "vos-note" });
  const code = make("pre", { class: "vos-code", tabindex: "0", role: "region", "aria-label": "Code", ...OWN_KEYS });
  const status = make("div", { class: "vos-hidden", role: "status" });
  const root = make(
    "div",
    { class: "vos vos-tour", role: "group", "aria-label": model.get("alt") },
    make("div", { class: "vos-tour-head" },
      player, make("label", { for: sliderId }, "Frame"), slider, frameName),
    scene,
    make("div", { class: "vos-panel" },
      make("div", { class: "vos-made" }, make("div", {}, title, " ", shape), leads, large, grid),
      make("div", { class: "vos-how" }, codeTitle, code)),
    status,
  );
  el.append(root);

  function boxStyle([left, top, right, bottom]) {
    const percent = (v) => `${100 * v}%`;
    return { left: percent(left), top: percent(top), width: percent(right - left), height: percent(bottom - top) };
  }

  // --- what is shown ---
  let looked = null; // a part that is looked at but not chosen
  let timer = 0;
  let dressed = "";
  const shown = () => looked ?? model.get("selected");
  const shades = {};

  function look(key) {
    if (looked === key || timer) return;
    looked = key;
    describe();
  }

  function choose(key) {
    looked = null;
    if (key === model.get("selected")) { describe(); return; }
    model.set("selected", key);
    model.save_changes();
  }

  function go(step) {
    const to = Math.max(0, Math.min(names.length - 1, step));
    if (to === model.get("step")) return;
    model.set("step", to);
    model.save_changes();
  }

  /** The drawing of the present step, light or dark, as the page is. */
  function dress() {
    const theme = isDark(root) ? "dark" : "light";
    const drawing = looks[model.get("step")];
    if (dressed === `${theme} ${drawing}`) return;
    dressed = `${theme} ${drawing}`;
    const parsed = new DOMParser().parseFromString(drawings[theme][drawing], "image/svg+xml").documentElement;
    parsed.removeAttribute("width");
    parsed.removeAttribute("height");
    svg.replaceChildren(document.importNode(parsed, true));
    const [width, height] = sizes[drawing];
    scene.style.setProperty("aspect-ratio", `${width} / ${height}`);
    scene.style.setProperty("max-width", `${width}px`);
    for (const part of parts) shades[part.key] = shadesOf(part.shades[theme]);
    parts.forEach((part, i) => Object.assign(spots[i].style, boxStyle(part.boxes[drawing])));
    for (const { part, canvas } of faces) {
      Object.assign(canvas.style, boxStyle(part.faces[drawing]), { borderColor: part.shades[theme][1] });
    }
    root.dataset.theme = theme;
  }

  function drawFaces() {
    const place = places[model.get("step")];
    for (const { part, canvas } of faces) paint(canvas, place.get(part.key).picture, part.picture, shades[part.key]);
  }

  function describe() {
    const step = model.get("step");
    const part = byKey.get(shown());
    const { picture, channels } = places[step].get(part.key);
    const words = part.lines[step].join(", ");
    title.textContent = part.label;
    shape.textContent = words;
    leads.textContent = part.leads.length > 0 ? `goes to: ${part.leads.join(", ")}` : "the end";
    large.hidden = part.kind === "operation";
    if (!large.hidden) {
      paint(large, picture, part.picture, shades[part.key]);
      large.classList.toggle("vos-map", part.kind === "map");
      const what = part.kind === "map" ? "size of the feature vectors, dark is small" : "picture";
      large.setAttribute("aria-label", `${part.label} of ${names[step]}: ${what}.`);
    }
    grid.replaceChildren(...channels.map((values, i) => {
      const canvas = make("canvas", { class: "vos-map", role: "img", "aria-label": `channel ${part.channels[i]}` });
      paint(canvas, values, part.small, shades[part.key]);
      return make("figure", {}, canvas, make("figcaption", {}, `channel ${part.channels[i]}`));
    }));
    codeTitle.textContent = part.code ? part.code.title : "given, not computed";
    code.hidden = !part.code;
    code.replaceChildren(...(part.code?.lines ?? []).map((line, i) => {
      const marked = part.code.marked.includes(i);
      return make(marked ? "mark" : "span", {}, `${line}\n`);
    }));
    const firstMark = code.querySelector("mark");
    if (firstMark) code.scrollTop = Math.max(0, firstMark.offsetTop - code.offsetTop - 40);
    spots.forEach((spot, i) => {
      const own = parts[i].key;
      spot.setAttribute("aria-label", [parts[i].label, ...parts[i].lines[step]].join(", "));
      spot.setAttribute("aria-pressed", String(own === model.get("selected")));
      spot.tabIndex = own === model.get("selected") ? 0 : -1;
      spot.classList.toggle("vos-looked", own === part.key);
    });
    root.dataset.shown = part.key;
    root.dataset.selected = model.get("selected");
    root.dataset.step = step;
  }

  function onStep() {
    slider.value = model.get("step");
    frameName.textContent = names[model.get("step")];
    slider.setAttribute("aria-valuetext", names[model.get("step")]);
    dress();
    drawFaces();
    describe();
  }

  // --- keys ---
  const directions = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowDown: [0, 1], ArrowUp: [0, -1] };
  /** The nearest part in a direction; going straight counts more than being near. */
  function neighbour(key, [dx, dy]) {
    const drawing = looks[model.get("step")];
    const [width, height] = sizes[drawing];
    const middle = ({ boxes }) => {
      const [left, top, right, bottom] = boxes[drawing];
      return [((left + right) / 2) * width, ((top + bottom) / 2) * height];
    };
    const [x, y] = middle(byKey.get(key));
    let best = key;
    let least = Infinity;
    for (const part of parts) {
      const [px, py] = middle(part);
      const along = (px - x) * dx + (py - y) * dy;
      const across = Math.abs((px - x) * dy) + Math.abs((py - y) * dx);
      if (part.key === key || along < 8 || across > 2 * along) continue;
      if (along + 2 * across < least) [best, least] = [part.key, along + 2 * across];
    }
    return best;
  }
  scene.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    let to;
    if (directions[event.key]) to = neighbour(model.get("selected"), directions[event.key]);
    else if (event.key === "Home") to = order[0];
    else if (event.key === "End") to = order[order.length - 1];
    else return;
    event.preventDefault();
    event.stopPropagation();
    halt();
    choose(to);
    spotOf.get(to).focus();
  });
  scene.addEventListener("pointerdown", () => halt());

  // --- following the data ---
  function start() {
    const last = model.get("selected") === order[order.length - 1];
    if (last) go((model.get("step") + 1) % names.length);
    choose(last ? order[0] : model.get("selected"));
    player.textContent = "Stop";
    root.dataset.following = "true";
    timer = setInterval(() => {
      const next = order[order.indexOf(model.get("selected")) + 1];
      if (next === undefined) halt();
      else choose(next);
    }, PACE);
  }
  function halt() {
    clearInterval(timer);
    timer = 0;
    player.textContent = "Follow the data";
    delete root.dataset.following;
  }

  function onSelected() {
    looked = null;
    describe();
    const part = byKey.get(model.get("selected"));
    status.textContent = timer ? `${part.label} ${part.lines[model.get("step")].join(", ")}` : "";
  }
  const redress = () => { dress(); drawFaces(); describe(); };
  const watcher = new MutationObserver(redress); // JupyterLab and VS Code say so on the body
  watcher.observe(document.body, { attributes: true, attributeFilter: ["class", "data-jp-theme-light", "data-vscode-theme-kind"] });
  const scheme = matchMedia("(prefers-color-scheme: dark)");
  scheme.addEventListener("change", redress);
  const follow = { "change:selected": onSelected, "change:step": onStep };
  for (const [event, listener] of Object.entries(follow)) model.on(event, listener);

  onStep();
  root.dataset.ready = "true";

  return () => {
    for (const [event, listener] of Object.entries(follow)) model.off(event, listener);
    watcher.disconnect();
    scheme.removeEventListener("change", redress);
    halt();
    root.remove();
  };
}

export default { render };
