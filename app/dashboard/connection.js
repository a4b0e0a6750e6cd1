// Whether what is shown is true at this moment: one state for the whole page, and the banner that tells of it.

import { clock, h, show } from "./dom.js";

const BACK_FOR = 4000;

let state = "unknown"; // unknown | live | polling | lost
let goodAt = Date.now();
let retry = null; // {at, now}: when the next try comes, and how to have it at once
let leaving = 0;
const listeners = new Set();

export const connection = {
  get state() {
    return state;
  },

  /** Something has answered: over a socket that stays open (live), or when it was asked (polling). */
  good(how = state === "live" ? "live" : "polling") {
    goodAt = Date.now();
    change(how);
  },

  /** Nothing answers. `next`: {at, now}. */
  lost(next = null) {
    retry = next ?? retry;
    change("lost");
  },

  onChange(listener) {
    listeners.add(listener);
    return () => listeners.delete(listener);
  },
};

function change(next) {
  if (next === state && next !== "lost") return;
  const before = state;
  state = next;
  if (next === "lost") showLost(before);
  else if (before === "lost") showBack();
  if (before !== next) for (const listener of listeners) listener(next);
}

let ticking = 0;

function showLost(before) {
  const banner = document.getElementById("banner");
  clearTimeout(leaving);
  if (before !== "lost") {
    banner.className = "banner lost";
    show(
      banner,
      h("p", {}, h("strong", {}, "Connection lost."), ` What you see is as of ${clock(goodAt)}. `, h("span", { id: "next-try", "aria-hidden": "true" })),
      h("button", { type: "button", class: "button small", on: { click: () => retry?.now() } }, "Try now"),
    );
    clearInterval(ticking);
    ticking = setInterval(countdown, 500);
  }
  countdown();
}

function countdown() {
  const element = document.getElementById("next-try");
  if (!element) return;
  const seconds = retry ? Math.ceil((retry.at - Date.now()) / 1000) : 0;
  const text = seconds > 0 ? `Trying again in ${seconds} s.` : "Trying again …";
  if (element.textContent !== text) element.textContent = text;
}

function showBack() {
  const banner = document.getElementById("banner");
  clearInterval(ticking);
  retry = null;
  banner.className = "banner back";
  show(banner, h("p", {}, h("strong", {}, "Connected again."), " Everything is up to date."));
  leaving = setTimeout(() => {
    banner.className = "";
    show(banner);
  }, BACK_FOR);
}

// The browser knows of its network first.
addEventListener("online", () => state === "lost" && retry?.now());
