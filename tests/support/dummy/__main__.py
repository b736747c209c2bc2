"""`python -m support.dummy`."""

from components.common.main import main

if __name__ == "__main__":
    main("support.dummy")
