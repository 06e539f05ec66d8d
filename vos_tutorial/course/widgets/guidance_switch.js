// GuidanceSwitch: the answers to all settings are on the page; the radio buttons choose among them.

async function render({ model, el }) {
  const [T, H, W] = model.get("_shape");
  const [firsts, seconds] = model.get("_options");
  const names = model.get("_names");
  const scores = model.get("_scores");
  const frames = new Frames(bytesOf(model.get("_frames")), model.get("_offsets"));
  const solid = colourWords(bytesOf(model.get("_colours")), 255);
  const tint = colourWords(bytesOf(model.get("_colours")), 105);
  const maps = await inflate(bytesOf(model.get("_maps")));
  const packed = bytesOf(model.get("_truth"));
  const truth = packed.length > 0 ? await inflate(packed) : null;
  const pageWidth = Math.round(Math.min(372, (260 * W) / H));
  const painter = new Painter(H, W, pageWidth);
  const drawing = make("canvas", { width: painter.image.width, height: painter.image.height });
  const heat = make("canvas", { width: W, height: H });
  const heatImage = new ImageData(W, H);
  const heatWords = new Uint32Array(heatImage.data.buffer);
  const white = new Uint32Array(256).fill(word(255, 255, 255));
  white[VOID] = 0;

  // --- the page ---
  const canvasFor = (attributes) => make("canvas", {
    width: drawing.width, height: drawing.height, role: "img", ...attributes, ...OWN_KEYS,
  });
  const picture = canvasFor({ tabindex: "0", class: "vos-frame" });
  const map = canvasFor({});
  const sliderId = freshId();
  const slider = make("input", {
    type: "range", id: sliderId, min: 0, max: T - 1, step: 1, "aria-label": "Frame", ...OWN_KEYS,
    input: () => go(Number(slider.value)),
  });
  const chart = make("div", { class: "vos-chart", "aria-hidden": "true", title: "J of every frame, 0 to 100 %; thin: the other settings" });
  const cursor = make("div", { class: "vos-cursor" });
  const readout = make("output", { class: "vos-values", for: sliderId });
  const covered = make("span", {});
  const groups = [firsts, seconds].map((options, side) => {
    const name = freshId();
    const radios = options.map((option) => {
      const radio = make("input", {
        type: "radio", name, value: option, ...OWN_KEYS,
        change: () => {
          const choice = [...model.get("choice")];
          choice[side] = option;
          model.set("choice", choice);
          model.save_changes();
        },
      });
      return make("label", {}, radio, option);
    });
    return make("fieldset", {}, make("legend", {}, names[side]), ...radios);
  });
  const root = make(
    "div",
    { class: "vos vos-switch", role: "group", "aria-label": "Guidance switch" },
    make("div", { class: "vos-settings" }, ...groups),
    make(
      "div",
      { class: "vos-pair" },
      make("div", { class: "vos-column" }, picture, make("div", { class: "vos-under" }, "probability ≥ 0.5: ", covered)),
      make(
        "div",
        { class: "vos-column" },
        map,
        make("div", { class: "vos-under" }, "score map 0 ", make("span", { class: "vos-ramp", "aria-hidden": "true" }), " 1", truth ? ", white: truth" : ""),
      ),
    ),
    make("div", { class: "vos-time-row" }, make("div", { class: "vos-time-track" }, slider, chart), readout),
  );
  root.style.setProperty("--picture", `${pageWidth}px`);
  chart.hidden = scores.length === 0;
  el.append(root);

  // --- drawing ---
  const setting = () => {
    const [first, second] = model.get("choice");
    return firsts.indexOf(first) * seconds.length + seconds.indexOf(second);
  };
  const frameOf = (block, t) => block.subarray(t * H * W, (t + 1) * H * W);

  function drawIds(context, ids, words, lines) {
    painter.clear();
    painter.objects(ids, words, lines);
    drawing.getContext("2d").putImageData(painter.image, 0, 0);
    context.drawImage(drawing, 0, 0);
  }

  function paint(bitmap, t) {
    const k = setting();
    const levels = frameOf(maps.subarray(k * T * H * W), t);
    const [left, right] = [picture.getContext("2d"), map.getContext("2d")];
    for (const context of [left, right]) context.drawImage(bitmap, 0, 0, picture.width, picture.height);
    const mask = levels.map((level) => (level >= 128 ? 1 : 0));
    drawIds(left, mask, tint, solid);

    darken(right, map);
    for (let i = 0; i < levels.length; i++) heatWords[i] = HEAT[levels[i]];
    heat.getContext("2d").putImageData(heatImage, 0, 0);
    right.drawImage(heat, 0, 0, map.width, map.height);
    if (truth) drawIds(right, frameOf(truth, t), new Uint32Array(256), white);
    describe(t, k, mask, levels);
  }

  function describe(t, k, mask, levels) {
    const [first, second] = model.get("choice");
    const score = scores[k]?.[t];
    const share = (100 * mask.reduce((a, b) => a + b, 0)) / mask.length;
    const highest = levels.reduce((a, b) => Math.max(a, b), 0) / 255;
    const said = score === undefined ? "" : ` J ${score.toFixed(0)} percent.`;
    picture.setAttribute(
      "aria-label",
      `${model.get("alt")}. Frame ${t} of ${T - 1}, ${names[0]}: ${first}, ${names[1]}: ${second}. ` +
        `The mask covers ${share.toFixed(1)} percent of the frame.${said}`,
    );
    covered.textContent = `${share.toFixed(1)} % of the frame`;
    map.setAttribute("aria-label", `Score map; the highest probability is ${highest.toFixed(2)}.`);
    slider.value = t;
    slider.setAttribute("aria-valuetext", `frame ${t} of ${T - 1}`);
    readout.replaceChildren(
      make("span", {}, `${t} / ${T - 1}`),
      ...(score === undefined ? [] : [make("span", {}, `J ${score.toFixed(0)} %`), make("span", { class: "vos-mean" }, `mean ${mean(scores[k])} %`)]),
    );
    cursor.style.left = `${T > 1 ? (t / (T - 1)) * 100 : 50}%`;
    shown = t;
    root.dataset.frame = t;
    root.dataset.choice = model.get("choice").join(" | ");
  }

  function followChoice() {
    const choice = model.get("choice");
    groups.forEach((group, side) => {
      for (const radio of group.querySelectorAll("input")) radio.checked = radio.value === choice[side];
    });
    if (scores.length > 0) {
      const svg = strip(scores[setting()], T);
      for (const [k, other] of scores.entries()) {
        if (k === setting()) continue;
        const line = strip(other, T).querySelector(".line");
        line.setAttribute("class", "other");
        svg.prepend(line);
      }
      chart.replaceChildren(svg, cursor);
    }
    go(wanted, true);
  }

  let wanted = model.get("frame");
  let shown = -1;
  let busy = false;
  /** Show frame t; calls while a frame is being decoded only move the goal. */
  async function go(t, again = false) {
    wanted = Math.max(0, Math.min(T - 1, t));
    if (again) shown = -1;
    if (model.get("frame") !== wanted) {
      model.set("frame", wanted);
      model.save_changes();
    }
    if (busy) return;
    busy = true;
    while (shown !== wanted && root.dataset.closed === undefined) {
      const t = wanted;
      const bitmap = await frames.get(t);
      if (t === wanted && root.dataset.closed === undefined) paint(bitmap, t);
    }
    busy = false;
  }

  const page = Math.max(1, Math.round(T / 10));
  const moves = {
    ArrowLeft: () => wanted - 1, ArrowRight: () => wanted + 1, PageUp: () => wanted - page, PageDown: () => wanted + page,
    Home: () => 0, End: () => T - 1,
  };
  function onKey(event) {
    if (event.altKey || event.ctrlKey || event.metaKey || !moves[event.key]) return;
    go(moves[event.key]());
    event.preventDefault();
    event.stopPropagation();
  }
  for (const target of [picture, slider]) target.addEventListener("keydown", onKey);

  const follow = { "change:choice": followChoice, "change:frame": () => go(model.get("frame")) };
  for (const [event, listener] of Object.entries(follow)) model.on(event, listener);
  followChoice();
  root.dataset.ready = "true";

  return () => {
    for (const [event, listener] of Object.entries(follow)) model.off(event, listener);
    root.dataset.closed = "true";
    frames.close();
    root.remove();
  };
}

/** The mean of J over the frames, in whole percent. */
function mean(values) {
  return (values.reduce((a, b) => a + b, 0) / values.length).toFixed(0);
}

export default { render };
