"""From a field to a flag and back, for every architecture and every field; the spellings of the source README."""

import contextlib
import io
import re
from pathlib import Path

import pytest

from sepconc.cli.eval import make_parser as make_eval_parser
from sepconc.cli.options import classifier_params, flag_name
from sepconc.cli.train import Training, make_parser
from sepconc.estimators.factory import make_classifier
from sepconc.params.archs import ARCHS, resolve
from sepconc.params.field import ParamInfo, param_infos

from .conftest import SMALL, one_line_error

OF_EACH_CLASS = list({row.estimator: arch for arch, row in reversed(ARCHS.items())}.values())[::-1]
"""The first architecture of each class of estimators."""
FIELDS = [
    (arch, name)
    for arch in OF_EACH_CLASS
    for name, (_, info) in param_infos(resolve(ARCHS[arch].params)).items()
    if info.has_flag
]

SEPARATION = ("analysis", "scatnet", "scatnetblock", "scatnetblockanalysis")
PARSER = make_parser()
HELP = PARSER.format_help()

OBJECTS = {
    "lr_scheduler": (["ReduceLROnPlateau"], "ReduceLROnPlateau"),
    "normalize": (["0.5,0.4,0.3/0.2,0.2,0.1"], ((0.5, 0.4, 0.3), (0.2, 0.2, 0.1))),
    "augmentation": (["flip"], "flip"),
    "eval_resize": (["40"], 40),
    "image_shape": (["3x30x20"], (3, 30, 20)),
    "random_state": (["7"], 7),
    "wavelet": (["qshift_06"], "qshift_06"),
    "repairs": (["alignment", "blur-size"], ("alignment", "blur-size")),
    "lambda_params": (["0", "0.0041", "3.2e-4"], (0.0, 0.0041, 3.2e-4)),
}
"""For fields of no simple type: words on the command line, and the value they stand for."""


def info_of(arch: str, name: str) -> tuple[object, ParamInfo]:
    return param_infos(resolve(ARCHS[arch].params))[name]


def example(name: str, default: object, info: ParamInfo) -> tuple[list[str], object]:
    """Words for the command line, and the value they stand for: another one than the default."""
    if name in OBJECTS:
        return OBJECTS[name]
    if info.type is bool:
        return ([flag_name(name)], True) if not default else ([f"--no-{flag_name(name)[2:]}"], False)
    if info.choices:
        value = next(choice for choice in info.choices if choice != default)
    elif info.type is int:
        value = (default or 1) + 1
    elif info.type is float:
        value = default / 2
    else:
        value = "cpu" if name == "device" else "there"
    return [str(value)], value


def given(*words: str, warnings: list[str] | None = None) -> dict[str, object]:
    """The classifier's parameters, as ``train.py`` makes them out of its words."""
    words = ["net", *words]
    errors = io.StringIO()
    with contextlib.redirect_stderr(errors):
        training = Training("train.py", PARSER, vars(PARSER.parse_args(words)), words)
    if warnings is not None:
        warnings += errors.getvalue().splitlines()
    return training.given


def refused(*words: str) -> str:
    """The message with which the parser refuses its words."""
    errors = io.StringIO()
    with contextlib.redirect_stderr(errors), pytest.raises(SystemExit) as end:
        PARSER.parse_args(["net", *words])
    assert end.value.code == 2
    assert errors.getvalue().count("\n") == 1
    return errors.getvalue()


def test_every_architecture_has_fields():
    assert {arch for arch, _ in FIELDS} == {"analysis", "scatnet", "scatnetblock", "scatnetblockanalysis", "AlexNet"}
    assert len(FIELDS) > 5 * 27


@pytest.mark.parametrize("arch", ARCHS)
def test_options_that_are_not_given_leave_the_defaults_of_the_fields(arch):
    assert given("-a", arch) == {}
    defaults = {name: default for name, (default, _) in param_infos(resolve(ARCHS[arch].params)).items()}
    assert make_classifier(arch, **given("-a", arch)).get_params() == {**defaults, **ARCHS[arch].preset}


@pytest.mark.parametrize(("arch", "name"), FIELDS)
def test_a_value_arrives_unchanged(arch, name):
    default, info = info_of(arch, name)
    words, value = example(name, default, info)
    assert value != default
    flags = [words] if info.type is bool else [[flag, *words] for flag in (flag_name(name), *info.flags)]
    for flagged in flags:
        warnings = []
        params = given("-a", arch, *flagged, warnings=warnings)
        assert params == {name: value}
        assert type(params[name]) is type(value)
        assert warnings == []
        assert make_classifier(arch, **params).get_params()[name] == value


