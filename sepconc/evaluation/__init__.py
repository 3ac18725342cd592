"""Measure a trained classifier: views of the images, predictions, metrics, records.

=================  =======================================================  ==========================
mode               views of an image                                        metrics
=================  =======================================================  ==========================
``onecrop``        the centre                                               top1, top1_5
``tencrops``       corners, centre and their mirrors; mean probability      top1, top1_5
``shifts``         windows that move by ``1/pixel_divide`` pixel            mfr, kldiv
``perturbations``  the frames of a clip, each as in ``onecrop``             mfr, kldiv
=================  =======================================================  ==========================

All modes have ``top1``, ``top5``, ``top1_5`` (both) and ``average_precision``, over all views.

Nothing here knows an estimator: a classifier is anything with ``image_shape_``, ``eval_resize_``,
``label_indices(labels)`` and ``log_proba_function(normalize=...)``. Only sums and counts outlive a batch, and one view
of a batch is predicted at a time, so the number of shifts or frames doesn't change the memory that is needed; but the
average precision ranks the scores of all images, classes and views, and keeps them.

Clips of one set may have different numbers of frames. Every clip has the same weight in the flip rate of a step, if it
is long enough to have pairs of that distance; the divergence of frame ``t`` is the mean over the clips that have it,
and accuracies are means over all frames of all clips.
"""

from sepconc.evaluation.plan import (
    EVAL_MODES,
    METRICS,
    Classifier,
    LogProba,
    Plan,
    check_choices,
    check_options,
    plan_measurement,
)
from sepconc.evaluation.running import Measurement, Progress, run_measurement

__all__ = [
    "EVAL_MODES",
    "METRICS",
    "Classifier",
    "LogProba",
    "Measurement",
    "Plan",
    "Progress",
    "check_choices",
    "check_options",
    "plan_measurement",
    "run_measurement",
]
