// The page's end of the wire to the kernel. What was painted waits here until the kernel has it on the disk.

const KEPT = new Map(); // where a browser stores nothing: key -> text, as long as the page is open

function keep(key, text) {
  KEPT.set(key, text);
  try {
    text === null ? localStorage.removeItem(key) : localStorage.setItem(key, text);
  } catch {} // a private window, or a full store
}

function kept(key) {
  try {
    return KEPT.get(key) ?? localStorage.getItem(key);
  } catch {
    return KEPT.get(key) ?? null;
  }
}

function toText(bytes) {
  let text = "";
  for (let i = 0; i < bytes.length; i += 8192) text += String.fromCharCode(...bytes.subarray(i, i + 8192));
  return btoa(text);
}

const toBytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));

/** Messages to the kernel and back.
 *
 *  `unsaved` holds, for each frame, the newest given masks that the kernel has not confirmed. It outlives this view:
 *  the next one on the same project (the page reloaded, the cell run again after a restart) sends what is left. */
class Link {
  constructor(model, key, heard) {
    this.model = model;
    this.view = freshId();
    this.key = `vos-painter:${key}`;
    this.heard = heard; // called when `lost` or `unsaved` may have changed
    this.silence = 1000 * model.get("_patience"); // without an answer, after which the reader is told
    this.live = typeof model.send === "function"; // a page of its own has no kernel
    this.handlers = {};
    this.unsaved = new Map(); // t -> {number, state, move, names}
    this.number = 0;
    this.waiting = null; // since when the kernel owes an answer
    this.asked = 0;
    this.lost = false;
    this.mine = true; // whether this view is the one that paints
    this.recovered = this.live ? this.recover() : 0;
    this.listen = (content, buffers) => this.receive(content, buffers ?? []);
    model.on("msg:custom", this.listen);
    if (this.live) this.timer = setInterval(() => this.look(), 500);
  }

  on(kind, handler) {
    this.handlers[kind] = handler;
  }

  /** Send, and expect an answer; false if the message cannot even leave the page. */
  send(content, buffers = []) {
    if (!this.live) return false;
    this.waiting ??= performance.now();
    try {
      this.model.send({ view: this.view, ...content }, undefined, buffers.map((b) => new DataView(b.buffer, b.byteOffset, b.byteLength)));
      return true;
    } catch {
      this.lose();
      return false;
    }
  }

  /** What is given in frame t has changed: `move` is 0 for an edit, -1 for undo, 1 for redo; `names` are the objects'. */
  save(t, state, move, names) {
    for (const [other, { refused }] of this.unsaved) if (refused && other !== t) this.sendGiven(other);
    this.number += 1;
    this.unsaved.set(t, { number: this.number, state, move, names });
    this.sendGiven(t);
  }

  sendGiven(t) {
    const { number, state, move, names } = this.unsaved.get(t);
    this.send({ kind: "given", t, objects: state.objects, number, move, names }, [state.runs]);
  }

  receive(content, buffers) {
    if (content.view !== undefined && content.view !== this.view && content.kind !== "welcome") return;
    const was = this.lost;
    this.waiting = null;
    this.lost = false;
    if (content.kind === "saved") {
      for (const [t, { number }] of this.unsaved) if (number <= content.number && content.t === t) this.unsaved.delete(t);
      if (this.unsaved.size === 0 && kept(this.key) !== null) keep(this.key, null);
    }
    if (content.kind === "sentence" && content.about === "given" && this.unsaved.get(content.t)?.number === content.number) {
      this.unsaved.get(content.t).refused = true; // a full disk, perhaps: once more with the next stroke
    }
    this.handlers[content.kind]?.(content, buffers);
    if (was) this.resend();
    if (was || content.kind === "saved") this.heard();
  }

  resend() {
    for (const t of this.unsaved.keys()) this.sendGiven(t);
  }

  /** Every half second: has the kernel been silent for too long, and is there something to keep? */
  look() {
    const now = performance.now();
    if (this.unsaved.size > 0 && this.mine) this.keepUnsaved();
    if (this.waiting !== null && now - this.waiting > this.silence) this.lose();
    if (this.lost && now - this.asked > 0.75 * this.silence) {
      this.asked = now;
      this.send({ kind: "hello", again: true });
    }
    this.handlers.look?.(now);
  }

  lose() {
    if (this.lost) return;
    this.lost = true;
    this.heard();
  }

