// The strip objects x time: where each object is, what was given by hand, what is out of date, how sure the method is.

const [PRESENT, GIVEN, CORRECTED, COMPUTED, STALE] = [1, 2, 4, 8, 16]; // one byte per object and frame; mask_painter.py

/** What the strip knows: uint8 [O, T, 2], flags and confidence (255 is sure). */
class Track {
  constructor(bytes, objects, length) {
    this.bytes = bytes;
    this.row = new Map(objects.map(({ id }, o) => [id, o]));
    this.T = length;
  }

  at(id, t) {
    const i = 2 * (this.row.get(id) * this.T + t);
    return { flags: this.bytes[i] ?? 0, sure: this.bytes[i + 1] ?? 0 };
  }

  /** The frames of an object for which `wanted(flags, sure)` holds. */
  frames(id, wanted) {
    const found = [];
    for (let t = 0; t < this.T; t++) {
      const { flags, sure } = this.at(id, t);
      if (wanted(flags, sure)) found.push(t);
    }
    return found;
  }

  /** The frame where the method is least sure of an object, null where it has not looked. */
  leastSure(id) {
    const answered = this.frames(id, (flags) => (flags & (PRESENT | COMPUTED | GIVEN)) === (PRESENT | COMPUTED));
    return answered.length ? answered.reduce((a, b) => (this.at(id, b).sure < this.at(id, a).sure ? b : a)) : null;
  }

  /** What to say of an object in a frame. */
  words(id, t) {
    const { flags, sure } = this.at(id, t);
    const there = flags & PRESENT ? "in the picture" : "not in the picture";
    if (flags & GIVEN) return `${flags & CORRECTED ? "corrected by hand" : "first mask"}, ${there}`;
    if (!(flags & COMPUTED)) return "not computed yet";
    const answer = flags & PRESENT ? `${Math.round((100 * sure) / 255)} % sure` : there;
    return flags & STALE ? `${answer}, out of date` : answer;
  }
}

/** Draw one object's row: taller bars are surer, stripes are out of date, a line along the ground is "not there". */
function drawRow(canvas, track, id, colour, ink) {
  const density = window.devicePixelRatio || 1;
  const width = Math.max(1, Math.round(canvas.clientWidth * density));
  const height = Math.max(1, Math.round(canvas.clientHeight * density));
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  const context = canvas.getContext("2d");
  context.clearRect(0, 0, width, height);
  const { T } = track;
  const top = 11 * density; // above it: the marks
  const step = width / T;
  const gap = step > 5 * density ? density : 0;
  const least = track.leastSure(id);
  const low = Math.min(230, least === null ? 230 : track.at(id, least).sure); // the bars use their whole height
  for (let t = 0; t < T; t++) {
    const { flags, sure } = track.at(id, t);
    if (!(flags & (GIVEN | COMPUTED))) continue;
    const share = flags & GIVEN ? 1 : (sure - low) / (255 - low);
    const tall = flags & PRESENT ? (height - top) * (0.25 + 0.75 * share) : 1.5 * density;
    context.globalAlpha = flags & STALE ? 0.45 : 1;
    context.fillStyle = flags & PRESENT ? colour : ink;
    context.fillRect(t * step, height - tall, Math.max(density, step - gap), tall);
  }
  context.globalAlpha = 1;
  stripes(context, track, id, step, height, density);
  for (const t of track.frames(id, (flags) => flags & GIVEN)) {
    const { flags } = track.at(id, t);
    mark(context, (t + 0.5) * step, 5 * density, 4 * density, flags & CORRECTED ? "diamond" : "disc", flags & PRESENT, colour, ink);
  }
  if (least !== null) mark(context, (least + 0.5) * step, 5.5 * density, 4 * density, "triangle", true, ink, ink);
}

/** Strike out what is out of date: stripes that the page's ground shows through. */
function stripes(context, track, id, step, height, density) {
  context.save();
  context.beginPath();
  for (const t of track.frames(id, (flags) => flags & STALE)) context.rect(t * step, 0, step, height);
  context.clip();
  context.globalCompositeOperation = "destination-out";
  context.lineWidth = 2 * density;
  context.beginPath();
  for (let x = -height; x < track.T * step; x += 6 * density) {
    context.moveTo(x, height);
    context.lineTo(x + height, 0);
  }
  context.stroke();
  context.restore();
}

/** A disc for a first mask, a diamond for a correction (hollow: "not in this frame"), a triangle for the least sure. */
function mark(context, x, y, r, kind, filled, colour, ink) {
  context.beginPath();
  if (kind === "disc") context.arc(x, y, r, 0, 7);
  if (kind === "diamond") [[0, -1.2], [1.2, 0], [0, 1.2], [-1.2, 0]].forEach(([dx, dy], k) => context[k ? "lineTo" : "moveTo"](x + dx * r, y + dy * r));
  if (kind === "triangle") [[-1, -0.9], [1, -0.9], [0, 0.9]].forEach(([dx, dy], k) => context[k ? "lineTo" : "moveTo"](x + dx * r, y + dy * r));
  context.closePath();
  context.lineWidth = r / 3;
  context.strokeStyle = ink;
  context.fillStyle = colour;
  if (filled) context.fill();
  context.stroke();
}
