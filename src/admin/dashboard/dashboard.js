// The dashboard: shows the events that the server sends once a second (/events), problems first.
// Names of files and clients are always inserted as text.

const $ = (id) => document.getElementById(id);

/** An URL of this server. The URL of the page may contain a password, with which browsers make no requests. */
const here = (path) => `${location.origin}${path}`;

// ---- Formatting --------------------------------------------------------------------------------------------------

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const count = (number) => whole.format(number);

function short(number) {
  if (number < 10 && number % 1 !== 0) return number.toFixed(1);
  if (number < 100_000) return count(number);
  if (number < 1e6) return `${(number / 1e3).toFixed(0)}k`;
  return `${(number / 1e6).toFixed(number < 1e7 ? 2 : 1)}M`;
}

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];

function bytesIn(number) {
  let unit = 0;
  while (number >= 1000 && unit < UNITS.length - 1) {
    number /= 1024;
    unit += 1;
  }
  const digits = unit === 0 || number >= 100 ? 0 : number >= 10 ? 1 : 2;
  return [number.toFixed(digits), UNITS[unit]];
}

const bytes = (number) => bytesIn(number).join(" ");

function span(seconds) {
  const parts = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
  const first = parts.findIndex(([size]) => seconds >= size);
  if (first < 0) return "0 s";
  const words = [];
  for (const [size, unit] of parts.slice(first, first + 2)) {
    const whole = Math.floor(seconds / size);
    seconds -= whole * size;
    if (whole > 0 && words.length < 2) words.push(`${whole} ${unit}`);
  }
  return words.join(" ");
}

function milliseconds(ms) {
  if (ms === null || ms === undefined) return ["–", ""];
  if (ms < 1) return [ms.toFixed(2), "ms"];
  if (ms < 100) return [ms.toFixed(1), "ms"];
  if (ms < 1000) return [ms.toFixed(0), "ms"];
  return [(ms / 1000).toFixed(ms < 10_000 ? 2 : 1), "s"];
}

const percent = (share) => `${(share * 100).toFixed(share > 0 && share < 0.1 ? 1 : 0)} %`;
const plural = (number, what) => `${count(number)} ${what}${number === 1 ? "" : "s"}`;
const clock = (ms) => new Date(ms).toLocaleTimeString([], { hour12: false });

// ---- Updating the page -------------------------------------------------------------------------------------------

/** Sets a text if it has changed, so that a selection is kept. */
function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

function make(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== undefined && value !== null) node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

const isolated = (text, attributes) => make("bdi", attributes, text);

/** Shows `items` in `parent` in their order. Rows that stay are kept, so that nothing moves under a pointer or a selection. */
function list(parent, items, keyOf, create, update) {
  const known = new Map([...parent.children].map((row) => [row.dataset.key, row]));
  let before = null;
  for (const item of items) {
    const key = keyOf(item);
    let row = known.get(key);
    known.delete(key);
    if (!row) {
      row = create(item);
      row.dataset.key = key;
    }
    update(row, item);
    const wanted = before ? before.nextElementSibling : parent.firstElementChild;
    if (row !== wanted) parent.insertBefore(row, wanted);
    before = row;
  }
  known.forEach((row) => row.remove());
}

function level(node, name, word = "") {
  if (node.dataset.level !== name) node.dataset.level = name;
  const shown = node.querySelector(":scope > .word, :scope > h2 .word");
  if (shown) setText(shown, word);
}

// ---- Charts of the last minutes ----------------------------------------------------------------------------------

const SVG = "http://www.w3.org/2000/svg";
const SECONDS = 300;
const HEIGHT = 60;

class Spark {
  constructor(id, label, peak) {
    this.peakWords = peak;
    this.svg = document.createElementNS(SVG, "svg");
    this.svg.setAttribute("viewBox", `0 0 ${SECONDS} ${HEIGHT}`);
    this.svg.setAttribute("preserveAspectRatio", "none");
    this.svg.setAttribute("role", "img");
    this.svg.setAttribute("aria-label", `${label} over the last five minutes`);
    const base = this.add("path", "base");
    base.setAttribute("d", `M0 ${HEIGHT}H${SECONDS}`);
    this.area = this.add("path", "area");
    this.line = this.add("path", "line");
    this.peak = make("span");
    $(id).replaceChildren(make("p", { class: "scale" }, make("span", {}, "five minutes"), this.peak), this.svg);
  }

