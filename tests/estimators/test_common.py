"""scikit-learn's own checks on every class, and the honesty of what the classes say."""

import battery
import pytest
from sklearn.datasets import load_digits

import sepconc
from sepconc.params.archs import ARCHS, find_arch, resolve
from sepconc.params.field import param_infos

SETTINGS = {"epochs": 30, "batch_size": 128, "scattering_J": 2, "n_blocks": 2, "frame_width": 32}
QUICKEST = "scatnet"
LEAST = 55  # scikit-learn 1.9 makes 61 checks; older ones a few less
WITH_DATA = battery.WITH_DATA | {
    "check_classifier_data_not_an_array",
    "check_classifiers_classes",
    "check_classifiers_one_label",
    "check_classifiers_regression_target",
    "check_classifiers_train",
    "check_estimators_partial_fit_n_features",
    "check_fit_check_is_fitted",
    "check_positive_only_tag_during_fit",
    "check_requires_y_none",
    "check_supervised_y_2d",
}


TWIN = "dtcwpt_resnet18"
CHECKED = ("analysis", "scatnet", "scatnetblock", "scatnetblockanalysis", TWIN)


def classifier(arch):
    """The estimator as the checks get it."""
    known = param_infos(resolve(find_arch(arch).params))
    params = {name: value for name, value in SETTINGS.items() if name in known}
    if "config" in known:
        params |= {"lr": 0.005, "epochs": 15, "batch_size": 50, "config": "Ft40YEx_mod"}
    return sepconc.make_classifier(arch, **params)


def test_every_class_is_checked():
    assert {ARCHS[arch].estimator for arch in CHECKED} == {row.estimator for row in ARCHS.values()}


def cases():
    """Every check of every class; those of the quickest class are in the fast set."""
    for arch in CHECKED:
        marks = [] if arch == QUICKEST else [pytest.mark.slow]
        for number, (name, _, _) in enumerate(battery.checks(classifier(arch))):
            yield pytest.param(arch, number, id=f"{arch}-{number}-{name}", marks=marks)


@pytest.mark.parametrize(("arch", "number"), list(cases()))
def test_check(arch, number):
    name, estimator, check = battery.checks(classifier(arch))[number]
    if not battery.runs_here(name):
        pytest.skip("scikit-learn runs this check with SCIPY_ARRAY_API=1 and array_api_strict only")
    battery.run(name, estimator, check)


@pytest.mark.parametrize("arch", CHECKED)
def test_the_checks_that_run(arch):
    battery.assert_that_run(classifier(arch), LEAST, WITH_DATA)


@pytest.mark.filterwarnings("ignore:X (does not have valid|has) feature names")  # the checks mix frames and arrays
@pytest.mark.parametrize("check", battery.OUTPUT_CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("arch", [*CHECKED[:-1], pytest.param(TWIN, marks=pytest.mark.slow)])
def test_checks_of_set_output(arch, check):
    estimator = classifier(arch).set_params(epochs=1)
    check(type(estimator).__name__, estimator)


@pytest.mark.parametrize("arch", CHECKED)
def test_tags_are_honest(arch):
    tags = battery.honest_tags(classifier(arch))
    assert not tags.classifier_tags.poor_score
    assert tags.target_tags.required


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("arch", ["resnet18", *CHECKED])
def test_the_defaults_fit_digits(arch):
    X, y = load_digits(return_X_y=True)
    if "block" in arch:  # 150 epochs of networks made for larger images: a hundred digits keep it to minutes
        X, y = X[:100], y[:100]
    if "resnet" in arch:  # 90 epochs
        X, y = X[:200], y[:200]
    config = {"config": "Ft40YEx_mod"} if arch == TWIN else {}
    clf = sepconc.make_classifier(arch, **config).fit(X, y)
    assert clf.current_epoch_ == clf.epochs
    assert clf.score(X, y) > 0.9