@pytest.mark.parametrize(("arch", "name"), [(a, n) for a, n in FIELDS if info_of(a, n)[1].per_block])
def test_a_list_has_a_value_per_block(arch, name):
    assert given("-a", arch, flag_name(name), "5", "6", "7", "8") == {name: (5, 6, 7, 8)}
    assert given("-a", arch, flag_name(name), "5") == {name: 5}


@pytest.mark.parametrize(("arch", "name"), FIELDS)
def test_help_tells_the_default(arch, name):
    default, _ = info_of(arch, name)
    action = PARSER._option_string_actions[flag_name(name)]
    assert action.dest == name
    text = action.help.replace("%%", "%")
    shown = re.escape(ARCHS[arch].group or arch)
    assert text.endswith(f"(default: {default})") or re.search(rf"[:;] {default} for [^;]*\b{shown}[,;)]", text)
    assert f" {flag_name(name)}" in HELP


@pytest.mark.parametrize(
    ("words", "name", "value"),
    [
        (["-b", "32"], "batch_size", 32),
        (["-lr", "0.5"], "lr", 0.5),
        (["--learning-rate", "0.5"], "lr", 0.5),
        (["-wd", "0.5"], "weight_decay", 0.5),
        (["--wd", "0.5"], "weight_decay", 0.5),
        (["-j", "3"], "workers", 3),
        (["-p", "3"], "print_freq", 3),
        (["--seed", "3"], "random_state", 3),
        (["--seed", "none"], "random_state", None),
        (["--dir", "there"], "log_dir", "there"),
        (["-ba", "3"], "batch_accum", 3),
        (["--lr-scheduler", "none"], "lr_scheduler", None),
        (["--no-cache-features"], "cache_features", False),
        (["--image-shape", "20x30"], "image_shape", (20, 30)),
    ],
)
def test_a_spelling_of_a_parameter(words, name, value):
    assert given("-a", "scatnet", *words) == {name: value}


@pytest.mark.parametrize(
    ("words", "name", "value"),
    [
        (["-a", "scatnet"], "arch", "scatnet"),
        (["--arch", "scatnet"], "arch", "scatnet"),
        (["-c", "x"], "config", "x"),
        (["--config", "x"], "config", "x"),
        (["-r", "30"], "resume_epoch", 30),
        (["--resume", "x.tar"], "resume", "x.tar"),
        (["-e"], "evaluate", True),
        (["--evaluate"], "evaluate", True),
        (["-f"], "overwrite", True),
        (["--overwrite"], "overwrite", True),
        (["-ds", "CIFAR10"], "dataset", "CIFAR10"),
        (["--dataset", "mnist"], "dataset", "mnist"),
    ],
)
def test_a_spelling_of_what_is_no_parameter(words, name, value):
    assert vars(PARSER.parse_args(["net", *words])) == {"name": "net", name: value}


@pytest.mark.parametrize(
    ("words", "name", "value"),
    [
        (["-s", "e90"], "status", "e90"),
        (["-em", "shifts"], "eval_mode", "shifts"),
        (["-m", "mfr", "kldiv"], "metrics", ["mfr", "kldiv"]),
        (["--metrics", "mfr"], "metrics", ["mfr"]),
        (["-f"], "overwrite", True),
        (["-b", "16"], "batch_size", 16),
        (["-ds", "mnist"], "dataset", "mnist"),
        (["-j", "2"], "workers", 2),
        (["--max-shift", "8"], "max_shift", 8),
        (["--pixel-divide", "2"], "pixel_divide", 2),
        (["--shift-direction", "all"], "shift_direction", "all"),
        (["--max-step-size", "8"], "max_step_size", 8),
        (["--verbose-print-batch", "500"], "verbose_print_batch", 500),
        (["--no-normalize"], "normalize", False),
    ],
)
def test_a_spelling_of_the_evaluation(words, name, value):
    assert vars(make_eval_parser().parse_args(["net", *words])) == {"name": "net", name: value}


def test_the_older_schedule_is_a_schedule():
    frequency, schedule = ["--learning-rate-adjust-frequency", "70"], ["--lr-scheduler", "StepLR20"]
    assert given("-a", "scatnet", *frequency) == given("-a", "scatnet", "--lr-scheduler", "StepLR70")
    assert given("-a", "scatnet", *frequency, *schedule) == {"lr_scheduler": "StepLR20"}
    assert given("-a", "scatnet", *schedule, *frequency) == {"lr_scheduler": "StepLR70"}


def test_the_last_option_wins():
    words = ["--P-proj-size", "64", "128", "--epochs", "300", "--P-proj-size", "32", "--epochs", "2"]
    assert given("-a", "scatnet", *words) == {"P_proj_size": 32, "epochs": 2}


