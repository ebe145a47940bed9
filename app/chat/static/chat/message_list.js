/**
 * The conversation: messages in the order of their stream, own unsent ones at the end, notices between.
 *
 * It shows a state, however it came to be: a snapshot, pages of history and live events lead to the same.
 */

import { element } from "./elements.js";
import { drawnAt } from "./keys.js";
import { MessageItem } from "./message_item.js";
import { clock, day, sameDay } from "./times.js";

const GROUP_MINUTES = 5;
/** Older ones leave the page: a tab that is open for weeks stays quick. History brings them back. */
const ITEMS_KEPT = 1000;
/** Of edits and deletions of messages that are not shown; see `#changes`. */
const CHANGES_KEPT = 1000;
const NEAR_BOTTOM_PIXELS = 48;

/** @typedef {import("./message_item.js").Message} Message */

export class MessageList {
  #log;
  #list;
  #jump;
  #actions;
  #me = "";
  /** @type {Map<string, MessageItem>} by message id, of what is shown */
  #items = new Map();
  /** Edits and deletions that came as events: a page that was read before one of them must not undo it.
   * @type {Map<string, {text: string, edited_at: string} | null>} null: deleted */
  #changes = new Map();
  #below = 0;
  #atBottom = true;
  #lastRead = 0;
  #unreadLine = element("li", "divider unread", element("span", "", "New"));
  #unreadPlaced = false;
  /** Whether there are older messages than those that are shown. */
  earlier = false;
  /** The sequences of the oldest and the newest message that is shown; 0: there is none. */
  oldest = 0;
  newest = 0;

  /**
   * @param {HTMLElement} log what scrolls
   * @param {HTMLElement} list
   * @param {HTMLButtonElement} jump leads to what is new below
   * @param {import("./message_item.js").Actions & {looked: () => void, added: () => void}} actions
   *   `looked`: the end came into view; `added`: there are more messages of the past
   */
  constructor(log, list, jump, actions) {
    this.#log = log;
    this.#list = list;
    this.#jump = jump;
    this.#actions = actions;
    log.addEventListener("scroll", () => {
      this.#measure();
      if (this.#atBottom) this.#read();
    });
    jump.addEventListener("click", () => {
      this.scrollToEnd();
      log.focus();
    });
    // The composer grows, a phone's keyboard opens: whoever was at the end stays there.
    new ResizeObserver(() => this.#atBottom && this.scrollToEnd()).observe(log);
  }

  /** @param {string} id whose messages are shown as one's own */
  set me(id) {
    this.#me = id;
  }

  get atEnd() {
    return this.#atBottom;
  }

  /** What the reader may do with messages. @param {{role: string | null, muted: boolean}} rights */
  set rights({ role, muted }) {
    this.#list.classList.toggle("may-moderate", ["moderator", "owner"].includes(role));
    this.#list.classList.toggle("muted", muted);
  }

  /** Nothing can be done with messages any more: they are to be read. */
  close() {
    this.#list.classList.add("closed");
  }

  scrollToEnd() {
    this.#log.scrollTop = this.#log.scrollHeight;
    this.#atBottom = true;
    this.#read();
  }

  /**
   * Begin anew with a snapshot. What is not sent yet stays; where it is known to be stored, the snapshot has it.
   *
   * @param {Message[]} messages the latest, oldest first
   * @param {boolean} earlier whether there are older ones
   * @param {number | null} lastRead
   */
  restart(messages, earlier, lastRead) {
    this.#quietly(() => {
      for (const [id, item] of this.#items) {
        if (item.pending && item.node.dataset.state !== "sent") continue;
        this.#items.delete(id);
        item.node.remove();
      }
      for (const other of this.#list.querySelectorAll("li:not(.pending)")) other.remove();
      this.#changes.clear();
      this.#lastRead = lastRead ?? 0;
      this.#unreadPlaced = !lastRead;
      this.oldest = this.newest = 0;
      this.earlier = earlier;
      for (const message of messages) this.#put(message);
      this.#divideUnread();
    });
    this.#log.scrollTop = this.#log.scrollHeight;
    const line = this.#unreadLine.isConnected ? this.#unreadLine.offsetTop - this.#log.offsetTop : Infinity;
    this.#log.scrollTop = Math.min(this.#log.scrollTop, line);
    this.#below = 0;
    this.#jump.hidden = true;
    this.#measure();
  }

  /**
   * Messages of the past, wherever they belong.
   *
   * @param {Message[]} messages oldest first
   */
  add(messages) {
    this.#quietly(() => {
      const { scrollHeight, scrollTop } = this.#log;
      const [first] = messages;
      const above = first && (!this.oldest || first.sequence < this.oldest);
      for (const message of messages) this.#put(this.#changed(message));
      this.#divideUnread();
      if (above) this.#log.scrollTop = scrollTop + this.#log.scrollHeight - scrollHeight;
      else if (this.#atBottom) this.scrollToEnd();
    });
    this.#actions.added();
  }

