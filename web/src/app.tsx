import { useCallback, useEffect, useMemo, useState } from "preact/hooks";

import { Problem } from "./api.ts";
import { Facts } from "./facts.tsx";
import { useKeys } from "./keys.ts";
import { Masthead } from "./masthead.tsx";
import { Notice, ProblemNotice } from "./notice.tsx";
import { projectIn } from "./place.ts";
import { usePolled } from "./poll.ts";
import { NoRunsYet, Runs } from "./runs.tsx";
import { readSnapshot, type Snapshot } from "./snapshot.ts";
import { Totals } from "./totals.tsx";

const project = projectIn(location.pathname, new URL(document.baseURI).pathname);

/** The whole page: the state of one project's workspace. */
export function App() {
  const [paused, setPaused] = useState(false);
  const [heard, refresh] = usePolled(useCallback(() => readSnapshot(project), []), paused);
  const pause = useCallback(() => setPaused((before) => !before), []);
  useKeys(useMemo(() => ({ r: refresh, p: pause }), [refresh, pause]));

  const { answer, at, problem } = heard;
  useEffect(() => {
    document.title = `${problem ? "⚠ " : ""}${project} · tarmac`;
  }, [problem]);

  return (
    <>
      <Masthead project={project} version={answer?.status.version} at={at} problem={problem} paused={paused} />
      <main class={problem ? "stale" : ""}>
        {problem && <ProblemNotice problem={problem} at={at} />}
        {answer ? <Workspace snapshot={answer} /> : !problem && <p class="quiet">Asking the server …</p>}
      </main>
      <footer>
        <button type="button" onClick={refresh}><kbd>r</kbd> refresh</button>
        <button type="button" onClick={pause} aria-pressed={paused}><kbd>p</kbd> {paused ? "resume" : "pause"}</button>
      </footer>
    </>
  );
}

function Workspace({ snapshot: { status, runs } }: { snapshot: Snapshot }) {
  const now = Date.now();
  return (
    <>
      <Totals status={status} />
      <div class="columns">
        <section aria-labelledby="runs-title">
          <h2 id="runs-title">Recent runs</h2>
          {runs instanceof Problem
            ? <Notice tone="bad" title="The runs cannot be shown" message={runs.message} hint={runs.hint} />
            : runs.runs.length === 0 ? <NoRunsYet /> : <Runs page={runs} now={now} />}
        </section>
        <Facts status={status} now={now} />
      </div>
    </>
  );
}
