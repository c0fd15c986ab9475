import onnx
import pytest

from ffebm.recipes.beyond import BEYOND
from ffebm.training.data import load_data


@pytest.mark.parametrize("name", BEYOND)
def test_a_network_reads_the_samples_of_its_data(name: str) -> None:
    recipe = BEYOND[name]
    model = recipe.build(0)
    onnx.checker.check_model(model, full_check=True)
    data = load_data(recipe.training.data)
    shapes = [
        [size.dim_value for size in value.type.tensor_type.shape.dim][1:]
        for value in (model.graph.input[0], model.graph.output[0])
    ]
    assert shapes[0] == list(data.x_train.shape[1:])
    assert shapes[1][:-1] == list(data.y_train.shape[1:])
    assert shapes[1][-1] > int(data.y_train.max())
    assert recipe.settings(3).seed == 3
