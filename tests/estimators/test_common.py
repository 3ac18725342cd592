"""scikit-learn's own checks on every class, without an expected failure, and the honesty of what the classes say.

scikit-learn leaves out every check with data for a class whose tags say that it takes no rows, so the names of the
checks that ran are compared with a list.
"""

import importlib.util
import os
import unittest

import pytest
from sklearn.datasets import load_digits
from sklearn.utils import estimator_checks, get_tags

import sepconc
from sepconc.params.archs import ARCHS, find_arch, resolve
from sepconc.params.field import param_infos

SETTINGS = {"epochs": 30, "batch_size": 128, "scattering_J": 2, "n_blocks": 2, "frame_width": 32}
QUICKEST = "scatnet"
LEAST = 55  # scikit-learn 1.9 makes 61 checks; older ones a few less
WITH_DATA = {
    "check_classifier_data_not_an_array",
    "check_classifiers_classes",
    "check_classifiers_one_label",
    "check_classifiers_regression_target",
    "check_classifiers_train",
    "check_complex_data",
    "check_dict_unchanged",
    "check_dtype_object",
    "check_estimators_dtypes",
    "check_estimators_fit_returns_self",
    "check_estimators_nan_inf",
    "check_estimators_overwrite_params",
    "check_estimators_partial_fit_n_features",
    "check_estimators_pickle",
    "check_f_contiguous_array_estimator",
    "check_fit2d_1feature",
    "check_fit2d_1sample",
    "check_fit_check_is_fitted",
    "check_fit_idempotent",
    "check_methods_sample_order_invariance",
    "check_methods_subset_invariance",
    "check_n_features_in",
    "check_n_features_in_after_fitting",
    "check_pipeline_consistency",
    "check_positive_only_tag_during_fit",
    "check_readonly_memmap_input",
    "check_requires_y_none",
    "check_supervised_y_2d",
    "check_transformer_data_not_an_array",
    "check_transformer_general",
}
OUTPUT_CHECKS = (  # scikit-learn has them, and leaves them out of its battery
    estimator_checks.check_set_output_transform,
    estimator_checks.check_set_output_transform_pandas,
    estimator_checks.check_global_output_transform_pandas,
)
ARRAY_API = "check_array_api_input"


def classifier(arch):
    """The estimator as the checks get it."""
    known = param_infos(resolve(find_arch(arch).params))
    return sepconc.make_classifier(arch, **{name: value for name, value in SETTINGS.items() if name in known})


def checks(arch):
    """Name and check, in scikit-learn's order; nothing is expected to fail."""
    return [
        (check.func.__name__, estimator, check)
        for estimator, check in estimator_checks.estimator_checks_generator(classifier(arch))
    ]


def cases():
    """Every check of every class; those of the quickest class are in the fast set."""
    for arch in ARCHS:
        marks = [] if arch == QUICKEST else [pytest.mark.slow]
        for number, (name, _, _) in enumerate(checks(arch)):
            yield pytest.param(arch, number, id=f"{arch}-{number}-{name}", marks=marks)


@pytest.mark.parametrize(("arch", "number"), list(cases()))
def test_check(arch, number):
    name, estimator, check = checks(arch)[number]
    if name.startswith(ARRAY_API) and not can_run_array_api():
        pytest.skip("scikit-learn runs this check with SCIPY_ARRAY_API=1 and array_api_strict only")
    try:
        check(estimator)
    except unittest.SkipTest as reason:
        pytest.fail(f"{name} was skipped: {reason}")


def can_run_array_api():
    """Whether scikit-learn's check of array API inputs can run here."""
    return os.environ.get("SCIPY_ARRAY_API") == "1" and importlib.util.find_spec("array_api_strict") is not None


@pytest.mark.parametrize("arch", ARCHS)
def test_the_checks_that_run(arch):
    names = [name for name, _, _ in checks(arch)]
    assert len(names) >= LEAST
    assert set(names) >= WITH_DATA, WITH_DATA - set(names)


@pytest.mark.filterwarnings("ignore:X (does not have valid|has) feature names")  # the checks mix frames and arrays
@pytest.mark.parametrize("check", OUTPUT_CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("arch", ARCHS)
def test_checks_of_set_output(arch, check):
    estimator = classifier(arch).set_params(epochs=1)
    check(type(estimator).__name__, estimator)


@pytest.mark.parametrize("arch", ARCHS)
def test_tags_are_honest(arch):
    tags = get_tags(classifier(arch))
    assert not tags.classifier_tags.poor_score
    assert not tags.non_deterministic
    assert not tags.no_validation
    assert not tags._skip_test
    assert tags.input_tags.two_d_array
    assert tags.target_tags.required
    assert not tags.input_tags.sparse
    assert not tags.input_tags.allow_nan


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("arch", ARCHS)
def test_the_defaults_fit_digits(arch):
    X, y = load_digits(return_X_y=True)
    if "block" in arch:  # 150 epochs of networks made for larger images: a hundred digits keep it to minutes
        X, y = X[:100], y[:100]
    clf = resolve(find_arch(arch).estimator)().fit(X, y)
    assert clf.current_epoch_ == clf.epochs
    assert clf.score(X, y) > 0.9
