/** When a client comes back after its connection has ended. Needs nothing else: it goes with `realtime_client.js`. */

const FIRST_WINDOW_SECONDS = 0.5;
const LAST_WINDOW_SECONDS = 20;

/**
 * What a close code asks of a client. Ranges decide, so codes of tomorrow are understood today.
 *
 * @param {number} code
 * @returns {"at_once"|"later"|"never"}
 */
export function afterClose(code) {
  if (code === 1012) return "at_once";
  return code >= 4500 && code <= 4999 ? "never" : "later";
}

/**
 * Full jitter: anywhere in a window that doubles from 0.5 to 20 seconds, so a node's clients come back spread.
 *
 * @param {number} attempt 0 for the first
 * @param {() => number} random in [0, 1)
 * @returns {number} seconds
 */
export function backOff(attempt, random = Math.random) {
  return random() * Math.min(LAST_WINDOW_SECONDS, FIRST_WINDOW_SECONDS * 2 ** Math.min(attempt, 10));
}
