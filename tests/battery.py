"""scikit-learn's own checks, as the tests of the estimators run them: none is expected to fail, none may be skipped.

scikit-learn leaves out every check with data for a class whose tags say that it takes no rows, so the names of the
checks that ran are compared with a list.
"""

import importlib.util
import os
import unittest

import pytest
from sklearn.utils import estimator_checks, get_tags

OUTPUT_CHECKS = (  # scikit-learn has them, and leaves them out of its battery
    estimator_checks.check_set_output_transform,
    estimator_checks.check_set_output_transform_pandas,
    estimator_checks.check_global_output_transform_pandas,
)
WITH_DATA = {  # those of every estimator
    "check_complex_data",
    "check_dict_unchanged",
    "check_dtype_object",
    "check_estimators_dtypes",
    "check_estimators_fit_returns_self",
    "check_estimators_nan_inf",
    "check_estimators_overwrite_params",
    "check_estimators_pickle",
    "check_f_contiguous_array_estimator",
    "check_fit2d_1feature",
    "check_fit2d_1sample",
    "check_fit_idempotent",
    "check_methods_sample_order_invariance",
    "check_methods_subset_invariance",
    "check_n_features_in",
    "check_n_features_in_after_fitting",
    "check_pipeline_consistency",
    "check_readonly_memmap_input",
    "check_transformer_data_not_an_array",
    "check_transformer_general",
}
ARRAY_API = "check_array_api_input"


def checks(estimator):
    """Name, estimator and check, in scikit-learn's order."""
    generated = estimator_checks.estimator_checks_generator(estimator)
    return [(check.func.__name__, estimator, check) for estimator, check in generated]


def run(name, estimator, check):
    """Run a check; fail where it would be skipped."""
    try:
        check(estimator)
    except unittest.SkipTest as reason:
        pytest.fail(f"{name} was skipped: {reason}")


def runs_here(name):
    """Whether a check can run: that of array API inputs needs a package and a setting."""
    here = os.environ.get("SCIPY_ARRAY_API") == "1" and importlib.util.find_spec("array_api_strict") is not None
    return here or not name.startswith(ARRAY_API)


def assert_that_run(estimator, least, with_data):
    """At least so many checks, and those that fit on data are among them."""
    names = [name for name, _, _ in checks(estimator)]
    assert len(names) >= least
    assert set(names) >= with_data, with_data - set(names)


def honest_tags(estimator):
    """The tags, after those were looked at that would make scikit-learn look away."""
    tags = get_tags(estimator)
    assert not tags.non_deterministic
    assert not tags.no_validation
    assert not tags._skip_test
    assert tags.input_tags.two_d_array
    assert not tags.input_tags.sparse
    assert not tags.input_tags.allow_nan
    return tags
