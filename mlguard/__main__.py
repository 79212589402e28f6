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
    finally:
        forget_interrupt()


def forget_interrupt() -> None:
    """Have the interpreter end with the status that was chosen.

    A Ctrl-C within an `exec` of text, as dataclasses are made by, is noted by CPython
    even if it was handled, and `python -m` then kills itself with SIGINT at its end.
    The next text that is run clears the note (Python/pythonrun.c, run_eval_code_obj).
    """
    exec("")


if __name__ == "__main__":
    main()
