"""Registries on other machines, over SSH: classifiers are pulled from them, and nothing is written there.

Start at :func:`sepconc.registry.ssh.pull.pull`, which fetches rows with their files. Where a registry lies is said by
:mod:`sepconc.registry.ssh.addresses`, how its machine is reached by :mod:`sepconc.registry.ssh.connection`.
"""