  /**
   * A message that was posted now.
   *
   * @param {Message} message
   * @param {boolean} firstUnread whether nobody looks, and all before it was seen
   */
  post(message, firstUnread) {
    const item = this.#put(message);
    if (firstUnread) this.#divideBefore(item.node);
    this.#settle(message.sender.id !== this.#me);
  }

  /** @param {{message_id: string, text: string, edited_at: string}} change */
  edit({ message_id: id, text, edited_at }) {
    if (this.#changes.get(id) !== null) this.#remember(id, { text, edited_at });
    this.#items.get(id)?.write(text, edited_at);
    this.#settle(false);
  }

  /** @param {string} id */
  remove(id) {
    this.#remember(id, null);
    this.#items.get(id)?.blank();
    this.#settle(false);
  }

  /** Open the last message that its reader may edit. */
  editLast() {
    const mine = [...this.#items.values()].filter((item) => item.node.classList.contains("mine"));
    mine.findLast((item) => !item.pending && !item.deleted)?.edit();
  }

  /**
   * How something that was asked for here stands: a post on its way is shown at the end.
   *
   * @param {import("./outbox.js").Entry} entry
   * @param {{id: string, name: string}} sender
   */
  show(entry, sender) {
    if (entry.command !== "chat.post_message") {
      this.#items.get(entry.data.message_id)?.show(entry);
      return;
    }
    let item = this.#items.get(entry.key);
    if (!item) {
      if (["sent", "gone"].includes(entry.state)) return;
      item = new MessageItem(entry.key, sender, true, this.#actions);
      item.write(entry.data.text);
      item.at = new Date(drawnAt(entry.key));
      item.pending = true;
      this.#items.set(entry.key, item);
      this.#list.append(item.node);
      this.#regroup(item.node);
      this.scrollToEnd();
    }
    item.show(entry);
    if (!item.pending) return;
    item.node.dataset.state = entry.state;
    if (entry.state === "gone") this.drop(entry.key);
    else if (this.#atBottom) this.scrollToEnd();
  }

  /** One's own message is stored, and no event will bring it: it stays. @param {string} key @param {number} sequence */
  keep(key, sequence) {
    const item = this.#items.get(key);
    if (item?.pending) item.place(sequence);
  }

  /** Take one's own unsent message away. @param {string} key */
  drop(key) {
    const item = this.#items.get(key);
    if (!item?.pending) return;
    const next = item.node.nextElementSibling;
    this.#items.delete(key);
    item.node.remove();
    if (next) this.#regroup(next);
  }

  /** A line about the room. @param {string} text */
  notice(text) {
    const time = element("time", "", clock(new Date()));
    this.#append(element("li", "notice", element("span", "", text), " ", time));
    this.#settle(false);
  }

  /** A line across. @param {string} text */
  divide(text) {
    this.#append(element("li", "divider", element("span", "", text)));
    this.#settle(false);
  }

  /** A message as it is now. @param {Message} message @returns {MessageItem} */
  #put(message) {
    const { message_id: id, sequence, sender } = message;
    let item = this.#items.get(id);
    if (!item || item.pending) {
      const after = item?.node.nextElementSibling;
      item ??= new MessageItem(id, sender, sender.id === this.#me, this.#actions);
      this.#items.set(id, item);
      item.at = new Date(message.sent_at);
      const place = this.#placeFor(sequence);
      item.place(sequence, message.node);
      // What is in its place already stays: a screen reader would read it twice.
      if (place !== item.node) this.#list.insertBefore(item.node, place);
      this.oldest = Math.min(this.oldest || sequence, sequence);
      this.newest = Math.max(this.newest, sequence);
      item.show({ state: "sent", key: id, command: "chat.post_message" });
      this.#separateDays(item.node);
      for (const one of [item.node, after]) if (one) this.#regroup(one);
    }
    if (message.deleted) item.blank();
    else item.write(message.text, message.edited_at);
    return item;
  }

  /** What the message of this sequence comes before. */
  #placeFor(sequence) {
    if (sequence > this.newest) return this.#list.querySelector(".pending");
    for (const one of this.#list.children) {
      if (!one.classList.contains("message")) continue;
      if (!one.classList.contains("pending") && Number(one.dataset.sequence) < sequence) continue;
      let first = one;
      while (first.previousElementSibling?.classList.contains("divider")) first = first.previousElementSibling;
      return first;
    }
    return null;
  }

  /** The message with what events said of it: they are never older than a page that was asked for. */
  #changed(message) {
    const change = this.#changes.get(message.message_id);
    if (change === undefined) return message;
    return change ? { ...message, ...change } : { ...message, text: "", deleted: true };
  }

  #remember(id, change) {
    this.#changes.delete(id);
    this.#changes.set(id, change);
    if (this.#changes.size > CHANGES_KEPT) this.#changes.delete(this.#changes.keys().next().value);
  }

  #append(item) {
    this.#list.insertBefore(item, this.#list.querySelector(".pending"));
    this.#regroup(item);
  }

  /** The line of the day before `item` and before the message after it, where one belongs. */
  #separateDays(item) {
    for (const one of [item, this.#neighbour(item, "nextElementSibling")]) {
      if (!one) continue;
      const line = one.previousElementSibling;
      if (line?.classList.contains("day")) line.remove();
      const before = this.#neighbour(one, "previousElementSibling");
      const date = new Date(one.dataset.at);
      if (before ? sameDay(new Date(before.dataset.at), date) : sameDay(new Date(), date)) continue;
      this.#list.insertBefore(element("li", "divider day", element("span", "", day(date))), one);
    }
  }

  /** The next posted message in one direction. @param {HTMLElement} item */
  #neighbour(item, direction) {
    let other = item[direction];
    while (other && !other.classList.contains("message")) other = other[direction];
    return other?.classList.contains("pending") ? null : other;
  }

