// What is drawn on the painter's canvas, over the frame: masks, outlines, numbers, a box, the cursor.

/** The masks as a picture of their own size, brought up to date box by box. */
class Overlay {
  constructor(width, height) {
    this.W = width;
    this.H = height;
    this.canvas = make("canvas", { width, height });
    this.context = this.canvas.getContext("2d");
    this.image = new ImageData(width, height);
    this.out = new Uint32Array(this.image.data.buffer);
  }

  /** Draw the pixels of a box: `tint` inside, `solid` along edges, `edge` pixels wide (0: none), dark outside them. */
  draw(seen, box, tint, solid, edge) {
    const { W, H, out } = this;
    const { x0, y0, x1, y1 } = box.grown(edge, W, H);
    for (let y = y0; y < y1; y++) {
      for (let x = x0, i = y * W + x0; x < x1; x++, i++) {
        const id = seen[i];
        out[i] = tint[id];
        if (edge === 0) continue;
        const near =
          (x > 0 && seen[i - 1] !== id) || (x < W - 1 && seen[i + 1] !== id) ||
          (y > 0 && seen[i - W] !== id) || (y < H - 1 && seen[i + W] !== id);
        const wide =
          !near && edge > 1 && id !== 0 &&
          ((x > 1 && seen[i - 2] !== id) || (x < W - 2 && seen[i + 2] !== id) ||
            (y > 1 && seen[i - 2 * W] !== id) || (y < H - 2 && seen[i + 2 * W] !== id));
        if (near || wide) out[i] = solid[id];
      }
    }
    this.context.putImageData(this.image, 0, 0, x0, y0, x1 - x0, y1 - y0);
  }
}

/** The edges between pixels of different ids inside a box, one path for each id, in pixels of the picture. */
function outlines(seen, W, box) {
  const paths = new Map();
  const path = (id) => paths.get(id) ?? paths.set(id, new Path2D()).get(id);
  const { x0, y0, x1, y1 } = box;
  for (let y = y0; y < y1; y++) {
    for (let x = x0, i = y * W + x0; x < x1; x++, i++) {
      for (const [other, line] of [
        [x + 1 < x1 ? seen[i + 1] : seen[i], [x + 1, y, x + 1, y + 1]],
        [y + 1 < y1 ? seen[i + W] : seen[i], [x, y + 1, x + 1, y + 1]],
      ]) {
        if (other === seen[i]) continue;
        const p = path(seen[i] || other);
        p.moveTo(line[0], line[1]);
        p.lineTo(line[2], line[3]);
      }
    }
  }
  return paths;
}

/** Draw outlines as lines of the page's pixels: where pixels of the picture are large, an outline of theirs hides too much. */
function drawOutlines(context, view, ids, rgb) {
  context.save();
  context.translate(view.x, view.y);
  context.scale(view.scale, view.scale);
  context.lineCap = "square";
  for (const [id, path] of outlines(ids, view.W, view.visible())) {
    for (const [width, colour] of [[3.5, "rgb(34 34 34 / 75%)"], [2, rgb(id)]]) {
      context.lineWidth = width / view.scale;
      context.strokeStyle = colour;
      context.stroke(path);
    }
  }
  context.restore();
}

/** Where each object's number goes: {x, y, depth} in the picture; on a coarse copy, because nobody sees the difference. */
function badgePlaces(seen, W, H) {
  const s = Math.max(1, Math.ceil(Math.max(W, H) / 240));
  const [h, w] = [Math.floor(H / s), Math.floor(W / s)];
  const coarse = new Uint8Array(h * w);
  for (let y = 0, i = 0; y < h; y++) {
    for (let x = 0; x < w; x++, i++) coarse[i] = seen[(y * s + (s >> 1)) * W + x * s + (s >> 1)];
  }
  return new Map([...hearts(coarse, w, h)].map(([id, p]) => [id, { x: (p.x + 0.5) * s, y: (p.y + 0.5) * s, depth: p.depth * s }]));
}

/** Each object's number where it is widest, unless it is too thin to carry it. */
function drawBadges(context, view, places, hidden) {
  context.textAlign = "center";
  context.textBaseline = "middle";
  context.font = "bold 13px system-ui, sans-serif";
  context.lineWidth = 3;
  context.lineJoin = "round";
  for (const [id, { x, y, depth }] of places) {
    if (hidden.has(id) || depth * view.scale < 8) continue;
    const at = view.toCanvas({ x, y });
    context.strokeStyle = "#222";
    context.strokeText(id, at.x, at.y);
    context.fillStyle = "#fff";
    context.fillText(id, at.x, at.y);
  }
}

/** A box, dashed in dark and light, so that it shows on every ground. */
function drawBand(context, view, box, busy) {
  const a = view.toCanvas({ x: box.x0, y: box.y0 });
  const b = view.toCanvas({ x: box.x1, y: box.y1 });
  context.setLineDash(busy ? [3, 3] : [6, 4]);
  context.lineWidth = 1.5;
  for (const [colour, offset] of [["#222", 0], ["#fff", busy ? 3 : 5]]) {
    context.strokeStyle = colour;
    context.lineDashOffset = offset;
    context.strokeRect(a.x, a.y, b.x - a.x, b.y - a.y);
  }
  context.setLineDash([]);
}

/** The cursor: a ring as large as the brush, struck through for the eraser; a cross for tools without a size (r = 0). */
function drawCursor(context, { x, y }, r, colour, struck) {
  const shape = new Path2D();
  if (r > 0) shape.arc(x, y, Math.max(1.5, r), 0, 7);
  else {
    shape.moveTo(x - 8, y);
    shape.lineTo(x + 8, y);
    shape.moveTo(x, y - 8);
    shape.lineTo(x, y + 8);
  }
  if (struck) {
    shape.moveTo(x - 0.7 * r, y + 0.7 * r);
    shape.lineTo(x + 0.7 * r, y - 0.7 * r);
  }
  for (const [width, stroke] of [[3, "rgb(34 34 34 / 80%)"], [1.4, colour]]) {
    context.lineWidth = width;
    context.strokeStyle = stroke;
    context.stroke(shape);
  }
}