  add(tag, name) {
    const node = document.createElementNS(SVG, tag);
    node.setAttribute("class", name);
    this.svg.append(node);
    return node;
  }

  /** Draws `values`, the latest last. Missing values are gaps in the line. */
  draw(values, least) {
    const max = Math.max(least, ...values.map((value) => value ?? 0));
    const start = SECONDS - values.length;
    const at = (value) => (HEIGHT - 2 - (value / max) * (HEIGHT - 6)).toFixed(1);
    let [line, area, run] = ["", "", null];
    const close = (end) => {
      if (run !== null) area += `${line.slice(run.from)}L${end} ${HEIGHT}L${run.x} ${HEIGHT}Z`;
      run = null;
    };
    values.forEach((value, index) => {
      const x = start + index + 1;
      if (value === null || value === undefined) return close(x - 1);
      if (run === null) {
        run = { from: line.length, x };
        line += `M${x} ${at(value)}`;
      } else {
        line += `L${x} ${at(value)}`;
      }
    });
    close(SECONDS);
    this.line.setAttribute("d", line);
    this.area.setAttribute("d", area);
    setText(this.peak, `peak ${this.peakWords(Math.max(0, ...values.map((value) => value ?? 0)))}`);
  }
}

const sparks = {
  requests: new Spark("spark-requests", "Requests per second", short),
  bytes: new Spark("spark-bytes", "Bytes per second", bytes),
  latency: new Spark("spark-latency", "Time to the first byte, 99th percentile,", (ms) => milliseconds(ms).join(" ")),
  trouble: new Spark("spark-trouble", "Errors and rejections per second", short),
};

/** Points as the server sends them. */
const POINT = { at: 0, requests: 1, bytes: 2, p50: 3, p99: 4, errors: 5, refused: 6, connections: 7 };

// ---- Descriptions of problems ------------------------------------------------------------------------------------

/** By kind: description, setting or hint, and severity if it occurred within the last minute. */
const TROUBLES = {
  "refused.connections": ["Connections answered 503: all are in use", "max_connections", "bad"],
  "refused.client_connections": ["Connections rejected: too many of one client", "client_connections", "warn"],
  "refused.client_requests": ["Requests answered 429: rate limit of the client", "client_requests", "warn"],
  "refused.total_requests": ["Requests answered 429: total rate limit", "total_requests", "bad"],
  "refused.client_requests_at_once": ["Requests answered 429: too many concurrent requests of the client", "client_requests_at_once", "warn"],
  "refused.client_directories": ["Listings and archives rejected: share of the client in use", "directories_at_once", "warn"],
  "refused.directories": ["Listings and archives rejected: all in use", "directories_at_once", "warn"],
  "refused.proxy_headers": ["Connections closed for a wrong or missing PROXY header", "proxy_protocol, trusted_proxies", "warn"],
  "refused.suspicious_queries": ["Queries that look like an attack, answered 400", "query_filter", "warn"],
  "refused.head_bytes": ["Request heads too long", "head_bytes, head_fields", "warn"],
  "refused.head_timeout": ["Request heads that timed out", "head_timeout", "info"],
  "refused.malformed_heads": ["Malformed requests", "answered 400, 417, 501 or 505", "info"],
  "refused.malformed_frames": ["HTTP/2 connections closed: malformed frames", "the log names the clients", "info"],
  "refused.http2_resets": ["HTTP/2 connections closed: too many stream resets", "http2_resets", "warn"],
  "refused.http2_frames": ["HTTP/2 connections closed: flood of empty or control frames", "the log names the clients", "warn"],
  "refused.handshakes": ["Failed TLS handshakes", "see the log", "info"],
  "refused.logins": ["Rejected signed URLs, tokens and passwords", "access in the rules", "warn"],
  "refused.login_attempts": ["Login attempts not checked after too many wrong ones", "login_attempts", "warn"],
  "refused.password_checks": ["Passwords not checked: no thread became free in time", "password_checks", "bad"],
  "refused.admin_tokens": ["Wrong admin tokens", "admin_token", "warn"],
  "refused.admin_attempts": ["Admin tokens not checked after too many wrong ones", "admin_token", "warn"],
  "refused.admin_pages": ["Requests to the admin port from pages of other sites", "admin_listen", "warn"],
  "faults.open": ["Files that could not be opened or looked up", "the log names them", "bad"],
  "faults.denied": ["Files without read permission", "permissions; the log names them", "warn"],
  "faults.read": ["Files that could not be read", "the disk; the log names them", "bad"],
  "faults.directory": ["Directories that could not be read", "the log names them", "bad"],
  "faults.populate": ["Failed reads of cold pages", "the disk; the log names the files", "bad"],
  "faults.send": ["Failed sends because of a file error", "the log names them", "bad"],
  "faults.map": ["Files that could not be mapped and are read instead", "vm.max_map_count, memory", "warn"],
  "faults.changed": ["Files that changed while they were sent", "replace files by renaming", "warn"],
  "faults.no_handle": ["Requests without a free file handle", "handles, handle_wait", "bad"],
  "faults.accept": ["Connections that could not be accepted", "limit of open files, memory", "bad"],
  "closed.idle": ["Idle connections closed to make room for new ones", "max_connections", "warn"],
  "closed.too_slow": ["Slow connections closed while free connections were short", "min_rate, max_connections", "warn"],
  "timeouts.handles": ["Requests that timed out waiting for a file handle", "handles, handle_wait", "bad"],
  "timeouts.disk": ["Requests that timed out waiting for the disk", "disk_timeout", "bad"],
  "cut.stalled": ["Responses aborted: the client stopped receiving", "stall_timeout", "info"],
  "cut.too_slow": ["Responses aborted: the client received too slowly", "min_rate", "warn"],
  "cut.changed": ["Responses aborted: the file changed", "replace files by renaming", "warn"],
  "cut.failed": ["Responses aborted: disk error", "the log names the files", "bad"],
  "cut.drained": ["Responses aborted by the shutdown", "shutdown_timeout", "warn"],
};

