"""Registries and checkpoints of older programs, read without running anything of theirs.

Start at :func:`sepconc.registry.legacy.importing.import_wcnn` for a registry of the WCNN program, at
:func:`sepconc.registry.legacy.separation.read_checkpoint` for a checkpoint of the separation-concentration program.
Both read their files through :mod:`sepconc.registry.legacy.archives`.
"""