@pytest.mark.parametrize("word", ["--epoch", "--frame-wid", "--learning-rate-adjust", "--over", "--data-s"])
def test_an_abbreviation_is_unknown(word):
    assert word in refused("-a", "scatnet", word, "5")


@pytest.mark.parametrize("word", ["--metric", "--max-st", "--verbose", "--eval"])
def test_an_abbreviation_is_unknown_to_the_evaluation(word, capsys):
    with pytest.raises(SystemExit):
        make_eval_parser().parse_args(["net", word, "1"])
    assert word in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arch", "name"), [(a, n) for a in OF_EACH_CLASS for n in sorted({n for _, n in FIELDS}) if (a, n) not in FIELDS]
)
def test_an_option_without_meaning_warns_and_is_ignored(arch, name):
    default, info = info_of(next(a for a, n in FIELDS if n == name), name)
    words, _ = example(name, default, info)
    words = words if info.type is bool else [flag_name(name), *words]
    warnings = []
    assert given("-a", arch, *words, warnings=warnings) == {}
    assert warnings == [f"train.py: {flag_name(name)} has no meaning for {arch} and is ignored."]


def test_classifier_params_keeps_what_the_architecture_has():
    warned = []
    params = classifier_params("analysis", {"frame_width": 4, "scattering_J": 2, "n_imgs": 3}, warned.append)
    assert params == {"frame_width": 4}
    assert warned == ["--scattering-J has no meaning for analysis and is ignored."]


# ---------------------------------------------------------------------- wrong use


def test_an_unknown_architecture_is_one_line(train, place):
    outcome = train("net", "-ds", "digits", "-a", "scatnetblok")
    one_line_error(outcome, '"scatnetblok"', "scatnetblock", "sepconc archs")
    assert not (place / "classif_db.csv").exists()


def test_an_unknown_option_is_one_line(train):
    one_line_error(train("net", *SMALL, "--frame-widht", "5"), "--frame-widht", "--help")


def test_a_close_option_is_told(train):
    one_line_error(train("net", *SMALL, "--frame-widht", "5"), "--frame-width")


@pytest.mark.parametrize(
    ("words", "texts"),
    [
        (["--non-linearity", "sigmoid"], ["non-linearity", "sigmoid", "relu", "softshrink", "absolute"]),
        (["--classifier-type", "svm"], ["classifier-type", "svm", "fc", "mlp"]),
        (["--split", "all"], ["split", "all", "train", "val", "test"]),
        (["--epochs", "many"], ["epochs", "many"]),
        (["--frame-width", "8", "x"], ["frame-width", "x"]),
        (["--learning-rate-adjust-frequency", "0"], ["learning-rate-adjust-frequency", "0"]),
        (["--image-shape", "axb"], ["image-shape", "axb"]),
        (["--epochs"], ["epochs"]),
    ],
)
def test_a_wrong_value_is_one_line(train, words, texts):
    one_line_error(train("net", *SMALL, *words), *texts)


@pytest.mark.parametrize(
    ("words", "texts"),
    [
        (["--lr-scheduler", "StepLR"], ["lr_scheduler", "StepLR", "StepLR30"]),
        (["--lr-scheduler", "Cosine"], ["lr_scheduler", "Cosine", "ReduceLROnPlateau"]),
        (["--lr", "0"], ["lr", "above 0"]),
        (["--epochs", "0"], ["epochs", "at least 1"]),
        (["-b", "1"], ["batch_size", "at least 2"]),
        (["--scat-angles", "0"], ["scat_angles", "at least 1"]),
        (["--seed", "-3"], ["random_state", "-3"]),
        (["--seed", "x"], ["random_state", "x"]),
        (["--normalize", "no-such-set"], ["no-such-set"]),
        (["--augmentation", "spin"], ["augmentation", "spin", "pad-crop-flip"]),
        (["--backend", "numpy"], ["numpy", "reference"]),
        (["--device", "tpu"], ["device", "tpu", "cuda"]),
        (["--max-steps", "0"], ["max-steps", "at least 1"]),
        (["--n-imgs", "0"], ["n-imgs", "at least 1"]),
        (["--n-imgs-per-class", "0"], ["n-imgs-per-class", "at least 1"]),
        (["--n-imgs-per-class", "5", "--dummy"], ["n-imgs-per-class", "--dummy", "--n-imgs"]),
        (["--size", "-1"], ["size", "at least 1"]),
        (["--nb-classes", "0"], ["nb-classes", "at least 1"]),
        (["--P-proj-size", "5000"], ["P_proj_size", "5000"]),
        (["--P-proj-size", "8", "8"], ["P_proj_size", "2 values", "1 block"]),
        (["--scattering-J", "9"], ["scattering_J", "9"]),
        (["-ds", "digit"], ["digit", "digits"]),
        (["-c", "Ft32Y"], ["scatnet", "Ft32Y"]),
    ],
)
def test_a_value_that_cannot_be_used_is_one_line(train, place, words, texts):
    one_line_error(train("net", *SMALL, "--n-imgs", "60", *words), *texts)
    assert not (place / "classif_db.csv").exists()


