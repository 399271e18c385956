"""Explanations: the parts are the whole, and each is what its definition says, computed here in another way."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tarmac.formats import packing, shapley
from tests.serve.conftest import Running

ROWS = np.random.default_rng(7).normal(size=(8, 14))


@pytest.fixture(scope="module")
def explained(packages: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A linear model of 14 inputs, a forest of 4, a forest of 14, a picture's brightest corner."""
    from onnx import TensorProto, helper, numpy_helper
    from skl2onnx import to_onnx
    from sklearn.ensemble import RandomForestRegressor
    from sklearn.linear_model import LinearRegression

    root = tmp_path_factory.mktemp("explained")
    wide = np.random.default_rng(0).normal(size=(200, 14)).astype(np.float32)
    target = wide @ np.arange(14) + wide[:, 0] * wide[:, 1]
    linear = LinearRegression().fit(wide, wide @ np.arange(14))
    forests = {width: RandomForestRegressor(8, random_state=0).fit(wide[:, :width], target) for width in (4, 14)}
    for name, model, width in (("linear", linear, 14), ("narrow", forests[4], 4), ("broad", forests[14], 14)):
        pack(root, name, to_onnx(model, wide[:1, :width]).SerializeToString(), ROWS[:, :width])
    corner = numpy_helper.from_array(np.eye(1, 64, dtype=np.float32).reshape(64, 1), "corner")
    graph = helper.make_graph(
        [
            helper.make_node("Reshape", ["picture", "flat"], ["pixels"]),
            helper.make_node("MatMul", ["pixels", "corner"], ["y"]),
        ],
        "corner",
        [helper.make_tensor_value_info("picture", TensorProto.FLOAT, [None, 8, 8, 1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, 1])],
        [numpy_helper.from_array(np.array([-1, 64]), "flat"), corner],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    pack(root, "corner", model.SerializeToString(), None)
    names = ("linear", "narrow", "broad", "corner")
    routes = [{"name": name, "versions": [{"version": "1", "folder": str(root / name)}]} for name in names]
    iris = {"name": "iris", "versions": [{"version": "1", "folder": str(packages / "iris")}]}
    running = Running(root / "runtime", {"endpoints": [*routes, iris]})
    yield running, linear, forests
    running.stop()


def pack(root: Path, name: str, model: bytes, example: Any) -> None:
    from tarmac.logging.examples import describe

    file = root / f"{name}.onnx"
    file.write_bytes(model)
    (root / name).mkdir()
    draft = packing.of_path(file, root / name, name=name)
    if example is not None:
        draft.example = describe(example.astype(np.float32))
    packing.seal(root / name, draft)


def ask(running: Running, name: str, row: Any, **more: Any) -> dict[str, Any]:
    status, found = running.json("POST", f"/explain/{name}", {"rows": [list(map(float, row))], **more})
    assert status == 200, found
    parts = np.array(found["values"][0]).sum(axis=0)
    assert np.allclose(parts + found["base"], found["answers"][0], rtol=1e-6, atol=1e-6), "the parts are the whole"
    return dict(found)


def test_a_linear_model_is_explained_by_its_weights(explained: Any) -> None:
    running, linear, _ = explained
    row = np.random.default_rng(1).normal(size=14)
    found = ask(running, "linear", row)
    assert found["method"] == "additive"
    expected = linear.coef_ * (row - ROWS.mean(axis=0))
    assert np.allclose(found["values"][0], expected, atol=1e-6 * np.abs(expected).max() + 4e-6), "as float32 has it"


def by_definition(predict: Callable[[Any], Any], row: Any, background: Any) -> Any:
    """The mean of what each input adds, over all orders and all rows of the background."""
    found = np.zeros(len(row))
    orders = list(permutations(range(len(row))))
    for order in orders:
        mixed = background.copy()
        before = predict(mixed).mean()
        for place in order:
            mixed[:, place] = row[place]
            after = predict(mixed).mean()
            found[place] += after - before
            before = after
    return found / len(orders)


def test_a_forest_of_few_inputs_is_explained_exactly(explained: Any) -> None:
    running, _, forests = explained
    row = np.random.default_rng(2).normal(size=4).astype(np.float32)
    found = ask(running, "narrow", row)
    assert found["method"] == "exact"
    expected = by_definition(forests[4].predict, row, ROWS[:, :4].astype(np.float32))
    assert np.allclose(found["values"][0], expected, atol=1e-5)


def test_a_forest_of_many_inputs_is_sampled_and_says_how_well(explained: Any) -> None:
    running, _, _ = explained
    found = ask(running, "broad", np.random.default_rng(3).normal(size=14))
    assert found["method"] == "sampled"
    assert 0 < found["error"] < 3


def test_a_background_of_ones_own_and_what_is_missing(explained: Any) -> None:
    running, _, _ = explained
    row = np.ones(4)
    found = ask(running, "narrow", row, background=[[1.0, 1.0, 1.0, 1.0]])
    assert np.allclose(found["values"][0], 0)
    status, refused = running.json("POST", "/explain/narrow", {"rows": [[1.0] * 4], "background": 3})
    assert (status, "rows to compare with" in refused["error"]["message"]) == (400, True)
    status, refused = running.json("POST", "/explain/iris", [[5.1, 3.5, 1.4, 0.2]])
    assert (status, "no example" in refused["error"]["message"]) == (400, True)
    many = {"rows": [[1.0] * 4] * 21}
    assert running.json("POST", "/explain/narrow", many)[0] == 413
    assert running.json("POST", "/explain/narow", many)[0] == 404
    assert running.json("POST", "/explain/narrow?output=colour", [[1.0] * 4])[0] == 400
    assert running.ask("GET", "/explain/narrow")[0] == 405


def test_the_open_inference_protocol_asks_too(explained: Any) -> None:
    running, _, _ = explained
    tensor = {"name": "X", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4]}
    status, found = running.json("POST", "/v2/models/narrow/explain", {"inputs": [tensor]})
    assert (status, found["method"], len(found["values"][0])) == (200, "exact", 4)


