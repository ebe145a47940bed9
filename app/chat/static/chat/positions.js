/**
 * How far a client has come in each stream that it follows, and how it goes on there. Needs nothing else: it goes
 * with `realtime_client.js`.
 *
 * Only events move a position, one by one. It is therefore the last event before any hole, and what a client
 * resumes from.
 */

/** Answers after which the same question may well be answered a little later. */
const PASSING = ["busy", "rate_limited", "timeout", "internal_error"];

/** @typedef {{epoch: number, sequence: number}} Position a place in a stream, and which life of it */
/** @typedef {Record<string, {resumed: boolean, reset?: string | null}>} Resumed by stream */

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

  /**
   * Ask the node to go on in these streams, again while the answer is one that passes. Those that cannot go on begin
   * anew.
   *
   * @param {string[]} streams
   * @param {(positions: Map<string, Position>) => Promise<Resumed>} ask
   * @param {(attempt: number) => number} pause how many seconds to wait before asking again
   * @param {() => boolean} connected whether it is still the same connection
   */
  async resume(streams, ask, pause, connected) {
    const asked = new Map();
    for (const stream of streams) {
      const followed = this.#followed.get(stream);
      if (!followed) continue;
      followed.resuming = true;
      asked.set(stream, followed);
    }
    for (let attempt = 1; connected(); attempt += 1) {
      // Whoever left meanwhile, or began anew, is not asked for.
      for (const [stream, followed] of asked) if (this.#followed.get(stream) !== followed) asked.delete(stream);
      if (!asked.size) return;
      try {
        const answers = await ask(new Map([...asked].map(([name, { epoch, sequence }]) => [name, { epoch, sequence }])));
        for (const [stream, followed] of asked) {
          followed.resuming = false;
          const current = this.#followed.get(stream) === followed;
          if (current && !answers[stream]?.resumed) this.restart(stream, answers[stream]?.reset ?? "refused");
        }
        return;
      } catch (error) {
        if (!connected()) return;
        if (!PASSING.includes(error.code)) {
          for (const stream of asked.keys()) this.restart(stream, error.code ?? "refused");
          if (error.code) return;
          throw error;
        }
        await new Promise((resolve) => setTimeout(resolve, (error.retryAfter ?? pause(attempt)) * 1000));
      }
    }
  }

  /** The stream cannot be gone on with: whoever followed it is told. @param {string} stream @param {string} reason */
  restart(stream, reason) {
    this.unfollow(stream)?.restart(reason);
  }
}