const GROUPS = { refused: "Rejected", faults: "Fault", closed: "Closed", timeouts: "Timeout", cut: "Aborted" };
const WORDS = { warn: "Warning", bad: "Critical", info: "Note" };
const ORDER = { bad: 0, warn: 1, info: 2 };

function describe({ group, kind }) {
  const known = TROUBLES[`${group}.${kind}`];
  return known ?? [`${GROUPS[group] ?? group}: ${kind.replaceAll("_", " ")}`, "", group === "refused" ? "warn" : "bad"];
}

/** Utilization from which a limit is reported. */
const HIGH = 0.8;
const FULL = 0.95;

function fullness({ now, limit }) {
  const share = limit > 0 ? now / limit : 0;
  if (share >= FULL) return { share, level: "bad", word: "Full" };
  if (share >= HIGH) return { share, level: "warn", word: "High" };
  return { share, level: "ok", word: "" };
}

/** Lists the issues, the worst first. */
function judge({ status, recent, troubles, at_ms: at }) {
  const issues = [];
  const add = (level, text, why = "") => issues.push({ level, text, why });
  const phases = {
    starting: ["warn", "The server is starting", "Readiness fails until it has started."],
    warming: ["warn", "The server is warming up", `${plural(status.warming.done, "file")} of ${count(status.warming.of)} so far. Readiness fails meanwhile.`],
    draining: ["warn", "The server is stopping", "It still serves during the drain delay."],
    retiring: ["warn", "A successor has taken over", "This process finishes its connections."],
    closing: ["warn", "The server is stopping", "Listeners are closed. Responses in progress finish."],
    ended: ["bad", "The server has stopped", ""],
  };
  if (phases[status.phase]) add(...phases[status.phase]);
  if (status.is_drained) add("warn", "Drained by an operator", "Readiness fails, so load balancers send no traffic. “Undrain” restores it.");

  const total = recent?.requests ?? 0;
  const failed = recent?.classes.find(({ name }) => name === "5xx")?.per_second ?? 0;
  const all = recent?.classes.reduce((sum, { per_second: each }) => sum + each, 0) ?? 0;
  if (failed > 0 && total > 0) {
    const share = failed / all;
    add(share >= 0.01 ? "bad" : "warn", `${percent(share)} of responses are errors (5xx)`, `${short(failed)} per second over the last ten seconds.`);
  }
  const first = recent?.first_byte.p99_ms ?? 0;
  if (first >= 250) {
    add(first >= 1000 ? "bad" : "warn", `The first byte takes ${milliseconds(first).join(" ")} (p99)`, status.reads.waiting > 0 ? `${plural(status.reads.waiting, "cold read")} waiting for a disk.` : "");
  }
  for (const [key, what, setting] of [
    ["connections", "Connections", "max_connections"],
    ["handles", "File handles", "handles"],
    ["directories", "Listings and archives", "directories_at_once"],
  ]) {
    const { level, word, share } = fullness(status[key]);
    if (level !== "ok") add(level, `${what}: ${percent(share)} in use`, `${count(status[key].now)} of ${count(status[key].limit)} (${setting}). ${word}.`);
  }
  const own = status.process ? status.process.anonymous_bytes / status.memory.bytes : 0;
  if (own >= 0.7) add(own >= 0.85 ? "bad" : "warn", `Memory: ${percent(own)} used by the process`, `${bytes(status.process.anonymous_bytes)} of ${bytes(status.memory.bytes)}, without pages of files.`);
  for (const trouble of troubles) {
    const [text, setting, severity] = describe(trouble);
    if (trouble.last_minute > 0 && severity !== "info") add(severity, `${text}: ${count(trouble.last_minute)} in the last minute`, setting);
  }
  for (const { name, not_after: end } of status.certificates ?? []) {
    const days = Math.floor((end * 1000 - at) / 86_400_000);
    if (days < 14) add(days < 3 ? "bad" : "warn", days < 0 ? `The certificate of ${name} has expired` : `The certificate of ${name} expires in ${plural(days, "day")}`, "tls_cert");
  }
  return issues.sort((one, other) => ORDER[one.level] - ORDER[other.level]);
}

