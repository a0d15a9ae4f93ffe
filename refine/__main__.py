"""`python -m refine`."""

from refine.cli.entry import main

if __name__ == "__main__":
    main()
