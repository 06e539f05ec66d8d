// Painting without a page: masks as run lengths, brush, fill, layers, undo, and where the picture lies on the canvas.
// painter_canvas.js draws it.

const LONGEST_RUN = 0xffffff;

/** Ids as run lengths, one 32-bit word each: the id in the top byte, the length below it. */
function runsOf(ids) {
  const runs = [];
  for (let i = 0; i < ids.length; ) {
    const id = ids[i];
    const end = Math.min(ids.length, i + LONGEST_RUN);
    let j = i + 1;
    while (j < end && ids[j] === id) j++;
    runs.push(((id << 24) | (j - i)) >>> 0);
    i = j;
  }
  return Uint32Array.from(runs);
}

/** The ids [H * W] that run lengths stand for; `runs` is a list of words, or their bytes as they travel. */
function idsOf(runs, ids) {
  let i = 0;
  for (const run of runs) {
    const length = run & LONGEST_RUN;
    ids.fill(run >>> 24, i, i + length);
    i += length;
  }
  return ids;
}

/** Bytes of a message as words; a copy, because a message may begin at an odd address. */
function wordsOf(view) {
  return new Uint32Array(bytesOf(view).slice().buffer);
}

/** A rectangle of pixels that grows with what is put into it; x1 and y1 lie outside. */
class Box {
  constructor(x0 = Infinity, y0 = Infinity, x1 = -Infinity, y1 = -Infinity) {
    Object.assign(this, { x0, y0, x1, y1 });
  }

  get empty() {
    return this.x1 <= this.x0 || this.y1 <= this.y0;
  }

  add({ x0, y0, x1, y1 }) {
    this.x0 = Math.min(this.x0, x0);
    this.y0 = Math.min(this.y0, y0);
    this.x1 = Math.max(this.x1, x1);
    this.y1 = Math.max(this.y1, y1);
  }

  grown(by, width, height) {
    return new Box(Math.max(0, this.x0 - by), Math.max(0, this.y0 - by), Math.min(width, this.x1 + by), Math.min(height, this.y1 + by));
  }
}

/** The masks of one frame: what the method found, what was given by hand, and what is seen of both.
 *
 *  Each object that was given here shows its given pixels and no others; the method's answer shows beneath. */
class Layers {
  constructor(width, height) {
    this.W = width;
    this.H = height;
    this.result = new Uint8Array(width * height);
    this.given = new Uint8Array(width * height);
    this.objects = new Set(); // ids that are given here, some perhaps without a pixel: "not in this frame"
    this.seen = new Uint8Array(width * height);
  }

  /** Put given masks in place: `state` is {runs, objects}, never changed once made. */
  restore(state) {
    idsOf(state.runs, this.given);
    this.objects = new Set(state.objects);
    this.compose();
  }

  /** What is given, as it stands now. */
  state() {
    return { runs: runsOf(this.given), objects: [...this.objects].sort((a, b) => a - b) };
  }

  compose() {
    const { result, given, seen } = this;
    const shows = Uint8Array.from({ length: 256 }, (_, id) => (this.objects.has(id) ? 0 : id));
    for (let i = 0; i < seen.length; i++) seen[i] = given[i] || shows[result[i]];
  }

  /** From now on `id` is given here; it begins with the pixels that are seen of it. */
  give(id) {
    if (this.objects.has(id)) return false;
    this.objects.add(id);
    for (let i = 0; i < this.seen.length; i++) if (this.seen[i] === id) this.given[i] = id;
    return true;
  }

  /** Paint a pixel with `id`, or take it from `id`; nobody else's is taken. */
  put(i, id, erase) {
    if (!erase) this.given[i] = this.seen[i] = id;
    else if (this.seen[i] === id) this.given[i] = this.seen[i] = 0;
  }

