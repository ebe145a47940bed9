/** How far somebody has read: told to the node now and then, and how much is new, told in the title. */

/** Each mark is written to the database: a conversation that is watched is marked so often at most. */
const MARK_SECONDS = 5;

export class ReadMarker {
  #client;
  #room;
  #title = document.title;
  #unread = 0;
  /** What the node knows, and what it has to be told. */
  #told = 0;
  #seen = 0;
  #timer = 0;

  /** @param {import("./realtime_client.js").RealtimeClient} client @param {string} room */
  constructor(client, room) {
    this.#client = client;
    this.#room = room;
    document.addEventListener("visibilitychange", () => document.hidden && this.#tell());
    addEventListener("pagehide", () => this.#tell());
  }

  /** @returns {number} messages of others that were not seen */
  get unread() {
    return this.#unread;
  }

  /** What the node says with a snapshot. @param {number | null} lastRead @param {number} unread */
  restart(lastRead, unread) {
    this.#told = this.#seen = lastRead ?? 0;
    this.#count(unread);
  }

  /** The connection is back: what could not be told is told now. */
  resume() {
    this.#tell();
  }

  /** A message of somebody else's came. */
  arrived() {
    this.#count(this.#unread + 1);
  }

  /** All up to this sequence was in view. @param {number} sequence */
  seen(sequence) {
    this.#count(0);
    if (sequence <= this.#seen) return;
    this.#seen = sequence;
    this.#timer ||= setTimeout(() => this.#tell(), MARK_SECONDS * 1000);
  }

  #tell() {
    clearTimeout(this.#timer);
    this.#timer = 0;
    if (this.#seen <= this.#told) return;
    const sequence = this.#seen;
    const before = this.#told;
    this.#told = sequence;
    this.#client.command("chat.mark_read", { room: this.#room, sequence }).catch(() => {
      this.#told = Math.min(this.#told, before);
    });
  }

  #count(unread) {
    this.#unread = unread;
    document.title = unread ? `(${unread}) ${this.#title}` : this.#title;
  }
}
