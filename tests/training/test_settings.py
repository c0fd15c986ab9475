import inspect
from pathlib import Path

import pytest

from ffebm.commands.train import train
from ffebm.errors import UsageError
from ffebm.recipes.paper import RECIPES
from ffebm.training.settings import Training, read_settings, settings_text, training_from


@pytest.mark.parametrize("width", [1.0, 0.125])
@pytest.mark.parametrize("name", RECIPES)
def test_settings_survive_their_file(name: str, width: float, tmp_path: Path) -> None:
    training = RECIPES[name].settings("fashion-mnist", 3, width)
    path = tmp_path / "settings.toml"
    path.write_text(settings_text(training), encoding="utf-8")
    assert training_from(read_settings(path)) == training


def test_the_file_holds_what_differs_from_the_default() -> None:
    training = Training(data='a "b"', lr=1e-5, flip=True, freeze=("x.*",), weight_decay=0.0)
    assert settings_text(training) == (
        'data = "a \\"b\\""\nlr = 1e-05\nweight_decay = 0.0\nfreeze = ["x.*"]\nflip = true\n'
    )


KNOWN = ", ".join(Training.__struct_fields__)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("epoch = 3\n", f"settings of training: Object contains unknown field `epoch`; {KNOWN}"),
        (
            'epochs = "3"\n',
            f"settings of training: Expected `int`, got `str` - at `$.epochs`; {KNOWN}",
        ),
        *(
            (
                f"{name} = {2**31}\n",
                f"settings of training: Expected `int` <= 2147483647 - at `$.{name}`; {KNOWN}",
            )
            for name in ("epochs", "batch", "crop", "seed")
        ),
        *(
            (
                f"{name} = 1e39\n",
                f"settings of training: Expected `float` <= 3.4e+38 - at `$.{name}`; {KNOWN}",
            )
            for name in ("lr", "min_lr", "weight_decay", "momentum")
        ),
        ("seed = -1\n", f"settings of training: Expected `int` >= 0 - at `$.seed`; {KNOWN}"),
        ("epochs =", "cannot be read: Invalid value (at end of document)"),
    ],
)
def test_wrong_files(text: str, expected: str, tmp_path: Path) -> None:
    path = tmp_path / "settings.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UsageError) as caught:
        read_settings(path)
    assert str(caught.value) == f"{path}: {expected}"


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none\.toml: cannot be read: .*No such file"):
        read_settings(tmp_path / "none.toml")


def test_every_setting_has_an_option() -> None:
    """What can be set in a file can be set on the command line, and the other way round."""
    options = set(inspect.signature(train).parameters)
    assert options - set(Training.__struct_fields__) == {
        "plan", "data_folder", "settings", "device", "devices", "run", "resume",
    }  # fmt: skip
    assert set(Training.__struct_fields__) <= options
