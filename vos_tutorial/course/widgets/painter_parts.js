// What the painter's page is made of: tools, keys, pictures on buttons, the legend of the strip.

const TOOLS = [
  ["brush", "Brush", "b", '<path d="M13.5 2.5c-3 1-6.5 4.500-7.800 7.200l1.900 1.900c2.700-1.300 6.200-4.800 7.200-7.800.2-.7-.6-1.500-1.300-1.300zM5 10.500c-2 .2-2.200 1.700-2.500 2.700-.1.400-.5.800-1 .8 1.500.9 5 .6 5.300-1.800z"/>'],
  ["eraser", "Eraser", "e", '<path d="M9.300 2.300 2 9.600c-.5.5-.5 1.200 0 1.700L4.700 14H8l5.800-5.800c.5-.5.5-1.200 0-1.700L10.900 2.300c-.4-.5-1.100-.5-1.600 0zM5 7.500l4.300 4.300M7 14h7.500" fill="none" stroke="currentColor" stroke-width="1.400"/>'],
  ["fill", "Fill", "f", '<path d="M7 1.500 6 2.500l1.500 1.500-5 5 4.800 4.800 6-6L7 1.500zM4.500 9h7L7.300 13zM13.700 10.500s-1.500 1.800-1.500 2.700a1.500 1.500 0 0 0 3 0c0-.9-1.500-2.700-1.500-2.700z"/>'],
  ["box", "Box", "x", '<path d="M2.500 2.500h11v11h-11z" fill="none" stroke="currentColor" stroke-width="1.500" stroke-dasharray="2.800 1.800"/><circle cx="8" cy="8" r="2.600"/>'],
  ["hand", "Hand", "h", '<path d="M8 1 5.800 3.500h1.500v3.800H3.500V5.800L1 8l2.500 2.200V8.700h3.800v3.800H5.800L8 15l2.200-2.500H8.700V8.700h3.800v1.500L15 8l-2.500-2.200v1.500H8.700V3.500h1.500z"/>'],
];
const HINTS = {
  brush: "Drag over the object to paint it.",
  eraser: "Drag to take pixels away from the chosen object; the others keep theirs.",
  fill: "Click a region to fill it: draw an outline with the brush, then fill its inside.",
  box: "Drag a box around the object, and its mask is found inside.",
  hand: "Drag to move the picture; the wheel zooms.",
};
const KEYS = [
  [["B", "E", "F", "X", "H"], "brush, eraser, fill, box, hand"],
  [["[", "]"], "smaller and larger brush"],
  [["Arrows"], "move the cursor (Shift: far)"],
  [["Space"], "pen down and up: paint with the arrows"],
  [["Enter"], "paint, fill or set a corner of the box here"],
  [["Z", "Shift+Z"], "undo and redo (also Ctrl+Z, Ctrl+Y)"],
  [[",", "."], "previous and next frame (Page keys: ten)"],
  [["Home", "End"], "first and last frame"],
  [["<", ">"], "previous and next mask given by hand"],
  [["U"], "the frame where the method is least sure"],
  [["1", "…", "9"], "choose an object; N makes a new one"],
  [["V"], "show or hide the chosen object"],
  [["A"], "say that it is not in this frame"],
  [["O", "Shift+O"], "more and less opaque"],
  [["+", "−", "0"], "zoom in, zoom out, the whole picture"],
  [["P"], "propagate, or stop"],
  [["Esc"], "leave what was begun"],
];
const GLYPHS = {
  undo: '<path d="M6.500 2 2 6.200l4.500 4.200V7.800c3.500 0 5.500 1 7 4.200-.3-4-2.500-7.200-7-7.500z"/>',
  redo: '<path d="M9.500 2 14 6.200l-4.500 4.200V7.800c-3.500 0-5.500 1-7 4.200.3-4 2.500-7.200 7-7.500z"/>',
  eye: '<path d="M8 3.200C4.500 3.200 1.900 6 .9 8c1 2 3.600 4.800 7.100 4.800S14.100 10 15.100 8c-1-2-3.600-4.800-7.100-4.800zm0 7.900A3.100 3.100 0 1 1 8 4.900a3.100 3.100 0 0 1 0 6.200zM8 6.400a1.600 1.600 0 1 0 0 3.200 1.600 1.600 0 0 0 0-3.200z"/>',
  shut: '<path d="M1.500 6.500C3 8.600 5.300 10 8 10s5-1.400 6.500-3.500M4 9l-1.300 2M8 10v2.500M12 9l1.300 2" fill="none" stroke="currentColor" stroke-width="1.400" stroke-linecap="round"/>',
  play: '<path d="M4 2.500v11l9.500-5.500z"/>',
  pause: '<path d="M4 3h3v10H4zM9 3h3v10H9z"/>',
  back: '<path d="M11 3v10L4 8z"/>',
  next: '<path d="M5 3v10l7-5z"/>',
  stop: '<path d="M3.500 3.500h9v9h-9z"/>',
  plus: '<path d="M7.200 3h1.600v4.200H13v1.600H8.800V13H7.200V8.800H3V7.200h4.200z"/>',
};

function glyph(path) {
  const span = make("span", { class: "vp-glyph", "aria-hidden": "true" });
  span.innerHTML = `<svg viewBox="0 0 16 16" width="16" height="16" fill="currentColor">${path}</svg>`;
  return span;
}

/** A button with a picture, a name, and what it is for. */
function iconButton(path, name, click, words = "", title = name) {
  return make("button", { type: "button", "aria-label": name, title, click, ...OWN_KEYS }, glyph(path), ...(words ? [make("span", {}, words)] : []));
}

/** The frames of a page without a kernel: Map t -> entry. */
function stillFrames(model) {
  const still = model.get("_still");
  if (typeof model.send === "function" || !still?.times?.length) return null;
  const [bytes, offsets] = [toBytes(still.bytes), still.offsets];
  const part = (k) => bytes.slice(offsets[k], offsets[k + 1]);
  return new Map(still.times.map((t, k) => [t, {
    blob: new Blob([part(3 * k)], { type: "image/jpeg" }),
    result: wordsOf(part(3 * k + 1)),
    given: { runs: wordsOf(part(3 * k + 2)), objects: still.given[k] },
  }]));
}

/** What the marks of the strip mean. */
function legend() {
  const swatch = (kind) => {
    const picture = make("canvas", { width: 28, height: 28 });
    const pen = picture.getContext("2d");
    mark(pen, 14, 14, 9, kind, true, "#e69f00", "#888");
    return picture;
  };
  return make("span", { class: "vp-legend", "aria-hidden": "true" },
    make("span", {}, swatch("disc"), "first mask"), make("span", {}, swatch("diamond"), "corrected"),
    make("span", {}, swatch("triangle"), "least sure"), make("span", {}, make("i", { class: "vp-stale" }), "out of date"),
  );
}
