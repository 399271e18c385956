import assert from "node:assert/strict";
import { test } from "node:test";

import { problemIn } from "./api.ts";
import { addressOf, projectIn } from "./place.ts";

const shaped = { error: { code: "no_such_project", message: "There is no project chrun.", hint: "Did you mean churn?", detail: {} } };

test("an error in our shape keeps its message and hint", () => {
  const problem = problemIn(404, shaped);
  assert.deepEqual([problem.kind, problem.message, problem.hint], ["failed", shaped.error.message, shaped.error.hint]);
  assert.equal(problemIn(403, shaped).kind, "refused");
});

test("an error in any other shape says where it came from", () => {
  assert.equal(problemIn(502, null).kind, "silent");
  assert.match(problemIn(200, null).message, /did not come from a tarmac server/);
  assert.match(problemIn(401, "<html>").message, /refused \(401\)/);
});

test("the project is in the path, also below a prefix", () => {
  assert.equal(projectIn("/", "/"), "default");
  assert.equal(projectIn("/p/churn/", "/"), "churn");
  assert.equal(projectIn("/p/churn", "/"), "churn");
  assert.equal(projectIn("/ml/p/a%20b/runs", "/ml/"), "a b");
  assert.equal(projectIn("/p/100%/", "/"), "100%");
});

test("addresses are relative, so a prefix stays in front of them", () => {
  assert.equal(addressOf("a/b", "runs.ls", { limit: "20" }), "api/v1/p/a%2Fb/runs.ls?limit=20");
  assert.equal(addressOf("churn", "status"), "api/v1/p/churn/status");
});
