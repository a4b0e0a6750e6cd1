// The page: its frame, its addresses, its keys.

import { whenExpired } from "./api.js";
import { connection } from "./connection.js";
import { h, refreshTimes, say, show } from "./dom.js";
import { session } from "./session.js";
import { deadLettersView, queuesView, stalledView, workersView } from "./views/operations.js";
import { signInView } from "./views/signin.js";
import { submitView } from "./views/submit.js";
import { taskView } from "./views/task.js";
import { tasksView } from "./views/tasks.js";

const MAIN = document.getElementById("main");
const HEADER = document.getElementById("header");

const PLACES = [
  { path: "/dashboard", name: "Tasks", key: "t", view: tasksView, for: () => true },
  { path: "/dashboard/submit", name: "New task", key: "n", view: submitView, for: () => session.maySubmit },
  { path: "/dashboard/all-tasks", name: "All tasks", key: "a", view: (main, given) => tasksView(main, { ...given, everybody: true }), for: () => session.isAdmin },
  { path: "/dashboard/queues", name: "Queues", key: "q", view: queuesView, for: () => session.isAdmin },
  { path: "/dashboard/workers", name: "Workers", key: "w", view: workersView, for: () => session.isAdmin },
  { path: "/dashboard/stalled", name: "Stalled", key: "s", view: stalledView, for: () => session.isAdmin },
  { path: "/dashboard/dead-letters", name: "Dead letters", key: "d", view: deadLettersView, for: () => session.isAdmin },
];

let leave = () => {};
let notice = "";

// --- the frame

function drawHeader() {
  const task = taskOf(location.pathname);
  const guest = !session.token;
  const links = guest ? [] : PLACES.filter((place) => place.for());
  const mine = links.filter((place) => !isForOperators(place));
  const theirs = links.filter(isForOperators);
  const nav = (places, label) =>
    places.length
      ? h("nav", { "aria-label": label }, h("ul", { role: "list" }, places.map((place) => h("li", {}, h("a", { href: place.path, "aria-current": isAt(place) ? "page" : null }, place.name)))))
      : null;
  show(
    HEADER,
    h("div", { class: "bar-top" }, h("a", { class: "brand", href: guest && task ? location.pathname : "/dashboard" }, h("span", { class: "mark", "aria-hidden": "true" }), "Longhaul"), h("div", { class: "navs" }, nav(mine, "Tasks"), nav(theirs, "Operations")), h("div", { class: "tools" }, guest && !task ? null : state(), themeButton(), helpButton(), guest ? null : account())),
  );
  HEADER.querySelector("a[aria-current]")?.scrollIntoView({ block: "nearest", inline: "center" });
}

const isForOperators = (place) => ["/dashboard/all-tasks", "/dashboard/queues", "/dashboard/workers", "/dashboard/stalled", "/dashboard/dead-letters"].includes(place.path);
const isAt = (place) => location.pathname === place.path;

const STATES = { live: "Live", polling: "Connected", lost: "No connection", unknown: "Connecting" };

function state() {
  return h("p", { class: `state state-${connection.state}`, title: "Whether what you see is up to date" }, h("span", { class: "state-dot", "aria-hidden": "true" }), h("span", { class: "state-word" }, STATES[connection.state]));
}

connection.onChange((next) => {
  const element = HEADER.querySelector(".state");
  if (!element) return;
  element.className = `state state-${next}`;
  say(element.querySelector(".state-word"), STATES[next]);
});

function account() {
  return h(
    "details",
    { class: "account" },
    h("summary", {}, h("span", { class: "account-name" }, session.subject || "Account")),
    h(
      "div",
      { class: "account-menu" },
      h("p", {}, "Signed in as ", h("strong", {}, session.subject)),
      h("p", { class: "hint" }, [...session.scopes].filter(Boolean).join(", ") || "no scopes"),
      h("button", { type: "button", class: "button", on: { click: () => session.signOut() } }, "Sign out"),
    ),
  );
}

// --- theme

const THEMES = { auto: "as the system", light: "light", dark: "dark" };

function theme() {
  return document.documentElement.dataset.theme ?? "auto";
}

function themeButton() {
  const button = h("button", {
    type: "button",
    class: "tool tool-theme",
    on: {
      click() {
        const names = Object.keys(THEMES);
        const next = names[(names.indexOf(theme()) + 1) % names.length];
        if (next === "auto") delete document.documentElement.dataset.theme;
        else document.documentElement.dataset.theme = next;
        try {
          localStorage.setItem("longhaul.theme", next);
        } catch {
          // Storage is switched off: the choice lasts as long as the page.
        }
        name();
      },
    },
  });
  function name() {
    button.setAttribute("aria-label", `Theme: ${THEMES[theme()]}. Change`);
    button.title = `Theme: ${THEMES[theme()]}`;
    button.dataset.theme = theme();
  }
  name();
  return button;
}

// --- keys

