/**
 * What this page wants done and has not seen done yet: posts, edits, deletions. Each keeps its key over every
 * retry, reload and tab, so it is done once however often it is sent.
 */

import { isAhead, isTooOld, newKey } from "./keys.js";
import { backOff } from "./reconnect.js";
import { Unsent } from "./unsent.js";

/**
 * @typedef {object} Entry
 * @property {string} key
 * @property {string} command
 * @property {Record<string, any>} data
 * @property {boolean} tried whether it was ever sent: then it may be stored already
 * @property {string} failed
 * @property {"waiting"|"sending"|"unknown"|"sent"|"failed"|"gone"} state
 *   `waiting`: surely not stored yet; `unknown`: sent without an answer, so sent again; `sent`: stored;
 *   `failed`: its writer has to decide; `gone`: done or discarded in another tab, or discarded here
 * @property {string} note
 * @property {boolean} kept whether the storage has it
 * @property {boolean} asNew it can be sent under another key only: the node refuses this one for its time
 * @property {boolean} ended nothing is taken here any more: trying again is useless
 * @property {{epoch: number, sequence: number}} [reply] where it was stored
 */

/** Nothing was stored, and the node will take the same thing a little later. */
const PASSING = ["rate_limited", "busy"];
/** Sent, and nobody knows. */
const UNANSWERED = ["connection_lost", "timeout", "unknown"];
const BUSY_SECONDS = 1;
const TOLD_SECONDS = 0.25;

export class Outbox {
  #client;
  #room;
  #changed;
  #unsent;
  #lock;
  /** @type {Map<string, Entry>} in the order of writing */
  #entries = new Map();
  #open = false;
  /** Why nothing will be taken any more; empty: it will. */
  #ended = "";
  /** One at a time keeps them in order, also when the first has to be sent again. */
  #running = false;
  /** Ends a pause before the next attempt. */
  #hurry = () => {};

  /**
   * @param {import("./realtime_client.js").RealtimeClient} client
   * @param {string} room
   * @param {string} person
   * @param {(entry: Entry) => void} changed told whenever an entry's state changes
   */
  constructor(client, room, person, changed) {
    this.#client = client;
    this.#room = room;
    this.#changed = changed;
    this.#lock = `unsent ${person} ${room}`;
    this.#unsent = new Unsent(`${person} ${room}`, (key, kept) => this.#changedElsewhere(key, kept));
  }

