/** Keys of commands: UUIDv7, drawn once for each thing a person does, however often it is sent. */

/** The node refuses older keys. A little less here, so that it is never the node who says so. */
const DAY_MILLISECONDS = (24 * 60 - 5) * 60_000;

/** The node refuses keys that were drawn more than five minutes ahead of its clock. */
const AHEAD_MILLISECONDS = 4 * 60_000;

let last = 0;

/**
 * A new key, after all that were drawn before on this page, unless the clock was wrong then.
 *
 * @param {number} now milliseconds since 1970
 */
export function newKey(now) {
  if (last - now > AHEAD_MILLISECONDS) last = 0;
  last = Math.max(Math.floor(now), last + 1);
  // `crypto.randomUUID` is of another version, and missing on pages without TLS that are not on localhost.
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  for (let place = 0, rest = last; place < 6; place += 1, rest = Math.floor(rest / 256)) bytes[5 - place] = rest % 256;
  bytes[6] = (bytes[6] & 0x0f) | 0x70;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const hex = [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
}

/** Whether it is too late to send the key again: the node would not know any more whether it has it. */
export function isTooOld(key, now) {
  return now - drawnAt(key) > DAY_MILLISECONDS;
}

/** Whether the node would refuse the key as one of the future: it was drawn by a wrong clock. */
export function isAhead(key, now) {
  return drawnAt(key) - now > AHEAD_MILLISECONDS;
}

/** When the key was drawn, in milliseconds since 1970. @param {string} key */
export function drawnAt(key) {
  return parseInt(key.replace("-", "").slice(0, 12), 16);
}