function keysAreOn() {
  try {
    return localStorage.getItem("longhaul.keys") !== "off";
  } catch {
    return true;
  }
}

function helpButton() {
  return h("button", { type: "button", class: "tool tool-help", "aria-label": "Keyboard shortcuts", title: "Keyboard shortcuts (?)", on: { click: help } }, h("span", { "aria-hidden": "true" }, "?"));
}

function help() {
  if (document.querySelector("dialog")) return;
  const box = h("input", {
    type: "checkbox",
    id: "keys-on",
    checked: keysAreOn(),
    on: {
      change(event) {
        try {
          localStorage.setItem("longhaul.keys", event.target.checked ? "on" : "off");
        } catch {
          event.target.checked = true;
        }
      },
    },
  });
  const row = (keys, what) => h("div", {}, h("dt", {}, keys.map((key, index) => [index ? " " : null, h("kbd", {}, key)])), h("dd", {}, what));
  const places = PLACES.filter((place) => session.token && place.for());
  const dialog = h(
    "dialog",
    { class: "help", "aria-labelledby": "help-title", on: { close: () => dialog.remove() } },
    h("h2", { id: "help-title" }, "Keyboard shortcuts"),
    h(
      "dl",
      { class: "keys" },
      places.map((place) => row(["g", place.key], place.name)),
      row(["n"], "New task"),
      row(["/"], "Find in tasks"),
      row(["j"], "Next task in the list"),
      row(["k"], "The one before"),
      row(["Enter"], "Open it"),
      row(["u"], "Back to the list"),
      row(["?"], "This list"),
    ),
    h("p", {}, box, " ", h("label", { for: "keys-on" }, "Single-key shortcuts are on")),
    h("p", { class: "actions" }, h("button", { type: "button", class: "button primary", on: { click: () => dialog.close() } }, "Close")),
  );
  document.body.append(dialog);
  dialog.showModal();
}

let prefix = 0;

addEventListener("keydown", (event) => {
  if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.closest?.("input, textarea, select, dialog, [contenteditable]")) {
    if (event.key === "Escape" && event.target.matches("input[type=search]")) event.target.blur();
    return;
  }
  if (event.key === "Escape") return document.querySelector("details.account[open]")?.removeAttribute("open");
  if (!keysAreOn()) return;
  if (event.key === "?") {
    event.preventDefault();
    return help();
  }
  if (!session.token) return;
  if (Date.now() - prefix < 1200) {
    prefix = 0;
    const place = PLACES.find((one) => one.key === event.key && one.for());
    if (place) {
      event.preventDefault();
      return go(place.path);
    }
  }
  switch (event.key) {
    case "g":
      prefix = Date.now();
      return;
    case "n":
      if (!session.maySubmit) return;
      event.preventDefault();
      return go("/dashboard/submit");
    case "u":
      event.preventDefault();
      return go("/dashboard");
    case "/":
      event.preventDefault();
      return document.getElementById("filter-text")?.focus();
    case "j":
    case "k": {
      const first = document.querySelector(".tasks a.row");
      if (first) first.focus();
    }
  }
});

// --- addresses

function taskOf(path) {
  return /^\/dashboard\/tasks\/([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})$/i.exec(path)?.[1].toLowerCase() ?? null;
}

function go(address) {
  history.pushState(null, "", address);
  open({ moved: true });
}

addEventListener("go", (event) => go(event.detail));
addEventListener("popstate", () => open({ moved: true }));

document.addEventListener("click", (event) => {
  const open_ = document.querySelector("details.account[open]");
  if (open_ && !open_.contains(event.target)) open_.removeAttribute("open");
  const link = event.target.closest?.("a[href^='/dashboard']");
  if (!link || event.defaultPrevented || event.button !== 0 || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
  event.preventDefault();
  go(link.getAttribute("href"));
});

function open({ moved = false } = {}) {
  leave();
  leave = () => {};
  const path = location.pathname;
  const query = new URLSearchParams(location.search);
  const taskId = taskOf(path);
  drawHeader();
  scrollTo(0, 0);
  const place = PLACES.find((one) => one.path === path);
  if (taskId && session.tokenFor(taskId)) {
    document.title = "Task · Longhaul";
    leave = taskView(MAIN, { taskId });
  } else if (!session.token) {
    document.title = "Sign in · Longhaul";
    leave = signInView(MAIN, { notice });
    return;
  } else if (place?.for()) {
    document.title = `${place.name} · Longhaul`;
    leave = place.view(MAIN, { query }) ?? (() => {});
    notice = "";
  } else return go("/dashboard");
  if (moved) MAIN.querySelector("h1")?.focus({ preventScroll: true });
}

session.takeFromFragment();
session.onChange(() => open({ moved: true }));
whenExpired(() => {
  if (!session.token) return;
  notice = "Your token is not valid any more. Sign in again.";
  session.signOut();
});
addEventListener("hashchange", () => {
  session.takeFromFragment();
  open();
});
setInterval(() => document.hidden || refreshTimes(), 1000);
open();
