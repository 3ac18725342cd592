"""The ``sepconc`` command: ``train`` and ``eval`` as the scripts, ``features``, and the listing commands."""

from __future__ import annotations

import sys


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    if arguments[:1] == ["train"]:
        from sepconc.cli.train import main as train

        return train(arguments[1:], prog="sepconc train")
    if arguments[:1] == ["eval"]:
        from sepconc.cli.eval import main as evaluate

        return evaluate(arguments[1:], prog="sepconc eval")
    if arguments[:1] == ["features"]:
        from sepconc.cli.features import main as features

        return features(arguments[1:], prog="sepconc features")
    from sepconc.cli.classif import main as listing

    return listing(arguments)


if __name__ == "__main__":
    raise SystemExit(main())
