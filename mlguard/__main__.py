"""`python -m mlguard`, which is also what `torchrun -m mlguard …` starts."""

from mlguard.cli.app import main

if __name__ == "__main__":
    main()
