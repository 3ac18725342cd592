#!/usr/bin/env python3
"""Train a classifier under a name: ``python train.py NAME -a ARCH [options]``."""

from sepconc.cli.train import main

if __name__ == "__main__":
    raise SystemExit(main())
