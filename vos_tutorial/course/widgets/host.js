// Stands in for Jupyter in a page of its own: a model with the state that Python wrote, and nobody to send to.

const { esm, state, bytes } = JSON.parse(document.getElementById("payload").textContent);
for (const [name, text] of Object.entries(bytes)) {
  state[name] = new DataView(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer);
}

const listeners = new Map();
const model = {
  ...window.kernel, // a test may put the rest of a kernel here: a function `send`
  tell(content, buffers = []) { // what a kernel says
    for (const listener of listeners.get("msg:custom") ?? []) listener(content, buffers);
  },
  saves: [], // what Jupyter would have sent to the kernel: read by the tests
  changed: {},
  get: (name) => state[name],
  set(name, value) {
    if (state[name] === value) return;
    state[name] = model.changed[name] = value;
    for (const listener of listeners.get(`change:${name}`) ?? []) listener();
  },
  save_changes() {
    if (Object.keys(model.changed).length > 0) model.saves.push(model.changed);
    model.changed = {};
  },
  on: (event, listener) => listeners.set(event, [...(listeners.get(event) ?? []), listener]),
  listening: () => [...listeners.values()].flat().length,
  off: (event, listener) => listeners.set(event, (listeners.get(event) ?? []).filter((l) => l !== listener)),
};

const url = URL.createObjectURL(new Blob([esm], { type: "text/javascript" }));
const { default: widget } = await import(url);
const el = document.getElementById("widget");
window.hosted = { model, close: await widget.render({ model, el }) };