  /** Whether `item` and what follows it go on with the message before. */
  #regroup(item) {
    for (const one of [item, item.nextElementSibling]) {
      if (!one?.classList.contains("message")) continue;
      const before = one.previousElementSibling;
      const follows =
        before?.classList.contains("message") &&
        before.dataset.sender === one.dataset.sender &&
        (one.dataset.node ?? before.dataset.node) === before.dataset.node &&
        new Date(one.dataset.at) - new Date(before.dataset.at) < GROUP_MINUTES * 60_000;
      one.classList.toggle("continued", Boolean(follows));
    }
  }

  /** Put the line before the first unread message; as long as older ones may be unread, before the first there is. */
  #divideUnread() {
    if (this.#unreadPlaced) return;
    const known = !this.earlier || this.oldest <= this.#lastRead;
    for (const one of this.#list.querySelectorAll(".message:not(.pending, .mine)")) {
      if (Number(one.dataset.sequence) <= this.#lastRead) continue;
      this.#divideBefore(one, known);
      return;
    }
  }

  /** @param {HTMLElement} item @param {boolean} forGood whether it is known that nothing before it is new */
  #divideBefore(item, forGood = true) {
    const after = this.#unreadLine.nextElementSibling;
    this.#unreadPlaced = forGood;
    this.#list.insertBefore(this.#unreadLine, item);
    for (const one of [after, item]) if (one) this.#regroup(one);
  }

  /** After an addition: follow it, or say that something is below. */
  #settle(counts) {
    while (this.#list.childElementCount > ITEMS_KEPT && this.#atBottom) this.#forgetFirst();
    if (this.#atBottom) {
      this.#log.scrollTop = this.#log.scrollHeight;
      this.#actions.looked();
    } else if (counts) {
      this.#below += 1;
      this.#jump.hidden = false;
      this.#jump.firstChild.textContent = this.#below === 1 ? "1 new message " : `${this.#below} new messages `;
    }
  }

  #forgetFirst() {
    const item = this.#list.firstElementChild;
    for (const [id, one] of this.#items) {
      if (one.node !== item) continue;
      this.#items.delete(id);
      this.earlier = true;
      break;
    }
    item.remove();
    const first = this.#list.querySelector(".message:not(.pending)");
    this.oldest = first ? Number(first.dataset.sequence) : 0;
  }

  #measure() {
    const { scrollHeight, scrollTop, clientHeight } = this.#log;
    this.#atBottom = scrollHeight - scrollTop - clientHeight < NEAR_BOTTOM_PIXELS;
  }

  #read() {
    this.#below = 0;
    this.#jump.hidden = true;
    this.#actions.looked();
  }

  /** A screen reader reads what is said, not what history brings. */
  #quietly(change) {
    this.#log.setAttribute("aria-live", "off");
    change();
    requestAnimationFrame(() => this.#log.removeAttribute("aria-live"));
  }
}
