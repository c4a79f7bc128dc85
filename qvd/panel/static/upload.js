// Sends an image's file: in pieces, with progress, and going on where it stopped (POST /images, PATCH /uploads/ID).
"use strict";

const PIECE = 8 * 1024 * 1024;
const TRIES = 8;
const MEDIA = "application/offset+octet-stream";

class Refused extends Error {
  constructor(problem, answer) {
    super(problem.detail || problem.title || answer.statusText);
    this.faults = problem.errors || [];
  }
}

class Paused extends Error {}

const csrf = () => document.querySelector("meta[name=csrf]").content;
const kept = (image) => `qvd-upload-${image}`;
const wait = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));

async function ask(method, path, body, headers = {}, signal = undefined) {
  const sent = {method, body, signal, headers: {"X-CSRF-Token": csrf(), ...headers}, credentials: "same-origin"};
  return fetch(path, sent);
}

async function problemOf(answer) {
  const problem = await answer.json().catch(() => ({}));
  return new Refused(problem, answer);
}

// Shows how far it is, and buttons to pause, go on and cancel.
class Meter {
  constructor(place) {
    this.place = place;
    this.bar = place.querySelector("progress");
    this.line = place.querySelector("[data-line]");
    this.pause = place.querySelector("[data-pause]");
    this.cancel = place.querySelector("[data-cancel]");
    this.told = -1;
  }

  text(name) {
    return this.place.dataset[name];
  }

  show(name, more = "") {
    this.place.hidden = false;
    this.line.textContent = this.text(name) + (more ? `: ${more}` : "");
  }

  progress(name, done, total, since = 0) {
    this.place.hidden = false;
    this.bar.max = total;
    this.bar.value = done;
    const part = Math.floor((done / total) * 100);
    // Whoever listens to the page is told each per cent at most.
    if (part === this.told) return;
    this.told = part;
    const numbers = new Intl.NumberFormat(document.documentElement.lang, {style: "percent"});
    const rate = since ? done / ((performance.now() - since) / 1000) : 0;
    const left = rate ? `, ${Math.ceil((total - done) / rate)} s` : "";
    this.line.textContent = `${this.text(name)} ${numbers.format(done / total)}${left}`;
  }
}

function sumOf(file, script, meter) {
  return new Promise((done, failed) => {
    const worker = new Worker(script);
    worker.onmessage = ({data}) => {
      if (data.done !== undefined) meter.progress("reading", data.done, file.size);
      else {
        worker.terminate();
        if (data.sum) done(data.sum);
        else failed(new Error(data.error));
      }
    };
    worker.onerror = (event) => failed(new Error(event.message));
    worker.postMessage(file);
  });
}

// One upload, from an offset to its end.
class Upload {
  constructor(file, place, image, meter) {
    this.file = file;
    this.place = place;
    this.image = image;
    this.meter = meter;
    this.paused = false;
    this.stop = null;
  }

  async offset() {
    const answer = await ask("HEAD", this.place);
    if (!answer.ok) throw new Refused({detail: this.meter.text("gone")}, answer);
    return Number(answer.headers.get("Upload-Offset"));
  }

  pause() {
    this.paused = true;
    if (this.stop) this.stop.abort();
  }

  async run() {
    this.paused = false;
    let at = await this.offset();
    const since = performance.now(), begun = at;
    let failures = 0;
    while (at < this.file.size) {
      if (this.paused) throw new Paused();
      this.meter.progress("sending", at, this.file.size, at > begun ? since : 0);
      try {
        at = await this.piece(at);
        failures = 0;
      } catch (error) {
        if (error instanceof Refused) throw error;
        if (this.paused) throw new Paused();
        // The network, or the service starting anew: both pass.
        if (++failures > TRIES) throw error;
        this.meter.show("waiting");
        await wait(Math.min(500 * 2 ** failures, 30000));
        at = await this.offset().catch((lost) => {
          if (lost instanceof Refused) throw lost;
          return at;
        });
      }
    }
    localStorage.removeItem(kept(this.image));
    this.meter.progress("sending", at, this.file.size);
  }

