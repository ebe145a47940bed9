/** What was said before: pages backwards from what is shown, when its reader comes near the top. */

import { backOff } from "./reconnect.js";

/** Pages of the protocol's largest size: fewer commands for whoever scrolls far. */
const PAGE_MESSAGES = 100;
const AHEAD_PIXELS = 400;
/** Places of deleted messages come in crowds after a reconnect: one question for all of them. */
const GATHER_MILLISECONDS = 100;

export class History {
  #client;
  #room;
  #messages;
  #button;
  #beginning;
  #watch;
  #loading = false;
  /** What was asked for before a snapshot does not belong behind it. */
  #life = 0;
  /** @type {number[]} sequences of events whose text is gone */
  #blanked = [];
  #timer = 0;

  /**
   * @param {import("./realtime_client.js").RealtimeClient} client
   * @param {string} room
   * @param {import("./message_list.js").MessageList} messages
   * @param {{log: HTMLElement, button: HTMLButtonElement, beginning: HTMLElement}} parts
   */
  constructor(client, room, messages, { log, button, beginning }) {
    this.#client = client;
    this.#room = room;
    this.#messages = messages;
    this.#button = button;
    this.#beginning = beginning;
    button.addEventListener("click", () => this.#more());
    const options = { root: log, rootMargin: `${AHEAD_PIXELS}px 0px 0px 0px` };
    this.#watch = new IntersectionObserver((seen) => seen.at(-1).isIntersecting && this.#more(), options);
  }

  /** A snapshot is shown. */
  restart() {
    this.#life += 1;
    this.#blanked = [];
    this.look();
  }

  /** Whether there is more to be had may have changed. */
  look() {
    const { earlier } = this.#messages;
    this.#button.hidden = !earlier;
    this.#button.textContent = "Earlier messages";
    this.#beginning.hidden = earlier;
    this.#watch.unobserve(this.#button);
    if (earlier) this.#watch.observe(this.#button);
  }

  /** An event came whose text was deleted since: perhaps a message, of which history knows the rest. */
  blanked(sequence) {
    this.#blanked.push(sequence);
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#fill(), GATHER_MILLISECONDS);
  }

  async #more() {
    if (this.#loading || !this.#messages.earlier) return;
    const life = this.#life;
    this.#loading = true;
    this.#button.textContent = "Fetching earlier messages…";
    try {
      const { messages, earlier } = await this.#page(this.#messages.oldest);
      if (life !== this.#life) return;
      this.#messages.earlier = earlier;
      this.#messages.add(messages);
      this.look();
    } catch (error) {
      if (error.retryAfter) setTimeout(() => this.#more(), error.retryAfter * 1000);
      else {
        this.#button.textContent = "Earlier messages did not come. Try again";
        this.#watch.unobserve(this.#button);
      }
    } finally {
      this.#loading = false;
      if (life !== this.#life) this.look();
    }
  }

  /** Get what is known of deleted messages that came while this page was away. */
  async #fill(attempt = 0) {
    const life = this.#life;
    const blanked = this.#blanked.splice(0);
    const first = Math.max(blanked[0], this.#messages.oldest);
    try {
      for (let before = blanked.at(-1) + 1; before > first; ) {
        const { messages, earlier } = await this.#page(before);
        if (life !== this.#life) return;
        const missed = messages.filter(({ sequence }) => sequence >= first && blanked.includes(sequence));
        if (missed.length) this.#messages.add(missed);
        if (!earlier || !messages.length) return;
        before = messages[0].sequence;
      }
    } catch (error) {
      if (life !== this.#life) return;
      this.#blanked.unshift(...blanked);
      // The connection went again: they are asked for when it goes on. The node is busy, or silent: a little later.
      if (!error.retryAfter && error.code !== "timeout") return;
      clearTimeout(this.#timer);
      const seconds = error.retryAfter ?? 0.5 + backOff(attempt);
      this.#timer = setTimeout(() => this.#fill(attempt + 1), seconds * 1000);
    }
  }

  /** The connection is back: what could not be asked for can be now. */
  resume() {
    if (this.#blanked.length) this.#fill();
    this.look();
  }

  #page(before) {
    return this.#client.command("chat.history", { room: this.#room, before, limit: PAGE_MESSAGES });
  }
}
