"""The command line: ``train.py``, ``eval.py`` and the ``sepconc`` command over them."""
