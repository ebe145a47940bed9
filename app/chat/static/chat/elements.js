/** DOM elements from text. Text is only ever set as text: nothing here parses HTML. */

const HUES = 8;
const LINK = /https?:\/\/[^\s<>"]+[^\s<>".,;:!?)\]}']/g;

/**
 * @param {string} tag
 * @param {string} className
 * @param {...(Node|string)} children
 */
export function element(tag, className, ...children) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  made.append(...children);
  return made;
}

/** The same name has the same colour everywhere. @param {string} name */
export function hue(name) {
  let hash = 0x811c9dc5;
  for (const character of name) hash = Math.imul(hash ^ character.codePointAt(0), 0x01000193);
  // A number at the end decides alone, so that node-1, node-2 and node-3 never look alike.
  const number = /(\d{1,6})$/.exec(name);
  return `hue-${(number ? Number(number[1]) : hash >>> 16) % HUES}`;
}

/** @param {{id: string, name: string}} person */
export function avatar(person) {
  const words = person.name.split(/[\s._-]+/).filter(Boolean);
  const letters = words.length > 1 ? [words[0], words[words.length - 1]] : [words[0] ?? "?"];
  const initials = letters.map((word) => [...word][0].toUpperCase()).join("");
  const made = element("span", `avatar ${hue(`${person.id}.${person.name}.`)}`, initials);
  made.setAttribute("aria-hidden", "true");
  return made;
}

/** @param {string} name */
export function nodeChip(name) {
  const chip = element("span", `node ${hue(name)}`, element("span", "visually-hidden", "on "), name);
  chip.title = `Node: ${name}`;
  return chip;
}

/** The text with its web addresses as links. @param {string} text @returns {(Node|string)[]} */
export function linked(text) {
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
