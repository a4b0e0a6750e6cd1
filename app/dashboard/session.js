// Who looks: a bearer token, kept for this tab only. A token from a link opens its one task, and nothing else.

const TOKEN = "longhaul.token";
const LINK = "longhaul.link.";
const listeners = new Set();

function part(token, index) {
  try {
    const text = atob(token.split(".")[index].replace(/-/g, "+").replace(/_/g, "/"));
    return JSON.parse(new TextDecoder().decode(Uint8Array.from(text, (letter) => letter.charCodeAt(0))));
  } catch {
    return null;
  }
}

export const session = {
  get token() {
    return sessionStorage.getItem(TOKEN);
  },

  /** The token's claims, unchecked: only for what is shown. The API decides. */
  get claims() {
    return this.token ? part(this.token, 1) : null;
  },

  get scopes() {
    const scope = this.claims?.scope;
    return new Set(typeof scope === "string" ? scope.split(" ") : ["workload:submit", "workload:read"]);
  },

  get isAdmin() {
    return Boolean(this.token) && this.scopes.has("workload:admin");
  },

  get maySubmit() {
    return Boolean(this.token) && this.scopes.has("workload:submit");
  },

  get subject() {
    return this.claims?.sub ?? "";
  },

  signIn(token) {
    sessionStorage.setItem(TOKEN, token);
    tell();
  },

  signOut() {
    sessionStorage.clear();
    tell();
  },

  /** The token that opens a task: the one of the link that led here, or the visitor's own. */
  tokenFor(taskId) {
    return sessionStorage.getItem(LINK + taskId) ?? this.token;
  },

  hasLinkFor(taskId) {
    return sessionStorage.getItem(LINK + taskId) !== null;
  },

  dropLink(taskId) {
    sessionStorage.removeItem(LINK + taskId);
  },

  /** Take a token out of the address, before anything else sees it. */
  takeFromFragment() {
    const token = new URLSearchParams(location.hash.slice(1)).get("token");
    if (!token) return;
    history.replaceState(null, "", location.pathname + location.search);
    const task = /^\/dashboard\/tasks\/([0-9a-f-]{36})$/i.exec(location.pathname);
    if (task && part(token, 0)?.typ === "task+jwt") sessionStorage.setItem(LINK + task[1].toLowerCase(), token);
    else sessionStorage.setItem(TOKEN, token);
  },

  onChange(listener) {
    listeners.add(listener);
  },
};

/** Whether a text can be a token at all. */
export function looksLikeToken(text) {
  return text.split(".").length === 3 && part(text, 0) !== null && part(text, 1) !== null;
}

function tell() {
  for (const listener of listeners) listener();
}
