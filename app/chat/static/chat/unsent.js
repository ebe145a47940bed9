/**
 * What a person wants done and has no answer to yet, kept in the browser over reloads and closed tabs.
 *
 * One item of the storage for each, so that two tabs never overwrite what the other one keeps.
 */

/**
 * @typedef {object} Kept
 * @property {string} key
 * @property {string} command
 * @property {Record<string, unknown>} data
 * @property {boolean} tried whether it was ever sent: then it may be stored already
 * @property {string} failed why it was refused; empty: it was not
 * @property {boolean} [done] it is stored: told to other tabs on the way out
 */

/** What each command needs: pages read it without asking whether it is there. */
const TEXTS = new Map([
  ["chat.post_message", ["text"]],
  ["chat.edit_message", ["message_id", "text"]],
  ["chat.delete_message", ["message_id"]],
]);
const KEY = /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/;

export class Unsent {
  #prefix;
  #storage;

  /**
   * @param {string} name of whom and of what: others' are not seen
   * @param {(key: string, kept: Kept | null) => void} changed told what another tab kept, or forgot (null)
   */
  constructor(name, changed) {
    this.#prefix = `unsent ${name} `;
    this.#storage = storage();
    globalThis.addEventListener("storage", (event) => {
      if (event.storageArea !== this.#storage || !event.key?.startsWith(this.#prefix)) return;
      const kept = this.#read(event.key, event.newValue);
      if (kept || event.newValue === null) changed(event.key.slice(this.#prefix.length), kept);
    });
  }

  /** All of them, oldest first: keys begin with their time. @returns {Kept[]} */
  all() {
    const names = this.#storage ? Object.keys(this.#storage) : [];
    const mine = names.filter((name) => name.startsWith(this.#prefix)).sort();
    return mine.map((name) => this.#read(name, this.#storage.getItem(name))).filter((kept) => kept && !kept.done);
  }

  /** Whether it is surely not kept any more: another tab has done it, or its writer took it back. */
  isGone(key) {
    return this.#storage !== null && this.#storage.getItem(this.#prefix + key) === null;
  }

  /** @param {Kept} kept @returns {boolean} false: it lives as long as the page */
  keep({ key, command, data, tried, failed, done }) {
    try {
      this.#storage?.setItem(this.#prefix + key, JSON.stringify({ key, command, data, tried, failed, done }));
      return this.#storage !== null;
    } catch {
      return false; // the storage is full
    }
  }

  /** It is done, or not wanted any more; other tabs are told which. @param {Kept} kept @param {boolean} done */
  forget(kept, done) {
    if (done) this.keep({ ...kept, done });
    this.#storage?.removeItem(this.#prefix + kept.key);
  }

  /** What an item holds. Anything may stand there; null: no entry of this name. @returns {Kept | null} */
  #read(name, text) {
    const kept = parsed(text);
    const { key, command, data, tried, failed } = kept ?? {};
    if (!KEY.test(key) || name !== this.#prefix + key) return null;
    if (typeof tried !== "boolean" || typeof failed !== "string") return null;
    return TEXTS.get(command)?.every((part) => typeof data?.[part] === "string") ? kept : null;
  }
}

function storage() {
  try {
    return globalThis.localStorage;
  } catch {
    return null; // forbidden
  }
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
