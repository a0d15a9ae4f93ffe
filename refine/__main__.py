"""`python -m refine`."""

from refine.entry import main

if __name__ == "__main__":
    main()
