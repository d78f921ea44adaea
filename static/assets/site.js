// The live parts of the page: a download that can be broken and resumed, a revalidation, commands, health.
// Nothing here is needed to read the page or to take the files.

const ARTIFACT = "artifacts/cast.pgm";
const SMALL_FILE = "assets/hero.svg";
const SLICES_A_SECOND = 40;
const SHOWN_FIRST = ["content-range", "content-length", "content-type", "etag", "last-modified", "accept-ranges"];

const at = (id) => document.getElementById(id);
const number = (value) => value.toLocaleString("en");
const now = () => performance.now();

// --- The download -------------------------------------------------------------------------------------------------

/** What has arrived of one version of the artifact. A part is kept only while its entity tag stays the same. */
class Arrival {
  constructor() { this.forget(); }

  forget() {
    this.etag = null;
    this.bytes = new Uint8Array(0);
    this.length = 0;
    this.total = null;
  }

  expect(total) {
    if (this.total === total) return;
    this.total = total;
    this.bytes = new Uint8Array(total);
  }

  add(chunk) {
    if (this.length + chunk.length > this.total) throw new Error("more bytes came than the response announced");
    this.bytes.set(chunk, this.length);
    this.length += chunk.length;
  }

  get complete() { return this.total !== null && this.length === this.total; }
}

const arrival = new Arrival();
let breaker = null;
let exchanges = 0;

async function run() {
  breaker = new AbortController();
  buttons({ running: true });
  const from = arrival.length;
  say(from ? `Resuming at byte ${number(from)}.` : "Requesting the first range.");
  try {
    while (!arrival.complete) await fetchNextRange(breaker.signal);
    await verify();
  } catch (cause) {
    if (breaker.signal.aborted) {
      picture.mark(arrival.length);
      say(`Broken after ${number(arrival.length)} bytes. They are kept; what is missing starts at byte ${number(arrival.length)}.`);
    } else {
      say(`Stopped: ${cause.message}. What has arrived is kept.`, "bad");
    }
  }
  buttons({ running: false });
}

/** One request for what comes next, read to its end or until it is broken. */
async function fetchNextRange(signal) {
  const from = arrival.length;
  const asked = { Range: `bytes=${from}-${lastByte(from)}` };
  // A weak tag, or none, cannot say that two parts belong together (RFC 9110 section 13.1.5).
  if (from && arrival.etag) asked["If-Range"] = arrival.etag;

  const row = openRow(asked);
  at("request").replaceChildren(...requestHead(ARTIFACT, asked));
  try {
    const response = await fetch(ARTIFACT, { headers: asked, cache: "no-store", signal });
    at("response").replaceChildren(...responseHead(response));
    row.answered(response);
    accept(response, from);
    await read(response.body.getReader(), signal, row);
  } catch (cause) {
    row.ended(signal.aborted ? "broken" : "failed");
    throw cause;
  }
}

function lastByte(from) {
  const span = Number(at("span").value);
  return span ? from + span - 1 : "";
}

/** Takes the response's head into account: the same version goes on, another one starts over. */
function accept(response, from) {
  const tag = response.headers.get("etag");
  const strong = tag && !tag.startsWith("W/") ? tag : null;
  if (response.status === 200) {
    if (from) {
      say("The file has changed: the server sent the new version whole, so this page starts over.");
      picture.clear();
    }
    arrival.forget();
    arrival.expect(Number(response.headers.get("content-length")));
  } else if (response.status === 206) {
    const part = /^bytes (\d+)-\d+\/(\d+)$/.exec(response.headers.get("content-range") ?? "");
    if (!part || Number(part[1]) !== from) throw new Error("the server sent another range than the one asked for");
    if (from && (strong !== arrival.etag || Number(part[2]) !== arrival.total)) throw new Error("the server sent a part of another version");
    arrival.expect(Number(part[2]));
  } else {
    throw new Error(`the server answered ${response.status} ${response.statusText}`.trim());
  }
  arrival.etag = strong;
  at("etag").textContent = tag ?? "none";
  showCount();
}

/**
 * Reads a body no faster than the rate chosen: what the page does not take, the connection holds back.
 * A chunk is taken in slices, so that a break leaves as many bytes as the rate had let through.
 */
async function read(body, signal, row) {
  for (;;) {
    const { done, value } = await body.read();
    if (done) return;
    for (let taken = 0, size; taken < value.length; taken += size) {
      const started = now();
      const rate = Number(at("rate").value);
      const slice = value.subarray(taken, rate ? taken + Math.ceil(rate / SLICES_A_SECOND) : undefined);
      size = slice.length;
      arrival.add(slice);
      row.took(size);
      picture.draw(arrival);
      showCount();
      if (rate) await pauseUntil(started + size / rate * 1000, signal);
    }
  }
}

