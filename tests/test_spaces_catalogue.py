"""Spaces are found by name, by module, by file; errors say what there is."""

import pickle
import subprocess
import sys
from random import Random

import pytest

import parti
from parti.core.errors import InvalidSettings
from parti.spaces import SPACES, default_space, load_space

OWN = """
import parti
from helper_of_spaces import WIDTHS

@parti.space
def mine(classes=10, layers=2):
    return [parti.choose(f"width{i}", WIDTHS) for i in range(layers)] + [classes]

@parti.space
def anything(**settings):
    parti.choose("width", WIDTHS)
    return settings

class Fixed:
    def walk(self, pick):
        return parti.Architecture({})
    def build(self, architecture):
        return "network"

fixed = Fixed()
number = 3
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A file with spaces, beside a module that it imports."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "helper_of_spaces.py").write_text("WIDTHS = [8, 16]")
    path = tmp_path / "own_spaces_of_a_test.py"
    path.write_text(OWN)
    yield path
    for name in ("own_spaces_of_a_test", "helper_of_spaces"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize("name", SPACES)
def test_each_space_is_loaded_and_bound(name):
    space = load_space(name, 1, 7, 16)
    assert space.keywords == {"in_channels": 1, "classes": 7, "resolution": 16}
    assert parti.validate(space, parti.sample(space, Random(0)))
    assert SPACES[name] == f"{space.function.__module__}:{space.name}"


@pytest.mark.parametrize("name", SPACES)
def test_spaces_travel_to_other_processes(name):
    space = load_space(name, 1, 7, 16)
    there = pickle.loads(pickle.dumps(space))
    assert there.keywords == space.keywords
    assert there.function is space.function


def test_sizes_are_bound_too():
    space = load_space("chain", 1, 7, 16, width=8)
    assert space.keywords == {"in_channels": 1, "classes": 7, "resolution": 16, "width": 8}


def test_a_module_names_a_space():
    assert load_space("parti.spaces.chain:chain").name == "chain"


def test_a_file_names_a_space_that_is_given_what_it_takes(own):
    space = load_space(f"{own}:mine", 3, 5, 32, layers=1)
    assert space.keywords == {"classes": 5, "layers": 1}
    assert space.build({"width0": 8}) == [8, 5]
    assert load_space(f"{own}:anything", 3, 5, 32, depth=4).build({"width": 8})["depth"] == 4
    assert pickle.loads(pickle.dumps(space)).build({"width0": 16}) == [16, 5]


def test_any_object_that_fits_is_a_space(own):
    assert load_space(f"{own}:fixed").build({}) == "network"
    assert load_space(load_space(f"{own}:fixed")).build({}) == "network"
    with pytest.raises(InvalidSettings, match=r"Fixed.*no arguments.*width"):
        load_space(f"{own}:fixed", width=3)


def test_errors_say_what_there_is(own, tmp_path):
    with pytest.raises(InvalidSettings, match=r"'resnet'.*chain.*mobile.*file.py:name"):
        load_space("resnet")
    with pytest.raises(InvalidSettings, match=r"no 'other' in .*its spaces are mine, anything"):
        load_space(f"{own}:other")
    with pytest.raises(InvalidSettings, match=r"'number' in .* is a int, not a space"):
        load_space(f"{own}:number")
    with pytest.raises(InvalidSettings, match=r"did you mean 'mine'"):
        load_space(f"{own}:mien")
    with pytest.raises(InvalidSettings, match="it has no spaces"):
        load_space("json:dumps")
    with pytest.raises(InvalidSettings, match="there is no file"):
        load_space(f"{tmp_path}/absent.py:mine")
    with pytest.raises(InvalidSettings, match="ModuleNotFoundError"):
        load_space("absent_module_of_a_test:mine")
    with pytest.raises(InvalidSettings, match=r"takes no wdith; it takes .*width"):
        load_space("chain", wdith=8)


def test_a_file_that_another_module_hides_is_refused(own, tmp_path):
    (tmp_path / "json.py").write_text(OWN)
    with pytest.raises(InvalidSettings, match="another module 'json'"):
        load_space(f"{tmp_path}/json.py:mine")


def test_a_file_that_fails_says_why(own, tmp_path):
    (tmp_path / "broken_spaces_of_a_test.py").write_text("1 / 0")
    with pytest.raises(InvalidSettings, match="ZeroDivisionError"):
        load_space(f"{tmp_path}/broken_spaces_of_a_test.py:mine")


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 32), (3, 64, 96), (3, 224, 224)])
def test_the_default_is_a_space_that_builds(shape):
    space = load_space(default_space(shape), shape[0], 10, min(shape[1:]))
    assert parti.size(space) > 1e6


def test_a_space_itself_is_bound_where_it_is_open():
    from parti.spaces.chain import chain

    space = load_space(chain(1, resolution=8, width=8), 3, 5, 32)
    assert space.arguments == (1,)
    assert space.keywords == {"classes": 5, "resolution": 8, "width": 8}
    with pytest.raises(InvalidSettings, match="is a function, not a space"):
        load_space(chain.function)


def test_there_is_no_default_for_what_is_no_image():
    with pytest.raises(InvalidSettings, match="channels, height, width"):
        default_space((16,))


def test_the_catalogue_needs_no_torch():
    code = "import sys, parti.spaces, parti.spaces.encodings; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
