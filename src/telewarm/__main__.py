"""`python -m telewarm`."""

from telewarm.cli import main

if __name__ == "__main__":
    main()