function pauseUntil(moment, signal) {
  return new Promise((resolve, reject) => {
    const giveUp = () => { clearTimeout(timer); reject(signal.reason); };
    const timer = setTimeout(() => { signal.removeEventListener("abort", giveUp); resolve(); }, Math.max(0, moment - now()));
    signal.addEventListener("abort", giveUp, { once: true });
  });
}

async function verify() {
  const published = (await (await fetch(`${ARTIFACT}.sha256`, { cache: "no-store" })).text()).trim().split(/\s+/)[0];
  if (!window.isSecureContext || !crypto.subtle) {
    at("digest").textContent = `${published} (published)`;
    say("Complete. Over plain HTTP from another machine the browser offers no digests: check the file with sha256sum, below, or open this page from localhost or over TLS.");
    return;
  }
  const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", arrival.bytes));
  const own = Array.from(hash, (byte) => byte.toString(16).padStart(2, "0")).join("");
  at("digest").textContent = own;
  if (own === published) say(`Complete and verified: ${number(arrival.total)} bytes in ${exchanges} requests, and their SHA-256 is the published one.`, "good");
  else say("Complete, but its SHA-256 is not the published one.", "bad");
}

function startOver() {
  arrival.forget();
  exchanges = 0;
  picture.clear();
  at("log").replaceChildren();
  at("etag").textContent = "not seen yet";
  at("digest").textContent = "after the last byte";
  showCount();
  run();
}

function buttons({ running }) {
  const focused = document.activeElement;
  at("start").disabled = running;
  at("start").textContent = arrival.length ? "Start over" : "Start";
  at("break").disabled = !running;
  at("resume-button").disabled = running || arrival.length === 0 || arrival.complete;
  // A button that turns itself off must not take the keyboard's place with it.
  if (focused?.disabled) ["break", "resume-button", "start"].map(at).find((button) => !button.disabled)?.focus();
}

function showCount() {
  at("arrived").textContent = number(arrival.length);
  at("progress").value = arrival.length;
  if (arrival.total === null) return;
  at("total").textContent = number(arrival.total);
  at("progress").max = arrival.total;
}

function say(text, tone = "") {
  at("status").textContent = text;
  at("status").dataset.tone = tone;
}

// --- The picture --------------------------------------------------------------------------------------------------

/** Draws the rows of a binary PGM as they arrive, each two rows and columns as one pixel. */
class Picture {
  constructor(canvas) {
    this.canvas = canvas;
    this.pen = canvas.getContext("2d");
    this.tones = duotone([20, 17, 30], [208, 120, 34], [255, 247, 226]);
    this.clear();
  }

  clear() {
    this.pen.clearRect(0, 0, this.canvas.width, this.canvas.height);
    this.drawn = 0;
  }

  draw({ bytes, length }) {
    this.shape ??= pgmShape(bytes.subarray(0, Math.min(length, 64)));
    if (!this.shape) return;
    const { width, start } = this.shape;
    const ready = Math.min(Math.floor((length - start) / width / 2), this.canvas.height);
    if (ready <= this.drawn) return;
    const strip = this.pen.createImageData(this.canvas.width, ready - this.drawn);
    const pixels = new Uint32Array(strip.data.buffer);
    let pixel = 0;
    for (let row = this.drawn; row < ready; row += 1) {
      let from = start + row * 2 * width;
      for (let column = 0; column < strip.width; column += 1, from += 2) {
        pixels[pixel++] = this.tones[(bytes[from] + bytes[from + 1] + bytes[from + width] + bytes[from + width + 1]) >> 2];
      }
    }
    this.pen.putImageData(strip, 0, this.drawn);
    this.drawn = ready;
  }

  /** A notch at the margin, where a connection was broken. */
  mark() {
    this.pen.fillStyle = "#ff5a36";
    this.pen.fillRect(0, Math.max(0, this.drawn - 5), 44, 5);
  }
}

/** Width and first pixel of a binary PGM, from its head ("P5", width, height, 255). */
function pgmShape(head) {
  const match = /^P5\s(\d+)\s(\d+)\s255\s/.exec(String.fromCharCode(...head));
  return match && { width: Number(match[1]), start: match[0].length };
}