  /** Take up what an earlier page, or another tab, has left. */
  restore() {
    for (const kept of this.#unsent.all()) this.#adopt(kept);
  }

  /**
   * Have something done.
   *
   * @param {string} command
   * @param {Record<string, any>} data what the command needs besides room and key
   */
  add(command, data) {
    const key = newKey(this.#client.now());
    const entry = { key, command, data, tried: false, failed: "", state: "waiting", note: "", asNew: false };
    this.#entries.set(key, entry);
    entry.kept = this.#unsent.keep(entry);
    if (this.#ended) this.#fail(entry, this.#ended);
    else this.#set(entry, "waiting");
    this.#run();
  }

  /** Try again what failed: under its key, or, when no node takes that now, as something new. @param {string} key */
  retry(key) {
    const entry = this.#entries.get(key);
    if (!entry) return;
    if (this.#isOutOfTime(key)) {
      this.discard(key);
      this.add(entry.command, entry.data);
      return;
    }
    entry.failed = "";
    this.#unsent.keep(entry);
    this.#set(entry, entry.tried ? "unknown" : "waiting");
    this.#run();
  }

  /** @param {string} key */
  discard(key) {
    this.#finish(key, "gone");
  }

  /** The event came: it is done, whatever became of the reply. @param {string} key */
  seen(key) {
    this.#finish(key, "sent");
  }

  /** Whether the node takes commands of this room now. @param {boolean} open */
  setOpen(open) {
    this.#open = open;
    this.#hurry();
    this.tell();
    this.#run();
  }

  /** Tell again how everything stands: what it is about may be shown only now. */
  tell() {
    for (const entry of this.#entries.values()) this.#set(entry, entry.state, entry.note);
  }

  /**
   * Nothing here will be taken any more. What was sent without an answer is asked for once: a node tells where
   * a key is stored to whoever stored it, also when they may not write there any more.
   *
   * @param {string} why
   */
  giveUp(why) {
    this.#open = false;
    this.#ended = why;
    for (const entry of this.#entries.values()) {
      if (entry.state === "failed") this.#set(entry, "failed", entry.failed);
      else if (entry.state === "unknown") this.#send(entry, 0);
      else if (entry.state !== "sending") this.#fail(entry, why);
    }
  }

  async #run() {
    if (this.#running) return;
    this.#running = true;
    try {
      let attempt = 0;
      for (let entry = this.#next(); entry; entry = this.#next()) {
        const pause = await this.#alone(() => this.#send(entry, attempt));
        attempt = pause ? attempt + 1 : 0;
        if (pause) await this.#wait(pause);
      }
    } finally {
      this.#running = false;
    }
  }

  /** The first that can be sent. @returns {Entry | undefined} */
  #next() {
    if (!this.#open) return undefined;
    return [...this.#entries.values()].find(({ state }) => ["waiting", "unknown"].includes(state));
  }

  /** One tab at a time sends what this person has to say here; without locks the keys keep it harmless. */
  #alone(send) {
    return globalThis.navigator?.locks ? navigator.locks.request(this.#lock, send) : send();
  }

  /** Send it once. @param {Entry} entry @param {number} attempt @returns {Promise<number>} seconds to wait then */
  async #send(entry, attempt) {
    if (!this.#open && !(this.#ended && entry.state === "unknown")) return 0;
    if (!this.#entries.has(entry.key)) return 0;
    if (entry.kept && this.#unsent.isGone(entry.key)) {
      // Another tab has just seen to it, and this one is about to be told. Should it not be: the key is the same.
      entry.kept = false;
      return TOLD_SECONDS;
    }
    if (isTooOld(entry.key, this.#client.now())) {
      this.#expire(entry);
      return 0;
    }
    const before = entry.tried;
    entry.tried = true;
    entry.kept = this.#unsent.keep(entry);
    this.#set(entry, "sending");
    try {
      entry.reply = await this.#client.command(entry.command, { room: this.#room, key: entry.key, ...entry.data });
      this.#finish(entry.key, "sent");
      return 0;
    } catch (error) {
      if (entry.state !== "sending") return 0;
      const passing = error.code === "not_connected" || PASSING.includes(error.code);
      if (this.#ended) {
        entry.tried = UNANSWERED.includes(error.code) || (passing && before);
        this.#fail(entry, this.#ended);
        return 0;
      }
      if (UNANSWERED.includes(error.code)) {
        this.#set(entry, "unknown");
        return this.#open ? Math.max(error.retryAfter ?? 0, 0.5 + backOff(attempt)) : 0;
      }
      if (passing) {
        entry.tried = before;
        this.#unsent.keep(entry);
        const seconds = error.retryAfter ?? BUSY_SECONDS;
        this.#set(entry, before ? "unknown" : "waiting", error.code === "busy" ? "The node is busy." : "");
        return seconds;
      }
      // What the node refuses it has not stored, at least not this time.
      entry.tried = before;
      entry.asNew = this.#isOutOfTime(entry.key);
      this.#fail(entry, error.message);
      return 0;
    }
  }

  #wait(seconds) {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, seconds * 1000);
      this.#hurry = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  /** @param {import("./unsent.js").Kept} kept */
  #adopt(kept) {
    if (this.#entries.has(kept.key)) return;
    // Whether one that was not refused is out of time is asked when the node's clock is known.
    const asNew = kept.failed !== "" && this.#isOutOfTime(kept.key);
    const entry = { ...kept, kept: true, state: "waiting", note: "", asNew };
    this.#entries.set(entry.key, entry);
    if (kept.failed) this.#set(entry, "failed", kept.failed);
    else this.#set(entry, kept.tried ? "unknown" : "waiting");
    this.#run();
  }

  /** Another tab of the same person wrote something, or is done with it. */
  #changedElsewhere(key, kept) {
    if (kept && !kept.done) this.#adopt(kept);
    else if (this.#entries.has(key)) this.#finish(key, kept ? "sent" : "gone");
  }

  /** Whether every node would refuse the key for when it was drawn. */
  #isOutOfTime(key) {
    const now = this.#client.now();
    return isTooOld(key, now) || isAhead(key, now);
  }

  #expire(entry) {
    entry.asNew = true;
    const unsure = entry.tried ? "nobody knows whether it was sent" : "it was never sent";
    this.#fail(entry, `it is more than a day old, and ${unsure}`);
  }

  #fail(entry, why) {
    entry.failed = why;
    this.#unsent.keep(entry);
    this.#set(entry, "failed", why);
  }

  #finish(key, state) {
    const entry = this.#entries.get(key);
    if (!entry) return;
    this.#entries.delete(key);
    this.#unsent.forget(entry, state === "sent");
    this.#set(entry, state);
  }

  /** @param {Entry} entry @param {Entry["state"]} state @param {string} [note] */
  #set(entry, state, note = "") {
    entry.state = state;
    entry.note = note;
    entry.open = this.#open;
    entry.ended = this.#ended !== "";
    this.#changed(entry);
  }
}
