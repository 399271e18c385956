"""What people write with NVIDIA's `tritonclient`: run as a script, with the ports of a runtime that serves `add`.

python tests/serve/triton_script.py http PORT
python tests/serve/triton_script.py grpc PORT
"""

from __future__ import annotations

import importlib
import sys
from typing import Any

import numpy as np


def main(way: str, port: str) -> None:
    module = importlib.import_module(f"tritonclient.{way}")
    errors = importlib.import_module("tritonclient.utils").InferenceServerException
    client = module.InferenceServerClient(url=f"127.0.0.1:{port}")
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("add")
    more = {} if way == "http" else {"as_json": True}
    assert client.get_server_metadata(**more)["name"] == "tarmac"
    metadata = client.get_model_metadata("add", **more)
    assert (metadata["inputs"][0]["name"], metadata["inputs"][0]["datatype"]) == ("x", "FP32")
    rows = np.arange(8, dtype=np.float32).reshape(2, 4)
    ways = ({"binary_data": True}, {"binary_data": False}) if way == "http" else ({},)
    for given in ways:
        tensor = module.InferInput("x", [2, 4], "FP32")
        tensor.set_data_from_numpy(rows, **given)
        found = client.infer("add", [tensor], outputs=[module.InferRequestedOutput("y", **given)], request_id="mine")
        assert found.as_numpy("y").tolist() == [1006, 1022], found.as_numpy("y")
        whole = found.get_response() if way == "http" else found.get_response(as_json=True)
        assert whole["id"] == "mine"
        assert whole["model_version"] == "1"
    tensor = module.InferInput("x", [2, 3], "FP32")
    tensor.set_data_from_numpy(rows[:, :3])
    for name, says in (("add", "shape"), ("ad", "did you mean `add`")):
        assert says in refusal(client, name, tensor, errors)
    client.close()
    print("ok")


def refusal(client: Any, name: str, tensor: Any, errors: type[Exception]) -> str:
    try:
        client.infer(name, [tensor])
    except errors as error:
        return str(error)
    return ""


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
