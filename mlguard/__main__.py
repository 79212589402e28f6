"""`mlguard` and `python -m mlguard`, which `torchrun -m mlguard …` starts too."""

import sys

INTERRUPTED = 3  # as in mlguard.cli.exit_codes, which may not be loaded yet


def main() -> None:
    """Run the command line; Ctrl-C causes no traceback even before it has begun."""
    try:
        from mlguard.cli.app import main as command_line

        command_line()
    except KeyboardInterrupt:
        print("mlguard: error: interrupted", file=sys.stderr)
        sys.exit(INTERRUPTED)


if __name__ == "__main__":
    main()
