/**
 * What this page wants to say and has not seen stored yet. A message keeps its key over every retry, so
 * nobody sees it twice however often it is sent.
 */

/** @typedef {{key: string, text: string, at: Date, state: "sending"|"waiting"|"sent"|"failed", note: string}} Entry */

/** A message that waited longer for a connection is not sent behind its writer's back. */
const PATIENCE_SECONDS = 60;
/** Answers after which the same message may well be taken: said again by itself, so often at most. */
const PASSING = ["rate_limited", "busy"];
const TRIES = 3;
const BROKEN = ["not_connected", "connection_lost", "not_joined", "timeout"];

export class Outbox {
  #client;
  #room;
  #changed;
  /** @type {Map<string, Entry>} in the order of writing */
  #entries = new Map();
  #joined = false;
  /** One message at a time keeps them in order, also when the first has to be said again. */
  #sending = false;

  /**
   * @param {import("./realtime_client.js").RealtimeClient} client
   * @param {string} room
   * @param {(entry: Entry) => void} changed told whenever an entry's state changes
   */
  constructor(client, room, changed) {
    this.#client = client;
    this.#room = room;
    this.#changed = changed;
  }

  /** @param {string} text */
  post(text) {
    const entry = { key: newKey(), text, at: new Date(), state: "waiting", note: "" };
    this.#entries.set(entry.key, entry);
    if (this.#joined) this.#set(entry, "sending");
    else this.#wait(entry);
    this.#run();
  }

  /** @param {string} key */
  retry(key) {
    const entry = this.#entries.get(key);
    if (!entry) return;
    entry.at = new Date();
    if (this.#joined) this.#set(entry, "sending");
    else this.#wait(entry);
    this.#run();
  }

  /** @param {string} key */
  discard(key) {
    this.#entries.delete(key);
  }

  /** The event came: it is said, whatever became of the reply. @param {string} key */
  seen(key) {
    const entry = this.#entries.get(key);
    if (!entry) return;
    this.#entries.delete(key);
    this.#set(entry, "sent");
  }

  /** Whether the room can be spoken to now. @param {boolean} joined */
  setJoined(joined) {
    this.#joined = joined;
    for (const entry of this.#entries.values()) {
      if (entry.state === "failed" || this.#late(entry)) continue;
      if (joined) this.#set(entry, "sending");
      else this.#wait(entry);
    }
    this.#run();
  }

  async #run() {
    if (this.#sending) return;
    this.#sending = true;
    for (let entry = this.#next(); entry; entry = this.#next()) await this.#send(entry);
    this.#sending = false;
  }

  #next() {
    if (!this.#joined) return undefined;
    return [...this.#entries.values()].find((entry) => entry.state === "sending");
  }

  /** @param {Entry} entry */
  async #send(entry) {
    const data = { room: this.#room, key: entry.key, text: entry.text };
    for (let tries = 1; ; tries += 1) {
      try {
        const reply = await this.#client.command("chat.post_message", data);
        const known = this.#entries.delete(entry.key);
        const note = reply.reached_bus ? "" : "only people on this node got it";
        if (known || note) this.#set(entry, "sent", note);
        return;
      } catch (error) {
        if (!this.#entries.has(entry.key)) return;
        if (PASSING.includes(error.code) && tries < TRIES) {
          await new Promise((resolve) => setTimeout(resolve, (error.retryAfter ?? 1) * 1000));
        } else if (BROKEN.includes(error.code) && !this.#joined) {
          this.#wait(entry);
          return;
        } else {
          this.#set(entry, "failed", error.code === "timeout" ? "the node did not answer" : error.message);
          return;
        }
      }
    }
  }

  /** @param {Entry} entry */
  #wait(entry) {
    this.#set(entry, "waiting");
    const left = entry.at.getTime() + PATIENCE_SECONDS * 1000 - Date.now();
    setTimeout(() => entry.state === "waiting" && this.#late(entry), Math.max(0, left) + 1);
  }

  /** Whether it has waited so long that its writer has to decide. @param {Entry} entry */
  #late(entry) {
    const late = Date.now() - entry.at.getTime() > PATIENCE_SECONDS * 1000;
    if (late) this.#set(entry, "failed", "the connection was away too long");
    return late;
  }

  /** @param {Entry} entry @param {Entry["state"]} state @param {string} [note] */
  #set(entry, state, note = "") {
    entry.state = state;
    entry.note = note;
    this.#changed(entry);
  }
}

/** A random UUID; `crypto.randomUUID` is missing on pages without TLS that are not on localhost. */
function newKey() {
  if (crypto.randomUUID) return crypto.randomUUID();
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 0x0f) | 0x40;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const hex = [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
}
