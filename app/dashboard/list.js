// A list of any length: only the rows near the window are in the document. The page itself scrolls, so that phones,
// space bars and screen readers find nothing unusual.

import { ago, clockOrDay, duration, h, say, statusIcon, statusWord } from "./dom.js";

const OVERSCAN = 8;
const WIDE = matchMedia("(min-width: 46rem)");

/** Which row height the stylesheet uses: both must agree. */
const rowHeight = () => (WIDE.matches ? 60 : 92);

export class TaskList {
  /** `onNear`: called when the end of what is known comes near. `link`: task to address. */
  constructor({ onNear, link = (task) => `/dashboard/tasks/${task.task_id}`, showOwner = false }) {
    this.tasks = [];
    this.rows = new Map();
    this.onNear = onNear;
    this.link = link;
    this.showOwner = showOwner;
    this.element = h("ol", { class: "tasks", role: "list", "aria-label": "Tasks" });
    this.draw = this.draw.bind(this);
    this.relayout = this.relayout.bind(this);
    addEventListener("scroll", this.draw, { passive: true });
    addEventListener("resize", this.draw, { passive: true });
    WIDE.addEventListener("change", this.relayout);
    this.element.addEventListener("keydown", (event) => this.onKey(event));
  }

  dispose() {
    removeEventListener("scroll", this.draw);
    removeEventListener("resize", this.draw);
    WIDE.removeEventListener("change", this.relayout);
  }

  /** Show these tasks, in this order. */
  show(tasks) {
    this.tasks = tasks;
    this.draw();
  }

  relayout() {
    for (const row of this.rows.values()) row.item.remove();
    this.rows.clear();
    this.draw();
  }

  draw() {
    const height = rowHeight();
    this.element.style.height = `${this.tasks.length * height}px`;
    const top = this.element.getBoundingClientRect().top;
    const first = Math.max(0, Math.floor(-top / height) - OVERSCAN);
    const last = Math.min(this.tasks.length, Math.ceil((innerHeight - top) / height) + OVERSCAN);
    const wanted = new Set();
    for (let index = first; index < last; index += 1) wanted.add(this.tasks[index].task_id);
    const focused = document.activeElement?.closest?.("li[data-id]")?.dataset.id;
    for (const [id, row] of this.rows) {
      if (!wanted.has(id) && (id !== focused || !this.tasks.some((task) => task.task_id === id))) {
        row.item.remove();
        this.rows.delete(id);
      }
    }
    let before = null;
    for (let index = first; index < last; index += 1) {
      const task = this.tasks[index];
      let row = this.rows.get(task.task_id);
      if (!row) {
        row = this.row(task);
        this.rows.set(task.task_id, row);
      } else if (row.task !== task) this.update(row, task);
      row.item.style.transform = `translateY(${index * height}px)`;
      row.item.setAttribute("aria-posinset", index + 1);
      row.item.setAttribute("aria-setsize", this.tasks.length);
      // In the document's order, since that is the order of the Tab key.
      if (before ? before.nextSibling !== row.item : this.element.firstChild !== row.item) {
        if (row.item.contains(document.activeElement)) before = null;
        else before ? before.after(row.item) : this.element.prepend(row.item);
      }
      before = row.item;
    }
    if (this.tasks.length - last < 40) this.onNear();
  }

  row(task) {
    const parts = {
      status: h("span", { class: "cell-status" }),
      action: h("strong", { class: "cell-action" }),
      message: h("span", { class: "cell-message" }),
      labels: h("span", { class: "cell-labels" }),
      bar: h("span", { class: "bar", "aria-hidden": "true" }, h("span", { class: "bar-done" })),
      percent: h("span", { class: "cell-percent" }),
      time: h("span", { class: "cell-time" }),
      link: h("a", { class: "row" }),
    };
    parts.link.append(
      parts.status,
      h("span", { class: "cell-what" }, parts.action, parts.message),
      parts.labels,
      h("span", { class: "cell-progress" }, parts.bar, parts.percent),
      parts.time,
    );
    const row = { item: h("li", { data: { id: task.task_id } }, parts.link), parts, task: null };
    this.update(row, task);
    return row;
  }

  update(row, task) {
    const { parts } = row;
    const before = row.task;
    row.task = task;
    parts.link.href = this.link(task);
    if (before?.status !== task.status) {
      const word = h("span", {}, statusWord(task.status));
      parts.status.replaceChildren(statusIcon(task.status), word);
      parts.status.className = `cell-status status-${task.status.toLowerCase()}`;
      parts.bar.className = `bar bar-${task.status.toLowerCase()}`;
    }
    say(parts.action, task.action);
    say(parts.message, told(task));
    parts.message.classList.toggle("is-error", task.status === "FAILED");
    const { labels } = task;
    if (labels.join(" ") !== parts.labels.dataset.shown) {
      parts.labels.dataset.shown = labels.join(" ");
      parts.labels.replaceChildren(...labels.slice(0, 2).map((label) => h("span", { class: "label" }, label)));
      if (labels.length > 2) parts.labels.append(h("span", { class: "label more" }, `+${labels.length - 2}`));
    }
    parts.bar.firstChild.style.transform = `scaleX(${task.progress / 100})`;
    say(parts.percent, task.status === "PENDING" || task.status === "CANCELLED" ? "" : `${task.progress} %`);
    if (!before || before.created_at !== task.created_at || before.finished_at !== task.finished_at) {
      parts.time.replaceChildren(ago(task.finished_at ?? task.created_at));
      if (this.showOwner && task.owner) parts.time.append(h("span", { class: "cell-owner", title: `owner ${task.owner}` }, "by ", h("code", {}, task.owner.slice(0, 6))));
    }
  }

  /** Arrow keys and j, k walk through the rows, Home and End to both ends. */
  onKey(event) {
    const step = { ArrowDown: 1, j: 1, ArrowUp: -1, k: -1 }[event.key];
    if (step && !event.ctrlKey && !event.metaKey && !event.altKey) {
      event.preventDefault();
      this.move(step);
    }
  }

  /** Put the focus on the next row, or on the first. */
  move(step) {
    if (!this.tasks.length) return;
    const id = document.activeElement?.closest?.("li[data-id]")?.dataset.id;
    const at = id ? this.tasks.findIndex((task) => task.task_id === id) : -1;
    const index = Math.max(0, Math.min(this.tasks.length - 1, at < 0 ? 0 : at + step));
    const height = rowHeight();
    const top = this.element.getBoundingClientRect().top + index * height;
    if (top < 120) scrollBy(0, top - 120);
    else if (top + height > innerHeight - 20) scrollBy(0, top + height - innerHeight + 20);
    this.draw();
    this.rows.get(this.tasks[index].task_id)?.parts.link.focus({ preventScroll: true });
  }
}

/** What a task says of itself, in a line. */
export function told(task) {
  if (task.error) return task.error.detail ?? task.error.title;
  if (task.cancel_requested && task.status === "PROCESSING") return "asked to stop";
  if (task.status === "PENDING") {
    if (task.next_attempt_at && Date.parse(task.next_attempt_at) > Date.now()) {
      return `${task.attempt ? `attempt ${task.attempt} failed; next` : "begins"} at ${clockOrDay(task.next_attempt_at)}`;
    }
    return task.queue ? `waiting in ${task.queue.name}` : "waiting";
  }
  if (task.status === "COMPLETED" && task.started_at) {
    return `took ${duration((Date.parse(task.finished_at) - Date.parse(task.started_at)) / 1000)}`;
  }
  if (task.message) return task.message;
  return task.attempt > 1 ? `attempt ${task.attempt}` : "";
}
