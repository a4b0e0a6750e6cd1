// The list of tasks: one's own, live; or, for operators, everybody's.

import { call, expired, Refused, Unreachable } from "../api.js";
import { announce, emptyState, h, number, say, show, statusIcon, statusWord } from "../dom.js";
import { TaskList, told } from "../list.js";
import { follow, repeat } from "../live.js";
import { session } from "../session.js";

const STATUSES = ["PENDING", "PROCESSING", "COMPLETED", "FAILED", "CANCELLED"];
const FIRST_PAGE = 50;
const PAGE = 200;
const SEARCHED = 10000; // how far a search for a text goes back
const TYPING = 150;

let actions = null;

async function knownActions() {
  actions ??= call("/v1/actions").then(({ data }) => data.items.map((item) => item.action));
  return actions.catch(() => ((actions = null), []));
}

/** Show the list. `everybody`: for operators. */
export function tasksView(main, { everybody = false, query }) {
  const path = everybody ? "/v1/admin/tasks" : "/v1/workload";
  const filter = {
    statuses: new Set(query.getAll("status").filter((status) => STATUSES.includes(status))),
    action: query.get("action") ?? "",
    label: query.get("label") ?? "",
    text: query.get("q") ?? "",
  };
  const tasks = new Map(); // by id; what the server's part of the filter has let through, and what has come live
  let order = []; // ids, as the server lists them
  let cursor; // undefined: nothing was read yet; null: there is no more
  let reading = null;
  let epoch = 0; // of the filter: what an older one asked for is thrown away
  let disposed = false;
  let problem = null;

  const list = new TaskList({ onNear: () => void more(), showOwner: everybody });
  const count = h("p", { class: "count", role: "status" });
  const body = h("div", { class: "list-body" }, list.element);
  const bar = filterBar();
  show(
    main,
    h(
      "div",
      { class: "page-head" },
      h("h1", { tabindex: "-1" }, everybody ? "All tasks" : "Tasks"),
      count,
      !everybody && session.maySubmit ? h("a", { class: "button primary", href: "/dashboard/submit" }, "New task") : null,
    ),
    bar.element,
    body,
  );

  function filterBar() {
    const chips = STATUSES.map((status) =>
      h(
        "button",
        {
          type: "button",
          class: `chip status-${status.toLowerCase()}`,
          "aria-pressed": String(filter.statuses.has(status)),
          on: {
            click(event) {
              const pressed = filter.statuses.has(status);
              pressed ? filter.statuses.delete(status) : filter.statuses.add(status);
              event.currentTarget.setAttribute("aria-pressed", String(!pressed));
              refilter();
            },
          },
        },
        statusIcon(status),
        statusWord(status),
      ),
    );
    const action = h("select", { id: "filter-action", on: { change: (event) => ((filter.action = event.target.value), refilter()) } }, h("option", { value: "" }, "Any action"));
    if (filter.action) action.append(h("option", { value: filter.action, selected: true }, filter.action));
    void knownActions().then((names) => {
      for (const name of names) if (name !== filter.action) action.append(h("option", { value: name }, name));
    });
    const field = (id, label, key, placeholder, again) => {
      let typing = 0; // one for each: what is typed in one field must not stop the other
      return h(
        "div",
        { class: `filter filter-${key}` },
        h("label", { for: id, class: "unseen" }, label),
        h("input", {
          id,
          type: "search",
          value: filter[key],
          placeholder,
          autocomplete: "off",
          spellcheck: "false",
          on: {
            input(event) {
              filter[key] = event.target.value.trim();
              clearTimeout(typing);
              typing = setTimeout(again, TYPING);
            },
          },
        }),
      );
    };
    const clear = h("button", { type: "button", class: "button quiet", on: { click: clearFilter } }, "Clear filters");
    const element = h(
      "form",
      { class: "filters", role: "search", "aria-label": "Filter tasks", on: { submit: (event) => event.preventDefault() } },
      field("filter-text", "Find a text in id, action, message or labels", "text", "Find in tasks", () => (remember(), redraw())),
      h("div", { class: "filter filter-action" }, h("label", { for: "filter-action", class: "unseen" }, "Action"), action),
      field("filter-label", "Label", "label", "Label", refilter),
      h("div", { class: "chips", role: "group", "aria-label": "Status" }, chips),
      clear,
    );
    return { element, chips, action, clear };
  }

  function clearFilter() {
    filter.statuses.clear();
    filter.action = filter.label = filter.text = "";
    bar.element.reset();
    for (const input of bar.element.querySelectorAll("input")) input.value = "";
    bar.action.value = "";
    for (const chip of bar.chips) chip.setAttribute("aria-pressed", "false");
    refilter();
    bar.element.querySelector("input").focus();
  }

  const isFiltered = () => filter.statuses.size > 0 || Boolean(filter.action || filter.label || filter.text);

  function remember() {
    const said = new URLSearchParams();
    for (const status of filter.statuses) said.append("status", status);
    if (filter.action) said.set("action", filter.action);
    if (filter.label) said.set("label", filter.label);
    if (filter.text) said.set("q", filter.text);
    history.replaceState(null, "", location.pathname + (said.size ? `?${said}` : ""));
    bar.clear.hidden = !isFiltered();
  }

  function refilter() {
    remember();
    epoch += 1;
    tasks.clear();
    order = [];
    cursor = undefined;
    reading = null;
    scrollTo(0, 0);
    void more().then(() => announce(count.textContent));
  }

  function wanted(after, limit) {
    const asked = new URLSearchParams({ limit });
    for (const status of filter.statuses) asked.append("status", status);
    if (filter.action) asked.set("action", filter.action);
    if (filter.label) asked.set("label", filter.label);
    if (after) asked.set("cursor", after);
    return `${path}?${asked}`;
  }

  /** Read the next page, unless one is being read or there is none. */
  function more() {
    if (reading || cursor === null || disposed) return reading ?? Promise.resolve();
    const asked = epoch;
    reading = call(wanted(cursor, cursor === undefined ? FIRST_PAGE : PAGE))
      .then(({ data }) => {
        if (asked !== epoch || disposed) return;
        for (const task of data.items) {
          if (!tasks.has(task.task_id)) order.push(task.task_id);
          take(task);
        }
        cursor = data.next_cursor ?? null;
        problem = null;
        reading = null;
        redraw();
      })
      .catch((error) => {
        if (asked !== epoch || disposed) return;
        reading = null;
        if (!(error instanceof Refused) && !(error instanceof Unreachable)) throw error;
        problem = error;
        redraw(false);
      });
    return reading;
  }

  function take(task) {
    const known = tasks.get(task.task_id);
    if (!known || task.seq > known.seq) tasks.set(task.task_id, task);
  }

  /** Take a task that has come live: new ones go to their place, which is nearly always the top. */
  function arrived(task) {
    if (tasks.has(task.task_id)) return take(task);
    if (cursor === undefined || !passes(task)) return;
    const last = tasks.get(order[order.length - 1]);
    if (cursor !== null && last && task.created_at < last.created_at) return; // comes with its page
    take(task);
    const at = order.findIndex((id) => tasks.get(id).created_at <= task.created_at);
    order.splice(at < 0 ? order.length : at, 0, task.task_id);
  }

  function passes(task) {
    if (filter.statuses.size && !filter.statuses.has(task.status)) return false;
    if (filter.action && task.action !== filter.action) return false;
    if (filter.label && !task.labels.includes(filter.label)) return false;
    if (!filter.text) return true;
    const text = filter.text.toLowerCase();
    return [task.task_id, task.action, told(task), ...task.labels].some((part) => part.toLowerCase().includes(text));
  }

  let drawing = 0;
  function redrawSoon() {
    if (!drawing)
      drawing = requestAnimationFrame(() => {
        drawing = 0;
        redraw();
      });
  }

  function redraw(goOn = true) {
    if (disposed) return;
    const shown = order.map((id) => tasks.get(id)).filter(passes);
    const all = cursor === null;
    if (shown.length || !(all || problem)) {
      if (list.element.parentNode !== body) show(body, list.element);
      list.show(shown);
    } else if (problem) {
      show(body, emptyState("The list cannot be read", problem.message, h("button", { type: "button", class: "button", on: { click: refilter } }, "Try again")));
    } else if (isFiltered()) {
      show(body, emptyState("No task matches", "Nothing passes these filters.", h("button", { type: "button", class: "button", on: { click: clearFilter } }, "Clear filters")));
    } else {
      show(
        body,
        everybody
          ? emptyState("Nobody has tasks yet", "As soon as somebody submits one, it appears here.")
          : emptyState(
              "No tasks yet",
              "Submit one here, or with POST /v1/workload from your own program. It appears at once, and moves as it is worked on.",
              session.maySubmit ? h("a", { class: "button primary", href: "/dashboard/submit" }, "Submit a task") : null,
            ),
      );
    }
    const searching = filter.text && !all && order.length < SEARCHED;
    if (filter.text) say(count, `${number(shown.length)} found in ${number(order.length)} tasks${searching ? " …" : all ? "" : ", the newest"}`);
    else say(count, cursor === undefined ? "" : `${number(shown.length)}${all ? "" : "+"} ${shown.length === 1 && all ? "task" : "tasks"}`);
    if (goOn && searching) void more();
  }

  remember();
  void more();

  if (everybody) {
    const stop = repeat({ read: refresh, every: 3000 });
    return () => leave(stop);
  }

  /** Read the newest ones again: what has ended while nobody told us. */
  async function refresh() {
    const asked = epoch;
    const { data } = await call(wanted(null, FIRST_PAGE));
    if (asked !== epoch || disposed) return false;
    if (everybody) {
      const fresh = data.items.map((task) => task.task_id);
      const again = new Set(fresh);
      for (const task of data.items) take(task);
      order = [...fresh, ...order.filter((id) => !again.has(id))];
    } else if (cursor !== undefined) data.items.forEach(arrived);
    redraw(false);
    return false;
  }

  const stop = follow({
    path: "/v1/workload/ws",
    token: session.token,
    onMessage(message) {
      if (message.type !== "status") return;
      arrived(message.task);
      redrawSoon();
    },
    onRead: refresh,
    onRefused: (code) => code === 4401 && expired(),
    pollEvery: 2000,
  });

  function leave(action) {
    disposed = true;
    list.dispose();
    action();
  }

  return () => leave(stop);
}
