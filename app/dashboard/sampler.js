// Figures of the queues over time, kept for as long as the page is open: charts are full when one comes back to them.

const KEPT = 900; // half an hour of looks

const kept = [];

/** Add a look at the queues, if one is given; return all that are kept. */
export function samples(queues) {
  if (queues) {
    kept.push({ at: Date.now(), queues: Object.fromEntries(queues.map((queue) => [queue.name, queue])) });
    if (kept.length > KEPT) kept.shift();
  }
  return kept;
}
