// For operators: queues, workers, what is stalled, what was given up.

import { call, Refused, Unreachable } from "../api.js";
import { chart } from "../chart.js";
import { ago, bytes, confirmed, duration, emptyState, exactly, h, number, say, show, statusBadge, toast } from "../dom.js";
import { repeat } from "../live.js";
import { samples } from "../sampler.js";

const SPAN = 5 * 60000;

function head(title, text) {
  const count = h("p", { class: "count", role: "status" });
  return { count, element: h("div", { class: "page-head" }, h("h1", { tabindex: "-1" }, title), count, text ? h("p", { class: "lead" }, text) : null) };
}

/** Ask for a change, and go on with its answer; a refusal is told. */
async function changed(path, reason, then) {
  try {
    await then(await call(path, { method: "POST", body: { reason } }));
  } catch (error) {
    if (!(error instanceof Refused) && !(error instanceof Unreachable)) throw error;
    toast(error.message);
  }
}

/** Keep an element's children by key, so that nothing loses the focus when figures change. */
function keyed(parent, items, key, make, update) {
  const known = new Map([...parent.children].map((child) => [child.dataset.key, child]));
  items.forEach((item, index) => {
    let child = known.get(key(item));
    known.delete(key(item));
    if (!child) {
      child = make(item);
      child.dataset.key = key(item);
    }
    update(child, item);
    if (parent.children[index] !== child) parent.insertBefore(child, parent.children[index] ?? null);
  });
  for (const child of known.values()) child.remove();
}

export function queuesView(main) {
  const { element, count } = head("Queues");
  const list = h("div", { class: "queues" });
  show(main, element, list);
  const charts = new WeakMap();
  const latest = new WeakMap();

  function make(queue) {
    const load = chart({ title: "Load", span: SPAN, series: [{ name: "load", style: "one", of: (sample) => sample.queues[queue.name]?.load ?? 0 }] });
    const rates = chart({
      title: "Rates",
      unit: "/s",
      least: 0.1,
      span: SPAN,
      series: [
        { name: "in", style: "one", of: (sample) => sample.queues[queue.name]?.in_per_second ?? 0 },
        { name: "out", style: "two", of: (sample) => sample.queues[queue.name]?.out_per_second ?? 0 },
      ],
    });
    const figures = h("dl", { class: "figures" });
    const card = h("section", { class: "card queue", "aria-label": `Queue ${queue.name}` }, h("div", { class: "queue-head" }, h("h2", {}, queue.name), h("p", { class: "verdict" }), h("button", { type: "button", class: "button small", on: { click: () => change(latest.get(card)) } })), h("p", { class: "hint", hidden: true }), figures, h("div", { class: "charts" }, load.element, rates.element));
    charts.set(card, { load, rates, figures });
    latest.set(card, queue);
    return card;
  }

  function update(card, queue) {
    const { load, rates, figures } = charts.get(card);
    latest.set(card, queue);
    const rows = [
      ["Ready", queue.ready ?? "unknown"],
      ["Running", queue.running],
      ["Scheduled", queue.parked],
      ["Workers", queue.consumers ?? "unknown"],
      ["Limit", queue.depth_limit],
    ];
    if (!figures.childElementCount) figures.append(...rows.map(([name]) => h("div", {}, h("dt", {}, name), h("dd", {}))));
    rows.forEach(([, value], index) => say(figures.children[index].lastChild, typeof value === "number" ? number(value) : value));
    const [text, style] = verdict(queue);
    const element = card.querySelector(".verdict");
    say(element, text);
    element.className = `verdict ${style}`;
    say(card.querySelector("button"), queue.paused ? "Resume" : "Pause");
    const why = card.querySelector(".hint");
    why.hidden = !queue.paused;
    if (queue.paused) {
      const { by, since, reason } = queue.paused;
      say(why, `Paused by ${by}, ${exactly(since)}${reason ? `: ${reason}` : ""}`);
    }
    load.draw(samples());
    rates.draw(samples());
  }

  async function change(queue) {
    const verb = queue.paused ? "Resume" : "Pause";
    const reason = await confirmed(
      queue.paused
        ? { title: `Resume ${queue.name}?`, text: "Workers take from it again, within three seconds.", verb, reason: true }
        : { title: `Pause ${queue.name}?`, text: "No worker takes anything from it until it is resumed. What runs goes on to its end, and new tasks are accepted.", verb, reason: true },
    );
    if (!reason) return;
    await changed(`/v1/admin/queues/${encodeURIComponent(queue.name)}/${verb.toLowerCase()}`, reason, async () => {
      toast(queue.paused ? "Resumed" : "Paused");
      await read();
    });
  }

  function verdict(queue) {
    if (queue.paused) return ["Paused", "warn"];
    if (queue.consumers === 0 && queue.load > 0) return ["No workers: nothing moves", "bad"];
    if (queue.consumers === 0) return ["No workers", "warn"];
    if (queue.load >= queue.depth_limit) return ["Full: new tasks are refused", "bad"];
    if (queue.load === 0) return ["Idle", "calm"];
    const surplus = queue.out_per_second - queue.in_per_second;
    if (surplus > 0 && queue.load > queue.running) return [`Empty in about ${duration(queue.load / surplus)}`, "calm"];
    return queue.in_per_second > queue.out_per_second * 1.2 && queue.load > queue.running ? ["Growing", "warn"] : ["Working", "calm"];
  }

  async function read() {
    const { data } = await call("/v1/admin/queues");
    samples(data.items);
    keyed(list, data.items, (queue) => queue.name, make, update);
    const load = data.items.reduce((sum, queue) => sum + queue.load, 0);
    say(count, `${number(load)} ${load === 1 ? "task" : "tasks"} waiting or running`);
  }

  return repeat({ read, every: 2000 });
}