/** 256 tones from dark over middle to light, as little-endian RGBA. */
function duotone(dark, middle, light) {
  return Uint32Array.from({ length: 256 }, (_, grey) => {
    const [from, to, part] = grey < 128 ? [dark, middle, grey / 128] : [middle, light, (grey - 128) / 127];
    const [red, green, blue] = from.map((tone, channel) => Math.round(tone + (to[channel] - tone) * part));
    return ((255 << 24) | (blue << 16) | (green << 8) | red) >>> 0;
  });
}

const picture = new Picture(at("picture"));

// --- Heads --------------------------------------------------------------------------------------------------------

function requestHead(path, headers) {
  const url = new URL(path, document.baseURI);
  const lines = [["GET", `${url.pathname} HTTP`], ["Host:", url.host], ...Object.entries(headers).map(([name, value]) => [`${name}:`, value])];
  return lines.flatMap(emphasised);
}

function responseHead(response) {
  const seen = [...response.headers].sort(([one], [other]) => rank(one) - rank(other));
  const lines = [[`${response.status}`, response.statusText], ...seen.map(([name, value]) => [`${name}:`, value])];
  return lines.flatMap(emphasised);
}

function rank(name) {
  const place = SHOWN_FIRST.indexOf(name);
  return place < 0 ? SHOWN_FIRST.length : place;
}

function emphasised([name, value]) {
  const strong = document.createElement("b");
  strong.textContent = name;
  return [strong, ` ${value}\n`];
}

/** A row of the table of exchanges; it fills as the exchange goes on. */
function openRow(asked) {
  exchanges += 1;
  const row = at("log").insertRow(0);
  const [, , , status, range, taken] = [exchanges, asked.Range, asked["If-Range"] ?? "\u2013", "\u2026", "", "0"].map((text) => {
    const cell = row.insertCell();
    cell.textContent = text;
    return cell;
  });
  let bytes = 0;
  return {
    answered(response) {
      status.textContent = response.status;
      range.textContent = response.headers.get("content-range") ?? "\u2013";
    },
    took(more) {
      bytes += more;
      taken.textContent = number(bytes);
    },
    ended(how) {
      row.dataset.end = how;
      taken.textContent = `${number(bytes)}, ${how}`;
    },
  };
}

// --- Asking twice -------------------------------------------------------------------------------------------------

async function askTwice() {
  const tell = (text, tone = "") => { at("ask-status").textContent = text; at("ask-status").dataset.tone = tone; };
  try {
    const first = await exchange("first", {});
    const tag = first.response.headers.get("etag");
    if (!tag) return tell("The response carries no entity tag, so there is nothing to compare.", "bad");
    const second = await exchange("second", { "If-None-Match": tag });
    const saved = second.response.status === 304;
    tell(`First ${first.response.status} with ${number(first.length)} bytes, then ${second.response.status} with ${number(second.length)}.`, saved ? "good" : "bad");
  } catch (cause) {
    tell(`Stopped: ${cause.message}.`, "bad");
  }
}

async function exchange(id, asked) {
  const response = await fetch(SMALL_FILE, { headers: asked, cache: "no-store" });
  const { byteLength } = await response.arrayBuffer();
  at(id).replaceChildren(...requestHead(SMALL_FILE, asked), "\n", ...responseHead(response), `\n${number(byteLength)} bytes of body`);
  return { response, length: byteLength };
}

// --- Commands and health ------------------------------------------------------------------------------------------

async function copy({ currentTarget: button }) {
  const command = at(button.dataset.copy);
  try {
    await navigator.clipboard.writeText(command.textContent);
    at("copy-status").textContent = "Copied.";
  } catch {
    getSelection().selectAllChildren(command);
    at("copy-status").textContent = "Selected: copy it with the keyboard.";
  }
}

async function showHealth(place) {
  try {
    const { ok, status } = await fetch(place.dataset.health, { cache: "no-store" });
    place.textContent = status;
    place.dataset.tone = ok ? "good" : "bad";
  } catch {
    place.textContent = "no answer";
    place.dataset.tone = "bad";
  }
}

// --- Start --------------------------------------------------------------------------------------------------------

at("bench").hidden = false;
at("twice").hidden = false;
at("start").addEventListener("click", startOver);
at("break").addEventListener("click", () => breaker.abort());
at("resume-button").addEventListener("click", run);
at("ask").addEventListener("click", askTwice);
for (const place of document.querySelectorAll(".origin")) place.textContent = new URL(".", document.baseURI).href;
for (const button of document.querySelectorAll(".copy")) {
  button.hidden = false;
  button.addEventListener("click", copy);
}
for (const place of document.querySelectorAll("[data-health]")) showHealth(place);
