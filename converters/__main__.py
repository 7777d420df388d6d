"""`python -m converters` is the `convert` command."""

from converters.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
