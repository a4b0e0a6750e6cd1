// A small chart over time: one area or several lines, drawn by the figures that have been seen so far.

import { h, number, s, say } from "./dom.js";

const WIDTH = 320;
const HEIGHT = 72;
const GAP = 20000; // figures further apart are not joined

/** Make a chart. `series`: [{name, style, of}], `of` reads a figure from a sample; `unit` is said after figures; `least`: of the scale. */
export function chart({ title, series, span, unit = "", least = 1 }) {
  const lines = series.map(({ style }) => ({ area: s("path", { class: `area ${style}` }), line: s("path", { class: `line-path ${style}` }) }));
  const picture = s(
    "svg",
    { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", class: "plot", role: "img", "aria-label": title },
    s("path", { class: "grid", d: `M0 ${HEIGHT - 0.5}H${WIDTH}M0 ${HEIGHT / 2}H${WIDTH}M0 .5H${WIDTH}` }),
    lines.map(({ area, line }) => [series.length === 1 ? area : null, line]),
  );
  const top = h("span", { class: "plot-top" });
  const from = h("span", {});
  const values = series.map(({ style }) => h("span", { class: `value ${style}` }));
  const element = h(
    "figure",
    { class: "chart" },
    h("figcaption", {}, h("span", { class: "chart-title" }, title), series.map(({ name, style }, index) => h("span", { class: "legend" }, series.length > 1 ? [h("span", { class: `key ${style}`, "aria-hidden": "true" }), `${name} `] : null, values[index]))),
    h("div", { class: "plot-box" }, picture, top),
    h("p", { class: "plot-span", "aria-hidden": "true" }, from, h("span", {}, "now")),
  );

  function draw(samples) {
    const now = Date.now();
    // The first minutes fill the width, too.
    const minutes = Math.min(span / 60000, Math.max(1, Math.ceil((now - (samples[0]?.at ?? now)) / 60000)));
    const width = minutes * 60000;
    say(from, `${minutes} min ago`);
    const shown = samples.filter((sample) => sample.at > now - width - GAP);
    const highest = Math.max(0, ...shown.flatMap((sample) => series.map(({ of }) => of(sample))));
    const scale = nice(Math.max(highest, least));
    say(top, `${number(scale)}${unit}`);
    series.forEach(({ of }, index) => {
      const points = shown.map((sample) => ({ at: sample.at, x: WIDTH * (1 - (now - sample.at) / width), y: HEIGHT - 1 - (HEIGHT - 2) * (of(sample) / scale) }));
      const { line, area } = lines[index];
      let path = "";
      let filled = "";
      let joinedFrom = null;
      points.forEach((point, place) => {
        const before = points[place - 1];
        const joined = before && point.at - before.at < GAP;
        if (!joined && joinedFrom) filled += `L${before.x.toFixed(1)} ${HEIGHT}Z`;
        if (!joined) {
          joinedFrom = point;
          filled += `M${point.x.toFixed(1)} ${HEIGHT}L${point.x.toFixed(1)} ${point.y.toFixed(1)}`;
        } else filled += `L${point.x.toFixed(1)} ${point.y.toFixed(1)}`;
        path += `${joined ? "L" : "M"}${point.x.toFixed(1)} ${point.y.toFixed(1)}`;
      });
      const last = points.at(-1);
      if (last) filled += `L${last.x.toFixed(1)} ${HEIGHT}Z`;
      line.setAttribute("d", path);
      area.setAttribute("d", filled);
      say(values[index], shown.length ? `${number(of(shown.at(-1)))}${unit}` : "–");
    });
    const latest = shown.at(-1);
    picture.setAttribute("aria-label", `${title}, last ${minutes} minutes: ${series.map(({ name, of }) => `${name} now ${latest ? number(of(latest)) : "unknown"}${unit}, at most ${number(Math.max(0, ...shown.map(of)))}`).join("; ")}`);
  }

  return { element, draw };
}

/** The next round figure: 1, 2 or 5 with zeros. */
function nice(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((step) => step * power).map((step) => Number(step.toPrecision(1))).find((step) => step >= value);
}
