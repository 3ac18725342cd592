"""Parameters: their checks, their messages, what is known of them."""

import dataclasses
import inspect
import json
import subprocess
import sys
from collections.abc import Sequence

import numpy as np
import pytest

from sepconc.errors import BadParameter
from sepconc.params.field import check_names, check_params, document, param, param_infos, params, spread
from sepconc.params.separation import (
    AnalysisParams,
    ScatNetBlockAnalysisParams,
    ScatNetBlockParams,
    ScatNetParams,
)
from sepconc.params.training import parse_normalize, parse_or_none, parse_shape

ALL = [AnalysisParams, ScatNetParams, ScatNetBlockParams, ScatNetBlockAnalysisParams]


@params
class Base:
    count: int = param(3, "A count.", at_least=1, at_most=9)
    rate: float = param(0.5, "A rate.", above=0)


@params
class Things(Base):
    """What is set."""

    kind: str = param("a", "A kind.", choices=["a", "b"])
    flag: bool = param(False, "A flag.")
    widths: int | Sequence[int] = param(8, "Widths.", at_least=1, per_block=True)
    sizes: int | Sequence[int] | None = param(None, "Sizes.", type=int, at_least=1, per_block=True)
    several: Sequence[float] = param((0.5, 1.0), "Several.", type=float, at_least=0, several=True)
    free: object = param("x", "Anything but y.", type=object, check=lambda v: "be anything but y" if v == "y" else None)


def refusal(**given):
    with pytest.raises(BadParameter) as caught:
        check_params(Things(**given))
    return str(caught.value)


# ---------------------------------------------------------------------- checks


def test_the_defaults_and_good_values_pass():
    check_params(Things())
    check_params(Things(count=9, rate=1, kind="b", flag=True, widths=(1, 2), sizes=[3], several=[0], free=None))


def test_numpy_values_pass():
    check_params(
        Things(
            count=np.int64(2),
            rate=np.float32(0.25),
            flag=np.bool_(True),
            widths=np.array([1, 2]),
            sizes=(np.int32(4),),
            several=np.array([0.0, 1.5]),
        )
    )


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"count": 0}, "`count` of Things must be at least 1; got 0."),
        ({"count": 10}, "`count` of Things must be at most 9; got 10."),
        ({"count": 2.0}, "`count` of Things must be an integer; got 2.0."),
        ({"count": True}, "`count` of Things must be an integer; got True."),
        ({"count": "2"}, "`count` of Things must be an integer; got '2'."),
        ({"count": None}, "`count` of Things must be an integer; got None."),
        ({"count": (1, 2)}, "`count` of Things must be an integer; got (1, 2)."),
        ({"rate": 0}, "`rate` of Things must be above 0; got 0."),
        ({"rate": float("nan")}, "`rate` of Things must be a finite number; got nan."),
        ({"rate": float("inf")}, "`rate` of Things must be a finite number; got inf."),
        ({"rate": "fast"}, "`rate` of Things must be a number; got 'fast'."),
        ({"kind": "c"}, "`kind` of Things must be one of 'a', 'b'; got 'c'."),
        ({"kind": 1}, "`kind` of Things must be a string; got 1."),
        ({"flag": 1}, "`flag` of Things must be True or False; got 1."),
        ({"widths": ()}, "`widths` of Things must not be empty; got ()."),
        ({"widths": "8"}, "`widths` of Things must be an integer; got '8'."),
        ({"widths": {1: 2}}, "`widths` of Things must be an integer; got {1: 2}."),
        ({"widths": None}, "`widths` of Things must be an integer; got None."),
        ({"sizes": 0}, "`sizes` of Things must be at least 1; got 0."),
        ({"several": 1.0}, "`several` of Things must be a sequence; got 1.0."),
        ({"several": (1.0, -2.0)}, "`several` of Things must be at least 0; got -2.0."),
        ({"free": "y"}, "`free` of Things must be anything but y; got 'y'."),
    ],
)
def test_refusals(given, message):
    assert refusal(**given) == message


def test_the_message_of_a_list_names_the_block():
    class ScatNetBlockAnalysisClassifier(ScatNetBlockAnalysisParams):
        pass

    with pytest.raises(BadParameter) as caught:
        check_params(ScatNetBlockAnalysisClassifier(frame_width=(1024, 0, 4096, 8192)))
    assert str(caught.value) == (
        "`frame_width` of ScatNetBlockAnalysisClassifier must be at least 1 in every block; "
        "got (1024, 0, 4096, 8192) at block 2."
    )


