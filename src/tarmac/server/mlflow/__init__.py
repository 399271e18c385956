"""MLflow's REST API, translated onto tarmac's operations: no store of its own, no SQL, no rule that others could miss.

A method is one coroutine, in the file of its noun:

    class DeleteRun(Request):                          # MLflow's fields, all optional, as its protobuf file names them
        required = ("run_id",)
        run_id: str | None = None

    @method("POST", "runs/delete")                     # also under /api/3.0, /ajax-api and /p/PROJECT
    async def delete_run(call: Call, request: DeleteRun) -> None:
        await call(ops.DeleteRuns(ids=[text(request.run_id)]))

`call` asks the door, as whoever sent the request. What the method returns becomes JSON: a `msgspec.Struct` with
`omit_defaults=True` (MLflow leaves out what is not set), or nothing for `{}`. Errors of tarmac's tree are translated
in `errors.py`; where MLflow's clients branch on another code, or its tests read a text, raise `Refusal`. The file is
imported in `routes.py`, which also lists what is answered with NOT_IMPLEMENTED; a method takes its path off that list
by existing.
"""
