// Live updates: a WebSocket while that can be had, asking again and again while not. It comes back by itself.

import { Refused, Unreachable } from "./api.js";
import { connection } from "./connection.js";

const FIRST_WAIT = 500;
const LONGEST_WAIT = 8000;
const SOCKET_AGAIN = 60000;
const SILENCE = 40000; // the server sends a ping each 15 s

/**
 * Follow something until `stop` is called.
 *
 * path: of the socket; token: the bearer; onMessage: takes each message; onRead: reads everything anew and resolves to
 * true once there is nothing more to follow; onRefused: takes the close code 4401, 4403 or 4404; pollEvery: in ms.
 */
export function follow({ path, token, onMessage, onRead, onRefused = () => {}, pollEvery = 2000 }) {
  let socket = null;
  let timer = 0;
  let guard = 0;
  let wait = FIRST_WAIT;
  let failed = 0; // handshakes that came to nothing, though the API answers: there is no such socket here
  let stopped = false;

  function later(action, delay) {
    clearTimeout(timer);
    timer = setTimeout(action, delay);
  }

  function backOff(action) {
    const delay = wait * (0.7 + 0.6 * Math.random());
    wait = Math.min(wait * 2, LONGEST_WAIT);
    connection.lost({ at: Date.now() + delay, now: () => (later(action, 0), (wait = FIRST_WAIT)) });
    later(action, delay);
  }

  function open() {
    if (stopped) return;
    const opening = new WebSocket(`${location.origin.replace(/^http/, "ws")}${path}`, ["longhaul.v1", `bearer.${token}`]);
    socket = opening;
    let opened = false;
    opening.onopen = () => {
      opened = true;
      failed = 0;
      wait = FIRST_WAIT;
      alive();
      read();
    };
    opening.onmessage = (event) => {
      alive();
      const message = JSON.parse(event.data);
      if (message.type !== "ping") onMessage(message);
    };
    opening.onclose = (event) => {
      clearTimeout(guard);
      if (stopped || socket !== opening) return;
      socket = null;
      if (event.code === 1000) stop();
      else if ([4401, 4403, 4404].includes(event.code)) {
        stop();
        onRefused(event.code);
      } else if (opened) backOff(open);
      else {
        failed += 1;
        poll(true);
      }
    };
  }

  // A connection may die without a word: a ping must come.
  function alive() {
    connection.good("live");
    clearTimeout(guard);
    guard = setTimeout(() => socket?.close(4000), SILENCE);
  }

  async function read() {
    try {
      return await onRead();
    } catch (error) {
      if (!(error instanceof Unreachable) && !(error instanceof Refused)) throw error;
      return false;
    }
  }

  /** Ask once; where that works and the socket did not, go on asking, and try the socket now and then. */
  let socketAt = 0;
  async function poll(first = false) {
    if (stopped) return;
    try {
      if (await onRead()) return stop();
      if (stopped) return;
      wait = FIRST_WAIT;
      connection.good("polling");
      if (first) socketAt = Date.now() + (failed > 1 ? SOCKET_AGAIN : 1000);
      later(Date.now() >= socketAt ? open : poll, pollEvery);
    } catch (error) {
      if (error instanceof Unreachable) backOff(open);
      else if (error instanceof Refused) later(poll, Math.max(pollEvery, 1000 * (error.retryAfter ?? 0)));
      else throw error;
    }
  }

  function stop() {
    stopped = true;
    clearTimeout(timer);
    clearTimeout(guard);
    const open_ = socket;
    socket = null;
    open_?.close();
  }

  open();
  return stop;
}

/** Read something again and again until `stop` is called; what takes long, and while nobody answers, more seldom. */
export function repeat({ read, every }) {
  let timer = 0;
  let wait = every;
  let stopped = false;

  async function once() {
    clearTimeout(timer);
    const began = Date.now();
    let next = every;
    try {
      await read();
      wait = every;
      next = Math.max(every, 5 * (Date.now() - began));
    } catch (error) {
      if (!(error instanceof Unreachable) && !(error instanceof Refused)) throw error;
      next = wait;
      wait = Math.min(wait * 2, LONGEST_WAIT);
      if (error instanceof Unreachable) connection.lost({ at: Date.now() + next, now: once });
    }
    if (!stopped) timer = setTimeout(once, next);
  }

  void once();
  return () => {
    stopped = true;
    clearTimeout(timer);
  };
}
