// One task: its way so far, what it says of itself, and what can be done about it.

import { call, download, expired, Refused, Unreachable } from "../api.js";
import { ago, announce, bytes, clock, clockOrDay, confirmed, copy, duration, emptyState, exactly, h, say, show, statusBadge, statusWord, toast } from "../dom.js";
import { follow, repeat } from "../live.js";
import { session } from "../session.js";

const LINES = 1000; // of the log, in the document
const TERMINAL = new Set(["COMPLETED", "FAILED", "CANCELLED"]);

export function taskView(main, { taskId }) {
  const token = session.tokenFor(taskId);
  const byLink = session.hasLinkFor(taskId);
  const seen = []; // what has happened while we watched: {at, what}
  let task = null;
  let stop = () => {};
  let stopDeliveries = null;
  let disposed = false;
  let logs = null;
  let early = []; // lines that have come live before those that were there already; null afterwards
  let foreign = false; // another owner's, seen with the admin scope

  const head = h("div", { class: "task-head" });
  const journey = h("section", { class: "journey card", "aria-label": "Progress" });
  const trouble = h("div", {});
  const buttons = h("div", { class: "actions task-actions", role: "group", "aria-label": "Actions" });
  const facts = h("section", { class: "card facts", "aria-labelledby": "facts-title" });
  const past = h("section", { class: "card", "aria-labelledby": "history-title" });
  const lines = h("section", { class: "card", "aria-labelledby": "log-title", hidden: true });
  const letters = h("section", { class: "card", "aria-labelledby": "deliveries-title", hidden: true });
  const loading = h("p", { class: "count" }, "Reading the task …");
  show(main, h("h1", { class: "unseen", tabindex: "-1" }, "Task"), loading);

  const parts = buildJourney();

  function buildJourney() {
    const done = h("span", { class: "line-done" });
    const marker = h("span", { class: "line-marker" });
    const bar = h("div", { class: "line", role: "progressbar", "aria-label": "Progress", "aria-valuemin": 0, "aria-valuemax": 100 }, done, marker);
    const percent = h("p", { class: "percent" });
    const message = h("p", { class: "message" });
    const stops = h("ol", { class: "stops" });
    const leg = h("span", { class: "leg", "aria-hidden": "true" });
    journey.append(h("div", { class: "journey-head" }, message, percent), h("div", { class: "way" }, leg, bar), stops);
    return { done, marker, leg, bar, percent, message, stops };
  }

  function frame() {
    show(main, head, trouble, journey, buttons, h("div", { class: "columns" }, h("div", { class: "column" }, lines, letters, past), facts));
  }

  function take(next) {
    if (disposed || (task && next.seq <= task.seq)) return;
    note(task, next);
    const first = task === null;
    task = next;
    if (first) {
      frame();
      document.title = `${task.action} · Longhaul`;
      if (!foreign && task.links?.logs) void readLogs();
    }
    draw(first);
    if ((task.webhook || foreign) && !stopDeliveries && !byLink) watchDeliveries();
  }

  /** Keep what has happened, and tell a screen reader of what matters. */
  function note(before, next) {
    const at = Date.now();
    if (!before) return;
    if (before.status !== next.status) {
      seen.push({ at, what: next.status === "PENDING" ? "Pending again" : statusWord(next.status) });
      announce(`${next.action}: ${statusWord(next.status)}${next.error ? `. ${next.error.detail ?? ""}` : ""}`);
    } else if (Math.floor(before.progress / 25) !== Math.floor(next.progress / 25)) {
      announce(`${next.progress} percent`);
      seen.push({ at, what: `${next.progress} %${next.message ? `: ${next.message}` : ""}` });
    }
    if (next.attempt > Math.max(1, before.attempt)) seen.push({ at, what: `Attempt ${next.attempt} began, at ${next.progress} %` });
    if (next.cancel_requested && !before.cancel_requested) seen.push({ at, what: "Asked to stop" });
  }

  function draw(first) {
    if (first || head.dataset.status !== task.status) {
      head.dataset.status = task.status;
      const focused = head.contains(document.activeElement) && document.activeElement.tagName === "H1";
      show(
        head,
        byLink || !session.token ? null : h("p", { class: "crumb" }, h("a", { href: foreign ? "/dashboard/all-tasks" : "/dashboard" }, h("span", { "aria-hidden": "true" }, "← "), foreign ? "All tasks" : "Tasks")),
        h("div", { class: "task-title" }, h("h1", { tabindex: "-1" }, task.action), statusBadge(task.status)),
        h("p", { class: "task-id" }, h("code", {}, task.task_id), h("button", { type: "button", class: "button quiet small", on: { click: () => copy(task.task_id, "ID") } }, "Copy ID")),
        foreign ? h("p", { class: "hint" }, "Another user's task, as operators see it: no payload, no result.") : null,
      );
      if (focused) head.querySelector("h1").focus();
    }
    drawJourney();
    drawTrouble();
    drawButtons();
    drawFacts();
    drawPast();
  }

  function drawJourney() {
    const { done, marker, leg, bar, percent, message, stops } = parts;
    const status = task.status.toLowerCase();
    journey.dataset.status = status;
    done.style.transform = `scaleX(${task.progress / 100})`;
    marker.style.left = `${task.progress}%`;
    marker.hidden = !task.started_at;
    leg.classList.toggle("travelled", Boolean(task.started_at));
    bar.setAttribute("aria-valuenow", task.progress);
    bar.setAttribute("aria-valuetext", `${task.progress} %, ${statusWord(task.status)}`);
    say(percent, `${task.progress} %`);
    say(message, headline());
    const began = task.started_at;
    show(
      stops,
      stopAt("Accepted", task.created_at, true),
      stopAt(began ? "Started" : task.status === "PENDING" ? "Not started yet" : "Never started", began, Boolean(began)),
      stopAt(TERMINAL.has(task.status) ? statusWord(task.status) : "End", task.finished_at, TERMINAL.has(task.status)),
    );
  }

  const stopAt = (name, iso, reached) =>
    h("li", { class: reached ? "stop reached" : "stop" }, h("span", { class: "stop-name" }, name), iso ? h("time", { datetime: iso, title: exactly(iso) }, clockOrDay(iso)) : h("span", { class: "stop-none", "aria-hidden": "true" }, "–"));

  function headline() {
    switch (task.status) {
      case "PENDING":
        if (task.next_attempt_at && Date.parse(task.next_attempt_at) > Date.now()) return `${task.attempt ? "The next attempt begins" : "It begins"} at ${clockOrDay(task.next_attempt_at)}`;
        return task.queue ? `Waiting in the queue ${task.queue.name}` : "Waiting";
      case "PROCESSING":
        return task.cancel_requested ? "Asked to stop; waiting for the worker" : task.message || "Working";
      case "COMPLETED":
        return task.started_at ? `Done in ${duration((Date.parse(task.finished_at) - Date.parse(task.started_at)) / 1000)}` : "Done";
      default:
        if (!task.started_at) return `${statusWord(task.status)} before it started`;
        return `${statusWord(task.status)}${task.attempt > 1 ? ` at attempt ${task.attempt},` : ""} after ${duration((Date.parse(task.finished_at) - Date.parse(task.started_at)) / 1000)}`;
    }
  }

  function drawTrouble() {
    const error = task.error;
    if (!error || task.status === "CANCELLED") return show(trouble);
    show(
      trouble,
      h(
        "div",
        { class: "notice notice-failed" },
        h("h2", {}, error.title),
        h("p", {}, error.detail ?? ""),
        h("p", { class: "hint" }, h("a", { href: error.type }, "What this means"), error.request_id ? [" · request ", h("code", {}, error.request_id)] : null),
      ),
    );
  }

  function drawButtons() {
    const link = (name) => !foreign && task.links?.[name]?.href;
    const may = session.maySubmit || byLink;
    const wanted = [];
    if (link("result")) wanted.push(["download", `Download ${task.result ? `(${bytes(task.result.size)})` : ""}`, "button primary", fetchResult]);
    if (may && link("cancel") && task.status !== "CANCELLED" && !task.cancel_requested) wanted.push(["cancel", "Cancel", "button", cancel]);
    if (session.isAdmin && !byLink && task.status === "PROCESSING") wanted.push(["requeue", "Requeue", "button", requeue]);
    if (session.maySubmit && !byLink && link("retry")) wanted.push(["retry", "Run again", "button primary", retry]);
    if (session.maySubmit && !byLink && !foreign && TERMINAL.has(task.status)) wanted.push(["delete", "Delete", "button danger", remove]);
    if (!foreign) wanted.push(["curl", "Copy as curl", "button quiet", curl]);
    const names = wanted.map(([name, text]) => name + text).join();
    if (buttons.dataset.shown === names) return;
    const focused = buttons.contains(document.activeElement) ? document.activeElement.dataset.name : null;
    buttons.dataset.shown = names;
    show(buttons, wanted.map(([name, text, style, action]) => h("button", { type: "button", class: style, data: { name }, on: { click: action } }, text)));
    if (focused) (buttons.querySelector(`[data-name="${focused}"]`) ?? head.querySelector("h1"))?.focus();
  }

  function drawFacts() {
    const rows = [
      ["Attempt", `${task.attempt || "none yet"} (at most ${task.max_attempts} may fail)`],
      task.queue ? ["Queue", task.queue.name + (task.queue.position ? `, place ${task.queue.position}` : "")] : null,
      ["Labels", task.labels.length ? h("span", { class: "labels" }, task.labels.map((label) => h("a", { class: "label", href: `/dashboard?label=${encodeURIComponent(label)}` }, label))) : "none"],
      task.worker ? ["Worker", h("code", {}, task.worker)] : null,
      task.owner ? ["Owner", h("code", {}, task.owner)] : null,
      task.lease_until ? ["Lease until", clock(task.lease_until)] : null,
      task.result ? ["Result", [h("code", {}, task.result.filename), `, ${bytes(task.result.size)}`]] : null,
      task.expires_at ? ["Kept until", exactly(task.expires_at)] : null,
      task.result ? ["SHA-256", h("code", { class: "breaks" }, task.result.sha256)] : null,
      task.webhook ? ["Webhook", `${task.webhook.state}, ${task.webhook.attempts ?? 0} ${task.webhook.attempts === 1 ? "attempt" : "attempts"}`] : null,
      task.trace_id ? ["Trace", h("code", { class: "breaks" }, task.trace_id)] : null,
    ].filter(Boolean);
    show(facts, h("h2", { id: "facts-title" }, "Details"), h("dl", {}, rows.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value)))));
  }

  function drawPast() {
    const moments = [{ at: Date.parse(task.created_at), what: "Accepted" }];
    if (task.started_at) moments.push({ at: Date.parse(task.started_at), what: "Started" });
    if (task.next_attempt_at && task.attempt) moments.push({ at: Date.parse(task.next_attempt_at), what: `Attempt ${task.attempt + 1} may begin` });
    if (task.finished_at) moments.push({ at: Date.parse(task.finished_at), what: `${statusWord(task.status)}${task.attempt > 1 ? ` at attempt ${task.attempt}` : ""}` });
    const live = seen.filter(({ what }) => !(task.finished_at && what === statusWord(task.status)));
    const all = [...moments, ...live].sort((one, other) => one.at - other.at).slice(-200);
    show(past, h("h2", { id: "history-title" }, "History"), h("ol", { class: "past" }, all.map(({ at, what }) => h("li", {}, h("time", { datetime: new Date(at).toISOString() }, clockOrDay(new Date(at).toISOString())), h("span", {}, what)))));
  }

  // --- the log

  async function readLogs() {
    try {
      const { data } = await call(`/v1/workload/${taskId}/logs`, { token });
      for (const line of data.items) addLine(line);
    } catch (error) {
      if (!(error instanceof Refused) && !(error instanceof Unreachable)) throw error;
    }
    const waiting = early;
    early = null;
    waiting?.forEach(addLine);
  }

  function addLine(line) {
    if (disposed) return;
    if (!logs) {
      const list = h("ol", {});
      const box = h("div", { class: "log", tabindex: "0", role: "log", "aria-live": "off", "aria-labelledby": "log-title" }, list);
      logs = { list, box, last: -1 };
      lines.hidden = false;
      show(lines, h("h2", { id: "log-title" }, "Log"), box);
    }
    if (line.line !== undefined && line.line <= logs.last) return;
    logs.last = line.line ?? logs.last;
    const { list, box } = logs;
    const atEnd = box.scrollHeight - box.scrollTop - box.clientHeight < 40;
    list.append(h("li", { class: `log-line log-${String(line.level ?? "info").toLowerCase()}` }, h("time", { datetime: line.time }, clock(line.time)), h("span", { class: "log-level" }, String(line.level ?? "info").toLowerCase()), h("span", { class: "log-text" }, line.message)));
    while (list.childElementCount > LINES) list.firstChild.remove();
    if (atEnd) box.scrollTop = box.scrollHeight;
  }

  // --- webhook deliveries

  const deliveriesPath = () => `/v1/${foreign ? "admin/tasks" : "workload"}/${taskId}/deliveries`;

  function watchDeliveries() {
    stopDeliveries = repeat({ read: readDeliveries, every: 2000 });
  }

  async function readDeliveries() {
    let items;
    try {
      ({ items } = (await call(deliveriesPath(), { token })).data);
    } catch (error) {
      if (error instanceof Refused && error.status === 404) stopDeliveries(); // nothing to show here
      throw error;
    }
    if (disposed || !items.length) return;
    const shown = items.map((item) => item.id).join();
    if (letters.dataset.shown === shown) return;
    // How far it has come changes without the task's `seq`: nothing tells of it live.
    if (!foreign) {
      task.webhook = (await call(`/v1/workload/status/${taskId}`, { token })).data.webhook;
      drawFacts();
    }
    letters.dataset.shown = shown;
    letters.hidden = false;
    show(letters, h("h2", { id: "deliveries-title" }, "Webhook deliveries"), h("ol", { class: "deliveries" }, items.map(delivery)));
  }

  function delivery(item, place) {
    const answer = item.status_code ? `HTTP ${item.status_code}` : (item.error ?? "no answer");
    const send = (body) => act(() => call(`${deliveriesPath()}/${item.id}/redeliver`, { method: "POST", token, body }), "It is sent again", readDeliveries);
    /** An operator says why: it is somebody else's. */
    async function again() {
      if (!foreign) return send();
      const reason = await confirmed({ title: "Send this webhook again?", text: "Its receiver gets the same bytes under the same id once more.", verb: "Send again", reason: true });
      if (reason) await send({ reason });
    }
    return h(
      "li",
      { class: `delivery delivery-${item.outcome}` },
      h("p", {}, h("strong", {}, item.type), " ", h("span", { class: "outcome" }, item.outcome)),
      h(
        "p",
        { class: "hint" },
        `attempt ${item.attempt}: ${answer}, after ${duration(item.duration_ms / 1000)} · `,
        ago(item.attempted_at),
        place === 0 && item.next_attempt_at ? ` · next try at ${clockOrDay(item.next_attempt_at)}` : null,
        item.location ? [" · to ", h("code", { class: "breaks" }, item.location)] : null,
      ),
      session.maySubmit || foreign
        ? h("button", { type: "button", class: "button small", "aria-label": `Send again: ${item.type}`, on: { click: again } }, "Send again")
        : null,
    );
  }

  // --- actions

  async function act(action, done, then = () => {}) {
    try {
      const answer = await action();
      if (answer?.data?.task_id === taskId) take(answer.data);
      if (done) toast(done);
      await then(answer);
    } catch (error) {
      if (!(error instanceof Refused) && !(error instanceof Unreachable)) throw error;
      toast(error.message);
    }
  }

  async function cancel() {
    if (!(await confirmed({ title: "Cancel this task?", text: task.status === "PENDING" ? "It has not begun, and never will." : "Its worker is asked to stop. What was done up to the last checkpoint stays, and it can be run again from there.", verb: "Cancel the task", danger: true }))) return;
    await act(() => call(`/v1/workload/${taskId}/cancel`, { method: "POST", token }), "Cancel asked for");
  }

  /** For operators: take a running task from its worker. */
  async function requeue() {
    const reason = await confirmed({ title: "Requeue this task?", text: "Its worker loses it and stops at its next heartbeat. The task waits again and goes on from its last checkpoint; the attempt is not counted as a failure.", verb: "Requeue", reason: true });
    if (!reason) return;
    // Of one's own task the socket tells more: what an operator is answered has no links.
    await act(() => call(`/v1/admin/tasks/${taskId}/requeue`, { method: "POST", body: { reason } }).then((answer) => (foreign ? answer : null)), "Requeued");
  }

  async function retry() {
    await act(() => call(`/v1/workload/${taskId}/retry`, { method: "POST", token }), "It runs again", () => {
      stop();
      watch();
    });
  }

  async function remove() {
    if (!(await confirmed({ title: "Delete this task?", text: "The task, its payload and its result are forgotten, for good.", verb: "Delete", danger: true }))) return;
    await act(() => call(`/v1/workload/${taskId}`, { method: "DELETE", token }), "Deleted", () => {
      dispatchEvent(new CustomEvent("go", { detail: "/dashboard" }));
    });
  }

  async function fetchResult(event) {
    const button = event.currentTarget;
    const before = button.textContent;
    button.disabled = true;
    await act(async () => {
      const blob = await download(`/v1/workload/${taskId}/result`, { token, onProgress: (percent) => say(button, `Downloading, ${percent} %`) });
      const address = URL.createObjectURL(blob);
      h("a", { href: address, download: task.result?.filename ?? "result" }).click();
      setTimeout(() => URL.revokeObjectURL(address), 60000);
    }, `${task.result?.filename ?? "Result"} downloaded`);
    button.disabled = false;
    say(button, before);
    button.focus();
  }

  function curl() {
    const address = `${location.origin}/v1/workload/status/${taskId}`;
    return copy(`curl -s ${address} -H "Authorization: Bearer $TOKEN"`, "curl line");
  }

  // --- watching

  function watch() {
    stop = follow({
      path: `/v1/workload/${taskId}/ws`,
      token,
      onMessage(message) {
        if (message.type === "status") take(message.task);
        else if (message.type === "log") early ? early.push(message) : addLine(message);
      },
      async onRead() {
        const { data } = await call(`/v1/workload/status/${taskId}`, { token });
        take(data);
        return TERMINAL.has(data.status);
      },
      onRefused(code) {
        if (code === 4404) void notMine();
        else if (byLink) gone("This link is not valid any more", "It has expired, or it does not open this task.");
        else if (code === 4401) expired();
      },
      pollEvery: 1000,
    });
  }

  /** It is not the visitor's own. An operator sees it all the same. */
  async function notMine() {
    if (!session.isAdmin || byLink) return gone("There is no such task", "It was deleted, its time is over, or it is somebody else's.");
    foreign = true;
    stop = repeat({
      async read() {
        try {
          const { data } = await call(`/v1/admin/tasks/${taskId}`);
          take(data);
        } catch (error) {
          if (!(error instanceof Refused) || error.status !== 404) throw error;
          stop();
          gone("There is no such task", "It was deleted, or its time is over.");
        }
      },
      every: 2000,
    });
  }

  function gone(title, text) {
    if (disposed) return;
    document.title = "Not found · Longhaul";
    show(main, h("h1", { class: "unseen", tabindex: "-1" }, "Task"), emptyState(title, text, session.token ? h("a", { class: "button", href: "/dashboard" }, "To the list") : null));
  }

  watch();
  return () => {
    disposed = true;
    stop();
    stopDeliveries?.();
  };
}
