"""``python -m sepconc``: the sepconc command."""

from sepconc.cli.main import main

raise SystemExit(main())