  async piece(at) {
    this.stop = new AbortController();
    const headers = {"Content-Type": MEDIA, "Upload-Offset": String(at)};
    const body = this.file.slice(at, at + PIECE);
    const answer = await ask("PATCH", this.place, body, headers, this.stop.signal);
    if (answer.ok) return Number(answer.headers.get("Upload-Offset"));
    if (answer.status === 409 && answer.headers.has("Upload-Offset")) return Number(answer.headers.get("Upload-Offset"));
    if (answer.status >= 500 && answer.status !== 507) throw new Error(answer.statusText);
    throw await problemOf(answer);
  }
}

// Runs an upload to its end, with pauses in between, and opens the image's page then.
async function carry(upload, meter, page) {
  meter.pause.hidden = meter.cancel.hidden = false;
  meter.pause.textContent = meter.text("pause");
  meter.cancel.onclick = async () => {
    upload.pause();
    await ask("DELETE", upload.place);
    localStorage.removeItem(kept(upload.image));
    location.assign(meter.text("list"));
  };
  meter.pause.onclick = () => upload.pause();
  try {
    await upload.run();
    meter.pause.hidden = meter.cancel.hidden = true;
    location.assign(page);
  } catch (error) {
    meter.show(error instanceof Paused ? "stopped" : "failed", error.message);
    meter.pause.textContent = meter.text("resume");
    meter.pause.onclick = () => carry(upload, meter, page);
  }
}

function bodyOf(form, file, checksum) {
  const source = {type: "upload", name: file.name, size: file.size, checksum};
  const body = {osf_id: Number(form.elements.osf_id.value), source};
  for (const name of ["version", "description"]) {
    const value = form.elements[name].value.trim();
    if (value) body[name] = value;
  }
  const tags = form.elements.tags.value.split(/[\s,]+/).filter(Boolean);
  if (tags.length) body.tags = tags;
  for (const name of ["default", "auto_publish"]) if (form.elements[name].checked) body[name] = true;
  return body;
}

async function begin(form) {
  const file = form.elements.file.files[0], meter = new Meter(form.querySelector("[data-meter]"));
  const send = form.querySelector("[type=submit]");
  send.disabled = true;
  try {
    const sum = await sumOf(file, form.dataset.worker, meter);
    const answer = await ask("POST", "/api/v1/images", JSON.stringify(bodyOf(form, file, sum)), {
      "Content-Type": "application/json",
    });
    if (!answer.ok) throw await problemOf(answer);
    const made = await answer.json(), image = made.image.id;
    const place = made.upload.location;
    localStorage.setItem(kept(image), JSON.stringify({place, name: file.name, size: file.size}));
    await carry(new Upload(file, place, image, meter), meter, form.dataset.page.replace("0", String(image)));
  } catch (error) {
    const more = (error.faults || []).map((fault) => `${fault.pointer.slice(1)} ${fault.detail}`);
    meter.show("failed", [error.message, ...more].join("; "));
    send.disabled = false;
  }
}

// On the page of an image whose upload this browser has begun: choose the file again, and go on.
function offer(place) {
  const image = place.dataset.image;
  const known = JSON.parse(localStorage.getItem(kept(image)) || "null");
  if (!known) return;
  place.hidden = false;
  const choice = place.querySelector("input[type=file]"), meter = new Meter(place.querySelector("[data-meter]"));
  choice.onchange = () => {
    const file = choice.files[0];
    if (!file) return;
    if (file.size !== known.size) meter.show("other");
    else carry(new Upload(file, known.place, image, meter), meter, location.pathname);
  };
}

for (const form of document.querySelectorAll("form[data-upload]")) {
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    begin(form);
  });
}
document.querySelectorAll("[data-resume]").forEach(offer);