// ---- Showing an event --------------------------------------------------------------------------------------------

let points = [];

function show(snapshot) {
  const { status, recent, point } = snapshot;
  showTop(snapshot);
  showVerdict(snapshot);
  if (point) showCards(snapshot);
  showMeters($("limits"), limitsOf(status));
  showMeters($("caches"), cachesOf(status));
  showTally($("activities"), activitiesOf(snapshot));
  showTally($("memory"), memoryOf(status, recent));
  showTroubles(snapshot.troubles);
  showDownloads(snapshot);
  showBusy(snapshot.busy);
  showCertificates(snapshot);
}

function showTop({ status, at_ms: at }) {
  setText($("host"), location.host);
  setText($("version"), `version ${status.version}`);
  setText($("uptime"), `${status.is_drained && status.phase === "ready" ? "drained" : status.phase}, up ${span(status.uptime_seconds)}`);
  setText($("as-of"), clock(at));
  $("as-of").dateTime = new Date(at).toISOString();
  $("drain").hidden = status.is_drained;
  $("ready").hidden = !status.is_drained;
}

function showVerdict(snapshot) {
  const issues = judge(snapshot);
  const { recent } = snapshot;
  const worst = issues[0]?.level ?? "ok";
  level($("verdict"), worst);
  const titles = {
    ok: "No issues.",
    warn: `${plural(issues.length, "warning")}.`,
    bad: `${plural(issues.filter(({ level }) => level === "bad").length, "critical issue")}.`,
  };
  setText($("verdict-title"), titles[worst]);
  const rest = issues.length - issues.filter(({ level }) => level === worst).length;
  const quiet = recent && recent.requests > 0 ? "Requests are answered, and no limit is near." : "There are no requests, and no limit is near.";
  setText($("verdict-line"), issues.length === 0 ? quiet : rest > 0 ? `And ${count(rest)} more.` : "Everything else is fine.");
    list(
    $("issues"),
    issues,
    ({ text }) => text.replace(/[\d.,]+/g, "#"),
    () => make("li", {}, make("span", { class: "word" }), make("span"), make("small")),
    (row, issue) => {
      level(row, issue.level, WORDS[issue.level]);
      setText(row.children[1], issue.text);
      setText(row.children[2], issue.why);
      row.children[2].hidden = issue.why === "";
    },
  );
  const mark = { ok: "", warn: "▲ ", bad: "■ " }[worst];
  document.title = `${mark}${issues.length > 0 ? `${count(issues.length)} · ` : ""}${location.host} · pagecast`;
}

