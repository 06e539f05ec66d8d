// Search, theme, menu, copy buttons, and the heights of live widgets. No network, no library.
const root = document.body.dataset.root;
const $ = (selector) => document.querySelector(selector);

// --- theme
const frames = () => document.querySelectorAll(".live iframe");
const tellTheme = () =>
  frames().forEach((frame) => frame.contentWindow?.postMessage({ vosTheme: document.documentElement.dataset.theme }, "*"));
$("#theme").addEventListener("click", () => {
  const theme = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
  document.documentElement.dataset.theme = theme;
  localStorage.setItem("theme", theme);
  tellTheme();
});

// --- menu on narrow screens
$("#menu").addEventListener("click", () => {
  const open = $("#pages").classList.toggle("open");
  $("#menu").setAttribute("aria-expanded", open);
});
$("#pages a[aria-current]")?.scrollIntoView({ block: "nearest" });

// --- copy buttons
document.querySelectorAll(".cell pre.code").forEach((block) => {
  const button = document.createElement("button");
  button.className = "copy";
  button.textContent = "Copy";
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(block.querySelector("code").textContent);
    button.textContent = "Copied";
    setTimeout(() => (button.textContent = "Copy"), 1500);
  });
  block.append(button);
});

// --- live widgets say how tall they are
addEventListener("message", (event) => {
  if (!event.data?.vosHeight) return;
  for (const frame of frames()) {
    if (frame.contentWindow === event.source) {
      frame.style.height = `${Math.ceil(event.data.vosHeight) + 4}px`;
      frame.contentWindow.postMessage({ vosTheme: document.documentElement.dataset.theme }, "*");
    }
  }
});

// --- search: all words must occur; the last one may be a beginning
const query = $("#query");
const hits = $("#hits");
let chosen = -1;
const split = (text) => text.toLowerCase().match(/[\p{L}\p{N}]+(?:[-'][\p{L}\p{N}]+)*/gu) || [];

function find(text) {
  const { words, sections } = window.VOS_SEARCH;
  const asked = split(text);
  let scores = null;
  asked.forEach((word, position) => {
    const found = new Map();
    const add = (list, factor) => {
      for (let i = 0; i < list.length; i += 2) found.set(list[i], (found.get(list[i]) || 0) + factor * list[i + 1]);
    };
    if (Object.hasOwn(words, word)) add(words[word], 3);
    if (position === asked.length - 1)
      for (const other of Object.keys(words)) if (other !== word && other.startsWith(word)) add(words[other], 1);
    if (scores === null) scores = found;
    else for (const key of [...scores.keys()]) found.has(key) ? scores.set(key, scores.get(key) + found.get(key)) : scores.delete(key);
  });
  return [...(scores || [])].sort((a, b) => b[1] - a[1]).slice(0, 12).map(([number]) => sections[number]);
}

function show() {
  const found = query.value.trim().length > 1 ? find(query.value) : [];
  chosen = found.length ? 0 : -1;
  hits.replaceChildren(
    ...found.map(([page, title, address, begins], i) => {
      const item = document.createElement("li");
      item.id = `hit-${i}`;
      item.setAttribute("role", "option");
      item.dataset.address = root + address;
      item.append(page === title ? title : `${page} › ${title}`);
      const small = document.createElement("small");
      small.textContent = begins;
      item.append(small);
      item.addEventListener("mousedown", () => (location.href = item.dataset.address));
      return item;
    }),
  );
  if (!found.length && query.value.trim().length > 1) {
    const none = document.createElement("li");
    none.setAttribute("role", "option");
    none.setAttribute("aria-disabled", "true");
    none.textContent = "Nothing found.";
    hits.append(none);
  }
  hits.hidden = !hits.children.length;
  query.setAttribute("aria-expanded", !hits.hidden);
  choose();
}

function choose() {
  [...hits.children].forEach((item, i) => item.setAttribute("aria-selected", i === chosen));
  if (chosen >= 0) {
    query.setAttribute("aria-activedescendant", `hit-${chosen}`);
    hits.children[chosen].scrollIntoView({ block: "nearest" });
  } else query.removeAttribute("aria-activedescendant");
}

query.addEventListener("input", show);
query.addEventListener("focus", show);
query.addEventListener("blur", () => {
  hits.hidden = true;
  query.setAttribute("aria-expanded", false);
});
query.addEventListener("keydown", (event) => {
  const count = hits.querySelectorAll("[data-address]").length;
  if (event.key === "ArrowDown" && count) chosen = (chosen + 1) % count;
  else if (event.key === "ArrowUp" && count) chosen = (chosen + count - 1) % count;
  else if (event.key === "Enter" && chosen >= 0) location.href = hits.children[chosen].dataset.address;
  else if (event.key === "Escape") query.blur();
  else return;
  event.preventDefault();
  choose();
});
addEventListener("keydown", (event) => {
  if (event.key === "/" && !/^(INPUT|TEXTAREA|SELECT)$/.test(document.activeElement.tagName)) {
    event.preventDefault();
    query.focus();
  }
});
