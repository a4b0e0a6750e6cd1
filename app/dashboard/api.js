// The API, as this page calls it. Refusals are problems (RFC 9457); that nobody answers is something else.

import { connection } from "./connection.js";
import { session } from "./session.js";

/** The API has refused. */
export class Refused extends Error {
  constructor(status, problem, headers) {
    super(problem.detail ?? problem.title ?? `HTTP ${status}`);
    this.status = status;
    this.problem = problem;
    this.slug = (problem.type ?? "").split("/").pop();
    this.retryAfter = Number(headers.get("Retry-After")) || null;
  }
}

/** Nobody has answered, or a proxy that cannot reach the API. */
export class Unreachable extends Error {
  constructor() {
    super("The service cannot be reached at the moment.");
  }
}

/** Call the API. Resolves to {status, headers, data}; raises Refused or Unreachable. */
export async function call(path, { method = "GET", body, headers = {}, token = session.token, signal } = {}) {
  const sent = { Authorization: `Bearer ${token}`, Accept: "application/json", ...headers };
  if (body !== undefined) sent["Content-Type"] = "application/json";
  const answer = await fetched(path, { method, headers: sent, body: body === undefined ? undefined : JSON.stringify(body), signal });
  const text = await answer.text();
  let data = null;
  try {
    data = text ? JSON.parse(text) : null;
  } catch {
    throw new Unreachable();
  }
  if (answer.ok || answer.status === 304) return { status: answer.status, headers: answer.headers, data };
  if (answer.status === 401 && token === session.token) expired();
  throw new Refused(answer.status, data ?? {}, answer.headers);
}

/** Fetch a file, telling how far it is; resolves to a Blob. */
export async function download(path, { token, onProgress }) {
  const answer = await fetched(path, { headers: { Authorization: `Bearer ${token}` } });
  if (!answer.ok) throw new Refused(answer.status, await answer.json().catch(() => ({})), answer.headers);
  const total = Number(answer.headers.get("Content-Length")) || 0;
  const chunks = [];
  let size = 0;
  const reader = answer.body.getReader();
  for (;;) {
    const { done, value } = await reader.read();
    if (done) break;
    chunks.push(value);
    size += value.length;
    if (total) onProgress(Math.floor((100 * size) / total));
  }
  return new Blob(chunks, { type: answer.headers.get("Content-Type") ?? "" });
}

async function fetched(path, options) {
  let answer;
  try {
    answer = await fetch(path, { cache: "no-store", ...options });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    connection.lost();
    throw new Unreachable();
  }
  if (answer.status === 502 || answer.status === 504) {
    connection.lost();
    throw new Unreachable();
  }
  connection.good();
  return answer;
}

let onExpired = () => {};

/** What is done when the visitor's own token is refused. */
export function whenExpired(action) {
  onExpired = action;
}

/** Say that it was refused. */
export function expired() {
  onExpired();
}