function showCards({ recent }) {
  const column = (index) => points.map((point) => point[index]);
  // Mean of the last three seconds, because a value that jumps is hard to read.
  const mean = (index) => {
    const last = points.slice(-3);
    return last.reduce((sum, point) => sum + point[index], 0) / Math.max(1, last.length);
  };
  setText($("requests"), short(mean(POINT.requests)));
  sparks.requests.draw(column(POINT.requests), 1);
  const [amount, unit] = bytesIn(mean(POINT.bytes));
  setText($("bytes"), amount);
  setText($("bytes-unit"), `${unit} per second`);
  sparks.bytes.draw(column(POINT.bytes), 1024);
  const latency = recent?.first_byte.p99_ms ?? null;
  const [took, in_] = milliseconds(latency);
  setText($("p99"), took);
  setText($("p99-unit"), in_);
  sparks.latency.draw(column(POINT.p99), 0.5);
  const within = (index) => Math.round(points.slice(-60).reduce((sum, point) => sum + point[index], 0));
  const [failed, refused] = [within(POINT.errors), within(POINT.refused)];
  setText($("trouble"), count(failed + refused));
  sparks.trouble.draw(points.map((point) => point[POINT.errors] + point[POINT.refused]), 1);

  const slow = latency >= 1000 ? ["bad", "Very slow"] : latency >= 250 ? ["warn", "Slow"] : ["ok"];
  level($("card-latency"), ...slow);
  level($("card-trouble"), ...(failed > 0 ? ["bad", "Errors"] : refused > 0 ? ["warn", "Rejecting"] : ["ok"]));

  const parts = (node, items) => list(
    node, items, ({ name }) => name, () => make("span", {}, make("b"), " ", make("span")),
    (row, { name, value, tone }) => { row.className = tone ?? ""; setText(row.children[0], value); setText(row.children[1], name); },
  );
  const tones = { "4xx": "warn", "5xx": "bad" };
  parts($("classes"), (recent?.classes ?? []).filter(({ per_second: each }) => each > 0)
    .map(({ name, per_second: each }) => ({ name: name === "none" ? "without a response" : name, value: short(each), tone: tones[name] })));
  parts($("paths"), (recent?.paths ?? []).filter(({ per_second: each }) => each > 0)
    .map(({ name, per_second: each }) => ({ name, value: bytes(each) })));
  parts($("trouble-line"), [
    { name: "errors", value: count(failed), tone: failed > 0 ? "bad" : "" },
    { name: "rejected", value: count(refused), tone: refused > 0 ? "warn" : "" },
  ]);
  for (const [id, quantiles] of [["ttfb", recent?.first_byte], ["took", recent?.duration]]) {
    for (const rank of ["p50", "p90", "p99"]) {
      setText($(`${id}-${rank}`), milliseconds(quantiles?.[`${rank}_ms`] ?? null).join(" "));
    }
  }
}

const gauge = (name, { now, limit }, words = count) => ({ name, now: words(now), limit: words(limit), ...fullness({ now, limit }) });

function limitsOf(status) {
  const process = status.process && {
    name: "Private memory of the process",
    now: bytes(status.process.anonymous_bytes),
    limit: bytes(status.memory.bytes),
    ...fullness({ now: status.process.anonymous_bytes, limit: status.memory.bytes }),
  };
  return [
    gauge("Connections", status.connections),
    gauge("File handles", status.handles),
    gauge("Listings and archives in progress", status.directories),
    ...(process ? [process] : []),
  ];
}

function cachesOf(status) {
  const calm = (meter) => ({ ...meter, level: "ok", word: "" });
  return [
    calm(gauge("Mapped files", status.mapped_bytes, bytes)),
    calm(gauge("Mappings", status.mappings)),
    calm(gauge("Small files on the heap", status.heap_bytes, bytes)),
    calm(gauge("Names", status.names)),
    calm(gauge("Clients in the table", status.clients)),
  ];
}

function activitiesOf({ activities, status, downloads_under_way: downloads }) {
  const states = activities ?? {};
  return [
    ["answering", states.answering],
    ["reading a request", states.reading],
    ["idle", states.idle],
    ["closing", states.closing],
    ...(states.handshaking ? [["in a TLS handshake", states.handshaking]] : []),
    ["long downloads", downloads],
    ["waiting for bandwidth", status.bandwidth.waiting],
  ].filter(([, value]) => value !== undefined).map(([name, value]) => ({ name, value: count(value) }));
}

