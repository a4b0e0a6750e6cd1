// Sign in with a token. It stays in this tab.

import { call, Refused } from "../api.js";
import { h, show } from "../dom.js";
import { looksLikeToken, session } from "../session.js";

export function signInView(main, { notice = "" }) {
  const field = h("textarea", { id: "token", name: "token", rows: 4, required: true, autocomplete: "off", spellcheck: "false", autocapitalize: "off", "aria-describedby": "token-hint token-error" });
  const wrong = h("p", { id: "token-error", class: "wrong", role: "alert" }, notice);
  const button = h("button", { type: "submit", class: "button primary" }, "Sign in");

  async function signIn(event) {
    event.preventDefault();
    const token = field.value.trim().replace(/^Bearer\s+/i, "");
    if (!looksLikeToken(token)) return refuse("This is not a token: three parts, separated by dots, are expected.");
    button.disabled = true;
    try {
      await call("/v1/actions", { token });
    } catch (error) {
      // A token of narrower scope may read no catalogue, and still be good for something.
      if (!(error instanceof Refused) || error.status !== 403) {
        button.disabled = false;
        return refuse(error instanceof Refused && error.status === 401 ? "The token is not valid here, or has expired." : error.message);
      }
    }
    session.signIn(token);
  }

  function refuse(text) {
    wrong.textContent = text;
    field.setAttribute("aria-invalid", "true");
    field.focus();
  }

  show(
    main,
    h(
      "div",
      { class: "signin" },
      h("h1", { tabindex: "-1" }, "Sign in"),
      h("p", { class: "lead" }, "Paste the access token that you call the API with."),
      h(
        "form",
        { class: "card form", on: { submit: signIn } },
        h(
          "div",
          { class: "field" },
          h("label", { for: "token" }, "Access token"),
          field,
          h("p", { class: "hint", id: "token-hint" }, "It stays in this tab: closing the tab, or signing out, forgets it."),
        ),
        wrong,
        h("p", { class: "actions" }, button),
      ),
      h("p", { class: "hint" }, "On a development stack the tokens are in ", h("code", {}, ".run/stack.json"), "."),
    ),
  );
  field.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey) {
      event.preventDefault();
      field.form.requestSubmit();
    }
  });
  field.focus({ preventScroll: true });
  return () => {};
}
