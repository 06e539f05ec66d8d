// GuideBench: every guide and every answer is on the page; the sliders choose among them.

const OBJECT = 2; // whose colour guides and answers have

async function render({ model, el }) {
  const [H, W] = model.get("_shape");
  const levels = model.get("_levels");
  const names = model.get("_names");
  const into = model.get("_into");
  const outs = model.get("_out");
  const sliderNames = ["shift", "bend", "hide"];
  const [truth, guides, answers] = await Promise.all(
    ["_truth", "_guides", "_answers"].map((name) => inflate(bytesOf(model.get(name)))),
  );
  const bitmap = await createImageBitmap(new Blob([bytesOf(model.get("_picture"))], { type: "image/jpeg" }));
  const solid = colourWords(bytesOf(model.get("_colours")), 255);
  const tint = colourWords(bytesOf(model.get("_colours")), 80);
  const none = new Uint32Array(256);
  const white = new Uint32Array(256).fill(word(255, 255, 255));
  const pageWidth = Math.round(Math.min(230, (230 * W) / H));
  const painter = new Painter(H, W, pageWidth);
  const layer = make("canvas", { width: painter.image.width, height: painter.image.height });

  // --- the page ---
  const sliders = {};
  const rows = sliderNames.map((name) => {
    const id = freshId();
    const values = levels[name];
    const input = make("input", {
      type: "range", id, min: 0, max: values.length - 1, step: 1, ...OWN_KEYS,
      input: () => choose(name, values[Number(input.value)]),
    });
    const output = make("output", { for: id });
    sliders[name] = { input, output, values };
    return make("div", { class: "vos-bench-row" }, make("label", { for: id }, name), input, output);
  });
  const group = freshId();
  const radios = names.map((name) => make("input", {
    type: "radio", name: group, value: name, ...OWN_KEYS, change: () => choose("network", name),
  }));
  const networks = make(
    "fieldset", {}, make("legend", {}, "network trained"),
    ...radios.map((radio, k) => make("label", {}, radio, names[k])),
  );
  networks.hidden = names.length < 2;
  const panel = (title) => {
    const canvas = make("canvas", { width: layer.width, height: layer.height, role: "img" });
    const head = make("div", { class: "vos-bench-head" }, title);
    return { canvas, head, box: make("div", { class: "vos-bench-panel" }, head, canvas) };
  };
  const guidePanel = panel("guide");
  const answerPanel = panel("answer");
  const plot = cobwebPlot(into, outs);
  const plotHead = make("div", { class: "vos-bench-head" }, "IoU in → IoU out");
  const said = make("div", { class: "vos-bench-said", "aria-live": "polite" });
  const root = make(
    "div", { class: "vos vos-bench", role: "group", "aria-label": "Guide bench" },
    make("div", { class: "vos-bench-controls" }, make("div", { class: "vos-bench-rows" }, ...rows), networks),
    make(
      "div", { class: "vos-bench-panels" }, guidePanel.box, answerPanel.box,
      make("div", { class: "vos-bench-panel" }, plotHead, plot.svg),
    ),
    said,
  );
  root.style.setProperty("--picture", `${pageWidth}px`);
  el.append(root);

  // --- drawing ---
  function index() {
    return sliderNames.reduce((at, name) => at * levels[name].length + levels[name].indexOf(model.get(name)), 0);
  }

  const maskAt = (block, at) => block.subarray(at * H * W, (at + 1) * H * W);

  function draw({ canvas }, mask) {
    const context = canvas.getContext("2d");
    context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
    for (const [ids, words, lines] of [[mask.map((inside) => OBJECT * inside), tint, solid], [truth, none, white]]) {
      painter.clear();
      painter.objects(ids, words, lines);
      layer.getContext("2d").putImageData(painter.image, 0, 0);
      context.drawImage(layer, 0, 0);
    }
  }

  function paint() {
    const at = index();
    const k = names.indexOf(model.get("network"));
    draw(guidePanel, maskAt(guides, at));
    draw(answerPanel, maskAt(answers, k * into.length + at));
    const [x, y] = [into[at], outs[k][at]];
    plot.show(k, x, y);
    guidePanel.head.textContent = `guide: IoU ${x.toFixed(2)}`;
    answerPanel.head.textContent = `answer: IoU ${y.toFixed(2)}`;
    for (const name of sliderNames) {
      const { input, output, values } = sliders[name];
      const value = model.get(name);
      input.value = values.indexOf(value);
      input.setAttribute("aria-valuetext", `${name} ${value} percent`);
      output.textContent = `${value} %`;
    }
    for (const radio of radios) radio.checked = radio.value === model.get("network");
    const verdict = y > x + 0.005 ? "The network repairs this guide" : y < x - 0.005 ? "The network damages this guide" : "The network returns this guide as it is";
    const sentence = `${verdict}: IoU ${x.toFixed(2)} in, ${y.toFixed(2)} out.`;
    if (said.textContent !== sentence) said.textContent = sentence;
    guidePanel.canvas.setAttribute("aria-label", `${model.get("alt")}. The guide, IoU ${x.toFixed(2)}; white: truth.`);
    answerPanel.canvas.setAttribute("aria-label", `The answer, IoU ${y.toFixed(2)}; white: truth.`);
    root.dataset.setting = sliderNames.map((name) => model.get(name)).join(" ");
    root.dataset.network = model.get("network");
  }

  function choose(name, value) {
    if (model.get(name) === value) return;
    model.set(name, value);
    model.save_changes();
  }

  const events = [...sliderNames, "network"].map((name) => `change:${name}`);
  for (const event of events) model.on(event, paint);
  paint();
  root.dataset.ready = "true";

  return () => {
    for (const event of events) model.off(event, paint);
    root.dataset.closed = "true";
    bitmap.close();
    root.remove();
  };
}