function memoryOf(status, recent) {
  const rows = [];
  if (recent?.hit_share !== undefined && recent.hit_share !== null) rows.push({ name: "lookups answered from caches", value: percent(recent.hit_share) });
  if (status.process) {
    rows.push({ name: "resident memory", value: bytes(status.process.resident_bytes) });
    rows.push({ name: "resident pages of files", value: bytes(status.process.file_bytes) });
  }
  const waiting = status.reads.waiting;
  rows.push({ name: "cold reads waiting", value: count(waiting), level: waiting > 1000 ? "bad" : waiting > 100 ? "warn" : "ok" });
  rows.push({ name: "cold reads running", value: count(status.reads.running) });
  rows.push({ name: "background jobs", value: count(status.background) });
  return rows;
}

function showMeters(parent, meters) {
  list(
    parent, meters, ({ name }) => name,
    ({ name }) => {
      const bar = make("i");
      return make("div", {}, make("dt", {}, name, make("span", { class: "word" })), make("dd", {}, make("span"), make("small")), make("dd", { class: "bar", "aria-hidden": "true" }, bar));
    },
    (row, { now, limit, share, level: name, word }) => {
      if (row.dataset.level !== name) row.dataset.level = name;
      const [title, figures, bar] = row.children;
      setText(title.querySelector(".word"), word);
      setText(figures.children[0], now);
      setText(figures.children[1], ` of ${limit}`);
      bar.firstElementChild.style.width = `${Math.min(100, share * 100).toFixed(1)}%`;
    },
  );
}

function showTally(parent, items) {
  list(
    parent, items, ({ name }) => name,
    ({ name }) => make("div", {}, make("dt", {}, name), make("dd")),
    (row, { value, level: name = "ok" }) => {
      if (row.dataset.level !== name) row.dataset.level = name;
      setText(row.children[1], value);
    },
  );
}

function filled(id, items) {
  $(`no-${id}`).hidden = items.length > 0;
  $(`${id}-table`).hidden = items.length === 0;
}

function showTroubles(troubles) {
  filled("troubles", troubles);
  list(
    $("troubles"), troubles, ({ group, kind }) => `${group}.${kind}`,
    (trouble) => {
      const [text, setting] = describe(trouble);
      return make("tr", {}, make("th", { scope: "row", class: "main" }, text, make("span", { class: "word" }), make("small", {}, setting)), make("td", { class: "number", "data-label": "last minute" }), make("td", { class: "number", "data-label": "since the start" }));
    },
    (row, trouble) => {
      const severity = describe(trouble)[2];
      const name = trouble.last_minute > 0 ? severity : "ok";
      if (row.dataset.level !== name) row.dataset.level = name;
      setText(row.querySelector(".word"), name === "ok" ? "" : WORDS[name]);
      setText(row.children[1], count(trouble.last_minute));
      setText(row.children[2], count(trouble.total));
    },
  );
}

function showDownloads({ downloads, downloads_under_way: all }) {
  const shown = downloads.slice(0, 20);
  filled("downloads", shown);
  setText($("downloads-count"), all > shown.length ? `${count(shown.length)} of ${count(all)}` : "");
  const twice = new Map();
  list(
    $("downloads"), shown,
    ({ client, path, total, seconds }) => {
      const key = `${client} ${path} ${total} ${Math.round((Date.now() / 1000 - seconds) / 4)}`;
      twice.set(key, (twice.get(key) ?? 0) + 1);
      return `${key} ${twice.get(key)}`;
    },
    ({ client, path }) => make(
      "tr", {},
      make("th", { scope: "row", class: "main" }, isolated(path ?? "generated", { class: "name" })),
      make("td", {}, isolated(client, { class: "name" })),
      make("td", { class: "done" }, make("span"), make("span", { class: "bar", role: "progressbar", "aria-label": "Sent", "aria-valuemin": "0", "aria-valuemax": "100" }, make("i"))),
      make("td", { class: "number" }), make("td", { class: "number left" }),
    ),
    (row, { sent, total, bytes_per_second: rate, seconds_left: left }) => {
      const [, , done, speed, rest] = row.children;
      const [words, bar] = done.children;
      const share = total ? Math.min(1, sent / total) : 0;
      setText(words, total ? `${percent(share)} of ${bytes(total)}` : bytes(sent));
      bar.hidden = !total;
      bar.setAttribute("aria-valuenow", Math.round(share * 100));
      bar.firstElementChild.style.width = `${(share * 100).toFixed(1)}%`;
      setText(speed, rate < 1 ? "stalled" : `${bytes(rate)}/s`);
      setText(rest, left === null ? "–" : span(left));
    },
  );
}

