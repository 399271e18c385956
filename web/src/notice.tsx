import type { Problem } from "./api.ts";
import { moment } from "./format.ts";

interface Props {
  tone: "bad" | "calm";
  title: string;
  message: string;
  hint: string | null;
}

/** What happened and what to do next, in one box. */
export function Notice({ tone, title, message, hint }: Props) {
  return (
    <div class={`notice ${tone}`} role="status">
      <strong>{title}</strong>
      <p>{message}</p>
      {hint && <p class="hint">{hint}</p>}
    </div>
  );
}

export function ProblemNotice({ problem, at }: { problem: Problem; at: number | null }) {
  switch (problem.kind) {
    case "silent":
      return <Notice tone="bad" title="The server does not answer" message={problem.message} hint={silentHint(at)} />;
    case "refused":
      return <Notice tone="bad" title="Not allowed" message={problem.message} hint={problem.hint} />;
    case "failed":
      return <Notice tone="bad" title="The server answered with an error" message={problem.message} hint={problem.hint} />;
  }
}

function silentHint(at: number | null): string {
  const shown = at === null ? "" : `What is below was true at ${moment(at)}. `;
  return `${shown}This page asks again every few seconds. “tarmac up” starts a server.`;
}