def test_a_picture_is_explained_by_what_is_covered(explained: Any) -> None:
    running, _, _ = explained
    picture = np.zeros((1, 8, 8, 1))
    picture[0, 0, 0, 0] = 1
    status, found = running.json("POST", "/explain/corner", picture.tolist())
    assert (status, found["method"], found["size"]) == (200, "occlusion", [8, 8])
    lost = np.array(found["lost"])
    assert lost[0, 0] == pytest.approx(1 - 1 / 64)
    assert np.abs(lost.ravel()[1:]).max() == 0


def test_how_certain_a_classifier_is(explained: Any) -> None:
    running, _, _ = explained
    status, found = running.json("POST", "/predict/iris?certainty", [[5.1, 3.5, 1.4, 0.2]])
    assert (status, found["certainty"]) == (200, [pytest.approx(max(found["probabilities"][0]))])
    status, refused = running.json("POST", "/predict/narrow?certainty", [[1, 2, 3, 4]])
    assert (status, "no probabilities" in json.dumps(refused)) == (400, True)


def test_values_of_models_that_are_known() -> None:
    background = np.zeros((3, 12))
    row = np.arange(12.0)

    def worth(function: Callable[[Any], Any]) -> shapley.Worth:
        return lambda masks: function(np.where(masks[:, None, :], row, background))[..., None]

    pair = shapley.explain(worth(lambda rows: rows[..., 1] * rows[..., 2]), 12)
    assert pair.method == "sampled"
    assert np.allclose(pair.values[:, 0], [0, 1, 1, *[0] * 9]), "an order and its reverse are exact for pairs"
    assert pair.values.sum() == pytest.approx(2)
    constant = shapley.explain(worth(lambda rows: rows[..., 0] * 0 + 5), 12)
    assert (constant.method, float(constant.base[0])) == ("additive", 5)
    assert not constant.values.any()
