/** The conversation: messages in the order of the node, own unsent ones at the end, notices between. */

import { avatar, element, nodeChip } from "./elements.js";
import { clock, day, full, sameDay } from "./times.js";

const GROUP_MINUTES = 5;
/** Older ones leave the page: a tab that is open for weeks stays quick. */
const ITEMS_KEPT = 1000;
const NEAR_BOTTOM_PIXELS = 48;
const LINK = /https?:\/\/[^\s<>"]+[^\s<>".,;:!?)\]}']/g;

export class MessageList {
  #log;
  #list;
  #jump;
  #actions;
  #me = "";
  /** @type {Map<string, HTMLElement>} message id to item, of what is shown */
  #items = new Map();
  #unread = 0;
  #atBottom = true;

  /**
   * @param {HTMLElement} log what scrolls
   * @param {HTMLElement} list
   * @param {HTMLButtonElement} jump leads to what is new below
   * @param {{retry: (key: string) => void, discard: (key: string) => void}} actions
   */
  constructor(log, list, jump, actions) {
    this.#log = log;
    this.#list = list;
    this.#jump = jump;
    this.#actions = actions;
    log.addEventListener("scroll", () => {
      this.#atBottom = log.scrollHeight - log.scrollTop - log.clientHeight < NEAR_BOTTOM_PIXELS;
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

  scrollToEnd() {
    this.#log.scrollTop = this.#log.scrollHeight;
    this.#atBottom = true;
    this.#read();
  }

  /**
   * A message that was posted.
   *
   * @param {{message_id: string, sender: {id: string, name: string}, text: string, sent_at: string, node: string}} message
   * @returns {boolean} false when it was shown before
   */
  show(message) {
    const known = this.#items.get(message.message_id);
    if (known && !known.classList.contains("pending")) return false;
    const item = known ?? this.#messageItem(message.sender, message.text);
    this.#items.set(message.message_id, item);
    this.#place(item, new Date(message.sent_at), message.node);
    this.#settle(known === undefined && message.sender.id !== this.#me);
    return true;
  }

  /**
   * One's own message on its way.
   *
   * @param {import("./outbox.js").Entry} entry
   * @param {{id: string, name: string}} sender
   */
  showPending(entry, sender) {
    let item = this.#items.get(entry.key);
    if (!item) {
      item = this.#messageItem(sender, entry.text);
      item.classList.add("pending");
      this.#items.set(entry.key, item);
      this.#setTime(item, entry.at);
      this.#list.append(item);
      this.#regroup(item);
      this.scrollToEnd();
    }
    item.dataset.state = entry.state;
    item.querySelector(".delivery").replaceChildren(...this.#delivery(entry, item));
    if (this.#atBottom) this.scrollToEnd();
  }

  /** A line about the room. @param {string} text */
  notice(text) {
    const time = element("time", "", clock(new Date()));
    this.#insert(element("li", "notice", element("span", "", text), " ", time));
    this.#settle(false);
  }

  /** A line across: what is above and what is below do not follow each other. @param {string} text */
  divide(text) {
    this.#insert(element("li", "divider", element("span", "", text)));
    this.#settle(false);
  }

  #messageItem(sender, text) {
    const mine = sender.id === this.#me;
    const meta = element("p", "meta", element("span", "sender", mine ? "You" : sender.name), " ", element("time", ""));
    const bubble = element("p", "bubble", ...linked(text));
    const item = element("li", "message", avatar(sender), element("div", "body", meta, bubble, element("p", "delivery")));
    item.classList.toggle("mine", mine);
    item.dataset.sender = sender.id;
    return item;
  }

  /** Give a posted message its time and node, and its place before everything still unsent. */
  #place(item, sentAt, node) {
    this.#setTime(item, sentAt);
    item.dataset.node = node;
    item.querySelector(".meta").append(" ", nodeChip(node));
    const firstPending = this.#list.querySelector(".pending");
    if (item === firstPending) item.classList.remove("pending");
    else {
      const after = item.nextElementSibling;
      item.classList.remove("pending");
      this.#insert(item);
      if (after) this.#regroup(after);
    }
    this.#separateDays(item, sentAt);
    this.#regroup(item);
  }

  #insert(item) {
    this.#list.insertBefore(item, this.#list.querySelector(".pending"));
    this.#regroup(item);
  }

  #setTime(item, date) {
    const time = item.querySelector("time");
    time.textContent = clock(date);
    time.dateTime = date.toISOString();
    time.title = full(date);
    item.dataset.at = date.toISOString();
  }

  #separateDays(item, date) {
    let before = item.previousElementSibling;
    while (before && !before.dataset.at) before = before.previousElementSibling;
    if (before ? sameDay(new Date(before.dataset.at), date) : sameDay(new Date(), date)) return;
    const line = element("li", "divider day", element("span", "", day(date)));
    this.#list.insertBefore(line, item);
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

  #delivery(entry, item) {
    if (entry.state === "sending") return ["Sending…"];
    if (entry.state === "waiting") return ["Waiting for the connection…"];
    if (entry.state === "sent") return entry.note ? [`Sent: ${entry.note}`] : [];
    const retry = element("button", "link", "Try again");
    const discard = element("button", "link", "Discard");
    for (const button of [retry, discard]) button.type = "button";
    retry.addEventListener("click", () => this.#actions.retry(entry.key));
    discard.addEventListener("click", () => {
      this.#actions.discard(entry.key);
      this.#items.delete(entry.key);
      item.remove();
    });
    const line = element("span", "", `Not sent: ${entry.note}. `);
    line.setAttribute("role", "alert");
    return [line, retry, " ", discard];
  }

  /** After an addition: follow it, or say that something is below. */
  #settle(counts) {
    while (this.#list.childElementCount > ITEMS_KEPT && this.#atBottom) this.#forget(this.#list.firstElementChild);
    if (this.#atBottom) this.#log.scrollTop = this.#log.scrollHeight;
    else if (counts) {
      this.#unread += 1;
      this.#jump.hidden = false;
      this.#jump.firstChild.textContent = this.#unread === 1 ? "1 new message " : `${this.#unread} new messages `;
    }
  }

  #forget(item) {
    for (const [id, one] of this.#items) if (one === item) this.#items.delete(id);
    item.remove();
  }

  #read() {
    this.#unread = 0;
    this.#jump.hidden = true;
  }
}

/** The text with its web addresses as links. @param {string} text */
function linked(text) {
  const parts = [];
  let end = 0;
  for (const match of text.matchAll(LINK)) {
    const link = element("a", "", match[0]);
    link.href = match[0];
    link.target = "_blank";
    link.rel = "noopener noreferrer nofollow";
    parts.push(text.slice(end, match.index), link);
    end = match.index + match[0].length;
  }
  return [...parts, text.slice(end)];
}