def test_a_list_of_the_wrong_length_is_one_line(train):
    words = ["-ds", "digits", "-a", "scatnetblock", "--n-imgs", "60", "--n-blocks", "3", "--P-proj-size", "4", "4"]
    one_line_error(train("net", *words), "P_proj_size", "2 values", "3 blocks", "(4, 4)")


def test_without_a_name_the_error_says_so(train):
    one_line_error(train("-a", "scatnet"), "NAME")


def test_without_an_architecture_the_error_says_where_they_are_listed(train):
    one_line_error(train("net", "-ds", "digits"), '"net"', "-a", "sepconc archs")


# ---------------------------------------------------------------------- the source README's usage text


def usage_text(shared: Path) -> str:
    """The usage text printed in the source README."""
    readme = (shared / "sources" / "separation-concentration-readme.md").read_text(encoding="utf-8")
    text = readme[readme.index("usage: main.py") :]
    return text[: text.index("```")]


def usage_options(text: str) -> dict[str, str]:
    """Option -> its argument's name ("" for a flag), in the usage lines and in the explanations after them."""
    usage, _, explained = text.partition("optional arguments:")
    options = dict(re.findall(r"\[(--?[A-Za-z][\w-]*)(?: ([^\s\]]+))?", usage))
    for line in re.findall(r"^  (-.*)$", explained, re.MULTILINE):
        found = re.findall(r"(?:^|, )(--?[A-Za-z][\w-]*)(?: (\{[^}]*\}|[^\s,]+))?(?=,|\s|$)", line)
        options |= {flag: argument for flag, argument in found}
    return options


def test_every_option_of_the_usage_text_is_found(shared):
    options = usage_options(usage_text(shared))
    fields = "--n-blocks --scat-angles --P-proj-size --frame-stride --nb-l-mlp --class-indices --wd --weight-decay"
    assert set(fields.split()) <= set(options)
    assert {"-h", "-a", "-j", "-b", "-p", "-e", "--lr", "--learning-rate", "--evaluate"} <= set(options)
    assert len(options) == 44


@pytest.mark.parametrize("arch", SEPARATION)
def test_every_option_of_the_usage_text_is_accepted(shared, arch):
    numbers = {"DROPOUT_P_MLP": "0.5", "LR": "0.5", "MOMENTUM": "0.5", "WEIGHT_DECAY": "0.5", "PARS_BETA": "0.5"}
    texts = {"DATA": "x", "RESUME": "x", "DIR": "x", "BACKEND": "torch", "CLASS_INDICES": "x.npy"}
    options = usage_options(usage_text(shared))
    assert options
    for flag, argument in options.items():
        if flag in ("-h", "--help"):
            continue
        choices = argument[1:-1].split(",") if argument.startswith("{") else None
        values = choices or [{**numbers, **texts}.get(argument, "3")] if argument else [None]
        for value in values:
            words = ["-a", arch, flag] + ([] if value is None else [value])
            if value is not None and f"[{argument} ...]" in usage_text(shared):
                words += [value, value]
            parsed = vars(PARSER.parse_args(["net", *words]))
            assert len(parsed) == (2 if flag in ("-a", "--arch") else 3), words
            given(*words)


@pytest.mark.parametrize("arch", SEPARATION)
def test_the_defaults_of_the_usage_text_are_ours(shared, arch):
    explained = " ".join(usage_text(shared).partition("optional arguments:")[2].split())
    stated = re.findall(r"(--[\w-]+)(?: [A-Z_\[{][^-]*?)?,? [^-(]*\(default: ([\d.e-]+)\)", explained)
    compared = 0
    for flag, default in stated:
        name = PARSER._option_string_actions[flag].dest
        ours = {"P_proj_size", "lr_scheduler"}  # None: min(256, channels); a name for the usual 30
        if arch == "analysis":
            ours |= {"frame_kernel_size", "frame_stride"}  # 1 would leave the signs of a grey image only
        if (arch, name) in FIELDS and name not in ours:
            assert info_of(arch, name)[0] == float(default), flag
            compared += 1
    assert compared >= 10
