// Asks again every few seconds, one question at a time, and keeps the last answer while the next one is on its way.

import { useCallback, useEffect, useRef, useState } from "preact/hooks";

import type { Problem } from "./api.ts";
import { asProblem } from "./snapshot.ts";

export interface Heard<T> {
  /** The last answer; it outlives later problems unless the server refuses us. */
  answer: T | null;
  /** When that answer came, in local milliseconds. */
  at: number | null;
  /** What went wrong since. */
  problem: Problem | null;
}

const EVERY_MS = 3000;

export function usePolled<T>(read: () => Promise<T>, paused: boolean): [Heard<T>, () => void] {
  const [heard, setHeard] = useState<Heard<T>>({ answer: null, at: null, problem: null });
  const asking = useRef(false);

  const refresh = useCallback(async () => {
    if (asking.current) {
      return;
    }
    asking.current = true;
    try {
      const answer = await read();
      setHeard({ answer, at: Date.now(), problem: null });
    } catch (reason) {
      const problem = asProblem(reason);
      setHeard((before) => (problem.kind === "refused" ? { answer: null, at: null, problem } : { ...before, problem }));
    } finally {
      asking.current = false;
    }
  }, [read]);

  useEffect(() => {
    const unlessUnseen = () => {
      if (!document.hidden) {
        void refresh();
      }
    };
    if (paused) {
      return undefined;
    }
    unlessUnseen();
    const timer = setInterval(unlessUnseen, EVERY_MS);
    document.addEventListener("visibilitychange", unlessUnseen);
    return () => {
      clearInterval(timer);
      document.removeEventListener("visibilitychange", unlessUnseen);
    };
  }, [refresh, paused]);

  return [heard, refresh];
}