export function workersView(main) {
  const { element, count } = head("Workers");
  const place = h("div", {});
  const list = h("ul", { class: "workers", role: "list" });
  show(main, element, place);

  function make(worker) {
    return h(
      "li",
      { class: "card worker" },
      h("div", { class: "worker-head" }, h("h2", {}, worker.host, h("span", { class: "muted" }, ` : ${worker.pid}`)), h("p", { class: "hint" })),
      h("div", { class: "memory" }, h("span", { class: "memory-text" }), h("span", { class: "bar", "aria-hidden": "true" }, h("span", { class: "bar-done" }))),
      h("ul", { class: "slots", role: "list" }),
      h("div", { class: "current" }),
    );
  }

  function update(item, worker, most) {
    show(item.querySelector(".hint"), `up ${duration((Date.now() - Date.parse(worker.started_at)) / 1000)} · version ${worker.version} · seen `, ago(worker.seen_at));
    say(item.querySelector(".memory-text"), `${bytes(worker.rss_bytes)} in ${worker.children + 1} ${worker.children ? "processes" : "process"}`);
    // Workers beside one another: the bar of one alone would look like a limit reached.
    item.querySelector(".memory .bar").hidden = !most;
    if (most) item.querySelector(".bar-done").style.transform = `scaleX(${worker.rss_bytes / most})`;
    keyed(
      item.querySelector(".slots"),
      worker.queues,
      (queue) => queue.name,
      (queue) => h("li", {}, h("span", {}, queue.name), h("span", { class: "slot-count" })),
      (entry, queue) => {
        say(entry.lastChild, `${queue.running} of ${queue.slots}`);
        entry.classList.toggle("full", queue.running >= queue.slots);
      },
    );
    const current = item.querySelector(".current");
    if (!worker.tasks.length) return show(current, h("p", { class: "hint" }, "No task at the moment."));
    let tasks = current.querySelector("ul");
    if (!tasks) show(current, (tasks = h("ul", { class: "current-tasks", role: "list" })));
    keyed(
      tasks,
      worker.tasks.slice(0, 20),
      (task) => task.task_id,
      (task) => h("li", {}, h("a", { href: `/dashboard/tasks/${task.task_id}` }, h("strong", {}, task.action), " ", h("code", {}, task.task_id.slice(0, 8)), task.attempt > 1 ? ` attempt ${task.attempt}` : ""), h("span", { class: "bar bar-processing", "aria-hidden": "true" }, h("span", { class: "bar-done" })), h("span", { class: "current-percent" })),
      (entry, task) => {
        entry.querySelector(".bar-done").style.transform = `scaleX(${task.progress / 100})`;
        say(entry.lastChild, `${task.progress} %`);
      },
    );
    const running = worker.queues.reduce((sum, queue) => sum + queue.running, 0);
    const more = running - Math.min(20, worker.tasks.length);
    current.querySelector(".more")?.remove();
    if (more > 0) current.append(h("p", { class: "hint more" }, `and ${number(more)} more`));
  }

  return repeat({
    async read() {
      const { data } = await call("/v1/admin/workers");
      const workers = data.items;
      const tasks = workers.reduce((sum, worker) => sum + worker.queues.reduce((inner, queue) => inner + queue.running, 0), 0);
      say(count, `${workers.length} alive, ${number(tasks)} ${tasks === 1 ? "task" : "tasks"} running`);
      if (!workers.length) return show(place, emptyState("No worker is alive", "Tasks are accepted all the same, and wait. Start worker-engine, and it appears here within two seconds."));
      if (list.parentNode !== place) show(place, list);
      const most = workers.length > 1 && Math.max(1, ...workers.map((worker) => worker.rss_bytes));
      keyed(list, workers, (worker) => worker.id, make, (item, worker) => update(item, worker, most));
    },
    every: 2000,
  });
}

