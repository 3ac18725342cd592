"""The store of trained classifiers: a table ``classif_db.csv`` and a folder ``classif/`` of files.

Start at :class:`sepconc.registry.store.Registry`; it knows neither networks nor estimators.
"""
