#!/usr/bin/env python3
"""Evaluate a stored classifier: ``python eval.py NAME -s STATUS -em MODE [options]``."""

from sepconc.cli.eval import main

if __name__ == "__main__":
    raise SystemExit(main())
