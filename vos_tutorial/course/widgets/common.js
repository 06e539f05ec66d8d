// What the widgets share. Python puts this text before each widget's own module (widget.py says why).

/** A binary trait as bytes, without a copy. */
function bytesOf(view) {
  return new Uint8Array(view.buffer ?? view, view.byteOffset ?? 0, view.byteLength);
}

/** Undo zlib.compress. */
async function inflate(bytes) {
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

/** An element with attributes and children; attributes that are functions become listeners. */
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(name, value);
    else if (value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

/** Attributes of everything that takes the focus: keys pressed there are not the notebook's shortcuts.
 *  Lumino asks the focused element itself, so a wrapper with this attribute would not help. */
const OWN_KEYS = { "data-lm-suppress-shortcuts": "true" };

let lastId = 0;
/** A new id for an element, so that a label can name it; a widget may be on the page several times. */
function freshId() {
  lastId += 1;
  return `vos-${Math.random().toString(36).slice(2, 8)}-${lastId}`;
}

/** Concatenated JPEGs, decoded when asked for; the last few stay decoded. */
class Frames {
  constructor(bytes, offsets, keep = 48) {
    this.bytes = bytes;
    this.offsets = offsets;
    this.keep = keep;
    this.decoded = new Map(); // t -> promise of a bitmap, the least recently used first
  }

  get(t) {
    const known = this.decoded.get(t);
    const blob = () => new Blob([this.bytes.subarray(this.offsets[t], this.offsets[t + 1])], { type: "image/jpeg" });
    const bitmap = known ?? createImageBitmap(blob());
    this.decoded.delete(t);
    this.decoded.set(t, bitmap);
    if (this.decoded.size > this.keep) {
      const [oldest, old] = this.decoded.entries().next().value;
      this.decoded.delete(oldest);
      old.then((b) => b.close());
    }
    return bitmap;
  }

  close() {
    for (const bitmap of this.decoded.values()) bitmap.then((b) => b.close());
    this.decoded.clear();
  }
}

/** Moves through T frames: a slider, a play button and keys. The clock decides the frame, so a slow page drops frames and
 *  keeps the time; calls while a frame is being made ready only move the goal.
 *  `ready(t)` resolves to what `show(what, t)` draws; `note(t)` hears where the reader stopped. */
class Transport {
  constructor({ T, fps, ready, show, note }) {
    Object.assign(this, { T, fps, ready, show, note });
    this.wanted = 0;
    this.shown = -1;
    this.busy = false;
    this.closed = false;
    this.playing = null;
    const page = Math.max(1, Math.round(T / 10));
    this.moves = {
      ArrowLeft: () => this.wanted - 1, ArrowRight: () => this.wanted + 1,
      PageUp: () => this.wanted - page, PageDown: () => this.wanted + page,
      Home: () => 0, End: () => T - 1,
    };
    this.play = make("button", { type: "button", class: "vos-play", click: () => this.toggle(), ...OWN_KEYS });
    this.slider = make("input", {
      type: "range", id: freshId(), min: 0, max: T - 1, step: 1, "aria-label": "Frame",
      input: () => this.jump(Number(this.slider.value)), ...OWN_KEYS,
    });
    this.listen(this.slider);
    this.label();
  }

  /** Keys pressed on an element move the clip. */
  listen(element) {
    element.addEventListener("keydown", (event) => {
      if (event.altKey || event.ctrlKey || event.metaKey) return;
      if (event.key === " ") this.toggle();
      else if (this.moves[event.key]) this.jump(this.moves[event.key]());
      else return;
      event.preventDefault();
      event.stopPropagation();
    });
  }

  /** Dragging over an element moves the clip: its left edge is the first frame, its right edge the last. */
  scrub(element) {
    const follow = (event) => {
      if (event.buttons !== 1) return;
      const box = element.getBoundingClientRect();
      this.jump(Math.round(((event.clientX - box.left) / box.width) * (this.T - 1)));
    };
    element.addEventListener("pointerdown", (event) => { element.setPointerCapture(event.pointerId); follow(event); });
    element.addEventListener("pointermove", follow);
  }

  /** Where a frame lies on a strip, in percent of its width. */
  at(t) {
    return this.T > 1 ? (t / (this.T - 1)) * 100 : 50;
  }

  /** Stop, and show frame t. */
  jump(t) {
    this.pause();
    return this.go(t);
  }

  async go(t, again = false) {
    this.wanted = Math.max(0, Math.min(this.T - 1, t));
    if (again) this.shown = -1;
    if (!this.playing) this.note(this.wanted);
    if (this.busy) return;
    this.busy = true;
    try {
      while (this.shown !== this.wanted && !this.closed) {
        const t = this.wanted;
        const what = await this.ready(t);
        if (t !== this.wanted || this.closed) continue;
        this.shown = t;
        this.slider.value = t;
        this.slider.setAttribute("aria-valuetext", `frame ${t} of ${this.T - 1}`);
        this.show(what, t);
      }
    } finally {
      this.busy = false;
    }
  }

  repaint() {
    return this.go(this.wanted, true);
  }

  toggle() {
    this.playing ? this.pause() : this.start();
  }

  start() {
    const from = this.wanted === this.T - 1 ? 0 : this.wanted;
    const begun = performance.now();
    const tick = (now) => {
      const t = (from + Math.floor((Math.max(0, now - begun) / 1000) * this.fps())) % this.T;
      if (t !== this.wanted || this.shown === -1) this.go(t);
      this.ready((t + 1) % this.T);
      this.playing.request = requestAnimationFrame(tick);
    };
    this.playing = { request: requestAnimationFrame(tick) };
    this.label();
  }

  pause() {
    if (!this.playing) return;
    cancelAnimationFrame(this.playing.request);
    this.playing = null;
    this.label();
    this.note(this.wanted);
  }

  label() {
    for (const element of [this.play, this.play.closest(".vos")]) {
      if (element) element.dataset.playing = this.playing !== null;
    }
    this.play.replaceChildren(make("span", { class: "vos-glyph", "aria-hidden": "true" }), this.playing ? "Pause" : "Play");
  }

  close() {
    this.closed = true;
    if (this.playing) cancelAnimationFrame(this.playing.request);
    this.playing = null;
  }
}

/** Colours [256 * 3] as 32-bit words in the byte order of image data, for an opacity in 0..255. */
function colourWords(colours, opacity) {
  const bytes = new Uint8ClampedArray(256 * 4);
  for (let id = 0; id < 256; id++) {
    bytes.set(colours.subarray(id * 3, id * 3 + 3), id * 4);
    bytes[id * 4 + 3] = opacity;
  }
  return new Uint32Array(bytes.buffer);
}

/** One 32-bit word of image data. */
function word(r, g, b, a = 255) {
  return new Uint32Array(new Uint8ClampedArray([r, g, b, a]).buffer)[0];
}

/** Where to write each object's number: the pixel farthest from its edge, by a two-pass city-block distance. */
function hearts(ids, width, height) {
  const depth = new Uint16Array(ids.length);
  const best = new Map(); // id -> {x, y, depth}
  const step = (i, j, inside) => (inside && ids[i] === ids[j] ? depth[j] + 1 : 1);
  for (let y = 0, i = 0; y < height; y++) {
    for (let x = 0; x < width; x++, i++) {
      if (ids[i] !== 0) depth[i] = Math.min(step(i, i - 1, x > 0), step(i, i - width, y > 0));
    }
  }
  for (let y = height - 1, i = ids.length - 1; y >= 0; y--) {
    for (let x = width - 1; x >= 0; x--, i--) {
      if (ids[i] === 0) continue;
      depth[i] = Math.min(depth[i], step(i, i + 1, x < width - 1), step(i, i + width, y < height - 1));
      if (!(best.get(ids[i])?.depth >= depth[i])) best.set(ids[i], { x, y, depth: depth[i] });
    }
  }
  return best;
}

const CASING = word(34, 34, 34, 190);
const VOID = 255;

/** Draws masks of H x W cells, each cell `scale` pixels wide, into image data.
 *  `density` is how many of these pixels lie in one pixel of the page: lines and hatches are as wide everywhere.
 *  The longer side of the drawing has about `side` pixels. */
class Painter {
  constructor(height, width, pageWidth, side = 720) {
    this.H = height;
    this.W = width;
    this.scale = Math.max(1, Math.min(12, Math.round(side / Math.max(height, width))));
    this.density = (width * this.scale) / pageWidth;
    this.line = Math.min(this.scale, Math.max(1, Math.round(1.6 * this.density)));
    this.casing = Math.min(this.scale, Math.max(1, Math.round(this.density)));
    this.image = new ImageData(width * this.scale, height * this.scale);
    this.out = new Uint32Array(this.image.data.buffer);
  }

  clear() {
    this.out.fill(0);
  }

  /** Fill a rectangle of pixels inside cell (y, x): from (top, left), h high and w wide. */
  fill(y, x, top, left, h, w, colour) {
    const stride = this.W * this.scale;
    let start = (y * this.scale + top) * stride + x * this.scale + left;
    for (let row = 0; row < h; row++, start += stride) this.out.fill(colour, start, start + w);
  }

  /** Tint every cell by its id, with a line of full colour inside each edge and a dark one outside. */
  objects(ids, tint, solid) {
    const { H, W, scale, line, casing } = this;
    for (let y = 0, i = 0; y < H; y++) {
      for (let x = 0; x < W; x++, i++) {
        const id = ids[i];
        const up = y > 0 ? ids[i - W] : id;
        const down = y < H - 1 ? ids[i + W] : id;
        const left = x > 0 ? ids[i - 1] : id;
        const right = x < W - 1 ? ids[i + 1] : id;
        if (id !== 0 && !(id === VOID && (x + y) % 2 === 0)) this.fill(y, x, 0, 0, scale, scale, tint[id]);
        if (id === VOID || (id === up && id === down && id === left && id === right)) continue;
        const colour = id === 0 ? CASING : solid[id];
        const thick = id === 0 ? casing : line;
        const drawn = (other) => other !== id && (id !== 0 || other !== VOID);
        if (drawn(up)) this.fill(y, x, 0, 0, thick, scale, colour);
        if (drawn(down)) this.fill(y, x, scale - thick, 0, thick, scale, colour);
        if (drawn(left)) this.fill(y, x, 0, 0, scale, thick, colour);
        if (drawn(right)) this.fill(y, x, 0, scale - thick, scale, thick, colour);
      }
    }
  }

  /** Only the outlines: a line inside each edge of an object, a dark one outside. */
  outlines(ids, colour) {
    const { H, W, scale, line, casing } = this;
    for (let y = 0, i = 0; y < H; y++) {
      for (let x = 0; x < W; x++, i++) {
        const id = ids[i];
        if (id === VOID) continue;
        const ink = id === 0 ? CASING : colour;
        const thick = id === 0 ? casing : line;
        const edge = (other) => other !== id && other !== VOID;
        if (y > 0 && edge(ids[i - W])) this.fill(y, x, 0, 0, thick, scale, ink);
        if (y < H - 1 && edge(ids[i + W])) this.fill(y, x, scale - thick, 0, thick, scale, ink);
        if (x > 0 && edge(ids[i - 1])) this.fill(y, x, 0, 0, scale, thick, ink);
        if (x < W - 1 && edge(ids[i + 1])) this.fill(y, x, 0, scale - thick, scale, thick, ink);
      }
    }
  }
}

/** J of every frame as a line, 0 to 100 percent, over `length` frames; gaps where there is no truth. */
function strip(scores, length) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 1000 100");
  svg.setAttribute("preserveAspectRatio", "none");
  let path = "";
  let area = "";
  const at = (t) => (length > 1 ? (t / (length - 1)) * 1000 : 500);
  scores.forEach((score, t) => {
    if (score === null) return;
    const joined = t > 0 && scores[t - 1] !== null;
    const point = `${at(t).toFixed(1)} ${(100 - score).toFixed(1)}`;
    path += joined ? `L${point}` : `M${point}h0.1`;
    area += joined ? `L${point}` : `M${at(t).toFixed(1)} 100L${point}`;
    if (t === length - 1 || scores[t + 1] === null) area += `L${at(t).toFixed(1)} 100Z`;
  });
  for (const [name, d] of [["area", area], ["line", path]]) {
    const shape = document.createElementNS("http://www.w3.org/2000/svg", "path");
    shape.setAttribute("class", name);
    shape.setAttribute("d", d);
    svg.append(shape);
  }
  return svg;
}

/** Heat 0..255 as 32-bit words: stronger is brighter and less transparent, so that it reads without colour too.
 *  heat_over in widget.py draws the same. */
const HEAT = Uint32Array.from({ length: 256 }, (_, v) => word(240 + (15 * v) / 255, 110 + (135 * v) / 255, (190 * v) / 255, v));

/** The same for a ground that keeps some of its colour; `heated` in figures/answers.py draws it, too. */
const STRONG_HEAT = (() => {
  const stops = [[42, 35, 32], [165, 83, 14], [240, 138, 36], [255, 233, 173]];
  return Uint32Array.from({ length: 256 }, (_, v) => {
    const at = (3 * v) / 255;
    const i = Math.min(2, Math.floor(at));
    return word(...stops[i].map((from, c) => from + (stops[i + 1][c] - from) * (at - i)), Math.min(255, 1.5 * v));
  });
})();

/** Take half of the colour and a quarter of the light out of what is drawn: it can still be recognised. */
function mute(context, { width, height }) {
  context.globalCompositeOperation = "saturation";
  context.fillStyle = "rgb(128 128 128 / 50%)";
  context.fillRect(0, 0, width, height);
  context.globalCompositeOperation = "source-over";
  context.fillStyle = "rgb(0 0 0 / 25%)";
  context.fillRect(0, 0, width, height);
}

/** Take colour and light out of what is drawn, as a ground for heat. */
function darken(context, { width, height }) {
  context.globalCompositeOperation = "saturation";
  context.fillStyle = "#808080";
  context.fillRect(0, 0, width, height);
  context.globalCompositeOperation = "source-over";
  context.fillStyle = "rgb(0 0 0 / 65%)";
  context.fillRect(0, 0, width, height);
}
