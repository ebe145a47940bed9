/**
 * When a client comes back after its connection has ended, or was refused. Needs nothing else: it goes with
 * `realtime_client.js`.
 */

const FIRST_WINDOW_SECONDS = 0.5;
const LAST_WINDOW_SECONDS = 20;
const LONGEST_HINT_SECONDS = 60;
const ASK_SECONDS = 3;

/**
 * What a close code asks of a client. Ranges decide, so codes of tomorrow are understood today.
 *
 * @param {number} code
 * @returns {"later"|"never"}
 */
export function afterClose(code) {
  return code >= 4500 && code <= 4999 ? "never" : "later";
}

/**
 * How long to wait, when a node that handed this client over said so (`connection.released`).
 *
 * @param {any} retryAfter seconds
 * @returns {number | null} seconds; null: it said nothing of use
 */
export function hinted(retryAfter) {
  return retryAfter >= 0 ? Math.min(retryAfter, LONGEST_HINT_SECONDS) : null;
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

/**
 * When a node that refused an upgrade wants nobody earlier. A script is not told why its upgrade failed; a plain
 * request of the same address is answered as an upgrade would be, and may be read.
 *
 * @param {string | URL} url the WebSocket's
 * @returns {Promise<number | null>} seconds; null: it wants nobody to wait, or does not say
 */
export async function whenWelcome(url) {
  try {
    const signal = AbortSignal.timeout(ASK_SECONDS * 1000);
    const response = await fetch(String(url).replace(/^ws/, "http"), { cache: "no-store", signal });
    return response.status === 503 ? hinted(parseFloat(response.headers.get("Retry-After"))) : null;
  } catch {
    return null;
  }
}