function showBusy(busy) {
  filled("busy", busy);
  const most = Math.max(1e-9, ...busy.map(({ requests_per_second: each }) => each));
  list(
    $("busy"), busy, ({ path }) => path,
    ({ path }) => make(
      "tr", {}, make("th", { scope: "row", class: "main" }, isolated(path, { class: "name" }), make("span", { class: "word" })),
      make("td", { class: "number" }),
      make("td", { class: "number rate" }, make("span"), make("span", { class: "bar", "aria-hidden": "true" }, make("i"))),
    ),
    (row, { outcome, bytes: length, requests_per_second: each }) => {
      const [name, size, rate] = row.children;
      row.dataset.level = outcome === "file" || outcome === "directory" ? "ok" : "info";
      setText(name.querySelector(".word"), outcome === "file" ? "" : outcome);
      setText(size, length === null ? "–" : bytes(length));
      setText(rate.children[0], short(each));
      rate.querySelector("i").style.width = `${((each / most) * 100).toFixed(1)}%`;
    },
  );
}

function showCertificates({ status, at_ms: at }) {
  const certificates = status.certificates ?? [];
  $("certificates-panel").hidden = certificates.length === 0;
  list(
    $("certificates"), certificates, ({ name, not_after: end }) => `${name} ${end}`,
    ({ name }) => make("tr", {}, make("th", { scope: "row" }, isolated(name)), make("td")),
    (row, { not_after: end }) => {
      const days = Math.floor((end * 1000 - at) / 86_400_000);
      row.dataset.level = days < 3 ? "bad" : days < 14 ? "warn" : "ok";
      setText(row.children[1], `${new Date(end * 1000).toISOString().slice(0, 10)}, in ${plural(days, "day")}`);
    },
  );
}

// ---- Event stream ------------------------------------------------------------------------------------------------

const KEPT = 300;
/** Time without an event after which the connection counts as lost. */
const PATIENCE_MS = 7000;

let stream = null;
let eventAt = 0;
let lostAt = null;
let why = "";
let version = null;
let latest = null;
let frozen = false;

function connect() {
  stream?.close();
  stream = new EventSource(here("/events"));
  stream.addEventListener("history", ({ data }) => {
    points = JSON.parse(data).points;
    received();
  });
  stream.addEventListener("snapshot", ({ data }) => {
    const snapshot = JSON.parse(data);
    // Another version of the server has another page.
    if (version !== null && version !== snapshot.status.version) return location.reload();
    version = snapshot.status.version;
    latest = snapshot;
    if (snapshot.point) points = [...points, snapshot.point].slice(-KEPT);
    received();
    if (!frozen) show(snapshot);
  });
  stream.addEventListener("end", () => lose("The server closed the event stream"));
  stream.onerror = () => {
    lose("The server does not respond");
    // The browser does not retry.
    if (stream.readyState === EventSource.CLOSED) {
      ask();
      setTimeout(connect, 2000);
    }
  };
}

function received() {
  eventAt = Date.now();
  if (lostAt === null && document.documentElement.dataset.link === "live") return;
  lostAt = null;
  why = "";
  document.documentElement.dataset.link = "live";
  setText($("link"), frozen ? "Frozen" : "Live");
  $("lost").hidden = true;
}

function lose(reason) {
  why = reason;
  if (lostAt === null) {
    lostAt = eventAt || Date.now();
    document.documentElement.dataset.link = "lost";
    setText($("link"), "Lost");
    document.title = `✕ lost · ${location.host} · pagecast`;
    // Announced once; the elapsed seconds are not.
    showLost();
    $("lost").hidden = false;
  }
}

function showLost() {
  const since = eventAt ? ` These values are from ${clock(eventAt)}.` : "";
  setText($("lost"), `Connection lost. ${why}. Retrying.${since}`);
}

/** Finds out why there is no event stream. */
async function ask() {
  try {
    const { status } = await fetch(here("/status"), { cache: "no-store" });
    why = status === 401 ? "The admin token is required: reload the page" : "Too many dashboards are open";
  } catch {
    why = "The server does not respond";
  }
  if (lostAt !== null) showLost();
}

