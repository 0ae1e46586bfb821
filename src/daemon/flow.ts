// The flows that live and those that ended lately, and the streams of those who follow them. All of it bounded.

import { type BodyOf, FRAME_FLAG } from "../abi.ts";
import type { FlowSelection, FlowView } from "./control/port.ts";
import { type FlowContext, flowView, isFinal } from "./flow/view.ts";

const LIVE_MAX = 65_536; // views of half a kilobyte; past it the oldest are left out of what is shown
const ENDED_MAX = 8192; // what a person looks back at: so many that closed, and so many that ended otherwise
const FOLLOWERS_MAX = 64;
const FOLLOWER_QUEUE_MAX = 4096; // a reader that slow loses the oldest events

export interface FlowBounds {
  readonly live: number;
  readonly ended: number;
  readonly queue: number;
}

export class FlowStore {
  readonly #bounds: FlowBounds;
  readonly #live = new Map<string, FlowView>();
  readonly #closed: Ring;
  /** Denied, failed and cut ones apart: a busy minute of good connections must not push out the one that a person looks for. */
  readonly #broken: Ring;
  readonly #followers = new Set<Follower>();
  /** Events that were lost on the way: the module's queue, or a slow follower. */
  lost = 0;

  constructor(bounds: FlowBounds = { live: LIVE_MAX, ended: ENDED_MAX, queue: FOLLOWER_QUEUE_MAX }) {
    this.#bounds = bounds;
    this.#closed = new Ring(bounds.ended);
    this.#broken = new Ring(bounds.ended);
  }

  get liveCount(): number {
    return this.#live.size;
  }

  /** A FLOW frame; a SNAPSHOT is shown but is no event. */
  take(event: BodyOf<"flow">, flags: number, context: FlowContext): FlowView {
    const known = this.#live.get(event.flow.toString());
    // A process may have ended before its flow did.
    const process = context.process || (known?.process ?? "");
    const view = flowView(event, { ...context, process, own: context.own || (known?.own ?? "") });
    if (isFinal(view)) {
      this.#live.delete(view.flow);
      (view.state === "closed" ? this.#closed : this.#broken).push(view);
    } else {
      this.#live.set(view.flow, view);
      const oldest = this.#live.size > this.#bounds.live ? this.#live.keys().next().value : undefined;
      if (oldest !== undefined) this.#live.delete(oldest);
    }
    if ((flags & FRAME_FLAG.snapshot) === 0) {
      for (const follower of this.#followers) this.lost += follower.push(view);
    }
    return view;
  }

  /** The newest `limit`, oldest first. */
  list({ live = false, broken = false, limit }: FlowSelection): readonly FlowView[] {
    const closed = live || broken ? [] : this.#closed.list();
    const all = [...closed, ...(live ? [] : this.#broken.list()), ...(broken ? [] : this.#live.values())];
    all.sort((a, b) => (a.openedAt < b.openedAt ? -1 : a.openedAt > b.openedAt ? 1 : 0));
    return limit <= 0 ? [] : all.slice(-limit);
  }

  /** The SPIFFE IDs at the other end of flows that live, each once. */
  livePeers(): readonly string[] {
    const peers = [...this.#live.values()].map(({ peer }) => peer).filter((peer) => peer !== undefined);
    return [...new Set(peers)];
  }

  /** Events from now on, until the signal. Undefined when too many follow already. */
  follow(signal: AbortSignal): AsyncIterable<FlowView> | undefined {
    if (this.#followers.size >= FOLLOWERS_MAX) return undefined;
    const follower = new Follower(this.#bounds.queue);
    this.#followers.add(follower);
    const leave = () => {
      this.#followers.delete(follower);
      follower.end();
    };
    if (signal.aborted) leave();
    else signal.addEventListener("abort", leave, { once: true });
    return follower.events(leave);
  }

  /** The module was loaded anew: none of its flows lives any more. */
  forgetLive(): void {
    this.#live.clear();
  }

  /** Ends every stream. */
  close(): void {
    for (const follower of this.#followers) follower.end();
    this.#followers.clear();
  }
}

/** The last `size` of what was pushed. */
class Ring {
  readonly #size: number;
  readonly #views: FlowView[] = [];
  #next = 0;

  constructor(size: number) {
    this.#size = size;
  }

  push(view: FlowView): void {
    this.#views[this.#next] = view;
    this.#next = (this.#next + 1) % this.#size;
  }

  /** Oldest first. */
  list(): readonly FlowView[] {
    return [...this.#views.slice(this.#next), ...this.#views.slice(0, this.#next)];
  }
}

class Follower {
  readonly #max: number;
  readonly #queue: FlowView[] = [];
  #wake: () => void = () => {};
  #ended = false;

  constructor(max: number) {
    this.#max = max;
  }

  /** How many events were dropped to make room. */
  push(view: FlowView): number {
    const dropped = this.#queue.length >= this.#max ? this.#queue.splice(0, 1).length : 0;
    this.#queue.push(view);
    this.#wake();
    return dropped;
  }

  end(): void {
    this.#ended = true;
    this.#wake();
  }

  async *events(leave: () => void): AsyncIterable<FlowView> {
    try {
      while (!this.#ended || this.#queue.length > 0) {
        const view = this.#queue.shift();
        if (view !== undefined) yield view;
        else await new Promise<void>((resolve) => (this.#wake = resolve));
      }
    } finally {
      leave();
    }
  }
}
