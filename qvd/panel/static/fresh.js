// Parts of a page that are read anew when something changes: data-fresh names topics of the event stream. Pages that
// are not looked at read nothing.
"use strict";

class Fresh {
  constructor(part) {
    this.part = part.id;
    this.every = Number(part.dataset.every || 1000);
    this.last = 0;
    this.timer = null;
    this.busy = false;
    const topics = part.dataset.fresh;
    if (!topics) return;
    this.source = new EventSource(`/api/v1/events?topics=${encodeURIComponent(topics)}`);
    for (const name of ["added", "changed", "removed", "resync"]) {
      this.source.addEventListener(name, () => this.ask());
    }
    // What changed between the page and the first event is in neither.
    if (part.dataset.catchUp !== undefined) this.source.addEventListener("open", () => this.ask(), {once: true});
    document.addEventListener("visibilitychange", () => this.missed && !document.hidden && this.ask());
    window.addEventListener("pagehide", () => this.source.close());
  }

  // However much changes, the page is read once in a while.
  ask() {
    this.missed = document.hidden;
    if (this.missed || this.timer) return;
    const rest = Math.max(0, this.last + this.every - performance.now());
    this.timer = setTimeout(() => this.read(), rest);
  }

  async read() {
    const place = document.getElementById(this.part);
    // What somebody types or chooses in must not go away under their hands.
    if (place.contains(document.activeElement) && document.activeElement.closest("input, select, textarea")) {
      this.timer = setTimeout(() => this.read(), this.every);
      return;
    }
    this.timer = null;
    this.last = performance.now();
    const answer = await fetch(location.href, {credentials: "same-origin"}).catch(() => null);
    if (!answer || !answer.ok || answer.redirected) return;
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const now = page.getElementById(this.part);
    if (!now) return location.reload();
    if (now.innerHTML === place.innerHTML) return;
    const focused = place.contains(document.activeElement) ? pathOf(document.activeElement, place) : null;
    const opened = [...place.querySelectorAll("details[id]")].map((each) => [each.id, each.open]);
    place.replaceChildren(...now.childNodes);
    for (const [id, open] of opened) {
      const each = document.getElementById(id);
      if (each) each.open = open;
    }
    if (focused) find(focused, place)?.focus({preventScroll: true});
    if (now.dataset.fresh !== undefined && !now.dataset.fresh && this.source) this.source.close();
  }
}

// Where an element is within another, so that the focus stays where it was.
function pathOf(element, above) {
  const path = [];
  for (let at = element; at !== above; at = at.parentElement) path.unshift([...at.parentElement.children].indexOf(at));
  return path;
}

function find(path, above) {
  return path.reduce((at, index) => at?.children[index], above);
}

document.querySelectorAll("[data-fresh]").forEach((part) => new Fresh(part));

// What takes a while to find out comes after the page: a part of another one.
async function later(place) {
  const answer = await fetch(place.dataset.later, {credentials: "same-origin"}).catch(() => null);
  if (!answer || !answer.ok || answer.redirected) return;
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  const found = page.getElementById(place.dataset.part);
  if (found) place.replaceChildren(...found.childNodes);
}

document.querySelectorAll("[data-later]").forEach(later);
