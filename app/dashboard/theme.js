// Before the first paint: the theme that was chosen, if one was; otherwise the stylesheet follows the system.
"use strict";
{
  let chosen = null;
  try {
    chosen = localStorage.getItem("longhaul.theme");
  } catch {
    // Storage is switched off: the system's theme it is.
  }
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
}
