/** Who is here, and on which nodes. */

import { avatar, element, nodeChip } from "./elements.js";

/** @typedef {{id: string, name: string, guest: boolean, nodes: string[]}} Member */

export class PeopleList {
  #list;
  #more;
  #counter;
  #me = "";
  /** @type {Map<string, Member>} */
  #members = new Map();
  #count = 0;

  /** @param {HTMLElement} list @param {HTMLElement} more @param {HTMLElement} counter */
  constructor(list, more, counter) {
    this.#list = list;
    this.#more = more;
    this.#counter = counter;
  }

  /** @param {string} id who is shown first */
  set me(id) {
    this.#me = id;
  }

  /** @param {Member[]} members @param {number} count more than `members` when not all are named */
  setAll(members, count) {
    this.#members = new Map(members.map((member) => [member.id, member]));
    this.#count = count;
    this.#render();
  }

  /** @param {Member} member @param {number} [count] @returns {boolean} whether they were not here before */
  put(member, count = this.#count) {
    const isNew = !this.#members.has(member.id);
    this.#members.set(member.id, member);
    this.#count = count;
    this.#render();
    return isNew;
  }

  /** @param {Member} member @param {number} count @returns {boolean} whether they were here */
  remove(member, count) {
    const known = this.#members.delete(member.id);
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
