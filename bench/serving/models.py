"""The models that are served: made anew for each measurement, as package folders."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tarmac.formats import packing

WIDTH = 20
IMAGE = (3, 224, 224)


def make(root: Path) -> None:
    """`linear`, `forest` and `picture` below `root`, each with its `.onnx` beside."""
    from skl2onnx import to_onnx
    from sklearn.datasets import make_classification
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.linear_model import LogisticRegression

    rows, labels = make_classification(5000, WIDTH, n_informative=12, random_state=7)
    rows = rows.astype(np.float32)
    linear = LogisticRegression(max_iter=500).fit(rows, labels)
    forest = RandomForestClassifier(100, max_depth=10, random_state=7).fit(rows, labels)
    for name, model in (("linear", linear), ("forest", forest)):
        package(root, name, to_onnx(model, rows[:1], options={"zipmap": False}).SerializeToString())
    package(root, "picture", picture())


def picture() -> bytes:
    """Two convolutions and a head: small, so that the road is measured and not the network."""
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(7)
    channels, height, width = IMAGE
    weights = {
        "w1": rng.standard_normal((8, channels, 16, 16)).astype(np.float32),
        "w2": rng.standard_normal((8, 2)).astype(np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["a"], strides=[16, 16]),
        helper.make_node("GlobalAveragePool", ["a"], ["b"]),
        helper.make_node("Flatten", ["b"], ["c"]),
        helper.make_node("MatMul", ["c", "w2"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "picture",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, channels, height, width])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, 2])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return bytes(made.SerializeToString())


def package(root: Path, name: str, model: bytes) -> None:
    file = root / f"{name}.onnx"
    file.write_bytes(model)
    (root / name).mkdir()
    packing.seal(root / name, packing.of_path(file, root / name, name=name))
