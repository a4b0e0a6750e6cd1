// Elements, made without markup in strings: the page's policy forbids that any text becomes markup.

const SVG = "http://www.w3.org/2000/svg";

/** Make an element. `props`: attributes; `class`; `on` {event: listener}; `data` {name: value}. False and null are left out. */
export function h(tag, props = {}, ...children) {
  return fill(document.createElement(tag), props, children);
}

/** Make an SVG element, likewise. */
export function s(tag, props = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), props, children);
}

function fill(element, props, children) {
  for (const [name, value] of Object.entries(props)) {
    if (value === false || value === null || value === undefined) continue;
    if (name === "on") for (const [event, listener] of Object.entries(value)) element.addEventListener(event, listener);
    else if (name === "data") Object.assign(element.dataset, value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** Replace what an element holds. */
export function show(element, ...children) {
  element.replaceChildren(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
}

/** Set a text only if it is another: a live region speaks of every change. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Tell a screen reader, politely. */
export function announce(text) {
  const region = document.getElementById("announcer");
  region.textContent = "";
  requestAnimationFrame(() => (region.textContent = text));
}

const PATHS = {
  PENDING: ["M8 2.5a5.5 5.5 0 1 1 0 11 5.5 5.5 0 0 1 0-11Z"],
  PROCESSING: ["M8 2.5a5.5 5.5 0 1 1 0 11 5.5 5.5 0 0 1 0-11Z", "M8 5v6l3-3Z"],
  COMPLETED: ["M8 2.5a5.5 5.5 0 1 1 0 11 5.5 5.5 0 0 1 0-11Z", "m5.4 8.2 1.8 1.9 3.5-4"],
  FAILED: ["M8 2.5a5.5 5.5 0 1 1 0 11 5.5 5.5 0 0 1 0-11Z", "m6 6 4 4m0-4-4 4"],
  CANCELLED: ["M8 2.5a5.5 5.5 0 1 1 0 11 5.5 5.5 0 0 1 0-11Z", "M4.3 11.7 11.7 4.3"],
};

/** The shape of a status: told apart without colour. */
export function statusIcon(status) {
  return s(
    "svg",
    { class: `glyph glyph-${status.toLowerCase()}`, viewBox: "0 0 16 16", width: 16, height: 16, "aria-hidden": "true" },
    (PATHS[status] ?? PATHS.PENDING).map((d) => s("path", { d })),
  );
}

/** A status in a word, with its shape. */
export function statusBadge(status) {
  return h("span", { class: `status status-${status.toLowerCase()}` }, statusIcon(status), statusWord(status));
}

export function statusWord(status) {
  return status.charAt(0) + status.slice(1).toLowerCase();
}

/** A moment: how long ago it was; exactly when, on hovering. `refreshTimes` keeps it true. */
export function ago(iso, { prefix = "" } = {}) {
  return h("time", { datetime: iso, title: exactly(iso), data: { prefix } }, prefix + since(iso));
}

export function refreshTimes(root = document) {
  for (const element of root.querySelectorAll("time[data-prefix]")) {
    say(element, element.dataset.prefix + since(element.dateTime));
  }
}

function since(iso) {
  const seconds = (Date.now() - Date.parse(iso)) / 1000;
  if (seconds < 0) return `in ${coarsely(-seconds)}`;
  return seconds < 5 ? "just now" : `${coarsely(seconds)} ago`;
}

function coarsely(seconds) {
  if (seconds < 60) return `${Math.floor(seconds)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 48 * 3600) return `${Math.floor(seconds / 3600)} h`;
  return `${Math.floor(seconds / 86400)} days`;
}

/** A span in its largest unit, or in two. */
export function duration(seconds) {
  if (seconds >= 0 && seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 10) return `${Math.max(0, seconds).toFixed(1)} s`;
  if (seconds < 60) return `${Math.floor(seconds)} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return minutes < 10 && seconds % 60 >= 1 ? `${minutes} min ${Math.floor(seconds % 60)} s` : `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  if (hours < 48) return hours < 10 && minutes % 60 ? `${hours} h ${minutes % 60} min` : `${hours} h`;
  return `${Math.floor(hours / 24)} days`;
}

const EXACT = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeStyle: "medium" });
const CLOCK = new Intl.DateTimeFormat("en-GB", { timeStyle: "medium" });
const DAY = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short" });
const NUMBER = new Intl.NumberFormat("en");

export const exactly = (iso) => EXACT.format(new Date(iso));
export const clock = (moment) => CLOCK.format(new Date(moment));
export const number = (value) => NUMBER.format(value);

/** A time of day; with the day, if that is not today. */
export function clockOrDay(iso) {
  const moment = new Date(iso);
  return moment.toDateString() === new Date().toDateString() ? clock(moment) : `${DAY.format(moment)}, ${clock(moment)}`;
}

export function bytes(count) {
  if (count < 1000) return `${count} B`;
  const units = ["kB", "MB", "GB", "TB"];
  let value = count;
  let unit = -1;
  while (value >= 1000 && unit < units.length - 1) {
    value /= 1000;
    unit += 1;
  }
  return `${value < 10 ? value.toFixed(1) : Math.round(value)} ${units[unit]}`;
}

/** Copy a text; also where the page is not a secure context, as on a plain address in an intranet. */
export async function copy(text, what) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const field = h("textarea", { class: "unseen", "aria-hidden": "true", tabindex: "-1" }, text);
    const before = document.activeElement;
    document.body.append(field);
    field.select();
    document.execCommand("copy");
    field.remove();
    before?.focus();
  }
  toast(`${what} copied`);
}

let toasting = 0;

/** A short word of success, which also a screen reader hears. */
export function toast(text) {
  document.querySelector(".toast")?.remove();
  const element = h("div", { class: "toast", "aria-hidden": "true" }, text);
  document.body.append(element);
  announce(text);
  clearTimeout(toasting);
  toasting = setTimeout(() => element.remove(), 2600);
}

/** An empty state: what would be here, and what to do about it. */
export function emptyState(title, text, ...actions) {
  return h("div", { class: "empty" }, h("h2", {}, title), h("p", {}, text), actions.length ? h("p", { class: "actions" }, actions) : null);
}

/** Ask before something that cannot be taken back. Resolves to the reason (or true), or to null. */
export function confirmed({ title, text, verb, danger = false, reason = false }) {
  return new Promise((resolve) => {
    const input = reason && h("input", { id: "reason", name: "reason", maxlength: 500, required: true, autocomplete: "off" });
    const dialog = h(
      "dialog",
      { "aria-labelledby": "dialog-title" },
      h(
        "form",
        {
          method: "dialog",
          on: {
            submit(event) {
              event.preventDefault();
              dialog.close("yes");
            },
          },
        },
        h("h2", { id: "dialog-title" }, title),
        h("p", {}, text),
        input && h("div", { class: "field" }, h("label", { for: "reason" }, "Why? It goes into the audit line."), input),
        h(
          "p",
          { class: "actions" },
          h("button", { type: "submit", class: danger ? "button danger" : "button primary" }, verb),
          h("button", { type: "button", class: "button", autofocus: danger && !reason, on: { click: () => dialog.close("no") } }, "Keep it as it is"),
        ),
      ),
    );
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(dialog.returnValue === "yes" ? (input ? input.value.trim() : true) : null);
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}
