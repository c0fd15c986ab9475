"""`python -m ffebm` is `ffebm`."""

from ffebm.cli import main

if __name__ == "__main__":
    main()
