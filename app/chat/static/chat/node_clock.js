/** What time it is by the node's clock, whatever becomes of the device's. Goes with `realtime_client.js`. */

/** Longer than this the device's clock goes before the steady one only where it slept. */
const SLEPT_MILLISECONDS = 12 * 60 * 60_000;

export class NodeClock {
  /** What was told, and what the page's two clocks said then. */
  #told;

  constructor() {
    this.set(Date.now());
  }

  /** @param {number} time by the node, in milliseconds since 1970 */
  set(time) {
    this.#told = { time, wall: Date.now(), steady: performance.now() };
  }

  /** Milliseconds since 1970; the device's, until a node's was told. */
  now() {
    const { time, wall, steady } = this.#told;
    const [byWall, bySteady] = [Date.now() - wall, performance.now() - steady];
    // People turn the one clock, and in many browsers the other one stands still while the device sleeps. To be
    // hours behind does no harm, to be minutes ahead does: so the steady one counts, but for a long sleep.
    return time + (byWall - bySteady > SLEPT_MILLISECONDS ? byWall : bySteady);
  }
}