setInterval(() => {
  if (lostAt === null && eventAt > 0 && Date.now() - eventAt > PATIENCE_MS) {
    lose("No events for a while");
    connect();
  }
}, 1000);

// ---- Switches and actions ---------------------------------------------------------------------------------------

const scheme = $("scheme");

function setScheme(value) {
  if (value === "auto") delete document.documentElement.dataset.scheme;
  else document.documentElement.dataset.scheme = value;
  scheme.value = value;
}

function remembered() {
  try {
    return localStorage.getItem("scheme");
  } catch {
    return null;
  }
}

setScheme(["light", "dark"].includes(remembered()) ? remembered() : "auto");
scheme.addEventListener("change", () => {
  setScheme(scheme.value);
  try {
    localStorage.setItem("scheme", scheme.value);
  } catch {
    // Kept only while the page is open.
  }
});

$("freeze").addEventListener("click", () => {
  frozen = !frozen;
  $("freeze").setAttribute("aria-pressed", String(frozen));
  if (lostAt === null) setText($("link"), frozen ? "Frozen" : "Live");
  if (!frozen && latest) show(latest);
});

const ACTS = {
  drain: {
    title: "Drain this server?",
    text: "Readiness fails from now on, so that load balancers send no traffic. Requests that arrive are still served. “Undrain” ends it.",
    yes: "Drain",
    done: () => "Readiness fails now.",
  },
  ready: {
    title: "Undrain this server?",
    text: "Readiness is reported normally again, so that load balancers send traffic.",
    yes: "Undrain",
    done: () => "Readiness is restored.",
  },
  purge: {
    title: "Purge cache entries?",
    text: "Cache entries of matching names are removed. The next requests for them read the disk.",
    yes: "Purge",
    done: ({ names, files }) => `${plural(names, "name")} and ${plural(files, "file")} purged.`,
  },
  reload: {
    title: "Reload the configuration?",
    text: "As on SIGHUP: settings that don't need a restart take effect. A configuration with an error changes nothing.",
    yes: "Reload",
    done: ({ news, postponed }) => [
      `Reloaded: ${news}.`,
      ...postponed.map(({ key, value, until_then: old }) => `${key} = ${value} needs a restart; until then it stays ${old}.`),
    ],
  },
};

const dialog = $("ask");
let act = null;

for (const button of document.querySelectorAll("[data-act]")) {
  button.addEventListener("click", () => open(button.dataset.act));
}

function open(name) {
  act = name;
  const { title, text, yes } = ACTS[name];
  setText($("ask-title"), title);
  setText($("ask-text"), text);
  setText($("ask-yes"), yes);
  setText($("ask-no"), "Cancel");
  $("ask-globs").hidden = name !== "purge";
  $("globs").value = "";
  $("ask-yes").hidden = false;
  $("ask-yes").disabled = false;
  showOutcome("ok", []);
  dialog.showModal();
  (name === "purge" ? $("globs") : $("ask-no")).focus();
}

function showOutcome(name, lines) {
  $("ask-outcome").dataset.level = name;
  $("ask-outcome").replaceChildren(...lines.map((line) => make("p", {}, line)));
}

$("ask-no").addEventListener("click", () => dialog.close());

$("ask-yes").addEventListener("click", async () => {
  const globs = $("globs").value.split("\n").map((line) => line.trim()).filter((line) => line !== "");
  if (act === "purge" && globs.length === 0) {
    showOutcome("bad", ["Enter a glob such as /assets/** or *.css. ** matches everything."]);
    return $("globs").focus();
  }
  const query = act === "purge" ? `?${globs.map((glob) => `glob=${encodeURIComponent(glob)}`).join("&")}` : "";
  $("ask-yes").disabled = true;
  try {
    const response = await fetch(here(`/${act}${query}`), { method: "POST", cache: "no-store" });
    const text = await response.text();
    const answer = text.startsWith("{") ? JSON.parse(text) : { error: text.trim() || `Status ${response.status}.` };
    if (response.ok) {
      showOutcome("ok", [ACTS[act].done(answer)].flat());
      $("ask-yes").hidden = true;
      setText($("ask-no"), "Close");
      $("ask-no").focus();
    } else {
      showOutcome("bad", [answer.error, ...(answer.errors ?? [])]);
    }
  } catch {
    showOutcome("bad", ["The server does not respond."]);
  }
  $("ask-yes").disabled = false;
});

connect();
