// Keeps what a page shows as it is now. The page is whole without it; what the script writes are texts, never markup.
//
// <table data-topic="vms?state=running&fields=name,state" data-words='{"running": "Running"}'> with
// <tr data-id="42"> and <td data-field="state">: rows follow the objects.
// <... data-topic="vm:42"> with <... data-field="state"> inside: the page of one object.
// [data-reload="stats"]: the part is asked for again when the topic rings, from the address in data-from.
"use strict";

const language = document.documentElement.lang;
const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
const tones = {
  running: "good", connected: "good", done: "good", published: "good", ready: "good", succeeded: "good",
  starting: "busy", stopping: "busy", connecting: "busy", queued: "busy", generating: "busy", uploading: "busy",
  verifying: "busy", stop: "busy", wait: "busy",
  fail: "bad", failed: "bad", lost: "bad", denied: "bad", zombie: "bad",
  blocked: "warn", debugging: "warn", cancelled: "warn", retired: "warn", partial: "warn",
};
const zone = document.querySelector('meta[name="zone"]')?.content || "UTC";
const moments = new Intl.DateTimeFormat(language, { dateStyle: "medium", timeStyle: "medium", timeZone: zone });
const numbers = new Intl.NumberFormat(language);

function sized(value) {
  let unit = 0;
  while (Math.abs(value) >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${numbers.format(Math.round(value * 10) / 10)} ${units[unit]}`;
}

function said(type, value, words) {
  if (value === null || value === undefined || value === "") return "—";
  if (type === "time") return moments.format(new Date(value));
  if (type === "size") return sized(value);
  if (type === "number") return numbers.format(value);
  if (Array.isArray(value)) return value.map((each) => each?.name ?? each?.tag ?? each).join(", ");
  if (typeof value === "object") return JSON.stringify(value, null, 2);
  const plain = String(value);
  return words[plain] ?? (type === "state" ? plain[0].toUpperCase() + plain.slice(1).replaceAll(/[_-]/g, " ") : plain);
}

function toneOf(field, value) {
  if (value === true) return field === "blocked" || field === "decommissioned" ? "warn" : "busy";
  return tones[value] ?? "calm";
}

// Writes one value where it is shown. What is unchanged is not touched: a reader who has selected it keeps it.
function write(place, field, type, value, words) {
  const text = said(type, value, words);
  if (type === "state" && text !== "—") {
    let badge = place.querySelector(".state");
    if (!badge) {
      badge = document.createElement("span");
      place.replaceChildren(badge);
    }
    const tone = `state ${toneOf(field, value)}`;
    if (badge.className !== tone) badge.className = tone;
    if (badge.textContent !== text) badge.textContent = text;
    return;
  }
  if (type === "time" && text !== "—") {
    const shown = place.querySelector("time");
    if (shown && shown.dateTime === value) return;
    const made = document.createElement("time");
    made.dateTime = value;
    made.textContent = text;
    place.replaceChildren(made);
    return;
  }
  const link = place.querySelector("a");
  const target = link ?? place.querySelector("pre") ?? place;
  if (link && text === "—") {
    place.textContent = text;
  } else if (target.textContent.trim() !== text) {
    target.textContent = text;
  }
}

// What came and is not shown yet: the newest of each object, written once for each frame that the browser paints.
class Follower {
  constructor(place) {
    this.place = place;
    this.words = JSON.parse(place.dataset.words || "{}");
    this.waiting = new Map();
    this.unseen = new Set();
    this.rows = new Map();
    this.types = new Map();
    for (const row of place.querySelectorAll("tr[data-id]")) this.rows.set(row.dataset.id, row);
    for (const head of place.querySelectorAll("[data-type]")) this.types.set(head.dataset.field, head.dataset.type);
    this.asked = false;
    this.due = 0;
  }

  take(kind, told) {
    this.waiting.set(String(told.id), { kind, item: told.item });
    if (this.asked) return;
    this.asked = true;
    requestAnimationFrame(() => this.paint());
  }

  paint() {
    this.asked = false;
    const waiting = this.waiting;
    this.waiting = new Map();
    for (const [id, { kind, item }] of waiting) {
      if (this.place.tagName === "TABLE") this.row(id, kind, item);
      else this.one(kind, item);
    }
    this.tell();
  }

  row(id, kind, item) {
    const row = this.rows.get(id);
    if (!row) {
      if (kind === "removed") this.unseen.delete(id);
      else this.unseen.add(id);
      return;
    }
    // A row that is gone stays in its place, so that nothing jumps under somebody's hand.
    row.classList.toggle("gone", kind === "removed");
    if (item) this.fill(row, item);
  }

  one(kind, item) {
    this.place.classList.toggle("gone", kind === "removed");
    if (item) this.fill(this.place, item);
    // What may be done now, and why it is so, only the server knows.
    if (document.querySelector("[data-part]")) this.renew();
  }

  fill(around, item) {
    for (const place of around.querySelectorAll("[data-field]")) {
      const field = place.dataset.field;
      if (!(field in item)) continue;
      write(place, field, place.dataset.type ?? this.types.get(field) ?? "text", item[field], this.words);
    }
  }

  // At most every two seconds, however much is missed.
  renew() {
    if (this.due) return;
    this.due = setTimeout(async () => {
      this.due = 0;
      try {
        const answer = await fetch(window.location.href, { credentials: "same-origin", redirect: "error" });
        if (answer.ok) this.replace(new DOMParser().parseFromString(await answer.text(), "text/html"));
      } catch {
        // The next event brings what is newer.
      }
    }, 2000);
  }

  replace(page) {
    for (const part of document.querySelectorAll("[data-part]")) {
      const other = page.querySelector(`[data-part="${CSS.escape(part.dataset.part)}"]`);
      const busy = part.contains(document.activeElement) || part.innerHTML === other?.innerHTML;
      if (other && !busy) part.replaceChildren(...other.childNodes);
    }
    const fresh = page.querySelector("[data-topic]");
    if (!fresh) return;
    const rows = new Map([...fresh.querySelectorAll("tr[data-id]")].map((row) => [row.dataset.id, row]));
    const pairs = this.place.tagName === "TABLE" ? [...this.rows].map(([id, row]) => [row, rows.get(id)]) : [[this.place, fresh]];
    for (const [row, made] of pairs) {
      row.classList.toggle("gone", !made);
      if (!made) continue;
      for (const place of row.querySelectorAll("[data-field]")) {
        const other = made.querySelector(`[data-field="${CSS.escape(place.dataset.field)}"]`);
        if (other && other.innerHTML !== place.innerHTML) place.replaceChildren(...other.childNodes);
      }
    }
  }

  tell() {
    const news = document.getElementById("news");
    if (!news || this.place.tagName !== "TABLE") return;
    news.hidden = this.unseen.size === 0;
    const count = `${this.place.dataset.news} ${numbers.format(this.unseen.size)}.`;
    const place = news.querySelector("[data-count]");
    if (place && place.textContent !== count) place.textContent = count;
  }
}

// Parts that are made by the server are asked for again, at most every two seconds.
class Refresher {
  constructor(place) {
    this.place = place;
    this.due = 0;
  }

  ring() {
    if (this.due) return;
    this.due = setTimeout(() => this.fetch(), 2000);
  }

  async fetch() {
    this.due = 0;
    try {
      const answer = await fetch(this.place.dataset.from, { credentials: "same-origin", redirect: "error" });
      if (!answer.ok) return;
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      const fresh = page.querySelector("[data-reload]");
      if (fresh) this.place.replaceChildren(...fresh.childNodes);
    } catch {
      // The next ring asks again.
    }
  }
}

function follow() {
  const places = new Map();
  for (const place of document.querySelectorAll("[data-topic]")) places.set(place.dataset.topic, new Follower(place));
  const parts = new Map();
  for (const place of document.querySelectorAll("[data-reload]")) parts.set(place.dataset.reload, new Refresher(place));
  const topics = [...places.keys(), ...parts.keys()];
  if (!topics.length || !window.EventSource) return;
  const query = topics.map((topic) => `topics=${encodeURIComponent(topic)}`).join("&");
  // The browser connects again by itself, and says where it was.
  const source = new EventSource(`/api/v1/events?${query}`);
  const received = (event) => {
    const told = JSON.parse(event.data);
    const place = places.get(told.topic);
    if (place) place.take(event.type, told);
    else parts.get(told.topic)?.ring();
  };
  for (const kind of ["added", "changed", "removed"]) source.addEventListener(kind, received);
  // Something was missed: the server makes the page again, and what is shown is put in its place.
  source.addEventListener("resync", () => {
    for (const part of parts.values()) part.ring();
    for (const place of places.values()) place.renew();
  });
  source.addEventListener("revoked", () => source.close());
  source.addEventListener("open", () => document.documentElement.setAttribute("data-live", "on"));
  source.addEventListener("error", () => document.documentElement.setAttribute("data-live", "off"));
  window.addEventListener("pagehide", () => source.close());
}

follow();