@pytest.mark.parametrize(
    ("widths", "message"),
    [
        (np.array([4, 0]), "must be at least 1 in every block; got (4, 0) at block 2."),
        ([4, 2.5], "must be an integer in every block; got (4, 2.5) at block 2."),
        ([None, 4], "must be an integer in every block; got (None, 4) at block 1."),
        (np.ones((2, 2), int), "must be an integer in every block; got (array([1, 1]), array([1, 1])) at block 1."),
        (np.array(3.5), "must be an integer; got array(3.5)."),
    ],
)
def test_odd_lists(widths, message):
    assert refusal(widths=widths) == f"`widths` of Things {message}"


@pytest.mark.parametrize("cls", ALL)
def test_the_defaults_of_every_architecture_pass(cls):
    check_params(cls())


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"lr": 0}, "`lr` .* above 0"),
        ({"batch_size": 1}, "`batch_size` .* at least 2"),
        ({"epochs": 0}, "`epochs` .* at least 1"),
        ({"lr_scheduler": "StepLR0"}, '`lr_scheduler` .*"StepLR<epochs>"'),
        ({"lr_scheduler": "cosine"}, "`lr_scheduler` .*; got 'cosine'"),
        ({"normalize": (1,)}, "`normalize` .* a pair"),
        ({"normalize": 3}, "`normalize` .*; got 3"),
        ({"augmentation": 3}, "`augmentation` .* a string or None"),
        ({"eval_resize": -1}, "`eval_resize` .* a side in pixels or None"),
        ({"image_shape": (1, 2, 3, 4)}, r"`image_shape` .* \(height, width\)"),
        ({"image_shape": ("a", "b")}, r"`image_shape` .*; got \('a', 'b'\)"),
        ({"image_shape": (0, 8)}, r"`image_shape` .*; got \(0, 8\)"),
        ({"image_shape": 8}, "`image_shape` .*; got 8"),
        ({"random_state": -1}, "`random_state` .* non-negative"),
        ({"random_state": "a"}, "`random_state` .*; got 'a'"),
        ({"predict_dtype": "float16"}, "`predict_dtype` .* 'float64', 'float32'"),
        ({"dropout_p_mlp": 1.5}, "`dropout_p_mlp` .* at most 1"),
    ],
)
def test_refusals_of_the_training(given, message):
    with pytest.raises(BadParameter, match=message):
        check_params(ScatNetParams(**given))


@pytest.mark.parametrize(
    "given",
    [
        {"lr_scheduler": None},
        {"lr_scheduler": "StepLR70"},
        {"lr_scheduler": "ReduceLROnPlateau"},
        {"normalize": (0.5, 0.5)},
        {"normalize": ((0.1, 0.2, 0.3), [1, 1, 1])},
        {"normalize": "mnist"},
        {"normalize": None},
        {"eval_resize": 256},
        {"eval_resize": None},
        {"image_shape": (28, 28)},
        {"image_shape": np.array([3, 28, 28])},
        {"random_state": 0},
        {"random_state": np.random.RandomState(0)},
        {"P_proj_size": None},
    ],
)
def test_good_values_of_the_training(given):
    check_params(ScatNetParams(**given))


# ---------------------------------------------------------------------- names


def test_unknown_names_say_the_close_ones():
    check_names(Things, {"count": 1, "widths": 2})
    with pytest.raises(BadParameter) as caught:
        check_names(Things, {"count": 1, "width": 2})
    assert str(caught.value) == "Things has no parameter `width`; close names: widths."
    with pytest.raises(BadParameter, match=r"no parameter `zzz`; its parameters: count, rate, kind"):
        check_names(Things, {"zzz": 1})


# ---------------------------------------------------------------------- spread


@pytest.mark.parametrize(
    ("value", "n_blocks", "expected"),
    [
        (8, 3, (8, 8, 8)),
        (None, 2, (None, None)),
        ([4, 5], 2, (4, 5)),
        ((4,), 1, (4,)),
        (np.array([4, 5]), 2, (4, 5)),
        (np.int64(4), 2, (4, 4)),
    ],
)
def test_spread(value, n_blocks, expected):
    assert spread("frame_width", value, n_blocks) == expected


def test_spread_gives_plain_integers():
    assert [type(value) for value in spread("frame_width", np.array([4, 5]), 2)] == [int, int]


