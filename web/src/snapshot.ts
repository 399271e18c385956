// Everything the page shows, read in one go.

import { ask, Problem, type RunPage, type Status } from "./api.ts";

export const RUNS_SHOWN = 20;

export interface Snapshot {
  status: Status;
  /** Who may see the status may not be allowed to see the runs; then this says so. */
  runs: RunPage | Problem;
}

export async function readSnapshot(project: string): Promise<Snapshot> {
  const [status, runs] = await Promise.all([
    ask<Status>(project, "status"),
    ask<RunPage>(project, "runs.ls", { limit: String(RUNS_SHOWN) }).catch(asProblem),
  ]);
  return { status, runs };
}

export function asProblem(reason: unknown): Problem {
  return reason instanceof Problem ? reason : new Problem("failed", `This page has a fault: ${String(reason)}`);
}
