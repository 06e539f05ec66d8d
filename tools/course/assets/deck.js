// One deck: keys, lines that appear one by one, an overview, and a window with notes. No network, no library.
const slides = [...document.querySelectorAll(".slide")];
const laters = (slide) => [...slide.querySelectorAll(".later")];
let now = 0;
let talk = null; // the window with notes
const began = Date.now();

function show(number, open = false) {
  now = Math.min(Math.max(number, 0), slides.length - 1);
  slides.forEach((slide, i) => slide.classList.toggle("now", i === now));
  laters(slides[now]).forEach((line) => line.classList.toggle("shown", open));
  document.querySelector("#where").textContent = `${now + 1} / ${slides.length}`;
  history.replaceState(null, "", `#${now + 1}`);
  tell();
}

function forward() {
  const hidden = laters(slides[now]).find((line) => !line.classList.contains("shown"));
  if (hidden) hidden.classList.add("shown");
  else if (now < slides.length - 1) show(now + 1);
}

function back() {
  const shown = laters(slides[now]).filter((line) => line.classList.contains("shown"));
  if (shown.length) shown[shown.length - 1].classList.remove("shown");
  else if (now > 0) show(now - 1, true);
}

// The notes are written into a window of this page's own, so that they work from a file, too.
function openNotes() {
  talk = window.open("", "notes", "width=760,height=640");
  if (!talk) return;
  talk.document.title = `Notes: ${document.title}`;
  talk.document.body.style.cssText = "font: 17px/1.5 system-ui, sans-serif; margin: 1.2rem; color: #1c2024; background: #fff";
  talk.document.body.innerHTML = '<p id="clock"></p><div id="said"></div><hr><p id="coming"></p>';
  talk.addEventListener("keydown", keys);
  tell();
}

function tell() {
  if (!talk || talk.closed) return;
  const heading = (slide) => slide?.querySelector("h1, h2").textContent ?? "the end";
  const said = slides[now].querySelector(".notes").innerHTML;
  talk.document.querySelector("#said").innerHTML = `<h2>${heading(slides[now])}</h2>${said}`;
  talk.document.querySelector("#coming").textContent = `Next: ${heading(slides[now + 1])}`;
  tick();
}

function tick() {
  if (!talk || talk.closed) return;
  const seconds = Math.floor((Date.now() - began) / 1000);
  const two = (n) => String(n).padStart(2, "0");
  talk.document.querySelector("#clock").textContent =
    `Slide ${now + 1} of ${slides.length}, ${two(Math.floor(seconds / 60))}:${two(seconds % 60)}`;
}
setInterval(tick, 1000);

function overview() {
  const open = document.body.classList.toggle("overview");
  if (open) slides[now].scrollIntoView({ block: "center" });
  else show(now, true);
}

function keys(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const overButton = event.target.tagName === "BUTTON" && [" ", "Enter"].includes(event.key);
  const does = {
    ArrowRight: forward, PageDown: forward, " ": forward, ArrowDown: forward,
    ArrowLeft: back, PageUp: back, ArrowUp: back,
    Home: () => show(0), End: () => show(slides.length - 1),
    n: openNotes, N: openNotes, o: overview, O: overview, Escape: () => document.body.classList.contains("overview") && overview(),
    f: () => document.documentElement.requestFullscreen?.(), F: () => document.documentElement.requestFullscreen?.(),
  }[event.key];
  if (!does || overButton) return;
  event.preventDefault();
  does();
}

document.addEventListener("keydown", keys);
document.querySelector("#next").addEventListener("click", forward);
document.querySelector("#back").addEventListener("click", back);
document.querySelector("#notes").addEventListener("click", openNotes);
document.querySelector("#all").addEventListener("click", overview);
slides.forEach((slide, i) =>
  slide.addEventListener("click", () => {
    if (document.body.classList.contains("overview")) {
      document.body.classList.remove("overview");
      show(i, true);
    }
  }),
);
addEventListener("hashchange", () => show((parseInt(location.hash.slice(1), 10) || 1) - 1));
show((parseInt(location.hash.slice(1), 10) || 1) - 1);