@pytest.mark.parametrize(
    ("value", "n_blocks", "message"),
    [
        ([512], 4, "`frame_width` has 1 values for 4 blocks: (512,); give one value, or one per block."),
        ((1, 2, 3), 2, "`frame_width` has 3 values for 2 blocks: (1, 2, 3); give one value, or one per block."),
        (np.array([1, 2]), 1, "`frame_width` has 2 values for 1 block: (1, 2); give one value, or one per block."),
    ],
)
def test_spread_of_a_wrong_length(value, n_blocks, message):
    with pytest.raises(BadParameter) as caught:
        spread("frame_width", value, n_blocks)
    assert str(caught.value) == message


# ---------------------------------------------------------------------- what is known of a parameter


def test_parameters_are_keyword_only_and_compared_by_identity():
    with pytest.raises(TypeError):
        Things(3)
    assert Things() != Things()
    assert len({Things(), Things()}) == 2


def test_what_was_given_is_stored_unchanged():
    given = [1, 2]
    assert Things(widths=given).widths is given


def test_infos_come_in_the_order_of_definition():
    infos = param_infos(Things)
    assert list(infos) == ["count", "rate", "kind", "flag", "widths", "sizes", "several", "free"]
    default, info = infos["count"]
    assert (default, info.type, info.at_least, info.at_most, info.optional) == (3, int, 1, 9, False)
    assert infos["sizes"][1].optional
    assert infos["sizes"][1].per_block


@pytest.mark.parametrize("cls", ALL)
def test_every_parameter_has_a_sentence_of_help(cls):
    infos = param_infos(cls)
    assert len(infos) == len(dataclasses.fields(cls))
    for name, (_, info) in infos.items():
        assert not info.help[0].islower(), name
        assert info.help.endswith("."), name
        assert "\n" not in info.help, name


def test_the_defaults_of_the_paper():
    defaults = {name: default for name, (default, _) in param_infos(ScatNetBlockAnalysisParams).items()}
    expected = {
        "n_blocks": 4,
        "scat_angles": 8,
        "P_proj_size": None,
        "P_kernel_size": 1,
        "frame_width": 2048,
        "frame_kernel_size": 1,
        "frame_stride": 1,
        "non_linearity": "relu",
        "zero_bias": False,
        "pars_beta": 5e-4,
        "momentum": 0.9,
        "weight_decay": 1e-4,
        "random_state": None,
    }
    assert {name: defaults[name] for name in expected} == expected


def test_document_lists_every_parameter_at_one_indentation():
    @document
    class Documented(Things):
        """What it is.

        Examples
        --------
        >>> 1 + 1
        2
        """

    text = inspect.getdoc(Documented)
    lines = text.splitlines()
    assert lines[0] == "What it is."
    for heading in ("Examples", "Parameters"):
        assert lines[lines.index(heading) + 1] == "-" * len(heading)
    for line in (
        "count : int, default=3",
        "kind : {'a', 'b'}, default='a'",
        "widths : int or one per block, default=8",
        "several : sequence of float, default=(0.5, 1.0)",
        "    A count.",
    ):
        assert line in lines


@pytest.mark.parametrize("documented", [True, False])
def test_document_without_a_docstring(documented):
    cls = type("Bare", (Base,), {"__doc__": "Bare." if documented else None})
    document(cls)
    assert "count : int, default=3" in cls.__doc__


# ---------------------------------------------------------------------- text of the command line


def test_parsers():
    assert parse_normalize("0.13/0.31") == ((0.13,), (0.31,))
    assert parse_normalize("0.5,0.4,0.3/0.2,0.2,0.2") == ((0.5, 0.4, 0.3), (0.2, 0.2, 0.2))
    assert parse_normalize("None") is None
    assert parse_normalize("mnist") == "mnist"
    assert parse_shape("3x32x32") == (3, 32, 32)
    assert parse_shape("28,28") == (28, 28)
    assert parse_or_none(int)("none") is None
    assert parse_or_none(int)("256") == 256
    assert parse_or_none(int)("auto") == "auto"


@pytest.mark.parametrize("text", ["0.13/0.31", "none", "fit", "0.5,0.4,0.3/0.2,0.2,0.2"])
def test_what_is_parsed_is_accepted(text):
    check_params(ScatNetParams(normalize=parse_normalize(text)))


# ---------------------------------------------------------------------- imports


def test_no_torch_no_sklearn():
    code = (
        "import json, sys, sepconc.params.archs, sepconc.params.field, sepconc.params.separation, "
        "sepconc.params.training; print(json.dumps(sorted(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.split(".")[0] for name in json.loads(result.stdout)}
    assert "sepconc" in loaded
    assert not loaded & {"torch", "sklearn", "pandas", "torchvision", "scipy", "numpy"}
