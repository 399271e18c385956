"""The physical limit: a bare ASGI function on uvicorn that calls onnxruntime, with nothing around it.

python bench/serving/floor.py MODEL.onnx PORT WIDTH
"""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np
import onnxruntime
import uvicorn

options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
names = [node.name for node in session.get_outputs()]
given = session.get_inputs()[0].name
shape = [-1, *session.get_inputs()[0].shape[1:]]


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    if scope["path"] == "/binary":
        rows = np.frombuffer(body, np.float32).reshape(shape)
    else:
        rows = np.array(json.loads(body)["inputs"][0]["data"], np.float32).reshape(shape)
    outputs = session.run(names, {given: rows})
    answer = json.dumps([output.ravel().tolist() for output in outputs]).encode()
    length = str(len(answer)).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", length)]})
    await send({"type": "http.response.body", "body": answer})


if __name__ == "__main__":
    uvicorn.run(app, port=int(sys.argv[2]), log_level="warning", access_log=False, lifespan="off", loop="uvloop")
