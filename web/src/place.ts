// Where this page lives: the server's root (which may lie below a prefix) and the project it shows.

/** The project in a path such as `/p/churn/`, below `root`; a bare address means `default`. */
export function projectIn(path: string, root: string): string {
  const below = path.startsWith(root) ? path.slice(root.length) : path;
  const name = /^\/?p\/([^/]+)/.exec(below)?.[1];
  return name === undefined ? "default" : decoded(name);
}

/** The address of an operation, relative to the root: `api/v1/p/churn/runs.ls?limit=20`. */
export function addressOf(project: string, operation: string, query: Record<string, string> = {}): string {
  const search = new URLSearchParams(query).toString();
  return `api/v1/p/${encodeURIComponent(project)}/${operation}${search && `?${search}`}`;
}

function decoded(name: string): string {
  try {
    return decodeURIComponent(name);
  } catch {
    return name; // Not valid percent-encoding: the server will say that there is no such project.
  }
}