const WHY = {
  "lease-expired": "Its worker has fallen silent",
  "message-lost": "Its message was lost, and sent again",
};

export function stalledView(main) {
  const { element, count } = head("Stalled tasks");
  const place = h("div", {});
  const list = h("ul", { class: "entries", role: "list" });
  show(main, element, place);
  return repeat({
    async read() {
      const { data } = await call("/v1/admin/tasks/stalled");
      say(count, data.items.length ? `${number(data.items.length)} at the moment` : "");
      if (!data.items.length) return show(place, emptyState("Nothing is stalled", "A task appears here when its worker has fallen silent, or when its message was lost. Longhaul takes it over by itself; what stays here wants a look."));
      if (list.parentNode !== place) show(place, list);
      keyed(
        list,
        data.items.slice(0, 200),
        (task) => task.task_id,
        (task) =>
          h(
            "li",
            { class: "card entry" },
            h("div", { class: "entry-what" }, h("a", { href: `/dashboard/tasks/${task.task_id}` }, h("strong", {}, task.action)), statusBadge(task.status), h("code", {}, task.task_id)),
            h("p", {}, `${WHY[task.stalled] ?? task.stalled}${task.worker ? `: ${task.worker}` : ""}`, " · ", ago(task.stalled_since, { prefix: "since " })),
          ),
        () => {},
      );
    },
    every: 2000,
  });
}

const REASONS = {
  "handler-error": "The handler failed, until its attempts were used up",
  "worker-lost": "Its workers were lost, again and again",
  "out-of-memory": "It needed more memory than it may have",
  timeout: "Its attempts took too long",
  undecryptable: "Its sealed payload does not open under any known key",
  malformed: "It is no message of ours",
};

export function deadLettersView(main) {
  const { element, count } = head("Dead letters", "Tasks that were given up. Fix the cause first; then redrive them, and they go on from their last checkpoint.");
  const place = h("div", {});
  const list = h("ul", { class: "entries", role: "list" });
  show(main, element, place);

  async function read() {
    const { data } = await call("/v1/admin/dead-letters?limit=200");
    const some = data.items.length;
    say(count, some ? `${some === 200 ? "the 200 oldest" : number(some)} ${some === 1 ? "letter" : "letters"}` : "");
    if (!some) return show(place, emptyState("No dead letters", "A task that fails for good leaves its sealed message here, with the reason, until somebody redrives or removes it."));
    if (list.parentNode !== place) show(place, list);
    keyed(list, data.items, (letter) => letter.id, entry, () => {});
  }

  function entry(letter) {
    const name = letter.action ?? "unreadable message";
    return h(
      "li",
      { class: "card entry letter" },
      h(
        "div",
        { class: "entry-what" },
        letter.task_id ? h("a", { href: `/dashboard/tasks/${letter.task_id}` }, h("strong", {}, name)) : h("strong", {}, name),
        h("span", { class: "label" }, letter.reason ?? "unknown"),
        h("code", {}, letter.task_id ?? letter.id),
      ),
      h("p", {}, REASONS[letter.reason] ?? letter.reason ?? "No reason is known", letter.queue ? ` · queue ${letter.queue}` : "", letter.buried_at ? [" · ", ago(letter.buried_at)] : null),
      h(
        "p",
        { class: "actions" },
        letter.task_id ? h("button", { type: "button", class: "button small primary", on: { click: () => change(letter, "redrive") } }, "Redrive") : null,
        h("button", { type: "button", class: "button small danger", on: { click: () => change(letter, "purge") } }, "Remove"),
      ),
    );
  }

  async function change(letter, what) {
    const name = letter.action ?? "this message";
    const reason = await confirmed(
      what === "redrive"
        ? { title: `Run ${name} again?`, text: "It goes on from its last checkpoint, and the letter is taken away.", verb: "Redrive", reason: true }
        : { title: `Remove the letter of ${name}?`, text: "The task stays failed; its owner may still run it again.", verb: "Remove", danger: true, reason: true },
    );
    if (!reason) return;
    await changed(`/v1/admin/dead-letters/${encodeURIComponent(letter.id)}/${what}`, reason, async ({ data }) => {
      toast(what === "purge" ? "Removed" : data.runs_again ? "It runs again" : "Nothing to do: it was deleted, or has run again since");
      await read();
    });
  }

  // Seldom: each look takes the letters in hand for a moment.
  return repeat({ read, every: 15000 });
}
