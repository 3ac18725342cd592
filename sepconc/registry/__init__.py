"""The store of trained classifiers: a table ``classif_db.csv`` and a folder ``classif/`` of files.

Start at :class:`sepconc.registry.store.Registry`; it knows neither networks nor estimators. Registries of older
programs are read by :mod:`sepconc.registry.legacy`, those on other machines by :mod:`sepconc.registry.ssh`.
"""
