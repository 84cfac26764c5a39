// The page asks the public API and nothing else. Texts go into the page as text, never as markup.
const BASE = "/api/v1";
const EVERY_MS = 5000;
const PATIENCE_MS = 15000;
const SLOWER = 4; // images and sources: they come every few minutes, and an address may ask for them a hundred times a minute
const MOST_SOURCES = 100;

const at = (id) => document.getElementById(id);
const time = (text) => (text ? text.replace("T", " ").replace(/(\.\d+)?Z$/, "") : "");
const number = (value, digits, unit) => (value === null ? "not known" : `${value.toFixed(digits)} ${unit}`.trim());

function element(name, content = "", attributes = {}) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...[content].flat());
  return made;
}

function fill(id, rows, empty) {
  const columns = at(id).closest("table").tHead.rows[0].cells.length;
  const nothing = element("tr", element("td", empty, { colspan: columns }));
  at(id).replaceChildren(...(rows.length ? rows.map((cells) => element("tr", cells)) : [nothing]));
}

// Where reading needs a key the page asks for one. It lives as long as the tab and goes nowhere but into a header.
const KEY = "dsa110 key";
const heldKey = () => sessionStorage.getItem(KEY);
const shut = () => !at("key").hidden;

function demandKey(why) {
  sessionStorage.removeItem(KEY);
  at("key").hidden = false;
  at("key-why").textContent = why;
}

async function get(url, options = {}) {
  const key = heldKey();
  const headers = key ? { Authorization: `Bearer ${key}` } : {};
  const reply = await fetch(url, { headers, ...options }).catch((error) => {
    throw new Error(`The service does not answer (${error.message}); is it running?`);
  });
  if (reply.ok) return reply;
  const { message } = await reply.json().catch(() => ({}));
  if (key === heldKey() && (reply.status === 401 || (key && reply.status === 403))) demandKey(message);
  throw new Error(message ?? `${url}: ${reply.status}`);
}

const ask = async (path) => (await get(BASE + path, { signal: AbortSignal.timeout(PATIENCE_MS) })).json();

// What an <img> or a link asks for carries no key: the page fetches it and shows what came.
const fetched = async (url) => URL.createObjectURL(await (await get(url)).blob());

async function showPicture(picture, url) {
  if (!heldKey()) {
    picture.src = url;
    return;
  }
  picture.src = await fetched(url);
  picture.onload = () => URL.revokeObjectURL(picture.src);
}

async function follow(event) {
  const link = event.target.closest(`a[href^="${BASE}/"]`);
  if (!link || !heldKey()) return;
  event.preventDefault();
  const reply = await get(link.href).catch((error) => { at("fresh").textContent = error.message; });
  if (!reply) return;
  const name = /filename(?:="|\*=utf-8'')([^";]+)/.exec(reply.headers.get("Content-Disposition") ?? "");
  const href = URL.createObjectURL(await reply.blob());
  element("a", "", name ? { href, download: decodeURIComponent(name[1]) } : { href }).click();
  setTimeout(() => URL.revokeObjectURL(href), 60000);
}

function showImage(image) {
  if (!image) return;
  const beam = [image.beam_major_arcsec, image.beam_minor_arcsec].map((axis) => number(axis, 1, "″")).join(" × ");
  const facts = [
    ["Made (UTC)", time(image.created_at)],
    ["Centre (ICRS)", `${number(image.pointing_ra_deg, 4, "°")}, ${number(image.pointing_dec_deg, 4, "°")}`],
    ["Noise", number(image.noise_jy && image.noise_jy * 1e3, 3, "mJy/beam")],
    ["Apparent peak", number(image.peak_flux_jy, 3, "Jy/beam")],
    ["Dynamic range", number(image.dynamic_range, 0, "")],
    ["Beam", `${beam}, position angle ${number(image.beam_pa_deg, 0, "°")}`],
    ["Verdict", element("span", image.qa_grade ?? "not assessed", { class: image.qa_grade ?? "" })],
  ];
  const url = `${BASE}/images/${image.id}`;
  const alt = `Sky image ${image.id}, north up, east left, asinh brightness scale`;
  if (at("image").dataset.shown !== `${image.id} ${image.created_at}`) {
    at("image").dataset.shown = `${image.id} ${image.created_at}`;
    const picture = element("img", "", { alt });
    showPicture(picture, `${url}/thumbnail`).catch(() => { at("image").dataset.shown = ""; });
    at("image").replaceChildren(element("a", picture, { href: `${url}/fits` }), element("figcaption"));
  }
  const list = element("dl", facts.flatMap(([name, value]) => [element("dt", name), element("dd", value)]));
  const links = [element("a", "FITS", { href: `${url}/fits` }), " · ", element("a", "Provenance", { href: `${url}/provenance` })];
  at("image").querySelector("figcaption").replaceChildren(list, ...links);
}

const linkToRun = (run) => element("a", run, { href: `${BASE}/jobs/${encodeURIComponent(run)}` });

// Why something failed has a row of its own, as it is longer than a column is wide.
const reason = (text, state) => (text ? [[element("td", text, { class: state, colspan: 4 })]] : []);

