// Submit any action, by a form drawn from its schema.

import { call, Refused, Unreachable } from "../api.js";
import { copy, emptyState, h, show, toast } from "../dom.js";
import { fieldFor, tellWrong } from "../form.js";

const ENVELOPE = new Set(["labels", "callback_url", "callback_events", "timeout_seconds", "deadline_seconds", "max_attempts", "delay_seconds", "priority", "region"]);

export function submitView(main, { query }) {
  const heading = h("div", { class: "page-head" }, h("h1", { tabindex: "-1" }, "New task"));
  const place = h("div", {}, h("p", { class: "count" }, "Reading the catalogue …"));
  show(main, heading, place);
  void read();

  async function read() {
    try {
      const { data } = await call("/v1/actions");
      choose(data.items);
    } catch (error) {
      if (!(error instanceof Refused) && !(error instanceof Unreachable)) throw error;
      show(place, emptyState("The catalogue cannot be read", error.message, h("button", { type: "button", class: "button", on: { click: read } }, "Try again")));
    }
  }

  function choose(items) {
    const wanted = items.find((item) => item.action === query.get("action")) ?? items[0];
    const form = h("div", { class: "submit-form" });
    const choices = h(
      "fieldset",
      { class: "choices" },
      h("legend", {}, "Action"),
      items.map((item) =>
        h(
          "label",
          { class: "choice" },
          h("input", { type: "radio", name: "action", value: item.action, checked: item === wanted, on: { change: () => draw(form, item) } }),
          h("span", {}, h("strong", {}, item.action), h("span", { class: "hint" }, item.description.split("\n")[0])),
        ),
      ),
    );
    show(place, h("div", { class: "submit" }, choices, form));
    draw(form, wanted);
  }

  function draw(place, item) {
    history.replaceState(null, "", `/dashboard/submit?action=${encodeURIComponent(item.action)}`);
    const { schema } = item;
    const needed = new Set(schema.required ?? []);
    const fields = Object.entries(schema.properties ?? {})
      .filter(([name]) => name !== "action")
      .map(([name, spec]) => fieldFor(name, spec, { root: schema, required: needed.has(name) }));
    const own = fields.filter((field) => !ENVELOPE.has(field.name));
    const envelope = fields.filter((field) => ENVELOPE.has(field.name));
    const general = h("p", { class: "wrong", role: "alert" });
    const preview = h("pre", { class: "preview", tabindex: "0", "aria-label": "The request's body" });
    const button = h("button", { type: "submit", class: "button primary" }, "Submit");
    const options = h("details", { class: "options" }, h("summary", {}, "Options: labels, attempts, times"), envelope.map((field) => field.element));
    // One key for one order: a second press of the button is the same task, not a second one.
    let key = newKey();

    const form = h(
      "form",
      {
        class: "card form",
        novalidate: true,
        "aria-label": item.action,
        on: {
          submit,
          input() {
            key = newKey();
            drawPreview();
          },
        },
      },
      h("p", { class: "lead" }, item.description.split("\n")[0]),
      own.length ? own.map((field) => field.element) : h("p", { class: "hint" }, "This action takes no fields of its own."),
      envelope.length ? options : null,
      general,
      h("p", { class: "actions" }, button, h("button", { type: "button", class: "button quiet", on: { click: curl } }, "Copy as curl")),
    );
    show(place, form, h("div", { class: "preview-box" }, h("h2", {}, "The request's body"), preview));
    drawPreview();

    function order(strict) {
      const body = { action: item.action };
      let first = null;
      for (const field of fields) {
        let wrong = "";
        try {
          const value = field.read();
          if (value !== undefined) body[field.name] = value;
          else if (field.required) wrong = "This is required.";
        } catch (error) {
          wrong = error.message;
        }
        if (strict) {
          tellWrong(field, wrong);
          if (wrong) first ??= field;
        }
      }
      if (first) reveal(first);
      return first ? null : body;
    }

    function reveal(field) {
      if (envelope.includes(field)) options.open = true;
      field.input.focus();
    }

    function drawPreview() {
      preview.textContent = JSON.stringify(order(false), null, 2);
    }

    function curl() {
      const text = JSON.stringify(order(false)).replaceAll("'", "'\\''");
      return copy(`curl -s ${location.origin}/v1/workload -H "Authorization: Bearer $TOKEN" -H 'Content-Type: application/json' -d '${text}'`, "curl line");
    }

    async function submit(event) {
      event.preventDefault();
      general.textContent = "";
      const body = order(true);
      if (!body) return;
      button.disabled = true;
      try {
        const { data } = await call("/v1/workload", { method: "POST", body, headers: { "Idempotency-Key": key } });
        toast("Accepted");
        dispatchEvent(new CustomEvent("go", { detail: `/dashboard/tasks/${data.task_id}` }));
      } catch (error) {
        if (!(error instanceof Refused) && !(error instanceof Unreachable)) throw error;
        button.disabled = false;
        refused(error);
      }
    }

    function refused(error) {
      const left = [];
      let first = null;
      for (const { pointer = "", detail } of error.problem?.errors ?? []) {
        const field = fields.find((one) => one.name === decodeURIComponent(pointer.slice(2)).split("/")[0]);
        if (!field) left.push(detail);
        else {
          tellWrong(field, detail);
          first ??= field;
        }
      }
      if (first) reveal(first);
      const again = error.retryAfter ? ` Try again in ${error.retryAfter} s.` : "";
      if (left.length || !first) general.textContent = [error.message + again, ...left].join(" ");
    }
  }

  return () => {};
}

/** A new Idempotency-Key; `crypto.randomUUID` is missing outside of secure contexts. */
function newKey() {
  const random = crypto.getRandomValues(new Uint8Array(16));
  return `dashboard-${Array.from(random, (byte) => byte.toString(16).padStart(2, "0")).join("")}`;
}
