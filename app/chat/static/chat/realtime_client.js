/**
 * A client of Carillon's wire protocol, version 1: connects, stays connected, goes on in every stream where it
 * was, and says how it stands.
 *
 * Knows no page and no feature, and needs only `node_clock.js`, `positions.js` and `reconnect.js`: copy the four
 * into any project.
 *
 *   const client = new RealtimeClient({ url: "wss://example.org/realtime/", ticket: fetchTicket, resume });
 *   client.on("chat.message_posted", (message) => show(message.text));
 *   client.onState((state) => state.name === "connected" && !client.position("room.lobby") && join());
 *   client.connect();
 *
 *   async function join() {
 *     const { position, messages } = await client.command("chat.join_room", { room: "lobby" });
 *     client.follow("room.lobby", position, join); // before anything else is awaited: events come next
 *     messages.forEach(show);
 *   }
 *
 *   async function resume(positions) { // after a reconnect: one command, whatever the number of streams
 *     const rooms = [...positions].map(([stream, position]) => ({ room: stream.slice(5), ...position }));
 *     const reply = await client.command("chat.resume", { rooms });
 *     return Object.fromEntries(reply.rooms.map((answer) => [`room.${answer.room}`, answer]));
 *   }
 *
 * A handler gets each event of a stream once and in order, over any number of connections. Where the server
 * cannot go on from a position (`reset`), the stream is forgotten and what `follow` was given is called.
 */

import { NodeClock } from "./node_clock.js";
import { Positions } from "./positions.js";
import { afterClose, backOff, hinted, whenWelcome } from "./reconnect.js";

export const SUBPROTOCOL = "carillon.v1";
const TICKET_PREFIX = "carillon.ticket.";

const CONNECT_SECONDS = 8;
const COMMAND_SECONDS = 10;
const PONG_SECONDS = 5;
/** A connection that lasted so long was a good one: the next loss begins with short delays again. */
const STABLE_SECONDS = 5;

/**
 * @typedef {object} State
 * @property {"idle"|"connecting"|"connected"|"waiting"|"offline"|"stopped"} name
 *   `waiting`: for `retryAt`; `offline`: for the browser's network; `stopped`: for `connect()`.
 * @property {number} attempt how many times connecting has failed since it last worked
 * @property {number} [retryAt] when the next attempt is made, in milliseconds of `Date.now()`
 * @property {number} [code] the close code, or 0 when there was none
 * @property {string} [reason]
 * @property {Hello} [hello] while connected: what the node said first
 */

/** @typedef {import("./positions.js").Position} Position */
/** @typedef {import("./positions.js").Resumed} Resumed */

/**
 * @typedef {object} Place what a handler of a durable event gets besides its data
 * @property {string} stream
 * @property {number} sequence
 */

/**
 * @typedef {object} Hello
 * @property {string} node
 * @property {string} time the node's clock, RFC 3339
 * @property {string} connection
 * @property {boolean} bus_connected
 * @property {{id: string, name: string, guest: boolean}} user
 * @property {{frame_bytes: number, commands_per_second: number, rooms: number, ping_seconds: number}} limits
 */

/** Why a command has no reply. Codes of the node's own, or `not_connected`, `connection_lost`, `timeout`. */
export class CommandFailed extends Error {
  /**
   * @param {string} code
   * @param {string} message
   * @param {number} [retryAfter] seconds
   */
  constructor(code, message, retryAfter) {
    super(message);
    this.name = "CommandFailed";
    this.code = code;
    this.retryAfter = retryAfter;
  }
}

/** Thrown by a `ticket` function when asking again is useless: nobody is logged in. Ends reconnecting. */
export class TicketRefused extends Error {}

/** Half an emoji is no text: JSON would carry it in a way that no node reads. */
const wellFormed = (_, value) => (typeof value === "string" ? value.replace(/\p{Surrogate}/gu, "\ufffd") : value);

export class RealtimeClient {
  /** @type {State} */
  state = { name: "idle", attempt: 0 };