function showJobs(jobs) {
  fill("jobs", jobs.flatMap((job) => [
    [
      element("td", linkToRun(job.run_id)),
      element("td", job.status, { class: job.status }),
      element("td", time(job.started_at), { class: "moment" }),
      element("td", time(job.finished_at), { class: "moment roomy" }),
    ],
    ...reason(job.error, job.status),
  ]), "No run yet.");
}

// What runs comes first: of many runs at once the newest tasks are those that wait.
function showTasks([running, newest]) {
  const tasks = [...running.tasks, ...newest.tasks.filter((task) => task.status !== "claimed")];
  const far = ({ progress }) => (progress === null ? "" : `${Math.round(progress * 100)} %`);
  fill("tasks", tasks.flatMap((task) => [
    [
      element("td", task.task_name),
      element("td", typeof task.params.run_id === "string" ? linkToRun(task.params.run_id) : "", { class: "roomy" }),
      element("td", task.status, { class: task.status }),
      element("td", `${far(task)} ${task.progress_message ?? ""}`.trim()),
    ],
    ...reason(task.status === "skipped" ? null : task.error, task.status),
  ]), "No task yet.");
}

function showSources(sources) {
  const words = sources.length < MOST_SOURCES ? `${sources.length} sources.` : `The brightest ${MOST_SOURCES}.`;
  at("sources-note").textContent = sources.length > 1 ? words : "";
  fill("sources", sources.map((source) => [
    element("td", element("a", source.name ?? source.id, { href: `${BASE}/sources/${encodeURIComponent(source.id)}/lightcurve` })),
    element("td", source.ra_deg.toFixed(4), { class: "number" }),
    element("td", source.dec_deg.toFixed(4), { class: "number" }),
    element("td", source.flux_jy === null ? "" : (1e3 * source.flux_jy).toFixed(2), { class: "number" }),
    element("td", String(source.num_images), { class: "number roomy" }),
  ]), "No source yet.");
}

const askTasks = () =>
  Promise.all([ask("/absurd/tasks?status=claimed&limit=10"), ask("/absurd/tasks?limit=10")])
    .then(showTasks, (error) => fill("tasks", [], error.message));

// What is not well, in the words of those who know it. That of the products database is told by all that is asked of it.
function troubles({ redis, disk }, queue) {
  const said = queue.status === "error" ? [queue] : [...queue.alerts, ...queue.warnings];
  const found = said.map(({ message }) => `Queue: ${message}`);
  if (queue.dead) found.push([`Tasks that failed for good: ${queue.dead}. `, element("a", "Which, and why", { href: `${BASE}/absurd/dlq` })]);
  if (redis.status !== "ok") found.push(`Redis: ${redis.message}; what needs it waits, all else goes on.`);
  for (const [path, { status, free_gb, message }] of Object.entries(disk)) {
    if (status !== "ok") found.push(`Disk of ${path}: ${message ?? `${free_gb} GiB free, ${status}`}`);
  }
  return found;
}

async function askTroubles() {
  const found = troubles(...(await Promise.all([ask("/health?detailed=true"), ask("/absurd/health/detailed")])));
  const list = element("ul", found.map((words) => element("li", words)));
  if (at("troubles").textContent !== list.textContent) at("troubles").replaceChildren(list);
}

// The queue says when something happens; without it the page asks every few seconds all the same.
async function listen() {
  const again = () => setTimeout(listen, EVERY_MS * (1 + Math.random()));
  if (shut()) return again();
  const scheme = location.protocol === "https:" ? "wss" : "ws";
  const protocols = [];
  try {
    if (heldKey()) {
      const { protocol, ticket } = await (await get(`${BASE}/ws/tickets`, { method: "POST" })).json();
      protocols.push(protocol, ticket);
    }
  } catch {
    return again();
  }
  const socket = new WebSocket(`${scheme}://${location.host}${BASE}/ws/absurd`, protocols);
  let asked;
  socket.onmessage = ({ data }) => {
    if (!["task_update", "resync"].includes(JSON.parse(data).type)) return;
    asked ??= setTimeout(() => { asked = undefined; askTasks(); }, 300);
  };
  socket.onclose = again;
}

let next;
let turn = 0;
let asOf = "never";

async function refresh() {
  const parts = [ask("/jobs?limit=10").then(showJobs), askTasks(), askTroubles()];
  if (turn++ % SLOWER === 0) {
    parts.unshift(
      ask("/images?limit=1").then(([newest]) => showImage(newest)),
      ask(`/sources?limit=${MOST_SOURCES}&sort=-peak_flux_jy`).then(showSources),
    );
  }
  const failed = (await Promise.allSettled(parts)).find((part) => part.status === "rejected");
  at("fresh").className = failed ? "stale" : "";
  if (!failed) asOf = `${time(new Date().toISOString())} UTC`;
  at("fresh").textContent = failed ? `${failed.reason.message} (all was told last: ${asOf})` : `As of ${asOf}`;
  clearTimeout(next);
  if (!shut()) next = setTimeout(refresh, document.hidden ? 6 * EVERY_MS : EVERY_MS);
}

at("key").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem(KEY, at("key-text").value.trim());
  at("key").reset();
  at("key").hidden = true;
  turn = 0;
  refresh();
});
document.addEventListener("click", follow);
refresh().then(listen);