  /** Paint or erase all pixels nearer than `radius` to the line from a to b; returns the box around them.
   *  A pixel's middle lies at whole numbers plus a half. */
  stroke(a, b, radius, id, erase) {
    const { W, H } = this;
    const box = new Box(
      Math.max(0, Math.floor(Math.min(a.x, b.x) - radius)),
      Math.max(0, Math.floor(Math.min(a.y, b.y) - radius)),
      Math.min(W, Math.ceil(Math.max(a.x, b.x) + radius)),
      Math.min(H, Math.ceil(Math.max(a.y, b.y) + radius)),
    );
    const dx = b.x - a.x;
    const dy = b.y - a.y;
    const length2 = dx * dx + dy * dy || 1;
    for (let y = box.y0; y < box.y1; y++) {
      for (let x = box.x0; x < box.x1; x++) {
        const px = x + 0.5 - a.x;
        const py = y + 0.5 - a.y;
        const along = Math.max(0, Math.min(1, (px * dx + py * dy) / length2));
        const ex = px - along * dx;
        const ey = py - along * dy;
        if (ex * ex + ey * ey < radius * radius) this.put(y * W + x, id, erase);
      }
    }
    const [x, y] = [Math.floor(b.x), Math.floor(b.y)];
    if (x >= 0 && y >= 0 && x < W && y < H) this.put(y * W + x, id, erase); // also where the brush is smaller than a pixel
    return box;
  }

  /** Fill the region around pixel (x, y) whose pixels are all seen as the same id, sides touching; returns its box. */
  flood(x, y, id) {
    const { W, H, seen } = this;
    const box = new Box();
    const from = seen[y * W + x];
    if (from === id) return box;
    const open = [y * W + x];
    while (open.length > 0) {
      const start = open.pop();
      if (seen[start] !== from) continue;
      const row = Math.floor(start / W) * W;
      let left = start;
      let right = start + 1;
      while (left > row && seen[left - 1] === from) left--;
      while (right < row + W && seen[right] === from) right++;
      for (let i = left; i < right; i++) this.put(i, id, false);
      box.add({ x0: left - row, y0: row / W, x1: right - row, y1: row / W + 1 });
      for (const beside of [-W, W]) {
        if (row + beside < 0 || row + beside >= W * H) continue;
        for (let i = left + beside; i < right + beside; i++) {
          if (seen[i] === from && (i === left + beside || seen[i - 1] !== from)) open.push(i);
        }
      }
    }
    return box;
  }
}

/** Undo and redo without end, over all objects and frames: each edit is what was given in a frame before and after. */
class History {
  constructor() {
    this.edits = []; // {t, before, after}
    this.position = 0; // edits[0..position) are done
  }

  add(edit) {
    this.edits.length = this.position; // what was undone cannot come back
    this.edits.push(edit);
    this.position += 1;
  }

  undo() {
    return this.position > 0 ? this.edits[--this.position] : null;
  }

  redo() {
    return this.position < this.edits.length ? this.edits[this.position++] : null;
  }
}

/** Where the picture lies on the canvas: canvas = picture * scale + (x, y), in pixels of the page. */
class View {
  constructor(width, height) {
    this.W = width;
    this.H = height;
    this.resize(width, height);
  }

  /** The canvas has another size: show the whole picture. */
  resize(width, height) {
    this.width = width;
    this.height = height;
    this.fit = Math.min(width / this.W, height / this.H);
    this.whole();
  }

  whole() {
    this.scale = this.fit;
    this.x = (this.width - this.W * this.scale) / 2;
    this.y = (this.height - this.H * this.scale) / 2;
  }

  /** Zoom about a point of the canvas that stays where it is. */
  zoom(factor, at) {
    const scale = Math.max(this.fit, Math.min(32 * this.fit, Math.max(32, this.fit), this.scale * factor));
    const { x, y } = this.toPicture(at);
    this.scale = scale;
    this.x = at.x - x * scale;
    this.y = at.y - y * scale;
    this.pan(0, 0);
  }

  /** Move the picture, but never its edge past the canvas's. */
  pan(dx, dy) {
    const within = (value, size, picture) =>
      picture <= size ? (size - picture) / 2 : Math.max(size - picture, Math.min(0, value));
    this.x = within(this.x + dx, this.width, this.W * this.scale);
    this.y = within(this.y + dy, this.height, this.H * this.scale);
  }

  toPicture({ x, y }) {
    return { x: (x - this.x) / this.scale, y: (y - this.y) / this.scale };
  }

  toCanvas({ x, y }) {
    return { x: x * this.scale + this.x, y: y * this.scale + this.y };
  }

  /** The pixels of the picture that are on the canvas. */
  visible() {
    const from = this.toPicture({ x: 0, y: 0 });
    const to = this.toPicture({ x: this.width, y: this.height });
    return new Box(Math.max(0, Math.floor(from.x)), Math.max(0, Math.floor(from.y)), Math.min(this.W, Math.ceil(to.x)), Math.min(this.H, Math.ceil(to.y)));
  }
}
