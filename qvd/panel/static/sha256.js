// SHA-256 (FIPS 180-4) of a file that is larger than memory, in a worker: the browser's own takes whole buffers only.
"use strict";

const K = new Uint32Array(64);
const FIRST = new Uint32Array(8);
const PIECE = 4 * 1024 * 1024;

// The first bits of the fractional parts of roots of the first primes.
(function constants() {
  const bits = (value) => ((value - Math.floor(value)) * 4294967296) >>> 0;
  for (let number = 2, count = 0; count < 64; number++) {
    let prime = true;
    for (let factor = 2; factor * factor <= number; factor++) {
      if (number % factor === 0) {
        prime = false;
        break;
      }
    }
    if (prime) {
      if (count < 8) FIRST[count] = bits(Math.sqrt(number));
      K[count++] = bits(Math.cbrt(number));
    }
  }
})();

const words = new Uint32Array(64);

function block(state, view, at) {
  for (let i = 0; i < 16; i++) words[i] = view.getUint32(at + i * 4);
  for (let i = 16; i < 64; i++) {
    const x = words[i - 15], y = words[i - 2];
    const s0 = ((x >>> 7) | (x << 25)) ^ ((x >>> 18) | (x << 14)) ^ (x >>> 3);
    const s1 = ((y >>> 17) | (y << 15)) ^ ((y >>> 19) | (y << 13)) ^ (y >>> 10);
    words[i] = (words[i - 16] + s0 + words[i - 7] + s1) | 0;
  }
  let a = state[0], b = state[1], c = state[2], d = state[3], e = state[4], f = state[5], g = state[6], h = state[7];
  for (let i = 0; i < 64; i++) {
    const S1 = ((e >>> 6) | (e << 26)) ^ ((e >>> 11) | (e << 21)) ^ ((e >>> 25) | (e << 7));
    const t1 = (h + S1 + ((e & f) ^ (~e & g)) + K[i] + words[i]) | 0;
    const S0 = ((a >>> 2) | (a << 30)) ^ ((a >>> 13) | (a << 19)) ^ ((a >>> 22) | (a << 10));
    const t2 = (S0 + ((a & b) ^ (a & c) ^ (b & c))) | 0;
    h = g; g = f; f = e; e = (d + t1) | 0; d = c; c = b; b = a; a = (t1 + t2) | 0;
  }
  state[0] += a; state[1] += b; state[2] += c; state[3] += d;
  state[4] += e; state[5] += f; state[6] += g; state[7] += h;
}

function blocks(state, bytes, length) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, length);
  for (let at = 0; at < length; at += 64) block(state, view, at);
}

// Pieces are multiples of a block, so only the last one leaves a rest.
async function digest(file, told) {
  const state = FIRST.slice();
  let rest = new Uint8Array(0);
  for (let at = 0; at < file.size; at += PIECE) {
    const bytes = new Uint8Array(await file.slice(at, at + PIECE).arrayBuffer());
    const whole = bytes.length - (bytes.length % 64);
    blocks(state, bytes, whole);
    rest = bytes.subarray(whole);
    told(Math.min(at + PIECE, file.size));
  }
  const last = new Uint8Array(rest.length < 56 ? 64 : 128);
  last.set(rest);
  last[rest.length] = 0x80;
  const view = new DataView(last.buffer);
  view.setUint32(last.length - 8, Math.floor(file.size / 536870912));
  view.setUint32(last.length - 4, (file.size << 3) >>> 0);
  blocks(state, last, last.length);
  return Array.from(state, (word) => word.toString(16).padStart(8, "0")).join("");
}

self.onmessage = async (message) => {
  try {
    const sum = await digest(message.data, (done) => self.postMessage({done}));
    self.postMessage({sum});
  } catch (error) {
    self.postMessage({error: String(error)});
  }
};