/** Every setting as a small point, the present one as a large one, and the diagonal. */
function cobwebPlot(into, outs) {
  const space = "http://www.w3.org/2000/svg";
  const shape = (tag, attributes, text) => {
    const element = document.createElementNS(space, tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    if (text !== undefined) element.textContent = text;
    return element;
  };
  const at = (value) => 100 * value;
  const svg = shape("svg", { viewBox: "-14 -4 120 120", role: "img" });
  svg.append(shape("path", { class: "axis", d: "M0 0V100H100" }), shape("path", { class: "diagonal", d: "M0 100L100 0" }));
  for (const tick of [0, 0.5, 1]) {
    svg.append(
      shape("text", { x: at(tick), y: 107, "text-anchor": "middle" }, tick),
      shape("text", { x: -3, y: 102 - at(tick), "text-anchor": "end" }, tick),
    );
  }
  svg.append(
    shape("text", { x: 3, y: 5 }, "repairs"),
    shape("text", { x: 98, y: 97, "text-anchor": "end" }, "damages"),
    shape("text", { x: 50, y: 114, "text-anchor": "middle" }, "IoU in"),
  );
  const clouds = outs.map((out) => {
    const cloud = shape("g", { class: "cloud" });
    out.forEach((y, i) => cloud.append(shape("circle", { cx: at(into[i]), cy: 100 - at(y), r: 0.8 })));
    return cloud;
  });
  const point = shape("circle", { class: "point", r: 3.2 });
  svg.append(...clouds, point);
  return {
    svg,
    show(k, x, y) {
      clouds.forEach((cloud, i) => { cloud.style.display = i === k ? "" : "none"; });
      point.setAttribute("cx", at(x));
      point.setAttribute("cy", 100 - at(y));
      svg.setAttribute("aria-label", `IoU in ${x.toFixed(2)}, IoU out ${y.toFixed(2)}; the diagonal is where both are equal.`);
    },
  };
}

export default { render };