  keepUnsaved() {
    const frames = [...this.unsaved].map(([t, { state, names }]) => [t, state.objects, toText(bytesOf(state.runs)), names]);
    keep(this.key, JSON.stringify(frames));
  }

  /** Take what an earlier view of this project could not send; how many frames there are of it. */
  recover() {
    try {
      for (const [t, objects, text, names] of JSON.parse(kept(this.key) ?? "[]")) {
        this.number += 1;
        this.unsaved.set(t, { number: this.number, state: { runs: wordsOf(toBytes(text)), objects }, move: 0, names });
      }
    } catch {} // not ours
    return this.unsaved.size;
  }

  close() {
    clearInterval(this.timer);
    if (this.unsaved.size > 0 && this.mine) this.keepUnsaved();
    this.model.off("msg:custom", this.listen);
  }
}

/** Frames and their masks, asked of the kernel when they are wanted; only the last ones stay on the page. */
class FrameStore {
  constructor(link, still, keep = 64, decoded = 16) {
    this.link = link;
    this.still = still; // Map t -> entry, of a page without a kernel
    this.keepEntries = keep;
    this.keepDecoded = decoded;
    this.entries = new Map(); // t -> entry {blob, result, given, bitmap}, the least recently used first
    this.wanted = new Map(); // t -> {promise, resolve, asked}
    link.on("frame", (content, [picture, result, given]) => this.arrived(content, picture, result, given));
    link.on("look", (now) => { // a request may be lost on its way
      for (const [t, { asked }] of this.wanted) if (now - asked > link.silence) this.ask(t);
    });
  }

  ask(t) {
    this.wanted.get(t).asked = performance.now();
    this.link.send({ kind: "frame", t });
  }

  /** The entry of frame t, its bitmap decoded. */
  async get(t) {
    const known = this.still?.get(t) ?? this.entries.get(t);
    const entry = known && !known.old ? known : await this.want(t);
    if (!this.still) {
      this.entries.delete(t);
      this.entries.set(t, entry);
    }
    entry.bitmap ??= createImageBitmap(entry.blob);
    await entry.bitmap;
    this.trim();
    return entry;
  }

  /** Ask for frame t, if it is not here and not under way. */
  want(t) {
    if (!this.wanted.has(t)) {
      let resolve;
      const promise = new Promise((r) => { resolve = r; });
      this.wanted.set(t, { promise, resolve });
      this.ask(t);
    }
    return this.wanted.get(t).promise;
  }

  prefetch(t) {
    if (!this.still && !this.entries.has(t)) this.want(t);
  }

  /** The frame nearest to t that can be had: any one, where there is a kernel. */
  snap(t) {
    return this.still ? [...this.still.keys()].reduce((best, u) => (Math.abs(u - t) < Math.abs(best - t) ? u : best)) : t;
  }

  arrived({ t, objects }, picture, result, given) {
    const blob = new Blob([bytesOf(picture)], { type: "image/jpeg" });
    const mine = this.link.unsaved.get(t)?.state; // newer than what the kernel has
    const known = this.entries.get(t);
    const entry = { blob, bitmap: known?.bitmap, result: wordsOf(result), given: mine ?? { runs: wordsOf(given), objects } };
    this.entries.delete(t);
    this.entries.set(t, entry);
    this.wanted.get(t)?.resolve(entry);
    this.wanted.delete(t);
    this.trim();
  }

  /** Frame t has another answer of the method, or other given masks. */
  change(t, change) {
    const entry = this.still?.get(t) ?? this.entries.get(t);
    if (entry) Object.assign(entry, change);
  }

  /** All masks may be others by now: ask again. The pictures stay. */
  distrust() {
    for (const entry of this.entries.values()) entry.old = true;
  }

  trim() {
    for (const [t, entry] of this.entries) {
      if (this.entries.size <= this.keepEntries) break;
      this.release(entry);
      this.entries.delete(t);
    }
    const decoded = [...this.entries.values()].filter((entry) => entry.bitmap);
    for (const entry of decoded.slice(0, Math.max(0, decoded.length - this.keepDecoded))) this.release(entry);
  }

  release(entry) {
    entry.bitmap?.then((bitmap) => bitmap.close(), () => {});
    entry.bitmap = undefined;
  }

  close() {
    for (const entry of this.entries.values()) this.release(entry);
    this.entries.clear();
  }
}
