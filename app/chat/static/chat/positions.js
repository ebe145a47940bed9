/**
 * How far a client has come in each stream that it follows. Needs nothing else: it goes with `realtime_client.js`.
 *
 * Only events move a position, one by one. It is therefore the last event before any hole, and what a client
 * resumes from.
 */

/** @typedef {{epoch: number, sequence: number}} Position a place in a stream, and which life of it */

/**
 * @typedef {object} Followed a stream that is followed
 * @property {number} epoch
 * @property {number} sequence the last event handed on; all before it were, too
 * @property {(reason: string) => void} restart
 * @property {number} confirmed the sequence that the node was told, on this connection
 * @property {boolean} resuming whether the node is being asked to go on
 */

export class Positions {
  /** @type {Map<string, Followed>} by the name of the stream */
  #followed = new Map();

  /** @param {string} stream @param {Position} position @param {(reason: string) => void} restart */
  follow(stream, { epoch, sequence }, restart) {
    this.#followed.set(stream, { epoch, sequence, restart, confirmed: 0, resuming: false });
  }

  /** Forget the stream. @param {string} stream @returns {Followed | undefined} what it was */
  unfollow(stream) {
    const followed = this.#followed.get(stream);
    this.#followed.delete(stream);
    return followed;
  }

  /** @param {string} stream */
  get(stream) {
    return this.#followed.get(stream);
  }

  /**
   * An event came: is it the next one? Then the position moves.
   *
   * @param {string} stream
   * @param {number} sequence
   * @returns {"next"|"known"|"beyond"} `known`: it was handed on before, or the stream is not followed;
   *   `beyond`: something before it is missing
   */
  take(stream, sequence) {
    const followed = this.#followed.get(stream);
    if (!followed || sequence <= followed.sequence) return "known";
    if (sequence > followed.sequence + 1) return "beyond";
    followed.sequence = sequence;
    return "next";
  }

  /** A new connection: the node knows nothing of this client yet. @returns {string[]} the streams to resume */
  reconnected() {
    for (const followed of this.#followed.values()) {
      followed.confirmed = 0;
      followed.resuming = false;
    }
    return [...this.#followed.keys()];
  }

  /** The sequences that the node has to be told. It counts as told. @returns {Record<string, number> | null} */
  confirm() {
    const news = [...this.#followed].filter(([, { sequence, confirmed }]) => sequence > confirmed);
    for (const [, followed] of news) followed.confirmed = followed.sequence;
    return news.length ? Object.fromEntries(news.map(([stream, { sequence }]) => [stream, sequence])) : null;
  }

  /** Whether there is something to tell. */
  get unconfirmed() {
    return [...this.#followed.values()].some(({ sequence, confirmed }) => sequence > confirmed);
  }
}
