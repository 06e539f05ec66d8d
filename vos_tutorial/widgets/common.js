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
