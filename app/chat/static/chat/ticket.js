/** Tickets from this site's own session, for a RealtimeClient. */

import { TicketRefused } from "./realtime_client.js";

/**
 * The session's cookie is the cheaper way in, so a first attempt goes without. A ticket is asked for when
 * that failed: a script is not told why an upgrade was refused, but is told why it gets no ticket.
 *
 * @param {string} url
 * @param {string} csrfToken
 * @returns {(attempt: number) => Promise<string | null>} for `RealtimeClient`
 */
export function ticketsFrom(url, csrfToken) {
  return async (attempt) => {
    if (attempt <= 1) return null;
    const headers = { "X-CSRFToken": csrfToken };
    const response = await fetch(url, { method: "POST", headers, signal: AbortSignal.timeout(5000) });
    if (response.status === 401) throw new TicketRefused("you are not logged in any more");
    if (response.status === 403) throw new TicketRefused("this page belongs to an older log-in");
    if (!response.ok) {
      const retryAfter = parseFloat(response.headers.get("Retry-After"));
      throw Object.assign(new Error(`no ticket: ${response.status}`), { retryAfter });
    }
    return (await response.json()).ticket;
  };
}
