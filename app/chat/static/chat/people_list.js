/** Who is here, and on which nodes. */

import { avatar, element, nodeChip } from "./elements.js";

/** @typedef {{id: string, name: string, guest: boolean, nodes: string[]}} Member */

/** Whoever a new roster lacks and is back within so long was here all the time: after a node's end its people
 * come to others one by one, and a node that had nobody in the room learns of them only then. */
const BACK_SECONDS = 15;

export class PeopleList {
  #list;
  #more;
  #counter;
  #changed;
  #me = "";
  /** @type {Map<string, Member>} */
  #members = new Map();
  #count = 0;
  /** @type {Map<string, number>} when they were last on a roster, in milliseconds */
  #seenAt = new Map();

  /** @param {HTMLElement} list @param {HTMLElement} more @param {HTMLElement} counter @param {() => void} changed */
  constructor(list, more, counter, changed) {
    this.#list = list;
    this.#more = more;
    this.#counter = counter;
    this.#changed = changed;
  }

  /** Who is here, as far as they are named. */
  get here() {
    return [...this.#members.values()];
  }

  /** @param {string} id who is shown first */
  set me(id) {
    this.#me = id;
  }

  /** @param {Member[]} members @param {number} count more than `members` when not all are named */
  setAll(members, count) {
    const now = Date.now();
    for (const id of this.#members.keys()) this.#seenAt.set(id, now);
    for (const [id, at] of this.#seenAt) if (now - at > BACK_SECONDS * 1000) this.#seenAt.delete(id);
    this.#members = new Map(members.map((member) => [member.id, member]));
    this.#count = count;
    this.#render();
  }

  /** @param {Member} member @param {number} [count] @returns {boolean} whether they were not here before */
  put(member, count = this.#count) {
    const seenAt = this.#seenAt.get(member.id) ?? -Infinity;
    const isNew = !this.#members.has(member.id) && Date.now() - seenAt > BACK_SECONDS * 1000;
    this.#members.set(member.id, member);
    this.#count = count;
    this.#render();
    return isNew;
  }

  /** @param {Member} member @param {number} count @returns {boolean} whether they were here */
  remove(member, count) {
    const known = this.#members.delete(member.id);
    this.#seenAt.delete(member.id);
    this.#count = count;
    this.#render();
    return known;
  }

  #render() {
    const mine = (member) => (member.id === this.#me ? 0 : 1);
    const sorted = [...this.#members.values()].sort(
      (one, other) => mine(one) - mine(other) || one.name.localeCompare(other.name),
    );
    this.#list.replaceChildren(...sorted.map((member) => this.#item(member)));
    const unnamed = this.#count - this.#members.size;
    this.#more.hidden = unnamed <= 0;
    this.#more.textContent = `and ${unnamed} more`;
    this.#counter.textContent = String(Math.max(this.#count, this.#members.size));
    this.#changed();
  }

  #item(member) {
    const name = element("span", "name", member.name);
    name.title = member.name;
    const line = element("span", "name-line", name);
    if (member.id === this.#me) line.append(" ", element("span", "tag", "you"));
    else if (member.guest) line.append(" ", element("span", "tag", "guest"));
    const nodes = element("span", "nodes", ...member.nodes.flatMap((node) => [nodeChip(node), " "]));
    return element("li", "person", avatar(member), element("span", "about", line, nodes));
  }
}
