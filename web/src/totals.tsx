import type { Status } from "./api.ts";
import { count } from "./format.ts";

/** The handful of numbers that somebody opens this page for. */
export function Totals({ status }: { status: Status }) {
  return (
    <section class="totals" aria-label="Totals">
      <Total name="runs" parts={status.runs} />
      <Total name="jobs" parts={status.jobs} />
      <div class="total">
        <b>{count(status.experiments)}</b> {status.experiments === 1 ? "experiment" : "experiments"}
      </div>
    </section>
  );
}

function Total({ name, parts }: { name: string; parts: Record<string, number> }) {
  const present = Object.entries(parts).filter(([, number]) => number > 0);
  const sum = present.reduce((total, [, number]) => total + number, 0);
  return (
    <div class="total">
      <b>{count(sum)}</b> {sum === 1 ? name.slice(0, -1) : name}
      {present.map(([state, number]) => <span key={state} class={`state ${state}`}>{count(number)} {state}</span>)}
    </div>
  );
}
