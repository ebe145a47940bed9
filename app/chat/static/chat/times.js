/** Times as the reader reads them: in their zone and language. */

const clockFormat = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const fullFormat = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "long" });
const dayFormat = new Intl.DateTimeFormat(undefined, { weekday: "long", day: "numeric", month: "long" });

/** @param {Date} date */
export const clock = (date) => clockFormat.format(date);

/** @param {Date} date */
export const full = (date) => fullFormat.format(date);

/** @param {Date} date @param {Date} other */
export const sameDay = (date, other) => date.toDateString() === other.toDateString();

/** @param {Date} date */
export function day(date) {
  const today = new Date();
  const yesterday = new Date(today.getFullYear(), today.getMonth(), today.getDate() - 1);
  if (sameDay(date, today)) return "Today";
  return sameDay(date, yesterday) ? "Yesterday" : dayFormat.format(date);
}