  #url;
  #ticket;
  #random;
  /** @type {WebSocket | null} */
  #socket = null;
  /** Each attempt is another life; what belongs to an older one is ignored. */
  #life = 0;
  #attempt = 0;
  #connectedAt = 0;
  #lastId = 0;
  #heardAt = 0;
  /** @type {Map<number, {resolve: (reply: any) => void, reject: (error: Error) => void, timer: number}>} */
  #commands = new Map();
  /** @type {Map<string, Set<(data: any) => void>>} */
  #handlers = new Map();
  /** @type {Set<(state: State) => void>} */
  #stateHandlers = new Set();
  /** @type {{retry?: number, deadline?: number, heartbeat?: number}} */
  #timers = {};
  #resume;
  #positions = new Positions();
  /** When the node that let this client go wants it back, in seconds; null: it did not say. */
  #retryAfter = null;
  #clock = new NodeClock();

  /**
   * @param {object} options
   * @param {string | URL} options.url
   * @param {(attempt: number) => Promise<string | null>} [options.ticket] asked before every attempt, with its
   *   number: 0 at first, 1 after a loss, more the longer it does not work; null: cookies will do. An error may
   *   say with `retryAfter` (seconds) that nobody should come earlier
   * @param {(positions: Map<string, Position>) => Promise<Resumed>} [options.resume]
   *   asks the node to go on in these streams from these positions, and says how each of them stands; called
   *   after a reconnect, and when an event is missing. Without it all streams begin anew then
   * @param {() => number} [options.random]
   */
  constructor({ url, ticket, resume = async () => ({}), random = Math.random }) {
    this.#url = url;
    this.#ticket = ticket;
    this.#resume = resume;
    this.#random = random;
    globalThis.addEventListener?.("online", () => this.#networkReturned());
    globalThis.addEventListener?.("offline", () => this.#networkWent());
    globalThis.document?.addEventListener("visibilitychange", () => {
      // A hidden page's timers sleep: look at once how things stand.
      if (!document.hidden) this.#networkReturned();
    });
  }

  /** Connect and stay connected. Harmless while connected. */
  connect() {
    if (["connecting", "connected"].includes(this.state.name)) return;
    this.#attempt = 0;
    this.#open();
  }

  /** Leave for good; `connect()` comes back. */
  close() {
    this.#drop(1000);
    this.#setState({ name: "stopped", attempt: 0, code: 1000, reason: "" });
  }

  /**
   * Go on in a stream from a position, from now on and over every reconnect. Call it as soon as the reply that
   * says the position is there: the events after it come next.
   *
   * @param {string} stream
   * @param {Position} position what the caller has: a snapshot's
   * @param {(reason: string) => void} restart the server cannot go on from where this client is; the stream is
   *   not followed any more: get a snapshot and follow again
   */
  follow(stream, position, restart) {
    this.#positions.follow(stream, position, restart);
  }

  /** The position of the last event that came without a hole before it; null: the stream is not followed. */
  position(stream) {
    const followed = this.#positions.get(stream);
    return followed ? { epoch: followed.epoch, sequence: followed.sequence } : null;
  }

  /** Hand on no more of the stream's events. Leaving it on the node is a command of the feature's. */
  unfollow(stream) {
    this.#positions.unfollow(stream);
  }

  /** Milliseconds since 1970 by the node's clock, as far as one was heard of yet. */
  now() {
    return this.#clock.now();
  }

  /**
   * Hear an event by its name. Events of a stream that is not followed are not handed on.
   *
   * @param {string} name
   * @param {(data: any, place?: Place) => void} handler
   * @returns {() => void} stops hearing it
   */
  on(name, handler) {
    const handlers = this.#handlers.get(name) ?? new Set();
    this.#handlers.set(name, handlers.add(handler));
    return () => handlers.delete(handler);
  }

  /**
   * Be told the state now and whenever it changes.
   *
   * @param {(state: State) => void} handler
   * @returns {() => void} stops it
   */
  onState(handler) {
    this.#stateHandlers.add(handler);
    handler(this.state);
    return () => this.#stateHandlers.delete(handler);
  }

  /**
   * Ask the node for something. Nothing is queued: without a connection it fails at once.
   *
   * @param {string} name
   * @param {object} [data]
   * @param {{timeout?: number}} [options] `timeout` in seconds
   * @returns {Promise<any>} the reply; rejected with `CommandFailed`
   */
  command(name, data = {}, { timeout = COMMAND_SECONDS } = {}) {
    const socket = this.#socket;
    if (this.state.name !== "connected" || !socket) {
      return Promise.reject(new CommandFailed("not_connected", "there is no connection"));
    }
    const id = ++this.#lastId;
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#commands.delete(id);
        reject(new CommandFailed("timeout", `no answer within ${timeout} s`));
      }, timeout * 1000);
      this.#commands.set(id, { resolve, reject, timer });
      socket.send(JSON.stringify({ id, command: name, data }, wellFormed));
    });
  }

  async #open() {
    const life = ++this.#life;
    clearTimeout(this.#timers.retry);
    this.#setState({ name: "connecting", attempt: this.#attempt });
    this.#timers.deadline = setTimeout(() => this.#lost(life, 0, "no answer"), CONNECT_SECONDS * 1000);
    let ticket;
    try {
      ticket = await this.#ticket?.(this.#attempt);
    } catch (error) {
      if (life !== this.#life) return;
      if (error instanceof TicketRefused) this.#stop(4500, error.message);
      else this.#lost(life, 0, "no ticket", hinted(error.retryAfter));
      return;
    }
    if (life !== this.#life) return;
    const protocols = ticket ? [SUBPROTOCOL, TICKET_PREFIX + ticket] : [SUBPROTOCOL];
    const socket = new WebSocket(this.#url, protocols);
    this.#socket = socket;
    socket.onmessage = (event) => life === this.#life && this.#received(life, event.data);
    socket.onclose = async ({ code, reason }) => {
      const refused = this.state.name === "connecting";
      this.#lost(life, code, reason, refused ? await whenWelcome(this.#url) : null);
    };
  }

  /** @param {number} life @param {string} text */
  #received(life, text) {
    this.#heardAt = Date.now();
    const frame = JSON.parse(text);
    if (frame.event === "hello") this.#greeted(life, frame.data);
    else if (frame.event === "connection.released") this.#retryAfter = hinted(frame.data.retry_after);
    else if (frame.event === "node.bus_changed" && this.state.hello) {
      this.state.hello.bus_connected = frame.data.connected;
    }
    if (frame.event) {
      this.#happened(life, frame);
      return;
    }
    const waiting = this.#commands.get(frame.id);
    if (!waiting) return;
    this.#commands.delete(frame.id);
    clearTimeout(waiting.timer);
    if (frame.error) {
      const { code, message, retry_after: retryAfter } = frame.error;
      waiting.reject(new CommandFailed(code, message, retryAfter));
    } else waiting.resolve(frame.reply);
  }

  /** An event: of a stream only when it is the next one. @param {number} life @param {any} frame */
  #happened(life, { event, data, stream, sequence }) {
    if (event === "stream.reset") this.#positions.restart(data.stream, data.reason);
    if (stream !== undefined) {
      const which = this.#positions.take(stream, sequence);
      // Nodes deliver without holes. Should there be one, it is fetched before anything behind it is shown.
      if (which === "beyond" && !this.#positions.get(stream).resuming) this.#goOn(life, [stream]);
      if (which !== "next") return;
    }
    for (const handler of this.#handlers.get(event) ?? []) handler(data, { stream, sequence });
  }

  /** Resume the streams from where this client is. @param {number} life @param {string[]} streams */
  #goOn(life, streams) {
    const pause = (attempt) => backOff(attempt, this.#random);
    this.#positions.resume(streams, this.#resume, pause, () => life === this.#life);
  }

  /** @param {number} life @param {Hello} hello */
  #greeted(life, hello) {
    clearTimeout(this.#timers.deadline);
    this.#connectedAt = performance.now();
    if (hello.time) this.#clock.set(Date.parse(hello.time));
    const streams = this.#positions.reconnected();
    this.#setState({ name: "connected", attempt: 0, hello });
    if (streams.length) this.#goOn(life, streams);
    const seconds = hello.limits.ping_seconds;
    clearInterval(this.#timers.heartbeat);
    this.#timers.heartbeat = setInterval(() => {
      // After a sleep, or when the clock was turned, it is time to ask: a steady clock may have slept, too.
      const silent = Math.abs(Date.now() - this.#heardAt) >= seconds * 1000;
      if (silent || this.#positions.unconfirmed) this.#ping(life);
    }, (seconds * 1000) / 4);
  }

  /** Ask whether anybody is there, and tell how far this client has come in its streams. @param {number} life */
  #ping(life) {
    const heardAt = this.#heardAt;
    const seen = this.#positions.confirm();
    this.command("ping", seen ? { seen } : {}, { timeout: PONG_SECONDS }).catch((error) => {
      // Whatever the node answered, it lives.
      if (life !== this.#life || error.code !== "timeout") return;
      // A frame since then shows that the node lived, or was on its way already: ask once more.
      if (this.#heardAt !== heardAt) this.#ping(life);
      else this.#lost(life, 0, "no answer to a ping");
    });
  }

  /** `refused`: in how many seconds somebody who let nobody in wants us, or null. */
  #lost(life, code, reason, refused = null) {
    if (life !== this.#life) return;
    if (refused !== null) this.#retryAfter = refused + backOff(this.#attempt, this.#random);
    const lasted = this.#connectedAt ? performance.now() - this.#connectedAt : 0;
    this.#drop(1000);
    if (lasted >= STABLE_SECONDS * 1000) this.#attempt = 0;
    if (afterClose(code) === "never") {
      this.#setState({ name: "stopped", attempt: 0, code, reason });
      return;
    }
    const delay = (this.#retryAfter ?? backOff(this.#attempt, this.#random)) * 1000;
    this.#retryAfter = null;
    this.#attempt += 1;
    this.#timers.retry = setTimeout(() => this.#open(), delay);
    const name = globalThis.navigator?.onLine === false ? "offline" : "waiting";
    this.#setState({ name, attempt: this.#attempt, retryAt: Date.now() + delay, code, reason });
  }

  /** @param {number} code @param {string} reason */
  #stop(code, reason) {
    this.#drop(1000);
    this.#setState({ name: "stopped", attempt: 0, code, reason });
  }

  /** Forget this life: its socket, timers and commands. @param {number} code */
  #drop(code) {
    this.#life += 1;
    this.#connectedAt = 0;
    clearTimeout(this.#timers.retry);
    clearTimeout(this.#timers.deadline);
    clearInterval(this.#timers.heartbeat);
    const socket = this.#socket;
    this.#socket = null;
    if (socket) {
      socket.onmessage = socket.onclose = null;
      socket.close(code);
    }
    const commands = [...this.#commands.values()];
    this.#commands.clear();
    for (const { reject, timer } of commands) {
      clearTimeout(timer);
      reject(new CommandFailed("connection_lost", "the connection was lost before the answer"));
    }
  }

  #networkReturned() {
    if (this.state.name === "connected") this.#ping(this.#life);
    else if (["waiting", "offline"].includes(this.state.name)) {
      this.#attempt = 0;
      this.#open();
    }
  }

  #networkWent() {
    if (this.state.name === "connected") this.#ping(this.#life);
    else if (this.state.name === "waiting") this.#setState({ ...this.state, name: "offline" });
  }

  /** @param {State} state */
  #setState(state) {
    this.state = state;
    for (const handler of this.#stateHandlers) handler(state);
  }
}
